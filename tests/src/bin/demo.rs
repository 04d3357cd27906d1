//! `make demo`: the main job, on real parts, from nothing.
//!
//! Deploys the example application, upgrades it with a migration, rolls back, deploys again and lets a
//! bad release fail, all under a load that counts every request. Everything is its own and is gone at
//! the end, also after an interrupt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::place::Place;
use lockstep_tests::bed::program::interrupt::unless_interrupted;
use lockstep_tests::bed::stage::{Setting, Stage};
use lockstep_tests::load::Report;
use serde::Serialize;

/// Requests in a second, over 32 keep-alive connections.
const RATE: u32 = 5_000;

const ENVIRONMENT: &str = "production";

fn main() -> ExitCode {
    match unless_interrupted(demonstrate) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What stands in `report.json`.
#[derive(Serialize)]
struct DemoReport {
    requests: u64,
    failed: u64,
    deployments: Vec<DeploymentReport>,
    rollback_seconds: f64,
    unhealthy_release: &'static str,
}

#[derive(Serialize)]
struct DeploymentReport {
    id: String,
    release: String,
    status: String,
    seconds: f64,
    steps: Vec<StepReport>,
}

#[derive(Serialize)]
struct StepReport {
    name: String,
    host: String,
    seconds: f64,
}

fn demonstrate() -> Result<()> {
    let target = target_directory();
    fs::create_dir_all(&target)?;
    let place = Place::choose(&target)?;
    say("Lockstep: a real application is upgraded under load. Nothing of yours is touched.\n");
    say("· building three releases of the example application (the first time takes a minute)");
    let setting = Setting { application: "lockstep-demo".to_owned(), bake: "5s", drain: "3s" };
    let mut stage = Stage::start(&place.directory, &setting)?;
    let releases = Releases {
        first: stage.image("1", 1, &[])?,
        second: stage.image("2", 2, &[])?,
        bad: stage.image("3-bad", 2, &[("NOTES_HEALTH", "unhealthy")])?,
    };
    say("· coordinator, agent, PostgreSQL, nginx and Docker run, with mTLS between ours\n");
    let run = tell(&stage, &releases)?;
    let history = history(&stage)?;
    drop(stage);
    let report = report(&run, &history)?;
    fs::write(target.join("report.json"), serde_json::to_string_pretty(&report)?)?;
    say(&table(&report, &run.load));
    ensure!(
        report.failed == 0,
        "{} of {} requests failed: {:?}",
        report.failed,
        report.requests,
        run.load.failures
    );
    Ok(())
}

struct Releases {
    first: String,
    second: String,
    bad: String,
}

/// What was measured while the story was told.
struct DemoRun {
    load: Report,
    rollback_seconds: f64,
}

fn tell(stage: &Stage, releases: &Releases) -> Result<DemoRun> {
    chapter("release 1: the first deployment");
    deploy(stage, &releases.first, 0)?;
    chapter(&format!("a load of {RATE} requests/s begins, on 32 connections without retries, and stays on"));
    let load = stage.load(RATE)?;
    chapter("release 2, with a migration");
    deploy(stage, &releases.second, 0)?;
    chapter("roll back: one switch, the database stays as it is");
    let begun = Instant::now();
    show(stage, &["rollback", ENVIRONMENT], 0)?;
    let rollback_seconds = begun.elapsed().as_secs_f64();
    chapter("release 2 again");
    deploy(stage, &releases.second, 0)?;
    chapter("a release that never becomes healthy is rolled back by itself");
    deploy(stage, &releases.bad, 1)?;
    chapter("how things stand");
    show(stage, &["status", ENVIRONMENT], 0)?;
    Ok(DemoRun { load: load.stop_and_wait()?, rollback_seconds })
}

fn deploy(stage: &Stage, image: &str, expected: i32) -> Result<()> {
    show(stage, &["deploy", ENVIRONMENT, "--image", image], expected)
}

/// Runs a command with its output where the reader sees it.
fn show(stage: &Stage, arguments: &[&str], expected: i32) -> Result<()> {
    say(&format!("$ lockstep {}", arguments.join(" ")));
    let status = stage.command(arguments)?.status().context("cannot run lockstep")?;
    ensure!(
        status.code() == Some(expected),
        "lockstep {} ended with {status}, not with {expected}",
        arguments.join(" ")
    );
    say("");
    Ok(())
}

fn history(stage: &Stage) -> Result<Vec<DeploymentSummary>> {
    let mut history: Vec<DeploymentSummary> = serde_json::from_value(stage.json(&["history", ENVIRONMENT])?)?;
    history.reverse();
    Ok(history)
}

fn report(run: &DemoRun, history: &[DeploymentSummary]) -> Result<DemoReport> {
    let last = history.last().context("the history is empty")?;
    let unhealthy_release = match last.verdict {
        Some(Verdict::RolledBack) => "rolled_back",
        Some(Verdict::Succeeded) => bail!("the release that is never healthy was deployed"),
        None => bail!("the last deployment has not ended"),
    };
    Ok(DemoReport {
        requests: run.load.requests,
        failed: run.load.failed,
        deployments: history.iter().map(deployment_report).collect(),
        rollback_seconds: run.rollback_seconds,
        unhealthy_release,
    })
}

fn deployment_report(summary: &DeploymentSummary) -> DeploymentReport {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    DeploymentReport {
        id: summary.id.to_string(),
        release: summary.release.image.clone(),
        status: summary
            .verdict
            .map_or("open", |verdict| match verdict {
                Verdict::Succeeded => "succeeded",
                Verdict::RolledBack => "rolled_back",
            })
            .to_owned(),
        seconds: seconds(summary.ended_at.unwrap_or(summary.opened_at).since(summary.opened_at).0),
        steps: summary
            .steps
            .iter()
            .map(|step| StepReport {
                name: step.name.clone(),
                host: step.host.to_string(),
                seconds: seconds(step.took.0),
            })
            .collect(),
    }
}

fn table(report: &DemoReport, load: &Report) -> String {
    let mut text = format!("{:<24} {:<14} {:>9}   longest steps\n", "release", "status", "seconds");
    for deployment in &report.deployments {
        let mut steps: Vec<&StepReport> = deployment.steps.iter().collect();
        steps.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        let longest: Vec<String> =
            steps.iter().take(3).map(|step| format!("{} {:.1} s", step.name, step.seconds)).collect();
        let status = deployment.status.replace('_', " ");
        text.push_str(&format!(
            "{:<24} {:<14} {:>9.1}   {}\n",
            deployment.release,
            status,
            deployment.seconds,
            longest.join(", ")
        ));
    }
    text.push_str(&format!(
        "\n{} requests, {} failed · p50 {:.1} ms, p99 {:.1} ms · rollback {:.2} s, command to answer\n",
        thousands(report.requests),
        report.failed,
        load.latency_ms.p50,
        load.latency_ms.p99,
        report.rollback_seconds
    ));
    text.push_str("the whole report: target/demo/report.json");
    text
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn chapter(title: &str) {
    say(&format!("── {title}"));
}

#[expect(clippy::print_stdout, reason = "this program is there to show")]
fn say(text: &str) {
    println!("{text}");
}

fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests live in the workspace")
        .join("target/demo")
}
