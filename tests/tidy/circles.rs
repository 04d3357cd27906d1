//! Circles of imports: files of a crate that cannot be read, or moved, without each other.
//!
//! A file depends on the files that its `use` lines and its `crate::…` and `super::…` paths name. What a file takes
//! from a module that it lies in is left out: a parent owns the types that its parts share. So are tests.

use std::collections::{BTreeMap, BTreeSet};

/// Each circle of the crate, as a line that names its files; `files` are its sources by their path below `src`.
pub(crate) fn circles(files: &BTreeMap<String, String>) -> Vec<String> {
    let modules: BTreeMap<Vec<String>, &str> =
        files.iter().map(|(path, text)| (module(path), text.as_str())).collect();
    let edges: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> = modules
        .iter()
        .map(|(name, text)| {
            let named = imports(name, text);
            let found = named.iter().filter_map(|path| owner(&modules, path));
            (name, found.filter(|other| !name.starts_with(other)).collect())
        })
        .collect();
    let reached: BTreeMap<_, _> = edges.keys().map(|from| (*from, reachable(from, &edges))).collect();
    let circle = |file: &Vec<String>| -> BTreeSet<String> {
        let mutual = reached[file].iter().filter(|other| reached[*other].contains(file));
        mutual.map(|other| other.join("::")).collect()
    };
    let found: BTreeSet<BTreeSet<String>> =
        edges.keys().map(|file| circle(file)).filter(|circle| circle.len() > 1).collect();
    found.into_iter().map(|circle| circle.into_iter().collect::<Vec<_>>().join(" ↔ ")).collect()
}

/// `view/status.rs` is `view::status`; the root of the crate is empty.
fn module(path: &str) -> Vec<String> {
    let name = path.trim_end_matches(".rs");
    if name == "lib" || name == "main" { Vec::new() } else { name.split('/').map(str::to_owned).collect() }
}

/// The file that has what `path` names: the longest module that it begins with. `None` for the root, which only lists.
fn owner<'a>(modules: &'a BTreeMap<Vec<String>, &str>, path: &[String]) -> Option<&'a Vec<String>> {
    (1..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length]).map(|(name, _)| name))
}

fn reachable<'a>(
    from: &'a Vec<String>,
    edges: &BTreeMap<&'a Vec<String>, BTreeSet<&'a Vec<String>>>,
) -> BTreeSet<&'a Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<_> = edges[from].iter().copied().collect();
    while let Some(next) = waiting.pop() {
        if seen.insert(next) {
            waiting.extend(edges[next].iter().copied());
        }
    }
    seen
}

/// The full paths that a file names, below the root of its crate.
fn imports(file: &[String], text: &str) -> Vec<Vec<String>> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        match statement.rsplit_once("use ").filter(|(before, _)| is_start_of_use(before)) {
            Some((before, tree)) => {
                rest.push_str(before);
                let mut names = Vec::new();
                flatten(tree.trim_end_matches(';'), "", &mut names);
                found.extend(names.iter().map(|name| absolute(file, name)));
            }
            None => rest.push_str(statement),
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(root) {
            let end = rest[at..].find(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
            found.push(absolute(file, &rest[at..end.map_or(rest.len(), |end| at + end)]));
        }
    }
    found
}

fn is_start_of_use(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or(before).trim();
    line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn flatten(tree: &str, prefix: &str, names: &mut Vec<String>) {
    let mut depth = 0;
    let parts = tree.split(|letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('{') {
            Some((before, inner)) => {
                let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
                flatten(inner, &format!("{prefix}{before}"), names);
            }
            None => names.push(format!("{prefix}{}", part.split(" as ").next().unwrap_or(part))),
        }
    }
}

fn absolute(file: &[String], name: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut segments = name.split("::").filter(|segment| !segment.is_empty()).peekable();
    match segments.peek() {
        Some(&"crate") => drop(segments.next()),
        Some(&"super" | &"self") => {
            path = file.to_vec();
            while let Some(step) = segments.next_if(|step| ["super", "self"].contains(step)) {
                if step == "super" {
                    path.pop();
                }
            }
        }
        Some(_) | None => path = file.to_vec(),
    }
    path.extend(segments.map(str::to_owned));
    path
}

#[cfg(test)]
mod tests {
    use super::circles;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        circles(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let files =
            [("a.rs", "use crate::{b::B, c};\n"), ("b.rs", "fn f() { crate::a::go() }\n"), ("c.rs", "")];
        assert_eq!(found(&files), ["a ↔ b"]);
    }

    #[test]
    fn a_circle_through_a_nested_import_and_a_sibling_is_seen() {
        let files = [
            ("a.rs", "mod x;\nmod y;\n"),
            ("a/x.rs", "use super::y::Y;\n"),
            ("a/y.rs", "use crate::{\n    a::{x::X},\n};\n"),
        ];
        assert_eq!(found(&files), ["a::x ↔ a::y"]);
    }

    #[test]
    fn a_part_may_use_what_its_parent_owns() {
        let files = [("a.rs", "mod x;\nuse x::X;\n"), ("a/x.rs", "use super::Shared;\n")];
        assert!(found(&files).is_empty());
    }

    #[test]
    fn a_comment_imports_nothing() {
        let files = [("a.rs", "use crate::b::B;\n"), ("b.rs", "// use crate::a::A;\n")];
        assert!(found(&files).is_empty());
    }
}
