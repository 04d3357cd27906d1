//! Where a demonstration's or a benchmark's stage stands: under `target`, or, where PostgreSQL's and
//! nginx's users may not enter (a clone in somebody's private home), in a directory for temporary files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bed::files::let_enter;

pub struct Place {
    pub directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// `stage` in `target`, if others may enter it.
    ///
    /// # Errors
    /// When no directory can be made.
    pub fn choose(target: &Path) -> Result<Self> {
        let directory = target.join("stage");
        fs::create_dir_all(&directory)?;
        if let_enter("www-data", &directory).is_ok() {
            return Ok(Self { directory, _temporary: None });
        }
        fs::remove_dir(&directory)?;
        let temporary = tempfile::tempdir()?;
        Ok(Self { directory: temporary.path().join("stage"), _temporary: Some(temporary) })
    }
}
