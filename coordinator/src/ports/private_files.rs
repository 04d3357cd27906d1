//! Files that only the user of the coordinator can read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_runtime::durable;

#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("other users can read {path}: chmod 600 {path}")]
    Open { path: PathBuf },
}

/// The content of a private file; `None` if it is not there.
///
/// # Errors
/// When it cannot be read, or others can read it too.
pub fn read(path: &Path) -> Result<Option<String>, PrivateError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PrivateError::Read { path: path.to_owned(), source }),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(PrivateError::Open { path: path.to_owned() });
    }
    let text =
        fs::read_to_string(path).map_err(|source| PrivateError::Read { path: path.to_owned(), source })?;
    Ok(Some(text))
}

/// Writes a private file, whole or not at all, so that it survives a power cut.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), PrivateError> {
    let failed = |source| PrivateError::Write { path: path.to_owned(), source };
    durable::write(path, text, 0o600).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(read(&path).unwrap().is_none());
        write(&path, "key").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("key"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&path), Err(PrivateError::Open { .. })));
    }
}
