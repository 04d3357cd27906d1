//! Secrets are in containers and nowhere else: each value is a canary, which is looked for in every file, output and
//! process list.

use std::fs;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::files::write_private;
use lockstep_tests::bed::program::{CommandOutput, run_with_input};
use lockstep_tests::scene::canary::{
    JWT, NEXT_JWT, ProcessWatch, assert_clean, assert_files_are_clean, canaries,
};
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

/// The example says what it does not understand, on standard error, and ends: a release that prints its secret.
const PRINTED: &str = "canary-printed-5b0c\"é/77";

#[test]
fn secrets_stand_nowhere_but_in_containers() -> Result<()> {
    let mut scene = Scene::open("secrets")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    let syntax = [("000003_wrong.up.sql", "CREATE TABEL wrong (n int);\n")];
    let wrong = scene.stage.image_with_migrations("wrong", &second, &syntax)?;
    let _fast = scene.declare("timeout: 10s", "timeout: 3s")?;
    let canaries = canaries(&scene)?;
    let watch = ProcessWatch::start(&canaries);
    let mut said = Vec::new();

    let _jwt = scene.write_secrets(&format!("JWT_SECRET={JWT}\n"))?;
    said.push(scene.deploy(&first)?.expect_said(0, &[])?);
    said.push(scene.deploy(&second)?.expect_said(0, &[])?);
    said.push(scene.deploy(&wrong)?.expect_said(1, &["syntax error"])?);
    {
        let _prints = scene.write_secrets(&format!("NOTES_HEALTH='{PRINTED}'\n"))?;
        let printing = scene.deploy(&second)?;
        // It is shown that something stood there, and not what.
        said.push(printing.expect_said(1, &["NOTES_HEALTH is", "***", "ok, degraded"])?);
    }
    for look in [
        vec!["status", ENVIRONMENT],
        vec!["history", ENVIRONMENT],
        vec!["show", "@last"],
        vec!["env", "show", ENVIRONMENT],
    ] {
        said.push(scene.stage.lockstep(&look)?);
        let mut json = vec!["--output", "json"];
        json.extend(look);
        said.push(scene.stage.lockstep(&json)?);
    }
    said.push(scene.stage.lockstep(&["logs", "@last"])?);
    assert_only_in_containers(&scene)?;
    watch.end()?;
    for one in &said {
        assert_clean("what the command line said", one.all().as_bytes(), &canaries)?;
    }
    assert_files_are_clean(&scene, &canaries)
}

fn assert_only_in_containers(scene: &Scene) -> Result<()> {
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let web = containers.iter().find(|there| there.name.contains("-web-")).context("there is no web")?;
    let inspected = scene.stage.docker.docker(["inspect", &web.id])?;
    ensure!(
        inspected.contains(JWT),
        "the application does not have its secret: the search would find nothing"
    );
    ensure!(inspected.matches(JWT).count() == 1, "the secret stands elsewhere than in the environment");
    Ok(())
}

#[test]
fn secrets_have_versions_and_a_rollback_takes_its_own() -> Result<()> {
    let mut scene = Scene::open("versions")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    let kept = scene.write_secrets(&format!("JWT_SECRET={JWT}\n"))?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    let listed = scene.stage.lockstep(&["secret", "list", ENVIRONMENT])?;
    assert_names_only(listed.expect_said(0, &["JWT_SECRET", "DATABASE_URL", "admin"])?)?;

    let file = scene.stage.env_file();
    let changed = fs::read_to_string(&file)?.replace(JWT, NEXT_JWT);
    write_private(&file, &format!("{changed}ADDED_KEY=canary-added\n"))?;
    let diff = scene.stage.lockstep(&["secret", "diff", ENVIRONMENT])?;
    assert_names_only(diff.expect_said(0, &["~ JWT_SECRET", "+ ADDED_KEY"])?)?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    assert_worker_has(&scene, NEXT_JWT)?;

    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &[])?;
    assert_worker_has(&scene, JWT)?;
    drop(kept);
    set_one_by_one(&scene, &first)
}

/// Without a file: on standard input, one name at a time.
fn set_one_by_one(scene: &Scene, image: &str) -> Result<()> {
    let older = fs::read_to_string(scene.stage.env_file())?;
    let _file = RestoredFile::keep(&scene.stage.env_file())?;
    fs::remove_file(scene.stage.env_file())?;
    let mut unread = scene.stage.command(&["secret", "set", ENVIRONMENT, "JWT_SECRET"])?;
    let refused = run_with_input(&mut unread, "\n").expect_err("an empty value");
    ensure!(refused.to_string().contains("no value was read"), "{refused}");
    let mut set = scene.stage.command(&["secret", "set", ENVIRONMENT, "JWT_SECRET"])?;
    run_with_input(&mut set, "canary-set-by-hand")?;
    let unchanged = scene.stage.lockstep(&["secret", "list", ENVIRONMENT])?;
    assert_names_only(unchanged.expect_said(0, &["JWT_SECRET", "DATABASE_URL"])?)?;
    assert_not_deployed(scene, image)?;
    scene.deploy(image)?.expect_said(0, &[])?;
    assert_worker_has(scene, "canary-set-by-hand")?;
    let deployed = scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &["all is well"])?;
    ensure!(!deployed.all().contains("is not in the containers"), "{}", deployed.all());
    // A file that is older than what was set would take it away.
    write_private(&scene.stage.env_file(), &older)?;
    let would_undo =
        ["would undo changes", "JWT_SECRET would be removed: admin set it", "lockstep secret import"];
    assert_names_only(scene.deploy(image)?.expect_said(3, &would_undo)?)?;
    scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", image])?.expect_said(3, &would_undo)?;
    assert_worker_has(scene, "canary-set-by-hand")?;
    scene.stage.lockstep(&["secret", "import", ENVIRONMENT])?.expect_said(0, &[])?;
    scene.deploy(image)?.expect_said(0, &[])?;
    Ok(())
}

/// The containers have the version of the rollback: status says so, and the plan names what differs.
fn assert_not_deployed(scene: &Scene, image: &str) -> Result<()> {
    let newer = [
        "newer secrets are not deployed",
        "version 3, set by admin",
        "not in the containers, which have version 1",
    ];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &newer)?;
    let change = "version 3 of the secrets replaces version 1: changed JWT_SECRET; added ADDED_KEY";
    let plan = scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", image])?;
    assert_names_only(plan.expect_said(0, &[change])?)
}

fn assert_worker_has(scene: &Scene, value: &str) -> Result<()> {
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let worker = containers
        .iter()
        .find(|there| there.name.contains("-worker-") && there.state == "running")
        .context("there is no worker")?;
    let environment = scene.stage.docker.docker(["inspect", "--format", "{{.Config.Env}}", &worker.id])?;
    ensure!(environment.contains(&format!("JWT_SECRET={value}")), "the worker has another than {value}");
    Ok(())
}

fn assert_names_only(said: CommandOutput) -> Result<()> {
    ensure!(!said.all().contains("canary"), "a value is shown: {}", said.all());
    Ok(())
}
