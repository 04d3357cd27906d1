//! Two operators at once, and one who presses Ctrl-C.

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, Scene};

#[test]
fn the_second_of_two_deployments_is_refused_or_waits() -> Result<()> {
    let mut scene = Scene::open_with_bake("two", "4s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    let third = scene.stage.image("3", 2, &[])?;
    scene.deploy_without_bake(&first)?;
    let load = scene.stage.load(200)?;

    let running = scene.start_deploy(&second)?;
    let open = scene.wait_until_open()?;
    let deployment = open.deployment().context("a deployment is open")?.to_string();
    // Who, since when, until when, and what one can do.
    let words = ["admin", "since", "until", &deployment, "--wait-lock", "lockstep watch"];
    scene.deploy(&third)?.expect_said(4, &words)?;
    // A rollback while one is open would be its cancellation, and says so.
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(4, &["lockstep cancel"])?;

    let waiting = ["deploy", ENVIRONMENT, "--image", &third, "--wait-lock", "60s"];
    scene.stage.lockstep(&waiting)?.expect_said(0, &["succeeded"])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["succeeded"])?;
    assert_none_lost(load)?;

    let images: Vec<String> = scene.history()?.into_iter().map(|summary| summary.release.image).collect();
    ensure!(images == [third, second, first], "{images:?}");
    let wanted = ["web-blue running", "web-green running", "worker-blue running", "worker-green exited"];
    scene.assert_containers(&wanted)
}

#[test]
fn a_wait_for_the_lock_has_an_end() -> Result<()> {
    let mut scene = Scene::open_with_bake("waits", "8s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    let running = scene.start_deploy(&first)?;
    scene.wait_until_open()?;
    let waiting = ["deploy", ENVIRONMENT, "--image", &second, "--wait-lock", "1s"];
    scene.stage.lockstep(&waiting)?.expect_said(4, &["admin", "until"])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["succeeded"])?;
    ensure!(scene.history()?.len() == 1, "the one that waited in vain stands in the history");
    Ok(())
}

#[test]
fn ctrl_c_leaves_the_deployment_to_the_coordinator() -> Result<()> {
    let mut scene = Scene::open_with_bake("ctrlc", "4s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let running = scene.start_deploy(&first)?;
    let open = scene.wait_until_open()?;
    let deployment = open.deployment().context("a deployment is open")?.to_string();
    running.interrupt()?;
    let said = running.wait(DEPLOYMENT_LIMIT)?;
    let all = said.all();
    ensure!(
        all.contains("the deployment continues") && all.contains("lockstep watch"),
        "{} {all}",
        said.code
    );
    ensure!(said.code == 130, "it ended with {}: {all}", said.code);
    ensure!(scene.status()?.open.is_some(), "it ended with the command line");

    scene.stage.lockstep(&["watch", &deployment])?.expect_said(0, &["succeeded"])?;
    scene.assert_verdict(Verdict::Succeeded)?;
    ensure!(scene.served_version()? == "1");
    // It can be looked at afterwards as well.
    scene.stage.lockstep(&["watch", "@last"])?.expect_said(0, &["succeeded"])?;
    Ok(())
}

#[test]
fn detached_says_where_to_look() -> Result<()> {
    let mut scene = Scene::open("detach")?;
    let first = scene.stage.image("1", 1, &[])?;
    let said = scene.stage.lockstep(&["deploy", ENVIRONMENT, "--image", &first, "--detach"])?;
    said.expect_said(0, &["dep_", "lockstep watch"])?;
    scene.wait_until_free()?;
    scene.assert_verdict(Verdict::Succeeded)?;
    Ok(())
}
