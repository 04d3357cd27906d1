//! Rollback: one switch to the warm slot. It never changes the database.

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::run::journal::Verdict;
use lockstep_core::slot::Slot;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

const CONTRACT: &str = "-- lockstep:contract\nALTER TABLE notes DROP COLUMN author;\n";

#[test]
fn a_rollback_is_a_switch_and_leaves_the_database_alone() -> Result<()> {
    let mut scene = Scene::open("back")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;

    scene.assert_refused("nothing was ever deployed", |scene| {
        let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
        said.expect_said(3, &["error", "why", "next", "lockstep deploy"])?;
        Ok(())
    })?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    scene.assert_refused("there is nothing before the first", |scene| {
        scene
            .stage
            .lockstep(&["rollback", ENVIRONMENT])?
            .expect_said(3, &["no earlier release", "lockstep history"])?;
        Ok(())
    })?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let second_deployment = scene.last()?.id.to_string();

    let load = scene.stage.load(300)?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &["schema", "2"])?;
    assert_none_lost(load)?;
    assert_is_back(&scene)?;

    scene.assert_refused("a second time has nowhere to go", |scene| {
        let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
        said.expect_said(3, &["no earlier release", &format!("--to {second_deployment}")])?;
        Ok(())
    })?;
    scene.assert_refused("to a deployment that is not there", |scene| {
        let said =
            scene.stage.lockstep(&["rollback", ENVIRONMENT, "--to", "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV"])?;
        said.expect_said(3, &["dep_01ARZ3NDEKTSV4RRFFQ69G5FAV", "lockstep status"])?;
        Ok(())
    })?;

    // The way forward that it names.
    scene.stage.lockstep(&["rollback", ENVIRONMENT, "--to", &second_deployment])?.expect_said(0, &[])?;
    ensure!(scene.served_version()? == "2");
    let wanted = ["web-blue running", "web-green running", "worker-blue exited", "worker-green running"];
    scene.assert_containers(&wanted)?;

    // A deployment that fails has used the warm slot, and says so.
    let ends = scene.stage.image("ends", 2, &[("NOTES_EXIT", "3")])?;
    let cold = format!("a rollback must start {first} first");
    scene.deploy(&ends)?.expect_said(1, &["rolled back", &cold])?;
    Ok(())
}

fn assert_is_back(scene: &Scene) -> Result<()> {
    ensure!(scene.served_version()? == "1");
    let wanted = ["web-blue running", "web-green running", "worker-blue running", "worker-green exited"];
    scene.assert_containers(&wanted)?;
    ensure!(scene.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")? == "2|f");
    let last = scene.assert_verdict(Verdict::Succeeded)?;
    ensure!(last.kind == OperationKind::Rollback, "{last:?}");
    let names: Vec<&str> = last.steps.iter().map(|step| step.name.as_str()).collect();
    ensure!(names == ["health", "switch", "workers"], "a rollback to a warm slot did {names:?}");
    let live = scene.status()?.live.context("nothing is live")?;
    ensure!(live.slot == Slot::Blue && live.rollback_count == 1, "{live:?}");
    Ok(())
}

#[test]
fn a_rollback_past_a_contract_migration_is_refused() -> Result<()> {
    let mut scene = Scene::open("contract")?;
    let first = scene.stage.image("1", 2, &[])?;
    let files = [("000003_drop_author.up.sql", CONTRACT)];
    let second = scene.stage.image_with_migrations("2", &first, &files)?;
    let third = scene.stage.image_with_migrations("3", &second, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;

    let plan = ["plan", ENVIRONMENT, "--image", &second];
    scene.stage.lockstep(&plan)?.expect_said(0, &["removes something from the schema", "drop_author"])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    scene.assert_refused("past the contract", |scene| {
        let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
        said.expect_said(3, &["cannot run on schema version 3", "drop_author", "deploy a fix"])?;
        Ok(())
    })?;

    // From there on, going back is allowed again.
    scene.deploy(&third)?.expect_said(0, &[])?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &[])?;
    ensure!(scene.served_version()? == "2");
    Ok(())
}

#[test]
fn a_rollback_starts_a_slot_that_is_not_warm_any_more() -> Result<()> {
    let mut scene = Scene::open("cold")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let warm = containers.iter().find(|there| there.name.contains("-web-blue-")).context("no warm slot")?;
    scene.stage.docker.docker(["rm", "--force", &warm.id])?;

    let load = scene.stage.load(100)?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &["is no longer warm"])?;
    assert_none_lost(load)?;
    ensure!(scene.served_version()? == "1");
    let wanted = ["web-blue running", "web-green running", "worker-blue running", "worker-green exited"];
    scene.assert_containers(&wanted)
}

/// One image, deployed with another configuration: the rollback is to the one before, and warm.
#[test]
fn a_rollback_of_one_image_brings_its_configuration_back() -> Result<()> {
    let mut scene = Scene::open("config")?;
    let image = scene.stage.image("1", 1, &[])?;
    let served = |scene: &Scene| -> Result<String> {
        let slot = scene.status()?.live.context("nothing is live")?.slot;
        let containers = scene.stage.docker.containers(&scene.stage.label())?;
        let web = containers.iter().find(|one| one.name.contains(&format!("-web-{slot}")));
        let id = &web.context("nothing serves")?.id;
        scene.stage.docker.docker(["inspect", "--format", "{{.Config.Env}}", id])
    };
    scene.deploy(&image)?.expect_said(0, &[])?;
    let _red =
        scene.declare("required: [DATABASE_URL]", "required: [DATABASE_URL]\n    env: { COLOUR: red }")?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    ensure!(served(&scene)?.contains("COLOUR=red"), "it has not the new configuration");
    scene
        .stage
        .lockstep(&["status", ENVIRONMENT])?
        .expect_said(0, &["with the configuration of", "takes about"])?;

    let load = scene.stage.load(200)?;
    let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
    said.expect_said(0, &["what comes back is the configuration of", "succeeded"])?;
    assert_none_lost(load)?;
    ensure!(!served(&scene)?.contains("COLOUR"), "the new configuration is still live");
    Ok(())
}
