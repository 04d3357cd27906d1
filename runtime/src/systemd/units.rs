//! Runs `systemctl` for the units of Lockstep's services, where systemd is process 1.

use std::path::Path;
use std::process::Command;

/// What masks a file of the same name: <https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html>.
pub const MASK: &str = "/dev/null";

/// A `systemctl` command that failed.
#[derive(Debug, thiserror::Error)]
#[error("systemctl {arguments} failed: {why}")]
pub struct Refused {
    pub arguments: String,
    pub why: String,
}

/// Whether systemd is process 1: <https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html>.
#[must_use]
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs `systemctl` with `arguments`.
///
/// # Errors
/// When it cannot be run, or fails; with its output.
pub fn systemctl(arguments: &[&str]) -> Result<(), Refused> {
    let refused = |why: String| Refused { arguments: arguments.join(" "), why };
    let output =
        Command::new("systemctl").args(arguments).output().map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Whether `file`, a unit or a part of one, is masked.
#[must_use]
pub fn is_masked(file: &Path) -> bool {
    std::fs::read_link(file).is_ok_and(|target| target == Path::new(MASK))
}
