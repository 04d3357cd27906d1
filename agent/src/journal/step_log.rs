//! The complete output of each step, in `steps/<deployment>/<step>-<do|undo>.log`.
//!
//! What must stay true: only redacted lines are written; a file stays below [`BYTES_MAX`] and keeps its beginning and
//! its end; a step that runs again appends to the same file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::run::journal::{Direction, StepKey};
use lockstep_core::time::Timestamp;

/// A larger log is cut down to its beginning and its end.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How much of each is kept.
const BYTES_KEPT: u64 = BYTES_MAX / 4;

/// The maximum length of a line.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The number of deployments whose output is kept.
const DEPLOYMENTS_KEPT: usize = 200;

/// The folder of all step logs.
#[derive(Debug, Clone)]
pub struct StepLogs {
    folder: PathBuf,
}

/// The log of one step, open for writing.
#[derive(Debug)]
pub struct StepLog {
    path: PathBuf,
    file: File,
    length: u64,
    /// How much of the beginning stays when the middle is left out.
    head: u64,
    /// The line that says what is left out, once there is one.
    mark: u64,
    left_out: u64,
}

impl StepLogs {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Opens the log of `key`, where it ended.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(&self, key: &StepKey) -> io::Result<StepLog> {
        let path = self.path(&key.deployment, key.step, key.direction);
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path)?;
        let length = file.metadata()?.len();
        Ok(StepLog { path, file, length, head: BYTES_KEPT, mark: 0, left_out: 0 })
    }

    /// The last `tail` lines of what a step printed, its "do" and then its undo; all lines for 0.
    ///
    /// # Errors
    /// When a log is there and cannot be read.
    pub fn read(&self, deployment: &DeploymentId, step: StepId, tail: usize) -> io::Result<Vec<String>> {
        let mut lines = std::collections::VecDeque::new();
        for direction in [Direction::Do, Direction::Undo] {
            let file = match File::open(self.path(deployment, step, direction)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in BufReader::new(file).split(b'\n') {
                lines.push_back(String::from_utf8_lossy(&line?).into_owned());
                if tail > 0 && lines.len() > tail {
                    lines.pop_front();
                }
            }
        }
        Ok(lines.into())
    }

    /// Removes the logs of all but the newest deployments: their ids are in the order of their making.
    ///
    /// # Errors
    /// When the folder cannot be read, or one of them cannot be removed.
    pub fn prune(&self) -> io::Result<()> {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&self.folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        folders.sort();
        for old in folders.iter().rev().skip(DEPLOYMENTS_KEPT) {
            std::fs::remove_dir_all(old)?;
        }
        Ok(())
    }

    fn path(&self, deployment: &DeploymentId, step: StepId, direction: Direction) -> PathBuf {
        self.folder.join(deployment.as_str()).join(format!("{step}-{direction}.log"))
    }
}

impl StepLog {
    /// Adds one line, which must be redacted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, at: Timestamp, line: &str) -> io::Result<()> {
        let cut = line.floor_char_boundary(LINE_BYTES_MAX.min(line.len()));
        let text = format!("{at} {}\n", line[..cut].trim_end_matches(['\r', '\n']));
        self.file.write_all(text.as_bytes())?;
        self.length += text.len() as u64;
        if self.length > BYTES_MAX { self.shorten() } else { Ok(()) }
    }

    /// Leaves out the middle, by whole lines.
    fn shorten(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut kept =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        let mut head = BufReader::new(File::open(&self.path)?.take(self.head));
        let mut copied = 0;
        let mut line = Vec::new();
        // The last line that fits may be cut by the limit: then it belongs to what is left out.
        while head.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            kept.write_all(&line)?;
            copied += line.len() as u64;
            line.clear();
        }
        let mut tail = BufReader::new(File::open(&self.path)?);
        tail.seek(SeekFrom::Start(self.length.saturating_sub(BYTES_KEPT)))?;
        let skipped = tail.read_until(b'\n', &mut Vec::new())? as u64;
        let rest = BYTES_KEPT - skipped;
        self.left_out += self.length - copied - rest - self.mark;
        let mark = format!("[{} bytes are left out here]\n", self.left_out);
        kept.write_all(mark.as_bytes())?;
        io::copy(&mut tail, &mut kept)?;
        std::fs::rename(&beside, &self.path)?;
        self.file = OpenOptions::new().append(true).read(true).open(&self.path)?;
        self.head = copied;
        self.mark = mark.len() as u64;
        self.length = copied + self.mark + rest;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(direction: Direction) -> StepKey {
        StepKey { deployment: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(), step: StepId(2), direction }
    }

    #[test]
    fn a_step_goes_on_where_its_log_ended_and_is_read_with_its_undo() {
        let folder = tempfile::tempdir().unwrap();
        let logs = StepLogs::new(folder.path().to_owned());
        logs.open(&key(Direction::Do)).unwrap().line(Timestamp(0), "one\r\n").unwrap();
        logs.open(&key(Direction::Undo)).unwrap().line(Timestamp(0), "back").unwrap();
        logs.open(&key(Direction::Do)).unwrap().line(Timestamp(0), "two").unwrap();
        let key = key(Direction::Do);
        let all = logs.read(&key.deployment, key.step, 0).unwrap();
        assert_eq!(
            all,
            ["1970-01-01T00:00:00Z one", "1970-01-01T00:00:00Z two", "1970-01-01T00:00:00Z back"]
        );
        assert_eq!(logs.read(&key.deployment, key.step, 2).unwrap(), all[1..]);
        assert_eq!(logs.read(&key.deployment, StepId(9), 0).unwrap(), [""; 0]);
    }

    #[test]
    fn a_long_log_keeps_its_beginning_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = StepLogs::new(folder.path().to_owned());
        let key = key(Direction::Do);
        let mut log = logs.open(&key).unwrap();
        let padding = "x".repeat(1000);
        for number in 0..12_000 {
            log.line(Timestamp(0), &format!("{number} {padding}")).unwrap();
        }
        let length = log.path().metadata().unwrap().len();
        assert_eq!(length, log.length);
        assert!(length <= BYTES_MAX, "{length}");
        let lines = logs.read(&key.deployment, key.step, 0).unwrap();
        assert!(lines[0].contains("Z 0 x"), "{}", lines[0]);
        assert!(lines.last().unwrap().contains("Z 11999 x"));
        let marks: Vec<&String> = lines.iter().filter(|line| line.contains("left out")).collect();
        assert_eq!(marks.len(), 1, "{marks:?}");
        let printed: u64 = (0..12_000).map(|number| format!("{number} {padding}").len() as u64 + 22).sum();
        assert_eq!(marks[0], &format!("[{} bytes are left out here]", log.left_out));
        assert_eq!(log.left_out, printed + log.mark - length);
        let whole = lines.iter().all(|line| line.ends_with('x') || line.contains("left out"));
        assert!(whole, "lines are cut");
    }

    #[test]
    fn old_deployments_lose_their_logs() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=DEPLOYMENTS_KEPT {
            std::fs::create_dir(folder.path().join(format!("dep_{number:026}"))).unwrap();
        }
        StepLogs::new(folder.path().to_owned()).prune().unwrap();
        assert!(!folder.path().join(format!("dep_{:026}", 0)).exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), DEPLOYMENTS_KEPT);
    }
}
