//! Without a registry: the coordinator passes an image from a host that has it to the hosts that lack it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::process::memory_peak_mib;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::server::engine::Engine;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};

/// Much larger than what any part may hold of it at a time.
pub(super) const LARGE_MIB: u64 = 192;
pub(super) const HELD_MIB_MAX: u64 = 96;

const SENT: &str = "received from another host";

#[test]
fn an_image_is_sent_to_the_host_that_lacks_it() -> Result<()> {
    let engine = Engine::start()?;
    let mut scene = Scene::open("sent")?;
    scene.stage.add_host("app-2", engine.address, &engine.socket())?;
    let hosts = "required: [DATABASE_URL]\n    hosts: { app: [app-1, app-2], lb: [app-1], db: [app-1] }";
    let _declared = scene.declare("required: [DATABASE_URL]", hosts)?;
    let small = scene.stage.image("1", 1, &[])?;
    let large = large(&mut scene, "large", &small)?;
    let larger = self::large(&mut scene, "larger", &small)?;

    let said = scene.deploy(&small)?.expect_said(0, &["succeeded", SENT, "already on this host"])?;
    ensure!(said.all().matches(SENT).count() == 1, "it was sent to a host that had it:\n{}", said.all());
    assert_same_image(&scene, &engine, &small)?;
    let again = scene.deploy(&small)?.expect_said(0, &["succeeded"])?;
    ensure!(!again.all().contains(SENT), "it was sent again:\n{}", again.all());

    scene.deploy(&large)?.expect_said(0, &["succeeded", SENT])?;
    assert_same_image(&scene, &engine, &large)?;
    let stage = &scene.stage;
    for process in [&stage.coordinator, &stage.agent].into_iter().chain(&stage.hosts) {
        let held = memory_peak_mib(process.id())?;
        ensure!(held < HELD_MIB_MAX, "{} held {held} MiB of an image of {LARGE_MIB}", process.id());
    }

    // Its coordinator is killed when some of it has come: the next one has it sent from the beginning.
    scene.stage.lockstep(&["deploy", ENVIRONMENT, "--image", &larger, "--detach"])?.expect_said(0, &[])?;
    let steps = scene.stage.directory.join("app-2/steps");
    let deployment = scene.last()?.id;
    until(
        "some of it has come",
        SOON,
        || Ok(said_in(&steps, deployment.as_str())?.contains("MiB received")),
    )?;
    scene.stage.coordinator.kill()?;
    scene.stage.start_coordinator(&[])?;
    scene.wait_until_free()?;
    scene.assert_verdict(Verdict::Succeeded)?;
    let said = said_in(&steps, deployment.as_str())?;
    ensure!(said.contains("the transfer failed"), "it had come before the coordinator was killed:\n{said}");
    assert_same_image(&scene, &engine, &larger)?;
    Ok(())
}

/// What the steps of a deployment have written on a host.
fn said_in(steps: &Path, deployment: &str) -> Result<String> {
    let mut said = String::new();
    let Ok(files) = fs::read_dir(steps.join(deployment)) else { return Ok(said) };
    for file in files {
        said.push_str(&fs::read_to_string(file?.path())?);
    }
    Ok(said)
}

/// Under its id, and called as people call it.
pub(super) fn assert_same_image(scene: &Scene, engine: &Engine, image: &str) -> Result<()> {
    let id = ["image", "inspect", "--format", "{{.Id}}", image];
    let (here, there) = (scene.stage.docker.docker(id)?, engine.docker(&id)?);
    ensure!(here == there, "{image} is {here} here and {there} there");
    Ok(())
}

/// The example with a file that cannot be made smaller.
pub(super) fn large(scene: &mut Scene, version: &str, base: &str) -> Result<String> {
    let context = tempfile::tempdir()?;
    let count = format!("count={LARGE_MIB}");
    let of = format!("of={}", context.path().join("noise").display());
    run(std::process::Command::new("dd").args(["if=/dev/urandom", &of, "bs=1M", &count]))?;
    fs::write(context.path().join("Dockerfile"), format!("FROM {base}\nCOPY noise /noise\n"))?;
    let tag = format!("{}:{version}", scene.stage.application);
    let mut build = std::process::Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--network", "none", "--tag", &tag]);
    run(build.arg(context.path()))?;
    scene.stage.removes(&tag);
    Ok(tag)
}
