//! An undo that fails, or whose host is gone: the traffic stays where it is healthy, and nothing is forgotten.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, Scene};

/// A step's limit, a minute without a session, and some room.
const GONE_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn traffic_that_cannot_be_given_back_stays_where_it_is_healthy() -> Result<()> {
    let mut scene = Scene::open_with_bake("stuck-switch", "60s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy_without_bake(&first)?;
    let load = scene.stage.load(200)?;
    let running = scene.start_deploy(&second)?;
    scene.wait_for_step("bake")?;
    let folder = format!("agent/traffic/{}", scene.object_name());
    let frozen = Frozen::mount(&scene.stage.directory.join(folder))?;
    scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(0, &[])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(6, &["is stuck", "cannot write the switch file"])?;

    ensure!(scene.served_version()? == "2", "what was healthy does not serve any more");
    let status = scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &["--retry    # "])?;
    ensure!(!status.all().contains("--unwind"), "what is refused is offered: {}", status.all());
    let id = stuck_id(&scene)?;
    scene
        .stage
        .lockstep(&["resolve", &id, "--unwind"])?
        .expect_said(3, &["does not end with the traffic", "next"])?;
    let switch = switch_of(&scene, &id)?;
    scene
        .stage
        .lockstep(&["resolve", &id, "--skip", &switch])?
        .expect_said(3, &["does not end with the traffic"])?;

    drop(frozen);
    scene
        .stage
        .lockstep(&["resolve", &id, "--retry"])?
        .expect_said(0, &["nginx sends requests to blue again"])?;
    scene.wait_until_free()?;
    scene.assert_verdict(Verdict::RolledBack)?;
    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "1");
    Ok(())
}

fn stuck_id(scene: &Scene) -> Result<String> {
    let open = scene.status()?.open.context("nothing is open")?.open;
    Ok(open.deployment().context("it is no deployment")?.to_string())
}

/// The number of the step that switches.
fn switch_of(scene: &Scene, id: &str) -> Result<String> {
    let shown = scene.stage.json(&["show", id])?;
    let plan: lockstep_core::plan::Plan = serde_json::from_value(shown["plan"].clone())?;
    let switch = plan.steps().find(|step| step.action.name() == "switch").context("it does not switch")?;
    Ok(switch.id.to_string())
}

/// A folder that nobody can write to, root neither.
struct Frozen(PathBuf);

impl Frozen {
    fn mount(path: &Path) -> Result<Self> {
        run(Command::new("mount").arg("--bind").args([path, path]))?;
        let frozen = Self(path.to_owned());
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(path))?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        // nginx has its log open there.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn what_a_host_that_is_gone_has_to_take_back_is_owed_and_done_when_it_is_back() -> Result<()> {
    let mut scene = Scene::open("gone")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let load = scene.stage.load(100)?;
    let running = scene.start_deploy(&hangs)?;
    scene.wait_for_step("health")?;
    scene.stage.agent.kill()?;
    // A minute without a session, and the deployment does not wait any longer.
    running.wait(GONE_LIMIT)?.expect_said(1, &["rolled back", "pending", "has been offline for"])?;
    scene.assert_verdict(Verdict::RolledBack)?;
    scene
        .stage
        .lockstep(&["status", ENVIRONMENT])?
        .expect_said(0, &["pending   undo on app-1", "stops and removes"])?;
    scene.stage.lockstep(&["host", "list"])?.expect_said(0, &["offline", "stops and removes"])?;

    scene.stage.start_agent(&[])?;
    scene.stage.wait_for_agent()?;
    until("the debts are paid", DEPLOYMENT_LIMIT, || Ok(scene.status()?.pending_undos.is_empty()))?;
    scene.assert_containers(&["web-blue running", "worker-blue running"])?;
    assert_none_lost(load)?;
    scene.deploy(&good)?.expect_said(0, &["succeeded"])?;
    Ok(())
}
