//! `lockstep env check` on a .env file.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

const DECLARATION: &str = include_str!("declarations/valid/four_lines.yml");

fn check(env_file: &str) -> Output {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("deployment.yml"), format!("{DECLARATION}\npublic: [LOG_LEVEL]\n"))
        .unwrap();
    let path = project.path().join(".env.production");
    fs::write(&path, env_file).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["env", "check", "production"])
        .current_dir(project.path())
        .env("HOME", project.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_secret_that_is_not_masked_everywhere_is_named_and_its_value_is_not() {
    let output = check(
        "NODE_ENV=production\nSMTP_PASSWORD=hunter2\nPIN=x7\nAPI_KEY=0123456789abcdef\nLOG_LEVEL=debug\n\
         DATABASE_URL=postgres://app:a@db/notes\nCACHE_URL=redis://u:s3cret/k3y@cache/0\n",
    );
    let said = said(&output);
    for warning in [
        "warning: NODE_ENV is a common word",
        "warning: SMTP_PASSWORD has fewer than 8 characters",
        "warning: PIN has fewer than 4 characters",
        "warning: the password in DATABASE_URL has fewer than 4 characters",
        "warning: the password in CACHE_URL has a `/`, `?` or `#`: percent-encode the password",
        "list under `public` what is none",
    ] {
        assert!(said.contains(warning), "{warning:?} is missing: {said}");
    }
    for value in ["production", "hunter2", "x7", "0123456789abcdef", "s3cret", "LOG_LEVEL", "API_KEY", "a@db"]
    {
        assert!(!said.contains(value), "{value} in {said}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("every key and value is valid"));
}

#[test]
fn nothing_is_said_of_secrets_that_are_masked_everywhere() {
    assert_eq!(
        said(&check("API_KEY=0123456789abcdef\nDATABASE_URL=postgres://app:l0ngpassword@db/notes\n")),
        ""
    );
}
