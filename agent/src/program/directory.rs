//! The directory of the agent, which only one agent process uses at a time.
//!
//! What must stay true: keys, certificates, journal and step logs are readable by the agent's user alone. Others may
//! look only into the folder of the switch files, because nginx's workers test for these files.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lockstep_runtime::durable;
use rustix::fs::{FlockOperation, flock};

/// The lock files: one for the agent, one for a command beside it.
const AGENT_LOCK: &str = "agent.lock";
const COMMAND_LOCK: &str = "local.lock";

/// The agent's directory, locked by this process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The lock lives as long as the open file does.
    _lock: File,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot create {}", path.display())]
    Create { path: PathBuf, source: std::io::Error },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: std::io::Error },
    #[error("another agent is running in {}", path.display())]
    Taken { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

impl Directory {
    /// Creates what is missing and locks the directory for this process.
    ///
    /// # Errors
    /// When it cannot be created, or another agent has it.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        // Nginx's workers pass through here to the switch files; they cannot list it.
        create(path, 0o711)?;
        let path =
            path.canonicalize().map_err(|source| DirectoryError::Read { path: path.to_owned(), source })?;
        let lock = lock(&path, AGENT_LOCK)?;
        let directory = Self { path, _lock: lock };
        create(&directory.traffic(), 0o755)?;
        create(&directory.slots(), 0o700)?;
        create(&directory.steps(), 0o700)?;
        Ok(directory)
    }

    /// Opens the directory for a command beside an agent that may be running: one command at a time.
    ///
    /// # Errors
    /// When it does not exist, or another command has it.
    pub fn open_for_command(path: &Path) -> Result<Self, DirectoryError> {
        let path =
            path.canonicalize().map_err(|source| DirectoryError::Read { path: path.to_owned(), source })?;
        let lock = lock(&path, COMMAND_LOCK)?;
        Ok(Self { path, _lock: lock })
    }

    /// Keeps commands from starting while the returned lock is held.
    ///
    /// # Errors
    /// When a command is running.
    pub fn lock_out_commands(&self) -> Result<File, DirectoryError> {
        lock(&self.path, COMMAND_LOCK)
    }

    /// Keeps an agent from starting while the returned lock is held.
    ///
    /// # Errors
    /// When an agent is running.
    pub fn lock_out_agent(&self) -> Result<File, DirectoryError> {
        lock(&self.path, AGENT_LOCK)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn settings(&self) -> PathBuf {
        self.path.join("agent.toml")
    }

    pub fn key(&self) -> PathBuf {
        self.path.join("key.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.path.join("certificate.pem")
    }

    pub fn authority(&self) -> PathBuf {
        self.path.join("authority.pem")
    }

    pub fn identity(&self) -> PathBuf {
        self.path.join("identity.toml")
    }

    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.sqlite")
    }

    /// The complete output of steps.
    pub fn steps(&self) -> PathBuf {
        self.path.join("steps")
    }

    /// The switch files.
    pub fn traffic(&self) -> PathBuf {
        self.path.join("traffic")
    }

    /// The state files of the slots: `live` or `standby`.
    pub fn slots(&self) -> PathBuf {
        self.path.join("slots")
    }

    /// Replaces the file at `path` durably, whole or not at all, readable by the agent's user alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, content: &str) -> Result<(), DirectoryError> {
        let failed = |source| DirectoryError::Write { path: path.to_owned(), source };
        durable::write(path, content, 0o600).map_err(failed)
    }
}

fn create(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Create { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    // The process's mask may have taken bits that nginx needs.
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

fn lock(directory: &Path, who: &str) -> Result<File, DirectoryError> {
    let failed = |source| DirectoryError::Lock { path: directory.to_owned(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(who))
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::Taken { path: directory.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn one_process_at_a_time_and_nobody_reads_what_is_not_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let held = Directory::open(&path).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Taken { .. })));
        held.write(&held.key(), "secret").unwrap();
        assert_eq!(mode(&path), 0o711);
        assert_eq!(mode(&held.key()), 0o600);
        assert_eq!(mode(&held.traffic()), 0o755);
        assert_eq!(mode(&held.steps()), 0o700);
        drop(held);
        assert!(Directory::open(&path).is_ok());
    }
}
