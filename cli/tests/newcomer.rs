//! A newcomer's mistakes: each has an answer that says what to do.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use lockstep::args::Arguments;

const DECLARATION: &str = "app: notes\nimage: notes\nport: 8080\nenvironments:\n  \
                           production: { url: http://notes.example }\n  \
                           staging: { url: http://staging.notes.example }\n";

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn lockstep(directory: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(arguments)
        .current_dir(directory)
        .env("LOCKSTEP_CREDENTIAL", directory.join("credential"))
        .env_remove("LOCKSTEP_COORDINATOR")
        // Help is as wide as this says.
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// As in `lockstep … | head -1`, when `head` is faster.
fn check_nobody_reads(arguments: &[&str]) {
    let directory = project();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(arguments)
        .current_dir(directory.path())
        .env("LOCKSTEP_CREDENTIAL", directory.path().join("credential"))
        .stdout(writer)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), said.as_ref()), (Some(0), ""), "{arguments:?}");
}

#[test]
fn a_reader_that_has_enough_of_the_schema_is_no_failure() {
    check_nobody_reads(&["schema"]);
}

#[test]
fn a_reader_that_has_enough_of_a_completion_script_is_no_failure() {
    check_nobody_reads(&["completions", "bash"]);
}

fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("deployment.yml"), DECLARATION).unwrap();
    directory
}

/// A credential that was made for some cluster; where it is good is another question.
fn give_credential(directory: &Path, coordinator: &str) {
    let folder = directory.join("credential");
    fs::create_dir(&folder).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    for (name, text) in [
        ("key.pem", key.serialize_pem()),
        ("certificate.pem", certificate.clone()),
        ("authority.pem", certificate),
        ("coordinator", coordinator.to_owned()),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn without_a_credential_it_says_how_to_get_one() {
    let project = project();
    lockstep(project.path(), &["status", "production"])
        .expect(3, &["there is no credential", "lockstep login", "lockstep operator add"]);
}

#[test]
fn a_credential_that_others_can_read_is_not_used() {
    let project = project();
    give_credential(project.path(), "127.0.0.1:1");
    let key = project.path().join("credential/key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    lockstep(project.path(), &["status", "production"]).expect(3, &["can be read by others", "chmod 600"]);
}

#[test]
fn without_a_coordinator_it_says_where_it_looked() {
    let project = project();
    // A port that nobody listens on: the listener that had it is gone.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    give_credential(project.path(), &address);
    lockstep(project.path(), &["status", "production"])
        .expect(5, &["no coordinator answers at", &address, "lockstep-coordinator"]);
}

#[test]
fn in_the_wrong_directory_it_says_where_it_looked() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    lockstep(directory.path(), &["plan", "production", "--image", "notes:1"])
        .expect(3, &["there is no deployment.yml", &place, "next: cd DIR"]);
    lockstep(directory.path(), &["status", "production"])
        .expect(3, &["there is no deployment.yml", "lockstep env list", "<app>/<env>"]);
}

#[test]
fn an_unknown_environment_is_answered_with_the_nearest() {
    let project = project();
    lockstep(project.path(), &["plan", "prodction", "--image", "notes:1"])
        .expect(3, &["no environment prodction", "production, staging", "did you mean `production`?"]);
    lockstep(project.path(), &["plan", "other/production", "--image", "notes:1"])
        .expect(3, &["this is the project of notes, not of other"]);
}

#[test]
fn a_token_that_is_none_is_refused_without_being_shown() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("token");
    fs::write(&input, "not-a-token-canary").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["login", "--coordinator", "127.0.0.1:1"])
        .stdin(fs::File::open(&input).unwrap())
        .env("LOCKSTEP_CREDENTIAL", directory.path().join("credential"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("token") && !said.contains("canary"), "{said}");
}

/// Arguments that contain the value of a secret, and what is typed instead.
fn check_value_is_not_repeated(arguments: &[&str]) {
    let project = project();
    let said = lockstep(project.path(), arguments);
    said.expect(2, &["next: lockstep secret set production GREETING < FILE"]);
    assert!(!said.stderr.contains("canary") && !said.stdout.contains("canary"), "{}", said.stderr);
}

#[test]
fn a_secret_that_was_typed_as_name_and_value_is_not_repeated() {
    check_value_is_not_repeated(&["secret", "set", "production", "GREETING=canary"]);
}

#[test]
fn a_secret_that_was_typed_after_its_name_is_not_repeated() {
    check_value_is_not_repeated(&["secret", "set", "production", "GREETING", "canary"]);
}

#[test]
fn a_secret_cannot_be_read_and_the_answer_says_so() {
    let project = project();
    lockstep(project.path(), &["secret", "get", "production", "GREETING"])
        .expect(3, &["is shown to nobody", "next: lockstep secret list production"]);
}

/// The one object on standard error.
fn error_of(said: &Said) -> serde_json::Value {
    let whole: serde_json::Value =
        serde_json::from_str(&said.stderr).unwrap_or_else(|error| panic!("{error}: {}", said.stderr));
    let keys: Vec<&String> = whole["error"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["kind", "next", "what", "why"], "{whole}");
    whole["error"].clone()
}

#[test]
fn with_json_a_refusal_is_one_object() {
    let project = project();
    let said = lockstep(project.path(), &["--output", "json", "status", "production"]);
    let error = error_of(&said);
    assert_eq!((said.code, error["kind"].as_str()), (Some(3), Some("refused")));
    assert!(error["what"].as_str().unwrap().contains("no credential"), "{error}");
}

#[test]
fn with_json_a_problem_of_a_check_is_one_object_beside_the_checks() {
    let project = project();
    let said = lockstep(project.path(), &["doctor", "production", "--output", "json"]);
    assert_eq!((said.code, error_of(&said)["kind"].as_str()), (Some(1), Some("failed")));
    let checks: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(checks.as_array().is_some_and(|checks| checks.len() > 2), "{checks}");
}

#[test]
fn with_json_arguments_that_are_wrong_are_one_object() {
    let project = project();
    let said = lockstep(project.path(), &["--output", "json", "deploy"]);
    assert_eq!((said.code, error_of(&said)["kind"].as_str()), (Some(2), Some("usage")));
    let said = lockstep(project.path(), &["deploi", "production", "--output=json"]);
    assert_eq!((said.code, error_of(&said)["kind"].as_str()), (Some(2), Some("usage")));
}

#[test]
fn a_freeze_needs_no_word_before_it() {
    let project = project();
    let freeze = ["freeze", "production", "--reason", "fair", "--for", "1h"];
    lockstep(project.path(), &freeze).expect(3, &["there is no credential"]);
    lockstep(project.path(), &["thaw", "production"]).expect(3, &["there is no credential"]);
}

#[test]
fn a_check_says_what_it_did_not_look_at() {
    let project = project();
    let said = lockstep(project.path(), &["env", "check", "production"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for words in [
        "there is no",
        ".env.production",
        "not checked: hosts",
        "next: lockstep plan production --image notes:TAG",
    ] {
        assert!(said.stdout.contains(words), "{words:?} is not in: {}", said.stdout);
    }
}

/// A command that reads deployment.yml does not say that it works from any directory.
#[test]
fn a_command_that_reads_the_file_says_so_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let said = lockstep(directory.path(), &["plan", "notes/production", "--image", "notes:1"]);
    said.expect(3, &["there is no deployment.yml", "next: cd DIR", "of notes: this command reads it"]);
    assert!(!said.stderr.contains("<app>/<env>"), "{}", said.stderr);
    give_credential(directory.path(), "127.0.0.1:1");
    lockstep(directory.path(), &["status", "notes/production"]).expect(5, &["no coordinator answers"]);
    lockstep(directory.path(), &["resolve", "notes/production", "--retry"])
        .expect(5, &["no coordinator answers"]);
    let said = lockstep(directory.path(), &["doctor", "notes/production"]);
    assert!(said.stdout.contains("note   deployment.yml"), "{}", said.stdout);
}

#[test]
fn a_log_that_needs_an_environment_is_answered_with_the_whole_command() {
    let project = project();
    lockstep(project.path(), &["logs", "@last"])
        .expect(2, &["next: lockstep logs production --deployment @last", "or: lockstep logs staging"]);
    lockstep(project.path(), &["show", "@last"])
        .expect(2, &["next: lockstep show @last --env production", "or: lockstep show @last --env staging"]);
}

#[test]
fn without_an_image_the_command_that_names_one_is_whole() {
    let project = project();
    lockstep(project.path(), &["deploy", "production", "--wait-lock", "5m"])
        .expect(3, &["next: lockstep deploy production --image notes:TAG --wait-lock 5m"]);
}

#[test]
fn what_cannot_be_typed_is_a_usage_error() {
    let project = project();
    lockstep(project.path(), &["--output", "xml", "status"]).expect(2, &["human", "json"]);
    lockstep(project.path(), &["deploy"]).expect(2, &["ENV"]);
    lockstep(project.path(), &["deploi", "production"]).expect(2, &["deploy"]);
}

#[test]
fn the_help_has_examples_and_exit_codes() {
    let project = project();
    let help = lockstep(project.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    insta::assert_snapshot!("help", help.stdout);
}

/// A line of an example is copied, so a terminal of 80 columns must not break it.
#[test]
fn examples_fit_in_80_columns() {
    fn check(command: &clap::Command, wide: &mut Vec<String>) {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        wide.extend(examples.lines().filter(|line| line.chars().count() > 80).map(ToOwned::to_owned));
        command.get_subcommands().for_each(|command| check(command, wide));
    }
    let mut wide = Vec::new();
    check(&Arguments::command(), &mut wide);
    assert!(wide.is_empty(), "{wide:#?}");
}

/// A parser would take seconds for it, and the coordinator would not store it.
#[test]
fn a_declaration_of_megabytes_is_refused_unread() {
    let directory = project();
    let path = directory.path().join("deployment.yml");
    let padded = |bytes: usize| format!("{DECLARATION}{}\n", "#".repeat(bytes - DECLARATION.len() - 1));
    fs::write(&path, padded(256 * 1024)).unwrap();
    lockstep(directory.path(), &["env", "check", "production"]).expect(0, &[]);
    fs::write(&path, padded(256 * 1024 + 1)).unwrap();
    let said = lockstep(directory.path(), &["env", "check", "production"]);
    said.expect(3, &["deployment.yml has more than 256 KiB", "next:", "lockstep env check production"]);
}

#[test]
fn a_file_of_secrets_that_is_a_pipe_is_refused() {
    let directory = project();
    let path = directory.path().join(".env.production");
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap();
    assert!(made.success());
    let said = lockstep(directory.path(), &["env", "check", "production"]);
    said.expect(3, &[".env.production is not a file", "it is a named pipe", "next:"]);
}

#[test]
fn a_mistake_in_a_file_of_secrets_comes_with_the_next_command() {
    let directory = project();
    let path = directory.path().join(".env.production");
    for text in ["A=1\nA=2\n", "A=\"1\n", "not a line\n", "A=a\0b\n"] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let said = lockstep(directory.path(), &["env", "check", "production"]);
        said.expect(3, &["why:", "next: lockstep env check production    # once "]);
    }
}

#[test]
fn a_backup_that_is_not_there_is_refused_as_every_command_refuses() {
    let directory = project();
    for file in ["/nonexistent/lockstep.backup", "/dev/null"] {
        let said = lockstep(directory.path(), &["--output", "json", "restore", file]);
        said.expect(3, &[]);
        let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap_or_default();
        let error = if error.is_null() { serde_json::from_str(&said.stdout).unwrap() } else { error };
        assert!(error.to_string().contains("cannot be restored"), "{error}");
    }
}

/// One test for each command, and one that no command is without its test.
macro_rules! help {
    ($($command:ident),* $(,)?) => {
        mod help {
            $(
                #[test]
                fn $command() {
                    super::check_help(stringify!($command));
                }
            )*

            #[test]
            fn every_command_has_its_test() {
                let mut commands = super::commands();
                commands.sort();
                assert_eq!(commands, [$(stringify!($command)),*]);
            }
        }
    };
}

fn commands() -> Vec<String> {
    let command = Arguments::command();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).filter(|name| name != "help").collect()
}

fn check_help(command: &str) {
    let help = lockstep(project().path(), &[command, "--help"]);
    assert!(help.stdout.contains("\nExamples:\n"), "{command} has no example:\n{}", help.stdout);
    insta::assert_snapshot!(format!("help_{command}"), help.stdout);
}

help! {
    audit, authority, backup, cancel, completions, coordinator, deploy, doctor, down, env, fence, history,
    host, lock, login, logs, operator, plan, registry, resolve, restore, rollback, schema, secret, show,
    state, status, token, up, watch,
}
