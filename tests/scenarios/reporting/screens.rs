//! What an operator sees on a terminal of 80 columns: a real one, as far as a pseudo-terminal is.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::terminal::{self, Size};
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::background::Background;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, SOON, Scene};

const COLUMNS: u16 = 80;
const ROWS: u16 = 40;

const ESCAPE: char = '\u{1b}';

#[test]
fn a_terminal_shows_what_runs_and_a_pipe_gets_lines() -> Result<()> {
    let mut scene = Scene::open("screens")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    let third = scene.stage.image("3", 2, &[])?;

    let piped = scene.deploy(&first)?.expect_said(0, &["succeeded"])?;
    ensure!(!piped.stdout.contains(ESCAPE), "a pipe is drawn on: {}", piped.stdout);

    let seen = on_terminal(&scene, &[], &["deploy", ENVIRONMENT, "--image", &second])?;
    ensure!(seen.code == 0 && seen.stdout.contains("\u{1b}[32m"), "nothing is green: {}", seen.stdout);
    let id = scene.last()?.id.to_string();
    let (moments, end) = screens(&seen.stdout);
    let has = |words: &[&str]| moments.iter().any(|line| words.iter().all(|word| line.contains(word)));
    ensure!(has(&[&id, "by admin", " of 11 steps"]), "nobody is named: {moments:#?}");
    ensure!(has(&["s9", "bake", " s of ~", "healthy under traffic"]), "no step is at work: {moments:#?}");
    // Nothing of what was drawn is left, and so nothing of it was wider than the screen.
    let steps = end.iter().filter(|line| line.trim_start().starts_with("✓ s")).count();
    ensure!(steps == 11 && !end.iter().any(|line| is_drawn(line)), "{end:#?}");
    ensure!(end.iter().any(|line| line.contains("requests lost")), "there is no receipt: {end:#?}");

    let plain = on_terminal(&scene, &[("NO_COLOR", "1")], &["deploy", ENVIRONMENT, "--image", &third])?;
    ensure!(plain.code == 0 && is_drawn(&plain.stdout), "nothing is drawn: {}", plain.stdout);
    let coloured: Vec<_> = plain.stdout.split(ESCAPE).skip(1).filter(|rest| is_colour(rest)).collect();
    ensure!(coloured.is_empty(), "there is colour where none is wanted: {coloured:?}");

    let json = on_terminal(&scene, &[], &["--output", "json", "deploy", ENVIRONMENT, "--image", &second])?;
    ensure!(json.code == 0 && !json.stdout.contains(ESCAPE), "JSON is drawn on: {}", json.stdout);
    for line in json.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).with_context(|| format!("not JSON: {line}"))?;
    }
    Ok(())
}

/// What is asked at three in the morning, while a deployment bakes.
#[test]
fn what_an_operator_reads_says_who_what_and_what_next() -> Result<()> {
    let mut scene = Scene::open_with_bake("reads", "6s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    let key = format!("{}/{ENVIRONMENT}", scene.stage.application);

    let plan = scene.stage.must(&["plan", ENVIRONMENT, "--image", &second])?.stdout;
    let hash = scene.plan(&second)?.hash;
    let next = format!("next: lockstep deploy {key} --image {second} --plan {hash}");
    for words in ["at least ", "configuration ", "live state ", "on failure, newest first", next.as_str()] {
        ensure!(plan.contains(words), "{words:?} is not in: {plan}");
    }

    let summary = scene.stage.directory.join("step-summary.md");
    let mut command = scene.stage.command(&["deploy", ENVIRONMENT, "--image", &second])?;
    command.env("GITHUB_STEP_SUMMARY", &summary);
    let deploying = Background::start(command)?;
    let open = scene.wait_until_open()?;
    let id = open.deployment().context("a deployment is open")?.to_string();
    let mut status = String::new();
    until("the new release bakes", SOON, || {
        status = scene.stage.must(&["status", ENVIRONMENT])?.stdout;
        Ok(status.contains("step      bake"))
    })?;
    for words in ["by admin for", &id, "usually 6", "lockstep watch", "lockstep cancel", "goes back"] {
        ensure!(status.contains(words), "{words:?} is not in: {status}");
    }
    ensure!(status.lines().count() <= 24, "it is more than a screen: {status}");
    let lock = scene.stage.must(&["lock", "status", ENVIRONMENT])?.stdout;
    ensure!(lock.contains(&id) && lock.contains(" ago)"), "{lock}");

    deploying.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["requests lost", "schema 1 → 2", "rollback ready"])?;
    let markdown = fs::read_to_string(&summary)?;
    for words in [&format!("### {key}: {second} succeeded in"), "- 0 of ", "- schema 1 → 2", &id] {
        ensure!(markdown.contains(words), "{words:?} is not in: {markdown}");
    }
    let history = scene.stage.must(&["history", ENVIRONMENT])?.stdout;
    ensure!(history.contains(&id) && history.contains(" ago"), "{history}");
    let mut command = scene.stage.command(&["show", &id])?;
    command.env("GITHUB_STEP_SUMMARY", &summary);
    Background::start(command)?.wait(SOON)?.expect_said(0, &[&id, "by admin", "ago", "✓ s9"])?;
    ensure!(fs::read_to_string(&summary)? == markdown, "to look at a deployment is not to end one");
    Ok(())
}

/// Runs `lockstep` on a pseudo-terminal. What it says is the terminal's, both streams in one.
fn on_terminal(scene: &Scene, environment: &[(&str, &str)], arguments: &[&str]) -> Result<CommandOutput> {
    let mut command = scene.stage.command(arguments)?;
    command.envs(environment.iter().copied());
    let terminal = terminal::on_terminal(&command, Size { columns: COLUMNS, rows: ROWS });
    Background::start(terminal)?.wait(DEPLOYMENT_LIMIT)
}

/// Every line that stood on the screen at some moment, and the screen at the end.
fn screens(raw: &str) -> (BTreeSet<String>, Vec<String>) {
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
    let mut moments = BTreeSet::new();
    let rows = |terminal: &vt100::Parser| -> Vec<String> {
        terminal.screen().rows(0, COLUMNS).map(|row| row.trim_end().to_owned()).collect()
    };
    // A moment ends where the drawing goes back to the beginning of a line.
    for part in raw.split_inclusive('\r') {
        terminal.process(part.as_bytes());
        moments.extend(rows(&terminal));
    }
    (moments, rows(&terminal))
}

/// What is drawn in place, and not a line that stays.
fn is_drawn(line: &str) -> bool {
    line.contains(" steps · ") || line.trim_start().starts_with(|c: char| "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".contains(c))
}

/// `\u{1b}[32m` and its like; the end of a colour is none.
fn is_colour(after_escape: &str) -> bool {
    let Some(rest) = after_escape.strip_prefix('[') else { return false };
    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
    rest[end..].starts_with('m') && !matches!(&rest[..end], "" | "0")
}
