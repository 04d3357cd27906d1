//! The documents lead somewhere: relative links and their anchors, files that are named, and the README's length.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// What somebody reads who has ten minutes.
const README_LINES_MAX: usize = 150;

/// The folders of the repository: what begins with one of them in a document is a path.
const FOLDERS: &[&str] =
    &["agent", "cli", "coordinator", "core", "deploy", "docs", "proto", "runtime", "tests"];

/// Documents that tell what was so, and may name what is gone.
const OF_THE_PAST: &[&str] = &["CHANGELOG.md"];

/// Every document, as its path from the root and its text.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "GLOSSARY.md",
        "CHANGELOG.md",
        "deploy/examples/notes/README.md",
        "tests/README.md",
    ] {
        found.push((name.to_owned(), read(&root().join(name))));
    }
    collect(&root().join("docs"), &mut found);
    assert!(found.len() > 10, "only {} documents were found: the test looks in the wrong place", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of documents") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let name =
                path.strip_prefix(root()).expect("a file of the workspace").to_string_lossy().into_owned();
            found.push((name, read(&path)));
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A document without what stands between fences.
fn prose(text: &str) -> String {
    let outside = text.split("\n```").step_by(2);
    outside.map(|part| part.split_once('\n').map_or(part, |(_, rest)| rest)).collect::<Vec<_>>().join("\n")
}

/// The targets of `[words](target)`, and of `src="target"` of an image.
fn targets(text: &str) -> Vec<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let images = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    links.chain(images).map(|(target, _)| target.to_owned()).collect()
}

/// As GitHub makes an anchor of a heading.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

fn folder_of(name: &str) -> PathBuf {
    root().join(name).parent().expect("a document is in a folder").to_owned()
}

/// What is wrong with one target of the document at `name`.
fn broken(name: &str, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = folder_of(name).join(file);
    if !file.is_empty() && !path.exists() {
        return Some(format!("{name}: {target} leads nowhere"));
    }
    let there = if file.is_empty() { text.to_owned() } else { fs::read_to_string(&path).unwrap_or_default() };
    let anchor = anchor.filter(|anchor| !anchors(&there).contains(*anchor))?;
    Some(format!("{name}: {target}: there is no heading for #{anchor}"))
}

/// Words in backticks that are a path from the root.
fn paths(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let folder = word.split_once('/').map(|(folder, _)| folder);
        folder.is_some_and(|folder| FOLDERS.contains(&folder))
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'))
    };
    words.filter(is_path).map(ToOwned::to_owned).collect()
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut problems = Vec::new();
    for (name, text) in documents() {
        problems.extend(targets(&prose(&text)).iter().filter_map(|target| broken(&name, &text, target)));
    }
    complain(&problems);
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut problems = Vec::new();
    for (name, text) in documents().into_iter().filter(|(name, _)| !OF_THE_PAST.contains(&name.as_str())) {
        let gone = paths(&prose(&text)).into_iter().filter(|path| !root().join(path).exists());
        problems.extend(gone.map(|path| format!("{name} names {path}, which is not there")));
    }
    complain(&problems);
}

#[test]
fn the_readme_can_be_read_in_ten_minutes() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, and {README_LINES_MAX} are the most");
}

#[test]
fn every_page_of_the_documentation_is_linked() {
    let documents = documents();
    let mut linked = BTreeSet::new();
    for (name, text) in &documents {
        let folder = folder_of(name);
        for target in targets(&prose(text)) {
            let file = target.split('#').next().unwrap_or_default();
            if let Ok(path) = folder.join(file).canonicalize() {
                linked.insert(path);
            }
        }
    }
    let alone = documents.iter().filter(|(name, _)| name.starts_with("docs/"));
    let alone = alone.filter(|(name, _)| {
        !linked.contains(&root().join(name).canonicalize().expect("a document that was read"))
    });
    complain(&alone.map(|(name, _)| format!("nothing leads to {name}")).collect::<Vec<_>>());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text = "# One heading\n\n[a](GLOSSARY.md) [b](docs/no.md) [c](#one-heading) [d](#other)\n";
    let found: Vec<String> =
        targets(text).iter().filter_map(|target| broken("README.md", text, target)).collect();
    assert_eq!(
        found,
        ["README.md: docs/no.md leads nowhere", "README.md: #other: there is no heading for #other"]
    );
}
