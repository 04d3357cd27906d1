//! `lockstep doctor` names what is wrong and the next command, and finds nothing where nothing is wrong.

use anyhow::{Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};
use serde_json::Value;

#[test]
fn the_doctor_names_what_is_wrong_and_nothing_else() -> Result<()> {
    let mut scene = Scene::open("doctor")?;
    let image = scene.stage.image("1", 1, &[])?;
    // Before anything is deployed there is nothing wrong either.
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(0, &["nothing has been deployed"])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    let whole = ["coordinator", "clock", "docker", "nginx", "pg_dump", "disk", &image, "no problem found"];
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(0, &whole)?;
    let early = ["env", "grant", ENVIRONMENT, "--host", "no-such-host"];
    scene.stage.lockstep(&early)?.expect_said(0, &["no host of the name no-such-host has joined"])?;
    let checks: Value = scene.stage.json(&["doctor"])?;
    ensure!(checks.as_array().is_some_and(|checks| checks.len() > 5), "{checks}");

    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    for container in containers {
        scene.stage.docker.docker(["stop", &container.id])?;
    }
    until("the doctor sees that the live release does not run", SOON, || {
        let said = scene.stage.lockstep(&["doctor", ENVIRONMENT])?;
        Ok(said.code == 1 && said.all().contains("does not run"))
    })?;
    scene.stage.agent.stop()?;
    until("the doctor sees that the agent is gone", SOON, || {
        let said = scene.stage.lockstep(&["doctor"])?;
        Ok(said.code == 1 && said.all().contains("its agent is not connected"))
    })?;
    let offline = scene.stage.lockstep(&["doctor", ENVIRONMENT])?;
    ensure!(!offline.all().contains("lockstep deploy"), "a deployment is advised: {}", offline.all());
    ensure!(offline.all().matches("is not connected").count() == 1, "told twice: {}", offline.all());
    // It is known of it what was known.
    let listed = scene.stage.must(&["host", "list"])?.stdout;
    for words in ["offline ", "0/30 d", " ms", " GiB"] {
        ensure!(listed.contains(words), "{words:?} is not in: {listed}");
    }
    scene.stage.coordinator.stop()?;
    scene.stage.lockstep(&["doctor"])?.expect_said(1, &["no coordinator answers", "next"])?;
    Ok(())
}
