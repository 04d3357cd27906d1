//! `make pictures`: the pictures of the README, from the programs that are built.
//!
//! A test bed of its own deploys two releases; the second deployment and the status after it become
//! `docs/pictures/deploy.svg` and `docs/pictures/status.svg`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::place::Place;
use lockstep_tests::bed::program::interrupt::unless_interrupted;
use lockstep_tests::bed::program::terminal::{Size, on_terminal};
use lockstep_tests::bed::stage::{Setting, Stage};
use lockstep_tests::picture;

const TERMINAL: Size = Size { columns: 80, rows: 120 };

const ENVIRONMENT: &str = "production";

/// Requests in a second, so that a receipt has something to count.
const RATE: u32 = 500;

fn main() -> ExitCode {
    match unless_interrupted(make) {
        Ok(made) => {
            say(&made);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<String> {
    let target = workspace().join("target/pictures");
    fs::create_dir_all(&target)?;
    let place = Place::choose(&target)?;
    let setting = Setting { application: "acme-notes".to_owned(), bake: "3s", drain: "1s" };
    let mut stage = Stage::start(&place.directory, &setting)?;
    let first = stage.image("1.0.0", 1, &[])?;
    let second = stage.image("1.1.0", 2, &[])?;
    stage.must(&["deploy", ENVIRONMENT, "--image", &first])?;
    let load = stage.load(RATE)?;
    let deploy = shown(&stage, &["deploy", ENVIRONMENT, "--image", &second])?;
    let status = shown(&stage, &["status", ENVIRONMENT])?;
    load.stop_and_wait()?;
    Ok(format!("made     {}\nmade     {}", write("deploy", &deploy)?, write("status", &status)?))
}

/// What stands on the terminal when the command has ended, below the line with which it was called.
fn shown(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let mut terminal = on_terminal(&stage.command(arguments)?, TERMINAL);
    let output = terminal.output().context("cannot run script")?;
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = format!("lockstep {}", arguments.join(" "));
    ensure!(output.status.success(), "{line} ended with {}: {drawn}", output.status);
    // A path is of the machine that makes the picture, and of no reader's.
    let directory = stage.directory.to_string_lossy().into_owned();
    ensure!(!drawn.contains(&directory), "{line} shows {directory}: {drawn}");
    Ok(format!("\u{1b}[1m$ {line}\u{1b}[0m\r\n{drawn}"))
}

fn write(name: &str, raw: &str) -> Result<String> {
    let path = format!("docs/pictures/{name}.svg");
    fs::write(workspace().join(&path), picture::svg(raw, TERMINAL.columns, TERMINAL.rows))
        .with_context(|| format!("cannot write {path}"))?;
    Ok(path)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_owned()
}

#[expect(clippy::print_stdout, reason = "this program is there to show")]
fn say(text: &str) {
    println!("{text}");
}
