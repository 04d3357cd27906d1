//! An environment is given up: what serves is taken out of service, and nothing of it is left on the host but data.

use std::fs;

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::run;
use lockstep_tests::scene::credential::{add_operator, with_credential};
use lockstep_tests::scene::{ENVIRONMENT, Scene};

const DECOMMISSION: [&str; 3] = ["env", "decommission", ENVIRONMENT];

#[test]
fn what_is_given_up_leaves_its_data_and_nothing_else() -> Result<()> {
    let mut scene = Scene::open("given-up")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &["succeeded"])?;
    let newer = scene.stage.image("2", 1, &[])?;
    scene.deploy(&newer)?.expect_said(0, &["succeeded"])?;
    let elsewhere = format!("{}-elsewhere:kept", image.split(':').next().unwrap_or(&image));
    run(std::process::Command::new("docker").args(["tag", &newer, &elsewhere]))?;
    let next = ["it is live", "lockstep env decommission", "--abandon"];
    scene.stage.lockstep(&["env", "remove", ENVIRONMENT])?.expect_said(3, &next)?;

    let hash = refused_by_accident(&scene)?;
    failed_snapshot(&mut scene, &hash)?;

    let Plan { hash, key, .. } = plan(&scene)?;
    let hash = hash.to_string();
    let run_plan = [&DECOMMISSION[..], &["--plan", &hash]].concat();
    let said = scene.stage.lockstep(&run_plan)?;
    said.expect_said(
        0,
        &["decommission succeeded", "snapshot verified", "is removed", "nothing of it is left there"],
    )?;

    ensure!(scene.served_version().is_err(), "it is served");
    let containers = format!("label=lockstep.environment={key}");
    let left =
        run(std::process::Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &containers]))?;
    ensure!(left.trim().is_empty(), "containers are left: {left}");
    let images = run(std::process::Command::new("docker").args(["images", "--quiet", &image]))?;
    ensure!(images.trim().is_empty(), "its image is left: {images}");
    let kept = run(std::process::Command::new("docker").args(["images", "--quiet", &elsewhere]))?;
    ensure!(!kept.trim().is_empty(), "what has a name of somebody else is gone");
    run(std::process::Command::new("docker").args(["rmi", &elsewhere, &newer]))?;
    let snapshots = fs::read_dir(scene.snapshots())?.count();
    ensure!(snapshots == 2, "there are {snapshots} snapshots: that of the migration, and the last");
    let notes = scene.stage.postgres.psql("SELECT count(*) FROM notes")?;
    ensure!(notes.parse::<u64>().is_ok(), "the database is gone: {notes}");
    let gone = ["there is no environment", "any more", "decommissioned it at", "next: lockstep history"];
    for look in [&["status", ENVIRONMENT][..], &["env", "show", ENVIRONMENT], &["rollback", ENVIRONMENT]] {
        scene.stage.lockstep(look)?.expect_said(3, &gone)?;
    }
    scene.stage.lockstep(&["history", ENVIRONMENT])?.expect_said(0, &["decommission"])?;
    scene.stage.lockstep(&["audit"])?.expect_said(0, &["decommission", "anna"])?;
    nothing_from_before_is_gone_back_to(&mut scene)
}

/// Its images are gone.
fn nothing_from_before_is_gone_back_to(scene: &mut Scene) -> Result<()> {
    let again = scene.stage.image("3", 1, &[])?;
    // Its grant is gone as well.
    let planned = scene.stage.json(&["plan", ENVIRONMENT, "--image", &again])?;
    let grant = planned["widening"]["hash"].as_str().context("a widening")?;
    let deploy = ["deploy", ENVIRONMENT, "--image", &again, "--grant", grant];
    scene.stage.lockstep(&deploy)?.expect_said(0, &["succeeded"])?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(3, &["no earlier release"])?;
    Ok(())
}

fn plan(scene: &Scene) -> Result<Plan> {
    let shown = scene.stage.json(&DECOMMISSION)?;
    serde_json::from_value(shown).context("the plan")
}

/// Without the hash of the plan nothing happens, nor by an operator who only deploys. Gives the hash.
fn refused_by_accident(scene: &Scene) -> Result<String> {
    let hash = plan(scene)?.hash.to_string();
    let run_plan = [&DECOMMISSION[..], &["--plan", &hash]].concat();
    let anna = add_operator(scene, "anna", "*", "deploy")?;
    scene.assert_refused("a plan that is only shown", |scene| {
        let words = ["the last snapshot", "the database of", "stays", "lockstep env decommission", &hash];
        scene.stage.lockstep(&DECOMMISSION)?.expect_said(0, &words)?;
        with_credential(scene, &anna, &run_plan)?.expect_said(3, &["the role admin"])?;
        let other = hash.replace(|digit: char| digit.is_ascii_digit(), "0");
        let run_other = [&DECOMMISSION[..], &["--plan", &other]].concat();
        scene.stage.lockstep(&run_other)?.expect_said(3, &["plan"])?;
        Ok(())
    })?;
    Ok(hash)
}

/// Until the last snapshot is verified, everything comes back.
fn failed_snapshot(scene: &mut Scene, hash: &str) -> Result<()> {
    // A file where the folder of this deployment's snapshot has to be made.
    let folder = scene.snapshots();
    let aside = folder.with_extension("aside");
    fs::rename(&folder, &aside)?;
    fs::write(&folder, "")?;
    let run_plan = [&DECOMMISSION[..], &["--plan", hash]].concat();
    scene.stage.lockstep(&run_plan)?.expect_said(1, &["snapshot", "was rolled back"])?;
    fs::remove_file(&folder)?;
    fs::rename(&aside, &folder)?;
    let last: DeploymentSummary = scene.assert_verdict(Verdict::RolledBack)?;
    ensure!(last.failure.is_some_and(|failed| failed.step == "snapshot"), "another step failed");
    ensure!(scene.served_version()? == "2", "it does not serve any more");
    ensure!(scene.status()?.live.is_some(), "it is not live any more");
    Ok(())
}
