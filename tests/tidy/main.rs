//! What `rustc` cannot say and everybody relies on: who may know whom, what files are called, how long
//! they may be, and what does not stand in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod documents;

use circles::circles;

/// A file longer than this is on [`LONG`], which may only shrink.
const LINES_MAX: usize = 600;

/// The files that are longer, with the length that they may not pass.
const LONG: &[(&str, usize)] = &[];

/// The folders of `lockstep-tests`.
const RINGS: &[&str] = &[
    "attack",
    "bench",
    "cases",
    "fleet",
    "fuzz",
    "scenarios",
    "src",
    "store",
    "stories",
    "tidy",
    "up",
    "upgrade",
];

/// Who may depend on what of ours.
const CRATES: &[(&str, &[&str])] = &[
    ("core", &["lockstep-mutant"]),
    ("proto", &["lockstep-core"]),
    ("runtime", &["lockstep-core"]),
    (
        "coordinator",
        &["lockstep-core", "lockstep-proto", "lockstep-runtime", "lockstep-crashpoint", "lockstep-mutant"],
    ),
    ("agent", &["lockstep-core", "lockstep-proto", "lockstep-runtime", "lockstep-crashpoint"]),
    ("cli", &["lockstep-core", "lockstep-proto", "lockstep-runtime"]),
    ("tests/crashpoint", &[]),
    ("tests/model", &["lockstep-core"]),
    ("tests/mutant", &[]),
    ("tests/sim", &["lockstep-core", "lockstep-coordinator", "lockstep-mutant"]),
];

/// What only these files may name.
const ONLY_IN: &[(&str, &str, &[&str])] = &[
    ("core/src", "std::", &[]),
    ("coordinator/src", "sqlx", &["coordinator/src/store/sqlite"]),
    ("coordinator/src", "etcd_client", &["coordinator/src/store/etcd"]),
    ("coordinator/src", "bollard", &[]),
    (
        "coordinator/src",
        "lockstep_core::run::engine",
        &[
            "coordinator/src/drive",
            "coordinator/src/view/status.rs",
            "coordinator/src/planning",
            "coordinator/src/export/deployment_log.rs",
        ],
    ),
    ("agent/src", "bollard", &["agent/src/docker"]),
    ("agent/src", "sqlx", &["agent/src/postgres", "agent/src/journal"]),
    ("agent/src", "lockstep_core::run::engine", &[]),
    ("agent/src", "lockstep_core::planner", &[]),
    ("cli/src", "lockstep_core::run::engine", &[]),
    ("cli/src", "lockstep_core::planner", &[]),
    ("cli/src", "println!", &["cli/src/output"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_owned()
}

fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (folder, _) in CRATES {
        collect(&root().join(folder).join("src"), &mut found);
    }
    for ring in RINGS {
        collect(&root().join("tests").join(ring), &mut found);
    }
    assert!(found.len() > 40, "only {} sources were found: the test looks in the wrong place", found.len());
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in
        fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let name =
                entry.strip_prefix(root()).expect("a file of the workspace").to_string_lossy().into_owned();
            found.insert(name, fs::read_to_string(&entry).expect("a source"));
        }
    }
}

/// A source without its tests: they stand last in a file.
fn production(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod ").next().unwrap_or(source)
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn crates_know_only_whom_they_may_know() {
    let mut problems = Vec::new();
    for (folder, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or("");
        let dependencies = dependencies.split("\n[").next().unwrap_or("");
        for line in dependencies.lines().filter(|line| line.starts_with("lockstep")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
            if !allowed.contains(&name) {
                problems.push(format!("{folder} may not use {name}"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn the_core_stays_pure() {
    let root = fs::read_to_string(root().join("core/src/lib.rs")).expect("the core");
    assert!(root.contains("#![no_std]"), "core has lost its no_std");
    let mut problems = Vec::new();
    for (name, source) in sources().iter().filter(|(name, _)| name.starts_with("core/")) {
        for word in ["extern crate std", "tracing::", "tokio::", "SystemTime", "Instant::now"] {
            if production(source).contains(word) {
                problems.push(format!("{name} names {word}"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn only_adapters_name_what_they_adapt() {
    let mut problems = Vec::new();
    for (name, source) in &sources() {
        for (folder, word, allowed) in ONLY_IN {
            let may = allowed.iter().any(|prefix| name.starts_with(prefix));
            let code = production(source).lines().filter(|line| !line.trim_start().starts_with("//"));
            if name.starts_with(folder) && !may && code.clone().any(|line| line.contains(word)) {
                problems.push(format!("{name} names {word}"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn no_files_of_a_crate_import_each_other() {
    let all = sources();
    let crates = CRATES.iter().map(|(folder, _)| format!("{folder}/src/"));
    let rings = RINGS.iter().map(|ring| format!("tests/{ring}/"));
    let mut problems = Vec::new();
    for below in crates.chain(rings) {
        let files: BTreeMap<String, String> = all
            .iter()
            .filter_map(|(name, source)| {
                Some((name.strip_prefix(&below)?.to_owned(), production(source).to_owned()))
            })
            .collect();
        assert!(!files.is_empty(), "{below} has no sources");
        problems.extend(circles(&files).into_iter().map(|circle| format!("{below}: {circle}")));
    }
    complain(&problems);
}

/// Names that were hard to read, and what is said instead: see `GLOSSARY.md`.
#[test]
fn words_that_the_field_does_not_know_do_not_come_back() {
    const BANNED: &[(&str, &str)] = &[
        ("Course", "DriveState"),
        ("Payer", "PendingUndoRunner"),
        ("Returning", "Readmission"),
        ("TakingIn", "LocalRollbackAdoption"),
        ("Gathered", "PlanningInput"),
        ("Errand", "HostTask"),
        ("Intake", "AcceptDecision"),
        ("Retoken", "TokenUpdate"),
        ("Wish", "OperatorRequest"),
        ("WayOut", "ResolutionOption"),
        ("Unfit", "FenceError"),
        ("Happening", "WorkerEvent"),
        ("Told", "JournaledEntry, or what it reports"),
        ("is_passed_by", "is_excluded"),
        ("ways_out", "resolutions"),
    ];
    let mut problems = Vec::new();
    // The words stand in this test.
    for (name, source) in sources().iter().filter(|(name, _)| !name.starts_with("tests/tidy/")) {
        let code = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//") && !line.contains("serde(rename"));
        let words: BTreeSet<&str> = code
            .flat_map(|line| line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')))
            .collect();
        let found = BANNED.iter().filter(|(word, _)| words.contains(word));
        problems.extend(found.map(|(word, instead)| format!("{name} names {word}: {instead}")));
    }
    complain(&problems);
}

/// `cargo test` is not called without names: each target needs its daemons, or none.
#[test]
fn every_test_is_run_by_a_script() {
    let scripts: String = ["check.sh", "run.sh", "fleet.sh"]
        .map(|script| fs::read_to_string(root().join("tests").join(script)).expect("a script"))
        .concat();
    let named: BTreeSet<&str> =
        scripts.split("--test ").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    let mut targets: Vec<String> = Vec::new();
    for (folder, _) in CRATES {
        let Ok(files) = fs::read_dir(root().join(folder).join("tests")) else { continue };
        let files = files.map(|entry| entry.expect("an entry").path());
        let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        targets
            .extend(sources.map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned()));
    }
    let manifest = fs::read_to_string(root().join("tests/Cargo.toml")).expect("a manifest");
    let tests = manifest.split("[[test]]\nname = \"").skip(1);
    targets.extend(tests.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    assert!(targets.len() > 15, "only {targets:?} were found: the test looks in the wrong place");
    let forgotten = targets.iter().filter(|target| !named.contains(target.as_str()));
    complain(&forgotten.map(|target| format!("{target} is run by no script")).collect::<Vec<_>>());
}

#[test]
fn a_file_is_named_for_what_it_holds() {
    const NO_NAMES: &[&str] =
        &["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs", "mod.rs", "manager.rs"];
    let problems: Vec<String> = sources()
        .keys()
        .filter(|name| NO_NAMES.iter().any(|no| name.ends_with(&format!("/{no}"))))
        .map(|name| format!("{name} is named for nothing"))
        .collect();
    complain(&problems);
}

#[test]
fn files_stay_short() {
    let mut problems = Vec::new();
    for (name, source) in &sources() {
        let lines = source.lines().count();
        let most = LONG.iter().find(|(long, _)| long == name).map_or(LINES_MAX, |(_, most)| *most);
        if lines > most {
            problems.push(format!("{name} has {lines} lines, and {most} are the most"));
        }
    }
    complain(&problems);
}

#[test]
fn every_module_says_what_it_is() {
    let problems: Vec<String> = sources()
        .iter()
        .filter(|(_, source)| !source.starts_with("//!"))
        .map(|(name, _)| format!("{name} has no header"))
        .collect();
    complain(&problems);
}

#[test]
fn nothing_unfinished_stands_in_the_code() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "todo!".to_owned() + "(",
        "unimplemented!".to_owned() + "(",
    ];
    let mut problems = Vec::new();
    for (name, source) in &sources() {
        for word in &words {
            if source.contains(word.as_str()) {
                problems.push(format!("{name} has {word}"));
            }
        }
    }
    complain(&problems);
}
