//! A file that a test changes, and that is as before when the test has ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A file whose content and mode are restored when this is dropped.
#[must_use = "the file is restored when this is dropped"]
pub struct RestoredFile {
    path: PathBuf,
    before: Vec<u8>,
    mode: u32,
}

impl RestoredFile {
    pub fn keep(path: &Path) -> Result<Self> {
        let before = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mode = fs::metadata(path)?.permissions().mode();
        Ok(Self { path: path.to_owned(), before, mode })
    }
}

impl Drop for RestoredFile {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
        let _ = fs::set_permissions(&self.path, fs::Permissions::from_mode(self.mode));
    }
}

/// Replaces `from`, which must be there, in a file.
pub fn replace(path: &Path, from: &str, to: &str) -> Result<RestoredFile> {
    let kept = RestoredFile::keep(path)?;
    let text = fs::read_to_string(path)?;
    ensure!(text.contains(from), "{} does not contain {from:?}", path.display());
    fs::write(path, text.replacen(from, to, 1))?;
    Ok(kept)
}
