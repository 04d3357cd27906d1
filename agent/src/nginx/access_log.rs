//! Counts the requests of an environment while a deployment runs, in the environment's access log.
//!
//! What must stay true: a count is exact, or there is none. The log may be rotated meanwhile, and this program may be
//! killed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_core::id::DeploymentId;
use lockstep_core::run::journal::TrafficCount;
use lockstep_runtime::durable;
use serde::{Deserialize, Serialize};

/// The last word of the line of a request that no application answered.
pub(super) const LOST: &str = "lost";

/// The count of one deployment so far, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    deployment: DeploymentId,
    /// The log, and what was the log before it was rotated: nginx writes there until it has opened the new one.
    read: Vec<Position>,
    requests: u64,
    lost: u64,
    /// A file is gone that perhaps had lines that were not read.
    incomplete: bool,
}

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    inode: u64,
    offset: u64,
}

/// The requests since the first count of `deployment`, which is 0. `progress` is the file that keeps the count; `None`
/// if lines are gone.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn count(
    log: &Path,
    progress: &Path,
    deployment: &DeploymentId,
) -> io::Result<Option<TrafficCount>> {
    let stored = durable::read(progress)?.and_then(|text| serde_json::from_str::<Progress>(&text).ok());
    let counted = match stored.clone().filter(|stored| stored.deployment == *deployment) {
        Some(before) => continued(before, log)?,
        None => Progress {
            deployment: deployment.clone(),
            read: metadata(log)?
                .map(|log| Position { inode: log.ino(), offset: log.len() })
                .into_iter()
                .collect(),
            requests: 0,
            lost: 0,
            incomplete: false,
        },
    };
    if stored.as_ref() != Some(&counted) {
        let json = serde_json::to_string(&counted).map_err(io::Error::other)?;
        durable::write(progress, &json, 0o600)?;
    }
    let Progress { requests, lost, incomplete, .. } = counted;
    Ok((!incomplete).then_some(TrafficCount { requests, lost }))
}

/// Reads what was added to the log.
fn continued(mut progress: Progress, log: &Path) -> io::Result<Progress> {
    let files = files(log)?;
    if let Some(new) = metadata(log)?.map(|log| log.ino())
        && progress.read.iter().all(|position| position.inode != new)
    {
        progress.read.push(Position { inode: new, offset: 0 });
    }
    for position in &mut progress.read {
        match files.iter().find(|(inode, _)| *inode == position.inode) {
            Some((_, path)) => {
                let Some(added) = read_added(path, position)? else {
                    progress.incomplete = true;
                    continue;
                };
                progress.requests = progress.requests.saturating_add(added.requests);
                progress.lost = progress.lost.saturating_add(added.lost);
            }
            None => progress.incomplete = true,
        }
    }
    Ok(progress)
}

/// Counts the whole lines after the position, and moves it behind them. `None` if the file is shorter than it was.
fn read_added(path: &Path, position: &mut Position) -> io::Result<Option<TrafficCount>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < position.offset {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(position.offset))?;
    let mut reader = BufReader::new(file);
    let mut added = TrafficCount { requests: 0, lost: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\n") else { return Ok(Some(added)) };
        position.offset = position.offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        added.requests += 1;
        added.lost += u64::from(text.rsplit(|byte| *byte == b' ').next() == Some(LOST.as_bytes()));
    }
}

/// The log and its rotated files, by inode: a rotation keeps it, and appends to the name.
fn files(log: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_of_log = entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes());
        // Rotated away between the two questions, it is found at the next count.
        if is_of_log && let Some(file) = metadata(&entry.path())? {
            files.push((file.ino(), entry.path()));
        }
    }
    Ok(files)
}

fn metadata(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINE: &str = r#"10.0.0.9 - - [01/Dec/2026:02:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "-" 0.001 172.17.0.1:20000 -"#;
    const LOST_LINE: &str = r#"10.0.0.9 - - [01/Dec/2026:02:00:00 +0000] "GET / HTTP/1.1" 502 5 "-" "-" 0.001 172.17.0.1:20000 lost"#;

    /// A log in a folder of its own.
    struct Log {
        folder: tempfile::TempDir,
    }

    impl Log {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let file = fs::OpenOptions::new().create(true).append(true).open(self.path(name));
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.path(from), self.path(to)).unwrap();
        }

        fn count(&self, deployment: u32) -> Option<(u64, u64)> {
            let id = format!("dep_01JBQR2KXYZ98765432101234{deployment}").parse().unwrap();
            let counted = count(&self.path("access.log"), &self.path("progress"), &id).unwrap();
            counted.map(|counted| (counted.requests, counted.lost))
        }
    }

    #[test]
    fn a_deployment_counts_from_its_first_count_on() {
        let log = Log::new();
        log.write("access.log", &format!("{LINE}\n{LOST_LINE}\n"));
        assert_eq!(log.count(1), Some((0, 0)));
        log.write("access.log", &format!("{LINE}\n{LOST_LINE}\n{LINE}\n"));
        assert_eq!(log.count(1), Some((3, 1)));
        assert_eq!(log.count(2), Some((0, 0)), "another deployment");
    }

    #[test]
    fn half_a_line_is_counted_when_it_is_whole() {
        let log = Log::new();
        assert_eq!(log.count(1), Some((0, 0)), "nginx has made no file yet");
        log.write("access.log", LOST_LINE);
        assert_eq!(log.count(1), Some((0, 0)));
        log.write("access.log", "\n");
        assert_eq!(log.count(1), Some((1, 1)));
    }

    #[test]
    fn what_was_rotated_counts_to_its_end() {
        let log = Log::new();
        log.write("access.log", &format!("{LINE}\n"));
        assert_eq!(log.count(1), Some((0, 0)));
        log.write("access.log", &format!("{LINE}\n"));
        log.rename("access.log", "access.log.1");
        assert_eq!(log.count(1), Some((1, 0)));
        log.write("access.log", &format!("{LINE}\n"));
        assert_eq!(log.count(1), Some((2, 0)));
        // A worker that has not yet opened the new one.
        log.write("access.log.1", &format!("{LOST_LINE}\n"));
        assert_eq!(log.count(1), Some((3, 1)));
    }

    #[test]
    fn there_is_no_count_if_lines_may_be_gone() {
        for gone in ["removed", "emptied"] {
            let log = Log::new();
            log.write("access.log", &format!("{LINE}\n"));
            assert_eq!(log.count(1), Some((0, 0)));
            if gone == "removed" {
                fs::remove_file(log.path("access.log")).unwrap();
            } else {
                fs::write(log.path("access.log"), "").unwrap();
            }
            assert_eq!(log.count(1), None, "{gone}");
            log.write("access.log", &format!("{LINE}\n{LINE}\n"));
            assert_eq!(log.count(1), None, "{gone}: also later");
        }
    }

    #[test]
    fn what_a_client_writes_cannot_look_like_a_lost_request() {
        let log = Log::new();
        assert_eq!(log.count(1), Some((0, 0)));
        log.write("access.log", &format!("{}\n", LINE.replace("\"-\" \"-\"", "\"-\" \" lost\"")));
        assert_eq!(log.count(1), Some((1, 0)));
    }
}
