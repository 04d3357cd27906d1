//! Local rollback: without a coordinator, root switches the traffic back on the host. The record is corrected when a
//! coordinator is back.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::run::journal::Verdict;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::process::built;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, SOON, Scene};

const BACK_IN_BLUE: [&str; 4] =
    ["web-blue running", "web-green running", "worker-blue running", "worker-green exited"];

fn roll_back_locally(scene: &Scene, environment: &str) -> Result<CommandOutput> {
    roll_back(scene, environment, "no such point")
}

/// As [`roll_back_locally`], and the command dies when it reaches `point`.
fn roll_back(scene: &Scene, environment: &str, point: &str) -> Result<CommandOutput> {
    let order = scene.stage.directory.join("local-order");
    fs::write(&order, format!("{point}\ndie\n"))?;
    let output = Command::new(built("lockstep-agent")?)
        .args(["local", "rollback", environment, "--directory"])
        .arg(scene.stage.directory.join("agent"))
        .env_remove("SUDO_USER")
        .env("LOCKSTEP_CRASH_ORDER", &order)
        .output()?;
    Ok(output.into())
}

fn wait_until_recorded(scene: &Scene) -> Result<EnvironmentStatus> {
    until("the local rollback is recorded", SOON, || {
        let status = scene.status()?;
        Ok(status.drift.is_empty() && status.local.iter().any(|change| change.adopted.is_some()))
    })?;
    scene.status()
}

#[test]
fn root_gives_the_traffic_back_without_a_coordinator_and_the_record_becomes_that() -> Result<()> {
    let mut scene = Scene::open("local")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    roll_back_locally(&scene, ENVIRONMENT)?
        .expect_said(1, &["no release in green to go back to", "why", "stays in blue"])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    roll_back_locally(&scene, "staging")?.expect_said(1, &["staging", &scene.stage.application])?;
    let load = scene.stage.load(300)?;

    scene.stage.coordinator.kill()?;
    ensure!(scene.served_version()? == "2");
    roll_back_locally(&scene, ENVIRONMENT)?
        .expect_said(0, &["is moved from green to blue", "1 stopped, 1 started"])?;
    ensure!(scene.served_version()? == "1");
    // The agent is not needed for it either: the same way back, and once more.
    scene.stage.agent.kill()?;
    roll_back_locally(&scene, ENVIRONMENT)?.expect_said(0, &["is moved from blue to green"])?;
    roll_back_locally(&scene, ENVIRONMENT)?.expect_said(0, &["is moved from green to blue"])?;
    ensure!(scene.served_version()? == "1");

    scene.stage.start_agent(&[])?;
    scene.stage.start_coordinator(&[])?;
    scene.stage.wait_for_agent()?;
    until("all three are recorded", SOON, || Ok(scene.history()?.len() == 5))?;
    let status = wait_until_recorded(&scene)?;
    let live = status.live.context("nothing is live")?;
    ensure!(live.release.image == first && live.rollback_count == 2, "{live:?}");
    let last = scene.assert_verdict(Verdict::Succeeded)?;
    ensure!(last.kind == OperationKind::Rollback && last.operator.as_str() == "root", "{last:?}");
    let said = ["root on app-1", "from green to blue", "recorded as dep_"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &said)?;
    scene.stage.lockstep(&["audit", ENVIRONMENT])?.expect_said(0, &["local rollback", "root", "app-1"])?;
    scene.stage.lockstep(&["show", "@last"])?.expect_said(0, &["without a coordinator"])?;
    scene.assert_containers(&BACK_IN_BLUE)?;

    scene.deploy(&second)?.expect_said(0, &["succeeded"])?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &[])?;
    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "1");
    let said = scene.stage.lockstep(&["status", ENVIRONMENT])?;
    ensure!(!said.all().contains("without a coordinator"), "what is over is still told: {}", said.all());
    Ok(())
}

#[test]
fn a_deployment_that_was_open_meanwhile_unwinds_to_where_the_traffic_is() -> Result<()> {
    let mut scene = Scene::open_with_bake("local-open", "30s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy_without_bake(&first)?;
    let load = scene.stage.load(300)?;
    let running = scene.start_deploy(&second)?;
    scene.wait_for_step("bake")?;
    scene.stage.coordinator.kill()?;
    // The bake that runs in the agent is interrupted: it is handed out again when a coordinator is back.
    scene.stage.agent.kill()?;
    roll_back_locally(&scene, ENVIRONMENT)?.expect_said(0, &["is moved from green to blue"])?;
    ensure!(scene.served_version()? == "1");

    scene.stage.start_agent(&[])?;
    scene.stage.start_coordinator(&[])?;
    scene.stage.wait_for_agent()?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(1, &["rolled back", "local rollback"])?;
    ensure!(scene.served_version()? == "1", "the deployment has taken the traffic back");
    let status = scene.status()?;
    ensure!(status.live.context("nothing is live")?.release.image == first);
    let told = ["local rollback", "is recorded as live there"];
    until("it is told", SOON, || {
        let said = scene.stage.lockstep(&["audit", ENVIRONMENT])?.all();
        Ok(told.iter().all(|words| said.contains(words)))
    })?;
    let wanted = ["web-blue running", "worker-blue running"];
    scene.assert_containers(&wanted)?;
    scene.deploy_without_bake(&second)?;
    assert_none_lost(load)?;
    Ok(())
}

#[test]
fn a_slot_that_is_not_what_served_from_there_is_refused() -> Result<()> {
    let mut scene = Scene::open("local-refused")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let _quick = scene.declare("timeout: 10s", "timeout: 2s")?;
    let running = scene.start_deploy(&hangs)?;
    scene.wait_for_step("health")?;
    let words = ["has changed since it had the traffic", "stays in green", "next"];
    roll_back_locally(&scene, ENVIRONMENT)?.expect_said(1, &words)?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(1, &[])?;
    roll_back_locally(&scene, ENVIRONMENT)?.expect_said(1, &["is not running any more"])?;

    // What does not answer gets no traffic.
    scene.deploy(&first)?.expect_said(0, &[])?;
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let warm = containers.iter().find(|there| there.name.contains("-web-green-")).context("no warm slot")?;
    scene.stage.docker.docker(["kill", "--signal", "STOP", &warm.id])?;
    let refused = roll_back_locally(&scene, ENVIRONMENT)?;
    scene.stage.docker.docker(["kill", "--signal", "CONT", &warm.id])?;
    refused.expect_said(1, &["is not healthy", "no answer", "stays in blue"])?;
    ensure!(scene.served_version()? == "1");
    ensure!(scene.status()?.local.is_empty(), "what was refused is recorded");
    Ok(())
}

#[test]
fn a_command_that_is_killed_counts_by_what_nginx_does() -> Result<()> {
    let mut scene = Scene::open("local-killed")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let load = scene.stage.load(200)?;

    // Written down and not done: it comes to nothing.
    let killed = roll_back(&scene, ENVIRONMENT, "local: begun")?;
    ensure!(killed.code == -1, "it was not killed: {}", killed.all());
    ensure!(scene.served_version()? == "2");
    until("a deployment is not held any more", DEPLOYMENT_LIMIT, || Ok(scene.deploy(&second)?.code == 0))?;
    ensure!(scene.status()?.local.is_empty(), "what was not done is recorded");

    // Done and not written down as done: it is found and recorded.
    let killed = roll_back(&scene, ENVIRONMENT, "local: switched")?;
    ensure!(killed.code == -1, "it was not killed: {}", killed.all());
    let status = wait_until_told(&scene)?;
    ensure!(status.live.context("nothing is live")?.release.image == second);
    assert_none_lost(load)?;
    Ok(())
}

fn wait_until_told(scene: &Scene) -> Result<EnvironmentStatus> {
    until("the local rollback is recorded", SOON, || {
        Ok(scene.status()?.local.iter().any(|change| change.adopted.is_some()))
    })?;
    scene.status()
}
