//! What cannot be taken back: traffic stays where it is healthy, the environment is locked, and each way out is
//! named with what it costs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;

use crate::background::Background;
use crate::scene::{
    All, DEPLOYMENT_LIMIT, ENVIRONMENT, Expect, SOON, Scene, assert_none_lost, assert_verdict,
};
use crate::world::assert_containers;

/// A step's limit, a minute without a session, and some room.
const GONE_LIMIT: Duration = Duration::from_secs(180);

/// Where the agent looks for Docker, so that it can be taken away from it.
struct DockerLink(PathBuf);

impl DockerLink {
    fn put(scene: &mut Scene) -> Result<Self> {
        let link = Self(scene.stage.directory.join("docker.sock"));
        link.mend()?;
        let settings = scene.stage.directory.join("agent/agent.toml");
        let text = fs::read_to_string(&settings)?;
        fs::write(&settings, format!("{text}[docker]\nsocket = {:?}\n", link.0))?;
        scene.stage.agent.stop()?;
        scene.stage.start_agent(&[])?;
        scene.stage.wait_for_agent()?;
        Ok(link)
    }

    fn mend(&self) -> Result<()> {
        Ok(symlink("/var/run/docker.sock", &self.0)?)
    }

    fn cut(&self) -> Result<()> {
        Ok(fs::remove_file(&self.0)?)
    }
}

/// Deploys what never becomes healthy and takes Docker away meanwhile: what was started cannot be stopped.
fn stuck_at_the_start(scene: &Scene, docker: &DockerLink, image: &str) -> Result<String> {
    let running = Background::start(scene.stage.command(&["deploy", ENVIRONMENT, "--image", image])?)?;
    wait_until_it_runs(scene, "health")?;
    docker.cut()?;
    running
        .wait(DEPLOYMENT_LIMIT)?
        .expect_said(6, &["is stuck", "Docker does not answer", "lockstep resolve", "lockstep status"])?;
    let open = scene.status()?.open.context("nothing is open")?;
    let ClaimKind::Stuck { deployment } = open.open.kind else {
        anyhow::bail!("it is not stuck: {:?}", open.open);
    };
    Ok(deployment.to_string())
}

#[test]
fn each_way_out_of_what_is_stuck_comes_to_its_end() -> Result<()> {
    let mut scene = Scene::open("stuck")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    let docker = DockerLink::put(&mut scene)?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let _quick = scene.declare("timeout: 10s", "timeout: 3s")?;
    let load = scene.stage.load(200)?;

    let id = stuck_at_the_start(&scene, &docker, &hangs)?;
    let ways =
        [&format!("{id} --retry    # up to 3 more attempts"), "--unwind    # ", "--skip s", "lockstep show"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &ways)?;
    scene.deploy(&good)?.expect_said(4, &["is stuck", "lockstep status"])?;
    scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(3, &["stuck", "lockstep status"])?;
    scene.stage.lockstep(&["resolve", &id, "--skip", "s1"])?.expect_said(3, &["has not failed"])?;
    scene.stage.lockstep(&["resolve", &id])?.expect_said(2, &["--retry", "--unwind", "--skip"])?;
    // What fails again is stuck again.
    scene.stage.lockstep(&["resolve", &id, "--retry"])?.expect_said(0, &["3 more attempts", "is stopped"])?;
    wait_until(&scene, "it is stuck again", |open| {
        matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))
    })?;
    docker.mend()?;
    scene.stage.lockstep(&["resolve", &id, "--retry", "--yes"])?.expect_said(0, &["tries its undo again"])?;
    scene.wait_until_free()?;
    assert_verdict(&scene, Verdict::RolledBack)?;
    assert_two_webs_at_most(&scene)?;

    let id = stuck_at_the_start(&scene, &docker, &hangs)?;
    scene.stage.lockstep(&["resolve", &id, "--unwind"])?.expect_said(0, &["app-1 owes this"])?;
    scene.wait_until_free()?;
    assert_verdict(&scene, Verdict::RolledBack)?;
    scene
        .stage
        .lockstep(&["status", ENVIRONMENT])?
        .expect_said(0, &["pending   undo on app-1", "is stopped and removed", &id])?;
    scene.stage.lockstep(&["host", "list"])?.expect_said(0, &["undo pending", "is stopped and removed"])?;
    docker.mend()?;
    until("the debt is paid", DEPLOYMENT_LIMIT, || Ok(scene.status()?.debts.is_empty()))?;
    scene
        .stage
        .lockstep(&["audit", ENVIRONMENT])?
        .expect_said(0, &["pay debt", "resolve", "does not owe"])?;

    let id = stuck_at_the_start(&scene, &docker, &hangs)?;
    let step = skippable(&scene.stage.lockstep(&["status", ENVIRONMENT])?.all())?;
    scene.stage.lockstep(&["resolve", &id, "--skip", &step])?.expect_said(0, &["you answer for it"])?;
    scene.wait_until_free()?;
    docker.mend()?;
    assert_verdict(&scene, Verdict::RolledBack)?;
    scene.stage.lockstep(&["show", &id])?.expect_said(0, &["skipped by admin"])?;

    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "1");
    scene.deploy(&good)?.expect_said(0, &["succeeded"])?;
    assert_two_webs_at_most(&scene)
}

/// `s4` of `lockstep resolve dep_… --skip s4: …`.
fn skippable(status: &str) -> Result<String> {
    let rest = status.split("--skip ").nth(1).context("nothing can be skipped")?;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

fn assert_two_webs_at_most(scene: &Scene) -> Result<()> {
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let webs = containers.iter().filter(|container| container.name.contains("-web-")).count();
    ensure!(webs <= 2, "something was left: {containers:?}");
    Ok(())
}

#[test]
fn traffic_that_cannot_be_given_back_stays_where_it_is_healthy() -> Result<()> {
    let mut scene = Scene::open_with_bake("stuck-switch", "60s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    {
        let _quick = scene.declare("bake: 60s", "bake: 1s")?;
        scene.deploy(&first)?.expect_said(0, &[])?;
    }
    let load = scene.stage.load(200)?;
    let running = Background::start(scene.stage.command(&["deploy", ENVIRONMENT, "--image", &second])?)?;
    wait_until_it_runs(&scene, "bake")?;
    let folder = format!("agent/traffic/{}-{ENVIRONMENT}", scene.stage.application);
    let frozen = Frozen::mount(&scene.stage.directory.join(folder))?;
    scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(0, &[])?;
    running.wait(DEPLOYMENT_LIMIT)?.expect_said(6, &["is stuck", "switch file cannot be written"])?;

    ensure!(scene.served_version()? == "2", "what was healthy does not serve any more");
    let status = scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &["--retry    # "])?;
    ensure!(!status.all().contains("--unwind"), "what is refused is offered: {}", status.all());
    let id = stuck_id(&scene)?;
    scene.stage.lockstep(&["resolve", &id, "--unwind"])?.expect_said(3, &["traffic elsewhere", "next"])?;
    let switch = switch_of(&scene, &id)?;
    scene.stage.lockstep(&["resolve", &id, "--skip", &switch])?.expect_said(3, &["traffic elsewhere"])?;

    drop(frozen);
    scene.stage.lockstep(&["resolve", &id, "--retry"])?.expect_said(0, &["traffic goes to blue again"])?;
    scene.wait_until_free()?;
    assert_verdict(&scene, Verdict::RolledBack)?;
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

fn wait_until_it_runs(scene: &Scene, step: &str) -> Result<()> {
    until(&format!("{step} runs"), SOON, || {
        let open = scene.status()?.open;
        Ok(open.is_some_and(|open| open.running.iter().any(|running| running.name == step)))
    })
}

fn wait_until(scene: &Scene, what: &str, is_so: impl Fn(Option<&Claim>) -> bool) -> Result<()> {
    until(what, DEPLOYMENT_LIMIT, || {
        let open = scene.status()?.open.map(|open| open.open);
        Ok(is_so(open.as_ref()))
    })
}

#[test]
fn what_a_host_that_is_gone_has_to_take_back_is_owed_and_done_when_it_is_back() -> Result<()> {
    let mut scene = Scene::open("gone")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let load = scene.stage.load(100)?;
    let running = Background::start(scene.stage.command(&["deploy", ENVIRONMENT, "--image", &hangs])?)?;
    wait_until_it_runs(&scene, "health")?;
    scene.stage.agent.kill()?;
    // A minute without a session, and the deployment does not wait any longer.
    running.wait(GONE_LIMIT)?.expect_said(1, &["rolled back", "pending", "has been away for"])?;
    assert_verdict(&scene, Verdict::RolledBack)?;
    scene
        .stage
        .lockstep(&["status", ENVIRONMENT])?
        .expect_said(0, &["pending   undo on app-1", "is stopped and removed"])?;
    scene.stage.lockstep(&["host", "list"])?.expect_said(0, &["offline", "is stopped and removed"])?;

    scene.stage.start_agent(&[])?;
    scene.stage.wait_for_agent()?;
    until("the debts are paid", DEPLOYMENT_LIMIT, || Ok(scene.status()?.debts.is_empty()))?;
    assert_containers(&scene, &["web-blue running", "worker-blue running"])?;
    assert_none_lost(load)?;
    scene.deploy(&good)?.expect_said(0, &["succeeded"])?;
    Ok(())
}
