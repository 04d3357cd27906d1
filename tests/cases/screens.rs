//! What an operator sees on a terminal of 80 columns: a real one, as far as a pseudo-terminal is.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::terminal::{self, Size};
use lockstep_tests::scene::background::Background;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, Scene};

use crate::group::{Cases, Setup, SharedStage, deploy};

const COLUMNS: u16 = 80;
const ROWS: u16 = 40;

const ESCAPE: char = '\u{1b}';

struct Screens {
    scene: Scene,
    first: String,
    second: String,
    third: String,
}

impl Setup for Screens {
    const NAME: &'static str = "screens";
    const RATE: Option<u32> = None;

    fn open() -> Result<Self> {
        let mut scene = Scene::open("screens")?;
        let first = scene.stage.image("1", 1, &[])?;
        let second = scene.stage.image("2", 2, &[])?;
        let third = scene.stage.image("3", 2, &[])?;
        Ok(Self { scene, first, second, third })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    cases.case("a pipe gets lines", |Screens { scene, first, .. }| {
        let piped = scene.deploy(first)?.expect_said(0, &["succeeded"])?;
        ensure!(!piped.stdout.contains(ESCAPE), "a pipe is drawn on: {}", piped.stdout);
        Ok(())
    });
    cases.case("a terminal shows what runs", |Screens { scene, first, second, .. }| {
        // How long steps usually take is known from deployments before.
        if scene.try_status()?.is_none_or(|status| status.live.is_none()) {
            deploy(scene, first)?;
        }
        assert_terminal_shows(scene, second)
    });
    cases.case("without colour where none is wanted", |Screens { scene, third, .. }| {
        let plain = on_terminal(scene, &[("NO_COLOR", "1")], &["deploy", ENVIRONMENT, "--image", third])?;
        ensure!(plain.code == 0 && is_drawn(&plain.stdout), "nothing is drawn: {}", plain.stdout);
        let coloured: Vec<_> = plain.stdout.split(ESCAPE).skip(1).filter(|rest| is_colour(rest)).collect();
        ensure!(coloured.is_empty(), "there is colour where none is wanted: {coloured:?}");
        Ok(())
    });
    cases.case("JSON is not drawn on", |Screens { scene, second, .. }| {
        let json = on_terminal(scene, &[], &["--output", "json", "deploy", ENVIRONMENT, "--image", second])?;
        ensure!(json.code == 0 && !json.stdout.contains(ESCAPE), "JSON is drawn on: {}", json.stdout);
        for line in json.stdout.lines() {
            serde_json::from_str::<serde_json::Value>(line).with_context(|| format!("not JSON: {line}"))?;
        }
        Ok(())
    });
    cases.into_trials()
}

fn assert_terminal_shows(scene: &Scene, second: &str) -> Result<()> {
    let seen = on_terminal(scene, &[], &["deploy", ENVIRONMENT, "--image", second])?;
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
    line.contains("Ctrl-C leaves") || line.trim_start().starts_with(|c: char| "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".contains(c))
}

/// `\u{1b}[32m` and its like; the end of a colour is none.
fn is_colour(after_escape: &str) -> bool {
    let Some(rest) = after_escape.strip_prefix('[') else { return false };
    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
    rest[end..].starts_with('m') && !matches!(&rest[..end], "" | "0")
}
