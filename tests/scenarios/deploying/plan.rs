//! A plan has no effect. It runs as it was shown, or is refused because something has changed since.

use std::fs;

use anyhow::{Result, ensure};
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::scene::inventory::Inventory;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

#[test]
fn planning_has_no_effect() -> Result<()> {
    let mut scene = Scene::open("plan")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;

    // A plan brings no secrets along: where it needs some, it says how they get there.
    let plan = ["plan", ENVIRONMENT, "--image", &first];
    scene
        .stage
        .lockstep(&plan)?
        .expect_said(3, &["lacks DATABASE_URL", "is not imported yet", "lockstep secret import"])?;
    scene.stage.must(&["secret", "import", ENVIRONMENT])?;
    // Before anything was ever deployed.
    assert_no_effect(&scene, &first, &["blue", "preflight", "migrate", "switch", "drain"])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    assert_no_effect(&scene, &second, &["green", "snapshot", "add_author", "from version 1 to 2"])?;
    // What is not planned is said too, with the reason.
    assert_no_effect(&scene, &first, &["the schema already has version 1", "is already live"])?;

    let shown = scene.plan(&second)?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let ran = scene.last()?;
    ensure!(ran.release == shown.release && ran.slot == shown.slot, "{ran:?} is not what was shown");
    let names: Vec<&str> = shown.steps().map(|step| step.action.name()).collect();
    let did: Vec<&str> = ran.steps.iter().map(|step| step.name.as_str()).collect();
    ensure!(names == did, "{did:?} ran, and {names:?} was shown");
    Ok(())
}

fn assert_no_effect(scene: &Scene, image: &str, words: &[&str]) -> Result<()> {
    let before = Inventory::take(scene)?;
    let agent = steps_of_agent(scene)?;
    let plan = ["plan", ENVIRONMENT, "--image", image];
    scene.stage.lockstep(&plan)?.expect_said(0, words)?;
    let dry_run = ["deploy", ENVIRONMENT, "--image", image, "--dry-run"];
    let hash = scene.plan(image)?.hash.to_string();
    scene.stage.lockstep(&plan)?.expect_said(0, &[&hash])?;
    scene.stage.lockstep(&dry_run)?.expect_said(0, words)?.expect_said(0, &[&hash])?;
    before.assert_same(&Inventory::take(scene)?)?;
    ensure!(agent == steps_of_agent(scene)?, "the agent has carried something out");
    Ok(())
}

/// The logs of all steps that the agent ever began.
fn steps_of_agent(scene: &Scene) -> Result<usize> {
    let folder = scene.stage.directory.join("agent/steps");
    Ok(if folder.exists() { fs::read_dir(folder)?.count() } else { 0 })
}

#[test]
fn a_plan_runs_as_it_was_shown_or_not_at_all() -> Result<()> {
    let mut scene = Scene::open("hash")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    let third = scene.stage.image("3", 1, &[])?;

    scene.stage.must(&["secret", "import", ENVIRONMENT])?;
    let hash = scene.plan(&first)?.hash.to_string();
    deploy_by(&scene, &first, &hash)?.expect_said(0, &["succeeded"])?;

    let hash = scene.plan(&second)?.hash.to_string();
    scene.assert_refused("another configuration", |scene| {
        let _declared = scene.declare("deploy:", "traffic: { body_limit: 3m }\ndeploy:")?;
        let said = deploy_by(scene, &second, &hash)?.expect_said(3, &["configuration", "lockstep plan"])?;
        ensure!(!said.stderr.contains("the live state"), "{}", said.stderr);
        Ok(())
    })?;
    scene.assert_refused("another release", |scene| {
        deploy_by(scene, &third, &hash)?.expect_said(3, &["the release", "lockstep plan"])?;
        Ok(())
    })?;
    scene.assert_refused("a hash that is none", |scene| {
        deploy_by(scene, &second, "3fa9c1")?.expect_said(2, &["3fa9c1"])?;
        Ok(())
    })?;

    deploy_by(&scene, &second, &hash)?.expect_said(0, &["succeeded"])?;
    scene.assert_refused("another live state", |scene| {
        deploy_by(scene, &second, &hash)?.expect_said(3, &["live state", "lockstep plan"])?;
        Ok(())
    })?;
    Ok(())
}

fn deploy_by(scene: &Scene, image: &str, hash: &str) -> Result<CommandOutput> {
    scene.stage.lockstep(&["deploy", ENVIRONMENT, "--image", image, "--plan", hash])
}
