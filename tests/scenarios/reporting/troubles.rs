//! What goes wrong after a deployment stands on `status` and `doctor`, with what helps.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::credential::{add_operator, with_credential};
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};
use serde_json::Value;

#[test]
fn restarts_and_the_state_of_the_database_are_told() -> Result<()> {
    let mut scene = Scene::open("troubles")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &["all is well"])?;
    killed(&scene)?;
    let reader = add_operator(&scene, "looker", "*", "read")?;
    let set = |change: &str| scene.stage.postgres.psql(&format!("UPDATE schema_migrations SET {change}"));

    set("dirty = true")?;
    let dirty = ["the schema is dirty at version 1", "UPDATE schema_migrations"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &dirty)?;
    scene.stage.lockstep(&["doctor"])?.expect_said(1, &dirty)?;
    // The password is the application's, and not a reader's to use.
    let seen = with_credential(&scene, &reader, &["status", ENVIRONMENT, "--output", "json"])?;
    let seen: Value = serde_json::from_str(&seen.stdout)?;
    ensure!(seen["database"].is_null() && seen[0]["database"].is_null(), "{seen}");

    set("dirty = false, version = 7")?;
    let by_hand = "the schema of the database is 7, but 1 is recorded";
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &[by_hand])?;
    set("version = 1")?;

    scene.stage.postgres.psql("ALTER ROLE notes NOLOGIN")?;
    let unknown = ["unknown from app-1", "not permitted to log in"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &unknown)?;
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(1, &unknown)?;
    scene.stage.postgres.psql("ALTER ROLE notes LOGIN")?;
    another_site_has_its_name(&scene)
}

/// nginx takes the first of two, and only warns.
fn another_site_has_its_name(scene: &Scene) -> Result<()> {
    let site = scene.stage.site;
    let foreign = format!("server {{ listen {}; server_name {}; return 404; }}\n", site.port(), site.ip());
    scene.stage.nginx.install_site("000", &foreign)?;
    let told = "is not answered from its site, but with 404";
    let is_told = || Ok(scene.stage.lockstep(&["status", ENVIRONMENT])?.all().contains(told));
    until("the status tells of the other site", SOON, is_told)?;
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(1, &[told])?;
    scene.stage.nginx.install_site("000", "")?;
    until("the status sees that it is gone", SOON, || Ok(!is_told()?))
}

/// As the kernel does where a container's memory is used up.
fn killed(scene: &Scene) -> Result<()> {
    let docker = &scene.stage.docker;
    let containers = docker.containers(&scene.stage.label())?;
    let web = containers.into_iter().find(|container| container.name.contains("-web-"));
    let web = web.context("no web container runs")?;
    let pid = docker.docker(["inspect", "--format", "{{.State.Pid}}", &web.id])?;
    run(Command::new("kill").args(["-KILL", pid.trim()]))?;
    until("the status tells of the restart", SOON, || {
        Ok(scene.stage.lockstep(&["status", ENVIRONMENT])?.all().contains("exit code 137"))
    })?;
    let told = ["was restarted, once,", "lockstep logs", "--process web"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &told)?;
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(1, &told)?;
    Ok(())
}
