//! Declarations as people write them: those that are taken, and what is said of those that are not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/declarations").join(name)
}

fn files(name: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn check(declaration: &str) -> Output {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("deployment.yml"), declaration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.args(["env", "check", "production"]).current_dir(project.path()).output().unwrap()
}

fn read(text: &str) -> Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap()
}

fn printed_schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_lockstep")).arg("schema").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_valid_is_taken_and_has_the_published_schema() {
    let schema = jsonschema::validator_for(&printed_schema()).unwrap();
    let files = files("valid");
    assert!(files.len() >= 3);
    for (name, text) in files {
        let output = check(&text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        let document = read(&text);
        assert!(schema.is_valid(&document), "{name}: {:?}", schema.iter_errors(&document).next());
    }
}

#[test]
fn the_examples_are_valid() {
    let schema = jsonschema::validator_for(&printed_schema()).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/examples");
    let mut seen = 0;
    for example in fs::read_dir(examples).unwrap() {
        let path = example.unwrap().path().join("deployment.yml");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        seen += 1;
        let document = read(&text);
        assert!(schema.is_valid(&document), "{path:?}: {:?}", schema.iter_errors(&document).next());
        let output = check(&text);
        assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(seen > 0, "no example has a deployment.yml");
}

#[test]
fn what_is_not_is_refused_with_its_place_and_the_way_out() {
    let files = files("invalid");
    assert!(files.len() >= 21);
    for (name, text) in files {
        let output = check(&text);
        assert_eq!(output.status.code(), Some(3), "{name} is taken");
        // The project's directory has another name each time.
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said
            .split_inclusive('\n')
            .map(|line| match line.find("/deployment.yml") {
                Some(at) => {
                    let begin = line[..at].rfind(' ').map_or(0, |space| space + 1);
                    format!("{}[project]{}", &line[..begin], &line[at..])
                }
                None => line.to_owned(),
            })
            .collect();
        insta::with_settings!({ description => text, omit_expression => true }, {
            insta::assert_snapshot!(name, said);
        });
    }
}

#[test]
fn the_schema_refuses_what_the_file_does_not_know() {
    let schema = jsonschema::validator_for(&printed_schema()).unwrap();
    for name in ["unknown_key", "unknown_nested_key", "unknown_image_key", "wrong_type", "no_app"] {
        let text = fs::read_to_string(folder("invalid").join(format!("{name}.yml"))).unwrap();
        let document = read(&text);
        assert!(!schema.is_valid(&document), "{name} is valid");
    }
}

#[test]
fn the_published_schema_is_the_printed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/schema/deployment.schema.json");
    let published: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(published, printed_schema(), "lockstep schema > deploy/schema/deployment.schema.json");
}
