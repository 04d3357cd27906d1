//! The secrets of an environment in a file, `.env.<environment>` (T5). Only its owner may read it, no value is a
//! placeholder, and no message ever shows a value.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use lockstep_core::secret::Secret;
use lockstep_core::secret::limits::{too_large, with_nul};
use lockstep_core::spec::check::is_variable;

use crate::bounded_file;

/// The placeholder with which nothing is deployed.
const PLACEHOLDER: &str = "CHANGE_ME";

#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} can be read by others: its mode is {mode:04o}")]
    Mode { path: PathBuf, mode: u32 },
    /// `real` is what `path` leads to.
    #[error("{path} leads to {real}, which belongs to another user and has the mode {mode:04o}")]
    ModeOfAnother { path: PathBuf, real: PathBuf, mode: u32 },
    #[error("{path} is not a file")]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{name} in {path} has a NUL character")]
    Nul { path: PathBuf, name: String },
    #[error("line {line} of {path} is not NAME=value")]
    Line { path: PathBuf, line: usize },
    #[error("line {line} of {path} begins a quoted value that does not end")]
    Unclosed { path: PathBuf, line: usize },
    #[error("{path} sets {name} twice, the second time in line {line}")]
    Twice { path: PathBuf, name: String, line: usize },
    #[error("{name} in {path} is still {PLACEHOLDER}")]
    Placeholder { path: PathBuf, name: String },
    #[error("{path} lacks {}", names.join(", "))]
    Missing { path: PathBuf, names: Vec<String> },
    #[error("{path} is too large")]
    TooLarge { path: PathBuf, why: String },
}

/// Ten times what values may have together: the rest is comments.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the file; `None` if it does not exist.
///
/// # Errors
/// When it is not a regular file, others can read it, a line is not `NAME=value`, a value is a placeholder or no value of
/// a variable, or they are too large.
pub fn read(path: &Path) -> Result<Option<BTreeMap<String, Secret>>, EnvFileError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(EnvFileError::Read { path: path.to_owned(), source }),
    };
    // Before it is opened: a pipe gives nothing until somebody writes, and a device may never end.
    if !metadata.is_file() {
        return Err(EnvFileError::NotAFile { path: path.to_owned(), kind: kind(metadata.file_type()) });
    }
    let mode = metadata.mode() & 0o777;
    if mode != 0o600 {
        return Err(mode_error(path, mode, metadata.uid()));
    }
    let text = bounded_file::read_text(path, FILE_BYTES_MAX)
        .map_err(|source| EnvFileError::Read { path: path.to_owned(), source })?;
    let Some(text) = text else {
        let why = format!("it has more than {} MiB", FILE_BYTES_MAX / 1024 / 1024);
        return Err(EnvFileError::TooLarge { path: path.to_owned(), why });
    };
    let values = parse(path, &text)?;
    if let Some(name) = with_nul(&values) {
        return Err(EnvFileError::Nul { path: path.to_owned(), name: name.to_owned() });
    }
    if let Some(why) = too_large(&values) {
        return Err(EnvFileError::TooLarge { path: path.to_owned(), why });
    }
    match values.iter().find(|(_, value)| value.expose().contains(PLACEHOLDER)) {
        Some((name, _)) => Err(EnvFileError::Placeholder { path: path.to_owned(), name: name.clone() }),
        None => Ok(Some(values)),
    }
}

/// The command that helps changes what the path leads to. So it is named, and not advised for what another owns.
fn mode_error(path: &Path, mode: u32, owner: u32) -> EnvFileError {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if owner == rustix::process::geteuid().as_raw() {
        let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        return EnvFileError::Mode { path: if is_link { real } else { path.to_owned() }, mode };
    }
    EnvFileError::ModeOfAnother { path: path.to_owned(), real, mode }
}

fn kind(is: fs::FileType) -> &'static str {
    if is.is_dir() {
        "a folder"
    } else if is.is_fifo() {
        "a named pipe"
    } else if is.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Checks that every required variable has a value.
///
/// # Errors
/// When one has none; the error names all of them.
pub fn require(
    path: &Path,
    values: &BTreeMap<String, Secret>,
    required: &[String],
) -> Result<(), EnvFileError> {
    let has_value = |name: &String| values.get(name).is_some_and(|value| !value.expose().is_empty());
    let names: Vec<String> = required.iter().filter(|name| !has_value(name)).cloned().collect();
    if names.is_empty() { Ok(()) } else { Err(EnvFileError::Missing { path: path.to_owned(), names }) }
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Secret>, EnvFileError> {
    let mut values = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line_number = index + 1;
        // What stands at its end may belong to a quoted value that goes on in the next line.
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = || EnvFileError::Line { path: path.to_owned(), line: line_number };
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, rest) = line.split_once('=').ok_or_else(invalid)?;
        let name = name.trim_end();
        if !is_variable(name) {
            return Err(invalid());
        }
        let rest = rest.trim_start();
        let value = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let mut quoted = rest[1..].to_owned();
                while find_closing_quote(&quoted, quote).is_none() {
                    let (_, more) = lines
                        .next()
                        .ok_or_else(|| EnvFileError::Unclosed { path: path.to_owned(), line: line_number })?;
                    quoted.push('\n');
                    quoted.push_str(more);
                }
                unquoted(&quoted, quote).ok_or_else(invalid)?
            }
            Some(_) | None => rest.split(" #").next().unwrap_or_default().trim_end().to_owned(),
        };
        if values.insert(name.to_owned(), Secret::new(value)).is_some() {
            return Err(EnvFileError::Twice {
                path: path.to_owned(),
                name: name.to_owned(),
                line: line_number,
            });
        }
    }
    Ok(values)
}

/// The position of the closing quote. In double quotes a backslash escapes it.
fn find_closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if quote == '"' => is_escaped = true,
            other if other == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str, quote: char) -> Option<String> {
    let (inner, after) = text.split_at(find_closing_quote(text, quote)?);
    let after = after[1..].trim();
    if !after.is_empty() && !after.starts_with('#') {
        return None;
    }
    if quote == '\'' {
        return Some(inner.to_owned());
    }
    let mut value = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        value.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            },
            other => other,
        });
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env.production");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn refused(text: &str, mode: u32) -> String {
        let (_directory, path) = file(text, mode);
        let error = read(&path).expect_err("it is wrong");
        assert!(!error.to_string().contains("canary"), "{error}");
        error.to_string()
    }

    #[test]
    fn a_file_is_read_as_shells_write_it() {
        let text = "# secrets\nexport A=plain # said\nB=\"two\\nlines \\\"q\\\"\"\nC='as $it is'\nD=\"-----\nkey\n-----\"\nE=\n F=\"two  \nlines\" # said\n";
        let (_directory, path) = file(text, 0o600);
        let values = read(&path).unwrap().unwrap();
        let value = |name: &str| values[name].expose().to_owned();
        assert_eq!(value("A"), "plain");
        assert_eq!(value("B"), "two\nlines \"q\"");
        assert_eq!(value("C"), "as $it is");
        assert_eq!(value("D"), "-----\nkey\n-----");
        assert_eq!(value("F"), "two  \nlines");
        assert!(require(&path, &values, &["A".to_owned()]).is_ok());
        let missing = require(&path, &values, &["E".to_owned(), "G".to_owned()]).unwrap_err().to_string();
        assert!(missing.ends_with("lacks E, G"), "{missing}");
    }

    #[test]
    fn what_is_wrong_is_named_and_its_value_is_not() {
        assert!(refused("A=canary\n", 0o644).contains("0644"));
        assert!(refused("A=CHANGE_ME-canary\n", 0o600).contains("A in"));
        assert!(refused("canary\n", 0o600).contains("line 1"));
        assert!(refused("A=canary\nA=canary\n", 0o600).contains("twice"));
        assert!(refused("A=\"canary\nB=1\n", 0o600).contains("does not end"));
        assert!(refused("A=\"x\" canary\n", 0o600).contains("line 1"));
    }

    #[test]
    fn a_value_with_nul_is_refused_and_not_shown() {
        let said = refused("A=can\0ary\n", 0o600);
        assert!(said.starts_with("A in ") && said.ends_with("has a NUL character"), "{said}");
    }

    /// A pipe would be read until somebody writes.
    #[test]
    fn what_is_no_regular_file_is_refused_before_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        for (path, expected) in [
            (pipe.as_path(), "a named pipe"),
            (directory.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read(path).expect_err("it is no file");
            assert!(matches!(error, EnvFileError::NotAFile { kind, .. } if kind == expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_parsed() {
        let line = format!("# {}\n", "x".repeat(1022));
        assert!(refused(&line.repeat(4097), 0o600).ends_with("is too large"));
    }

    /// `chmod` follows a link.
    #[test]
    fn the_mode_of_what_a_link_leads_to_is_said_of_that() {
        let (_directory, path) = file("A=canary\n", 0o644);
        let link = path.with_file_name(".env");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let owner = rustix::process::geteuid().as_raw();
        let real = path.canonicalize().unwrap();
        let error = mode_error(&link, 0o644, owner);
        assert!(matches!(&error, EnvFileError::Mode { path, .. } if *path == real), "{error}");
        let another = crate::failure::Failure::from(mode_error(&link, 0o644, owner + 1));
        assert!(another.what.contains(&path.canonicalize().unwrap().display().to_string()), "{another:?}");
        assert!(!another.next.unwrap().contains("chmod"));
    }

    #[test]
    fn no_file_is_no_error() {
        assert!(read(Path::new("/nonexistent/.env.production")).unwrap().is_none());
    }
}
