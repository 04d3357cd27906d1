//! What an operator reads: plan, status, history and summaries. What is drawn on a terminal is in `tests/cases`.

use std::fs;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::background::Background;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, SOON, Scene};

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
