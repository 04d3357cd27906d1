//! Reads the free space of file systems.

use std::io;
use std::path::Path;

use lockstep_core::view::host_status::Disk;

/// The file system whose free space is reported.
pub const WATCHED: &str = "/var/lib";

/// How many bytes a user may still write below `path`.
///
/// # Errors
/// When the system does not say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    Ok(usage(path)?.free_bytes)
}

/// The size and the free space of the file system of `path`.
///
/// # Errors
/// When the system does not say.
pub fn usage(path: &Path) -> io::Result<Disk> {
    let system = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
    Ok(Disk { free_bytes: bytes(system.f_bavail), size_bytes: bytes(system.f_blocks) })
}
