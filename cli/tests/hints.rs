//! Every command that a message names is one that there is.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use lockstep::args::Arguments;

/// What secrets are encrypted for, and what the key of their fingerprints is derived for: nobody reads either.
const NO_HINT: [&str; 2] = ["secrets {environment} {version}", "secret fingerprints\""];

#[test]
fn every_command_in_a_hint_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate stands in the workspace");
    let mut files = Vec::new();
    for part in ["core/src", "coordinator/src", "agent/src", "cli/src"] {
        collect(&root.join(part), &mut files);
    }
    let mut wrong = Vec::new();
    let mut named = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source is text");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for hint in
                line.split("lockstep ").skip(1).filter(|hint| !NO_HINT.iter().any(|no| hint.starts_with(no)))
            {
                named += 1;
                if !is_command(hint) {
                    wrong.push(format!("{}: lockstep {hint}", file.display()));
                }
            }
        }
    }
    assert!(named > 80, "only {named} hints were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether the words begin with a command, and with one of its own where it has some.
fn is_command(hint: &str) -> bool {
    let mut words = hint.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let mut command = Arguments::command();
    let Some(first) = words.next().filter(|word| !word.is_empty()) else {
        // A placeholder, or the name by itself.
        return true;
    };
    let Some(found) = command.find_subcommand_mut(first) else {
        return false;
    };
    !found.has_subcommands()
        || words.next().is_none_or(|second| second.is_empty() || found.find_subcommand(second).is_some())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
