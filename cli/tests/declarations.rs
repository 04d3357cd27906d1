//! Declarations as people write them: those that are taken, and what is said of those that are not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/declarations").join(name)
}

fn declaration(folder_name: &str, name: &str) -> String {
    fs::read_to_string(folder(folder_name).join(format!("{name}.yml"))).unwrap()
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

/// One test for each file of a folder, and one that no file is without its test.
macro_rules! declarations {
    ($folder:ident by $check:ident: $($name:ident),* $(,)?) => {
        mod $folder {
            $(
                #[test]
                fn $name() {
                    super::$check(stringify!($name), &super::declaration(stringify!($folder), stringify!($name)));
                }
            )*

            #[test]
            fn every_file_has_its_test() {
                let mut files: Vec<String> = std::fs::read_dir(super::folder(stringify!($folder)))
                    .unwrap()
                    .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                    .collect();
                files.sort();
                assert_eq!(files, [$(stringify!($name)),*]);
            }
        }
    };
}

fn is_taken_and_has_the_published_schema(name: &str, text: &str) {
    let output = check(text);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    assert_schema_takes(name, text);
}

fn assert_schema_takes(name: &str, text: &str) {
    let schema = jsonschema::validator_for(&printed_schema()).unwrap();
    let document = read(text);
    assert!(schema.is_valid(&document), "{name}: {:?}", schema.iter_errors(&document).next());
}

declarations! {
    valid by is_taken_and_has_the_published_schema:
    built, everything, four_lines,
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/examples")
}

#[test]
fn every_example_has_its_test() {
    let entries = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| path.join("deployment.yml").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["notes"]);
}

#[test]
fn the_example_notes_is_valid() {
    let text = fs::read_to_string(examples().join("notes/deployment.yml")).unwrap();
    is_taken_and_has_the_published_schema("notes", &text);
}

fn is_refused_with_its_place_and_the_way_out(name: &str, text: &str) {
    let output = check(text);
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

declarations! {
    invalid by is_refused_with_its_place_and_the_way_out:
    acme, bad_length, bad_name, bad_size, certificate_without_tls, empty, env_is_a_list, image_is_a_list,
    image_with_tag, later, lock_too_long, malformed, no_app, no_environment, no_image, no_list, no_url,
    path_on_the_coordinator, several_hosts, singleton,
    tab, tls, tls_without_https, twice, unknown_image_key, unknown_key, unknown_nested_key, unknown_value,
    wrong_type,
}

/// What the file does not know, the schema does not know either.
fn assert_schema_refuses(name: &str) {
    let schema = jsonschema::validator_for(&printed_schema()).unwrap();
    assert!(!schema.is_valid(&read(&declaration("invalid", name))), "{name} is valid");
}

#[test]
fn the_schema_refuses_unknown_key() {
    assert_schema_refuses("unknown_key");
}

#[test]
fn the_schema_refuses_unknown_nested_key() {
    assert_schema_refuses("unknown_nested_key");
}

#[test]
fn the_schema_refuses_unknown_image_key() {
    assert_schema_refuses("unknown_image_key");
}

#[test]
fn the_schema_refuses_wrong_type() {
    assert_schema_refuses("wrong_type");
}

#[test]
fn the_schema_refuses_no_app() {
    assert_schema_refuses("no_app");
}

#[test]
fn the_published_schema_is_the_printed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/schema/deployment.schema.json");
    let published: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(published, printed_schema(), "lockstep schema > deploy/schema/deployment.schema.json");
}
