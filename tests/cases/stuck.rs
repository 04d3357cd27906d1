//! The resolutions of a stuck deployment: retry, unwind and skip. Each is offered with what it costs, and ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::traffic::{RATE, assert_none_lost};
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, Scene};

use crate::group::{Cases, Setup, SharedStage, deploy};

struct Stuck {
    scene: Scene,
    docker: DockerLink,
    good: String,
    hangs: String,
    _quick: RestoredFile,
}

impl Setup for Stuck {
    const NAME: &'static str = "stuck";
    // Each case has a load of its own: it goes on until the deployment has ended.
    const RATE: Option<u32> = None;

    fn open() -> Result<Self> {
        let mut scene = Scene::open("stuck")?;
        let good = scene.stage.image("1", 1, &[])?;
        let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
        let docker = DockerLink::put(&mut scene)?;
        deploy(&scene, &good)?;
        let quick = scene.declare("timeout: 10s", "timeout: 3s")?;
        Ok(Self { scene, docker, good, hangs, _quick: quick })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    retry(&mut cases);
    unwind(&mut cases);
    skip(&mut cases);
    cases.case("a deployment after all of it", |Stuck { scene, good, .. }| deploy(scene, good));
    cases.into_trials()
}

fn retry(cases: &mut Cases<Stuck>) {
    cases.case("retry", |Stuck { scene, docker, hangs, good, .. }| {
        under_load(scene, |scene| {
            let id = stuck_at_the_start(scene, docker, hangs)?;
            let ways = [
                &format!("{id} --retry    # tries this undo up to 3 more times"),
                "--unwind    # ",
                "--skip s",
                "lockstep show",
            ];
            scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &ways)?;
            scene.deploy(good)?.expect_said(4, &["has been stuck since", "lockstep status"])?;
            scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(3, &["stuck", "lockstep status"])?;
            scene.stage.lockstep(&["resolve", &id, "--skip", "s1"])?.expect_said(3, &["has not failed"])?;
            scene.stage.lockstep(&["resolve", &id])?.expect_said(2, &["--retry", "--unwind", "--skip"])?;
            // What fails again is stuck again.
            scene
                .stage
                .lockstep(&["resolve", &id, "--retry"])?
                .expect_said(0, &["3 more times", "stops and removes"])?;
            wait_until(scene, "it is stuck again", |open| {
                matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))
            })?;
            docker.mend()?;
            scene
                .stage
                .lockstep(&["resolve", &id, "--retry", "--yes"])?
                .expect_said(0, &["retries its undo"])?;
            scene.wait_until_free()?;
            scene.assert_verdict(Verdict::RolledBack)?;
            assert_two_webs_at_most(scene)
        })
    });
}

fn unwind(cases: &mut Cases<Stuck>) {
    cases.case("unwind", |Stuck { scene, docker, hangs, .. }| {
        under_load(scene, |scene| {
            let id = stuck_at_the_start(scene, docker, hangs)?;
            scene
                .stage
                .lockstep(&["resolve", &id, "--unwind"])?
                .expect_said(0, &["this undo stays pending on app-1"])?;
            scene.wait_until_free()?;
            scene.assert_verdict(Verdict::RolledBack)?;
            scene
                .stage
                .lockstep(&["status", ENVIRONMENT])?
                .expect_said(0, &["pending   undo on app-1", "stops and removes", &id])?;
            scene
                .stage
                .lockstep(&["host", "list"])?
                .expect_said(0, &["undo pending", "stops and removes"])?;
            docker.mend()?;
            until("the debt is paid", DEPLOYMENT_LIMIT, || Ok(scene.status()?.pending_undos.is_empty()))?;
            scene
                .stage
                .lockstep(&["audit", ENVIRONMENT])?
                .expect_said(0, &["pending undo", "resolve", "has done the pending undo"])?;
            assert_two_webs_at_most(scene)
        })
    });
}

fn skip(cases: &mut Cases<Stuck>) {
    cases.case("skip", |Stuck { scene, docker, hangs, .. }| {
        under_load(scene, |scene| {
            let id = stuck_at_the_start(scene, docker, hangs)?;
            let step = skippable(&scene.stage.lockstep(&["status", ENVIRONMENT])?.all())?;
            scene
                .stage
                .lockstep(&["resolve", &id, "--skip", &step])?
                .expect_said(0, &["you clean up by hand"])?;
            scene.wait_until_free()?;
            docker.mend()?;
            scene.assert_verdict(Verdict::RolledBack)?;
            scene.stage.lockstep(&["show", &id])?.expect_said(0, &["skipped by admin"])?;
            assert_two_webs_at_most(scene)
        })
    });
}

/// No request is lost, and the release before it serves on.
fn under_load(scene: &Scene, check: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    let load = scene.stage.load(RATE)?;
    check(scene)?;
    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "1");
    Ok(())
}

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
    let running = scene.start_deploy(image)?;
    scene.wait_for_step("health")?;
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

/// `s4` of `lockstep resolve dep_… --skip s4    # …`.
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

fn wait_until(scene: &Scene, what: &str, is_so: impl Fn(Option<&Claim>) -> bool) -> Result<()> {
    until(what, DEPLOYMENT_LIMIT, || {
        let open = scene.status()?.open.map(|open| open.open);
        Ok(is_so(open.as_ref()))
    })
}
