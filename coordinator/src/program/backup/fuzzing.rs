//! The lines of a backup without its encryption, for their fuzz target in `tests/fuzz`. Only a build with `cfg(fuzzing)`
//! has this module.

use std::io::BufReader;

use super::{Backup, BackupError};

/// Reads the lines.
///
/// # Errors
/// When they are damaged, or of a newer program.
pub fn read(lines: &[u8]) -> Result<Backup, BackupError> {
    Backup::read(BufReader::new(lines))
}

/// The lines of `backup`.
///
/// # Errors
/// Never: memory takes everything.
pub fn write(backup: &Backup) -> Result<Vec<u8>, std::io::Error> {
    let mut lines = Vec::new();
    backup.write(&mut lines)?;
    Ok(lines)
}
