//! Without a registry: an image that only the operator's machine has is sent to an app host, under a claim of the
//! environment.

use anyhow::{Result, ensure};
use lockstep_core::plan::Plan;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::process::memory_peak_mib;
use lockstep_tests::bed::server::engine::Engine;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, SOON, Scene};

use super::sent_by_host::{HELD_MIB_MAX, LARGE_MIB, assert_same_image, large};

const SENT: &str = "from this machine";

#[test]
fn an_image_that_only_the_operator_has_is_sent_to_an_app_host() -> Result<()> {
    let engine = Engine::start()?;
    let mut scene = Scene::open("from-here")?;
    scene.stage.add_host("app-2", engine.address, &engine.socket())?;
    // The machine's own Docker is the operator's, and no app host's.
    let hosts = "required: [DATABASE_URL]\n    hosts: { app: [app-2], lb: [app-1], db: [app-1] }";
    let _declared = scene.declare("required: [DATABASE_URL]", hosts)?;
    let small = scene.stage.image("1", 1, &[])?;
    let large = large(&mut scene, "large", &small)?;
    scene.stage.must(&["secret", "import", ENVIRONMENT])?;

    let plan = planned_without_effect(&scene, &engine, &small)?;
    let hash = plan.hash.to_string();
    let deploy = ["deploy", ENVIRONMENT, "--image", &small, "--plan", &hash];
    scene.stage.lockstep(&deploy)?.expect_said(0, &[SENT, "is on app-2", "succeeded"])?;
    assert_same_image(&scene, &engine, &small)?;
    let again = scene.deploy(&small)?.expect_said(0, &["succeeded"])?;
    ensure!(!again.all().contains(SENT), "it was sent again:\n{}", again.all());

    interrupted(&scene, &engine, &large)?;
    let mut deploying = scene.start_deploy(&large)?;
    let mut held = 0;
    until("it has ended", DEPLOYMENT_LIMIT, || {
        held = deploying.memory_peak_mib().unwrap_or(held);
        Ok(!deploying.is_running()?)
    })?;
    deploying.wait(SOON)?.expect_said(0, &[SENT, "| 16 of", "is on app-2", "succeeded"])?;
    assert_same_image(&scene, &engine, &large)?;
    ensure!(0 < held && held < HELD_MIB_MAX, "the command held {held} MiB of an image of {LARGE_MIB}");
    for process in [&scene.stage.coordinator].into_iter().chain(&scene.stage.hosts) {
        let held = memory_peak_mib(process.id())?;
        ensure!(held < HELD_MIB_MAX, "{} held {held} MiB of an image of {LARGE_MIB}", process.id());
    }
    renamed(&mut scene, &engine, &small)
}

/// All of the plan is there, migrations too, and nothing of the image.
fn planned_without_effect(scene: &Scene, engine: &Engine, image: &str) -> Result<Plan> {
    let said = scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", image])?;
    said.expect_said(0, &["lockstep deploy first sends it", "migrate", "from version 0 to 1"])?;
    ensure!(!has(engine, image), "a plan has sent the image");
    let plan = scene.plan(image)?;
    ensure!(plan.release.migrations.len() == 1, "{:?}", plan.release.migrations);
    ensure!(
        scene
            .stage
            .docker
            .docker(["ps", "--all", "--quiet", "--filter", &format!("ancestor={image}")])?
            .is_empty()
    );
    Ok(plan)
}

/// What breaks off is nowhere taken for whole, and the environment is free.
fn interrupted(scene: &Scene, engine: &Engine, image: &str) -> Result<()> {
    let deploying = scene.start_deploy(image)?;
    until("the environment is claimed for it", SOON, || {
        let locked = scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?;
        Ok(locked.stdout.contains("builds its image"))
    })?;
    deploying.interrupt()?;
    deploying.wait(SOON)?.expect_said(130, &["nothing was deployed", "the environment is unlocked"])?;
    scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &["is not locked"])?;
    ensure!(!has(engine, image), "half an image was taken");
    scene.assert_verdict(Verdict::Succeeded)?;
    Ok(())
}

/// A name says what is meant only where it is one thing, and is nobody else's.
fn renamed(scene: &mut Scene, engine: &Engine, image: &str) -> Result<()> {
    let docker = scene.stage.docker;
    let other = format!("other-{image}");
    docker.docker(["tag", image, &other])?;
    scene.stage.removes(&other);
    engine.docker(&["image", "rm", "--force", image])?;
    scene.deploy(&other)?.expect_said(3, &["cannot be sent", "the images of this environment are named"])?;
    ensure!(!has(engine, &other), "it was sent");
    scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &["is not locked"])?;

    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy(&second)?.expect_said(0, &[SENT, "succeeded"])?;
    let there = docker.docker(["image", "inspect", "--format", "{{.Id}}", &second])?;
    docker.docker(["tag", image, &second])?;
    scene.deploy(&second)?.expect_said(3, &["is a different image on this machine and on app-2", &there])?;
    let by_id = scene.stage.lockstep(&["deploy", ENVIRONMENT, "--image", &there])?;
    by_id.expect_said(0, &["succeeded"])?;
    ensure!(scene.served_version()? == "2");
    Ok(())
}

fn has(engine: &Engine, image: &str) -> bool {
    engine.docker(&["image", "inspect", image]).is_ok()
}
