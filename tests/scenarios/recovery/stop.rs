//! A coordinator that is asked to stop ends within seconds, whatever goes on and whoever follows it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, Scene};

/// What systemd gives it: `TimeoutStopSec` of its unit.
const STOP_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_coordinator_stops_while_a_deployment_is_followed_and_the_next_process_ends_it() -> Result<()> {
    let mut scene = Scene::open_with_bake("stop", "5s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy_without_bake(&first)?;
    let load = scene.stage.load(100)?;
    let running = scene.start_deploy(&second)?;
    scene.wait_for_step("bake")?;
    // An agent that stands still reports nothing: the deployment stays open.
    scene.stage.agent.freeze()?;
    let id = scene.stage.coordinator.id();
    run(Command::new("kill").args(["-TERM", &id.to_string()]))?;
    until("the coordinator has ended", STOP_LIMIT, || Ok(scene.stage.coordinator.ended()?.is_some()))?;
    scene.stage.agent.thaw()?;
    scene.stage.start_coordinator(&[])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["succeeded"])?;
    scene.assert_verdict(Verdict::Succeeded)?;
    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "2");
    Ok(())
}
