//! The files in `golden/<version>/`: what the programs of that version stored and sent. They are written once and
//! only read from then on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Every version of which there are files, oldest first. What this program writes is compared with the last one;
/// the others must be read.
pub(crate) const VERSIONS: &[&str] = &["da8beec", "names"];

/// What came to be stored and sent since the newest version, and nothing else: files that it does not need are not
/// there.
pub(crate) const UNRELEASED: &str = "unreleased";

/// What to do where a test says that something is not as it was.
pub(crate) const ADVICE: &str = "Stored and sent bytes must stay what they are: hosts, coordinators and command lines of two versions \
     work together. Where the change is meant, see tests/upgrade/golden/README.md";

pub(crate) fn newest() -> &'static str {
    VERSIONS.last().expect("there is one")
}

/// Whether this program writes the same bytes.
pub(crate) fn is_newest(version: &str) -> bool {
    version == newest() || version == UNRELEASED
}

/// Every folder, oldest first.
pub(crate) fn folders() -> impl Iterator<Item = &'static str> {
    VERSIONS.iter().copied().chain([UNRELEASED])
}

fn all() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("upgrade/golden")
}

pub(crate) fn path(version: &str, file: &str) -> PathBuf {
    all().join(version).join(file)
}

pub(crate) fn bytes(version: &str, file: &str) -> Vec<u8> {
    let path = path(version, file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn text(version: &str, file: &str) -> String {
    if version == UNRELEASED && !path(version, file).exists() {
        return String::new();
    }
    String::from_utf8(bytes(version, file)).expect("it is text")
}

/// A copy of a folder of the version, for one owner alone, as its program keeps it.
pub(crate) fn copy(version: &str, folder: &str) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_into(&path(version, folder), copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry").path();
        let there = to.join(entry.file_name().expect("an entry has a name"));
        if entry.is_dir() {
            fs::create_dir(&there).expect("a temporary folder");
            copy_into(&entry, &there);
        } else {
            fs::copy(&entry, &there).expect("a golden file is copied");
            fs::set_permissions(&there, fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
    }
}

#[test]
fn every_folder_is_of_a_version_that_is_named() {
    let mut found: Vec<String> = fs::read_dir(all())
        .expect("the golden files")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut named: Vec<&str> = folders().collect();
    named.sort_unstable();
    assert_eq!(found, named, "a folder that VERSIONS does not name is read by no test");
}

/// Repositories grow for ever: what is golden stays small.
#[test]
fn the_files_of_a_version_are_small() {
    fn size(path: &Path) -> u64 {
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries
            .map(|path| if path.is_dir() { size(&path) } else { path.metadata().expect("a file").len() })
            .sum()
    }
    for version in folders() {
        let bytes = size(&path(version, ""));
        assert!(bytes < 1024 * 1024, "the files of {version} have {bytes} bytes");
    }
}
