//! The lock of an environment: freezes, cancellation, and the time limit of a deployment.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::inventory::Inventory;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, SOON, Scene};

const REASON: &str = "the fair opens at nine";

#[test]
fn a_freeze_refuses_deployments_until_it_ends() -> Result<()> {
    let mut scene = Scene::open("freeze")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &["is not locked"])?;

    scene.stage.must(&["lock", "freeze", ENVIRONMENT, "--reason", REASON, "--for", "10m"])?;
    scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &[REASON, "admin", "until"])?;
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &[REASON])?;
    scene.assert_refused("a deployment while it is frozen", |scene| {
        scene.deploy(&image)?.expect_said(4, &[REASON, "admin", "until", "lockstep lock thaw"])?;
        Ok(())
    })?;
    scene.assert_refused("a rollback while it is frozen", |scene| {
        let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
        ensure!(matches!(said.code, 3 | 4), "{} {}{}", said.code, said.stdout, said.stderr);
        Ok(())
    })?;
    scene.assert_refused("a second freeze", |scene| {
        let again = ["lock", "freeze", ENVIRONMENT, "--reason", "another", "--for", "1m"];
        scene.stage.lockstep(&again)?.expect_said(4, &[REASON])?;
        Ok(())
    })?;
    // A plan needs no lock.
    scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", &image])?.expect_said(0, &[])?;

    scene.stage.must(&["lock", "thaw", ENVIRONMENT])?;
    scene.deploy(&image)?.expect_said(0, &["succeeded"])?;
    scene.stage.lockstep(&["audit", ENVIRONMENT])?.expect_said(0, &["freeze", "thaw", "admin", REASON])?;
    Ok(())
}

#[test]
fn a_freeze_ends_by_itself() -> Result<()> {
    let mut scene = Scene::open("thaws")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    scene.stage.must(&["lock", "freeze", ENVIRONMENT, "--reason", REASON, "--for", "2s"])?;
    scene.deploy(&image)?.expect_said(4, &[REASON])?;
    until("the freeze has ended", SOON, || Ok(scene.status()?.open.is_none()))?;
    scene.deploy(&image)?.expect_said(0, &["succeeded"])?;
    Ok(())
}

#[test]
fn an_open_deployment_can_be_cancelled() -> Result<()> {
    let mut scene = Scene::open("cancel")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let _patient = scene.declare("timeout: 10s", "timeout: 120s")?;
    let before = Inventory::take(&scene)?;
    let load = scene.stage.load(200)?;

    scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(3, &["no deployment is open"])?;
    let running = scene.start_deploy(&hangs)?;
    scene.wait_for_step("health")?;
    let status = scene.stage.lockstep(&["status", ENVIRONMENT])?;
    status.expect_said(0, &["health", &hangs, "lockstep cancel"])?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(4, &["lockstep cancel"])?;
    let begun = Instant::now();
    scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(0, &[])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(1, &["cancelled by admin"])?;
    ensure!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());

    let last = scene.assert_verdict(Verdict::RolledBack)?;
    ensure!(
        last.failure.as_ref().is_some_and(|failure| failure.step.contains("cancelled by admin")),
        "{last:?}"
    );
    assert_none_lost(load)?;
    before.assert_live_same(&Inventory::take(&scene)?)
}

#[test]
fn a_deployment_that_takes_too_long_unwinds_by_itself() -> Result<()> {
    let mut scene = Scene::open("timeout")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let _patient = scene.declare("timeout: 10s", "timeout: 60s")?;
    let _short = scene.declare("deploy: {", "deploy: { lock_timeout: 8s,")?;
    let before = Inventory::take(&scene)?;
    let begun = Instant::now();
    scene.deploy(&hangs)?.expect_said(1, &["lock_timeout of 8.0 s", "rolled back"])?;
    ensure!(begun.elapsed() < Duration::from_secs(40), "it took {:?}", begun.elapsed());
    let last = scene.assert_verdict(Verdict::RolledBack)?;
    let failure = last.failure.context("nothing says why")?;
    ensure!(failure.step.contains("lock time-out"), "{failure:?}");
    before.assert_live_same(&Inventory::take(&scene)?)
}
