//! Reads a file of the project, which may be of any size, up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The text of a file; `None` if it has more than `bytes_max` bytes.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= bytes_max).then_some(text))
}
