//! Takes a verified snapshot of a database: it is dumped under a temporary name, read back, and then renamed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use data_encoding::HEXLOWER;
use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::TakeSnapshot;
use lockstep_core::run::journal::SnapshotTaken;
use lockstep_core::run::journal::{Finding, StepFailure};
use lockstep_runtime::durable;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{Executors, Work, finding};
use crate::executor::output::Output;
use crate::postgres;
use crate::printed::LineSplitter;

/// The number of tables that are dumped at a time.
const JOBS: &str = "--jobs=2";

/// The fastest method of all supported versions; Debian's PostgreSQL 15 does not have zstd.
const COMPRESSION: &str = "--compress=1";

/// How much of a tool's output is read at a time.
const READ_BYTES: usize = 8 * 1024;

/// The digest of every file, as `sha256sum` writes it.
const MANIFEST: &str = "MANIFEST.sha256";

impl Executors {
    pub(super) async fn take_snapshot(
        &self,
        work: &Work,
        snapshot: &TakeSnapshot,
    ) -> Result<Finding, StepFailure> {
        let directory = self.snapshots(&snapshot.directory, &work.environment);
        let finished = directory.join(work.key.deployment.as_str());
        if finished.exists() {
            // Renamed by this very step before the agent was killed.
            let (manifest, bytes) = verify(&finished).map_err(|error| unusable(&finished, &error))?;
            return Ok(self.snapshot_taken("already taken", &finished, (manifest, bytes)));
        }
        let partial = directory.join(format!("{}.partial", work.key.deployment));
        clear(&directory).map_err(|error| unusable(&partial, &error))?;
        match self.dump_and_seal(work, snapshot, (&partial, &finished)).await {
            Ok(sealed) => Ok(self.snapshot_taken("dumped and verified", &finished, sealed)),
            Err(failure) => {
                // It may be as large as the database.
                if let Err(error) = clear(&directory) {
                    work.output.line(&format!("cannot remove {}: {error}", partial.display()));
                }
                Err(failure)
            }
        }
    }

    async fn dump_and_seal(
        &self,
        work: &Work,
        snapshot: &TakeSnapshot,
        (partial, finished): (&Path, &Path),
    ) -> Result<(Digest, u64), StepFailure> {
        self.dump(work, snapshot, partial).await?;
        work.refuse_cancelled()?;
        self.check_contents(work, partial).await?;
        let written = tokio::task::block_in_place(|| seal(partial, finished));
        written.map_err(|error| unusable(partial, &error))
    }

    /// The folder of this environment's snapshots.
    pub(super) fn snapshots(&self, root: &str, environment: &EnvironmentKey) -> PathBuf {
        Path::new(root).join(self.object_names.of(environment).as_str())
    }

    fn snapshot_taken(&self, text: &str, path: &Path, (manifest, bytes): (Digest, u64)) -> Finding {
        let mut finding = finding(format!("{text}, {} KiB", bytes / 1024));
        finding.snapshot = Some(Box::new(SnapshotTaken {
            host: self.host.clone(),
            path: path.display().to_string(),
            bytes,
            manifest,
        }));
        finding
    }

    async fn dump(&self, work: &Work, snapshot: &TakeSnapshot, partial: &Path) -> Result<(), StepFailure> {
        let tools = work.database(&snapshot.database)?.tool_connection()?;
        let mut command = Command::new(self.tool("pg_dump")?);
        command
            .args(["--format=directory", JOBS, COMPRESSION, "--no-sync"])
            .arg(format!("--file={}", partial.display()))
            .args(&tools.arguments)
            .envs(tools.password.iter().map(|password| ("PGPASSWORD", password.expose())));
        run(work, command, "pg_dump").await
    }

    /// Reads the table of contents: a dump that ended early has none.
    async fn check_contents(&self, work: &Work, partial: &Path) -> Result<(), StepFailure> {
        let mut command = Command::new(self.tool("pg_restore")?);
        command.arg("--list").arg(partial);
        run(work, command, "pg_restore --list").await
    }

    fn tool(&self, name: &str) -> Result<PathBuf, StepFailure> {
        let programs = postgres::programs(self.postgres_programs.as_deref());
        programs.map(|programs| programs.join(name)).ok_or_else(|| {
            StepFailure::new(format!("{name} is not installed")).next("apt-get install postgresql-client")
        })
    }
}

/// Runs a tool until it exits. It is killed if the step is cancelled.
async fn run(work: &Work, mut command: Command, name: &str) -> Result<(), StepFailure> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |error: io::Error| StepFailure::new(format!("cannot run {name}")).why(error.to_string());
    let mut child = command.spawn().map_err(failed)?;
    let stderr = child.stderr.take().expect("it was asked for just above");
    tokio::select! {
        () = show_lines(stderr, &work.output) => {
            let status = child.wait().await.map_err(failed)?;
            if status.success() {
                return Ok(());
            }
            let mut failure = StepFailure::new(format!("{name} failed with {status}"));
            failure.tail = work.output.tail();
            Err(failure)
        }
        () = work.cancel.cancelled() => {
            child.kill().await.map_err(failed)?;
            Err(StepFailure::new(format!("{name} was stopped, so there is no snapshot")))
        }
    }
}

/// Adds what a tool prints to the output, until it closes its end.
async fn show_lines(mut printed: impl AsyncRead + Unpin, output: &Output) {
    let mut splitter = LineSplitter::default();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = printed.read(&mut buffer).await {
        splitter.add(&buffer[..read]).iter().for_each(|line| output.printed(line));
    }
    if let Some(line) = splitter.end() {
        output.printed(&line);
    }
}

/// Removes what is left of snapshots of this environment that did not end. There is one at a time. An earlier version
/// left password files, too.
fn clear(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("partial") => fs::remove_dir_all(&path)?,
            Some("pass") => fs::remove_file(&path)?,
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Writes the manifest, makes everything durable, and gives the snapshot its name.
fn seal(partial: &Path, finished: &Path) -> io::Result<(Digest, u64)> {
    let mut manifest = String::new();
    let mut bytes = 0;
    for path in files(partial)? {
        let (digest, length) = digest_of(&path)?;
        File::open(&path)?.sync_all()?;
        bytes += length;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        manifest.push_str(&format!("{digest}  {name}\n"));
    }
    durable::write(&partial.join(MANIFEST), &manifest, 0o600)?;
    fs::rename(partial, finished)?;
    durable::sync_parent(finished)?;
    Ok((Digest::of_content(manifest.as_bytes()), bytes))
}

/// Compares every file with the manifest.
pub(super) fn verify(finished: &Path) -> io::Result<(Digest, u64)> {
    let manifest = fs::read_to_string(finished.join(MANIFEST))?;
    let mut bytes = 0;
    for line in manifest.lines() {
        let (wanted, name) = line
            .split_once("  ")
            .ok_or_else(|| io::Error::other(format!("{line:?} is not a line of a manifest")))?;
        let (digest, length) = digest_of(&finished.join(name))?;
        if digest != wanted {
            return Err(io::Error::other(format!("{name} has changed since the dump")));
        }
        bytes += length;
    }
    Ok((Digest::of_content(manifest.as_bytes()), bytes))
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut length: u64 = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
    Ok((HEXLOWER.encode(&hash.finalize()), length))
}

fn unusable(path: &Path, error: &io::Error) -> StepFailure {
    StepFailure::new(format!("cannot use the snapshot {}", path.display())).why(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_may_print_whatever_it_likes() {
        let output = Output::new(None, None);
        let printed = [b"\xff\x00".repeat(1 << 20), b"\n".repeat(1000), b"the last line".to_vec()].concat();
        show_lines(&*printed, &output).await;
        let tail = output.tail();
        assert_eq!(tail.last().map(String::as_str), Some("the last line"));
        assert!(tail.iter().map(String::len).sum::<usize>() < 64 * 1024);
    }

    #[test]
    fn what_is_left_of_snapshots_that_failed_is_removed_and_snapshots_stay() {
        let directory = tempfile::tempdir().unwrap();
        let there = |name: &str| directory.path().join(name);
        fs::create_dir(there("dep_1")).unwrap();
        fs::create_dir(there("dep_2.partial")).unwrap();
        fs::write(there("dep_2.partial").join("toc.dat"), "contents").unwrap();
        fs::write(there("dep_2.pass"), "*:*:*:*:password").unwrap();
        clear(directory.path()).unwrap();
        assert!(there("dep_1").exists());
        assert!(!there("dep_2.partial").exists() && !there("dep_2.pass").exists());
    }

    #[test]
    fn a_snapshot_that_was_touched_is_not_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let (partial, finished) = (directory.path().join("a.partial"), directory.path().join("a"));
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("toc.dat"), "contents").unwrap();
        let sealed = seal(&partial, &finished).unwrap();
        assert_eq!(verify(&finished).unwrap(), sealed);
        fs::write(finished.join("toc.dat"), "contentS").unwrap();
        assert!(verify(&finished).is_err());
    }
}
