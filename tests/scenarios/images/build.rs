//! A project that says `build:`: its image comes from the commit at HEAD, under a claim of the environment.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::background::Background;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};

#[test]
fn an_image_is_built_from_the_commit_and_deployed() -> Result<()> {
    let mut scene = Scene::open("build")?;
    let base = scene.stage.image("base", 1, &[])?;
    let application = scene.stage.application.clone();
    let _declared =
        scene.declare(&format!("image: {{ repository: {application} }}"), "build: { context: . }")?;
    git(&scene, &["init", "--quiet"])?;
    write(&scene, ".gitignore", ".env*\n")?;
    write(
        &scene,
        "Dockerfile",
        &format!(
            "FROM {base} AS example\nFROM scratch\nCOPY --from=example /notes /notes\nCOPY --from=example /migrations /migrations\nENV NOTES_VERSION=built\nUSER 65534\nENTRYPOINT [\"/notes\"]\n"
        ),
    )?;
    let commit = commit(&scene)?;
    let image = format!("{application}:{}", &commit[..7]);
    scene.stage.removes(&image);

    scene.assert_refused("a plan builds nothing", |scene| {
        scene.stage.lockstep(&["plan", ENVIRONMENT])?.expect_said(0, &[&image, "to be built"])?;
        Ok(())
    })?;
    scene.stage.lockstep(&["deploy", ENVIRONMENT])?.expect_said(0, &["building", &image, "succeeded"])?;
    ensure!(scene.served_version()? == "built");
    let format = "{{index .Config.Labels \"org.opencontainers.image.revision\"}}";
    ensure!(scene.stage.docker.docker(["image", "inspect", "--format", format, &image])? == commit);
    let again = scene.stage.lockstep(&["deploy", ENVIRONMENT])?.expect_said(0, &["succeeded"])?;
    ensure!(!again.all().contains("building"), "it was built a second time");
    that_cannot_be_built(&scene)?;
    that_is_interrupted(&scene, &base)
}

fn that_cannot_be_built(scene: &Scene) -> Result<()> {
    let load = scene.stage.load(100)?;
    write(scene, "Dockerfile", "FROM scratch\nCOPY nowhere /nowhere\n")?;
    scene.assert_refused("what is not committed", |scene| {
        scene
            .stage
            .lockstep(&["deploy", ENVIRONMENT])?
            .expect_said(3, &["uncommitted changes", "--image"])?;
        Ok(())
    })?;
    commit(scene)?;
    scene.assert_refused("a Dockerfile that fails", |scene| {
        let said = scene.stage.lockstep(&["deploy", ENVIRONMENT])?;
        said.expect_said(3, &["cannot be built", "COPY failed", "the environment is unlocked"])?;
        scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &["is not locked"])?;
        Ok(())
    })?;
    assert_none_lost(load)?;
    scene.assert_verdict(Verdict::Succeeded)?;
    Ok(())
}

/// The build takes for ever, and the operator has enough of it.
fn that_is_interrupted(scene: &Scene, base: &str) -> Result<()> {
    let label = format!("lockstep.test={}", scene.stage.application);
    let dockerfile = format!(
        "FROM {base}\nLABEL {label}\nENV DATABASE_URL=postgres://nobody@192.0.2.1/nothing\nRUN [\"/notes\"]\n"
    );
    write(scene, "Dockerfile", &dockerfile)?;
    commit(scene)?;
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let building = Background::start(scene.stage.command(&["deploy", ENVIRONMENT])?)?;
        until("the build runs", SOON, || Ok(!scene.stage.docker.containers(&label)?.is_empty()))?;
        let locked = scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?;
        locked.expect_said(0, &["builds its image, by admin"])?;
        let image = format!("{}:built-elsewhere", scene.stage.application);
        scene.deploy(&image)?.expect_said(4, &["is locked", "building an image for dep_"])?;
        building.signal(signal)?;
        building
            .wait(SOON)?
            .expect_said(130, &[name, "nothing was deployed", "the environment is unlocked"])?;
        scene.stage.lockstep(&["lock", "status", ENVIRONMENT])?.expect_said(0, &["is not locked"])?;
        until("Docker has ended the build", SOON, || Ok(scene.stage.docker.containers(&label)?.is_empty()))?;
    }
    ensure!(scene.served_version()? == "built");
    Ok(())
}

fn write(scene: &Scene, name: &str, text: &str) -> Result<()> {
    Ok(fs::write(scene.stage.deployment_yml().with_file_name(name), text)?)
}

fn commit(scene: &Scene) -> Result<String> {
    git(scene, &["add", "--all"])?;
    git(
        scene,
        &["-c", "user.name=op", "-c", "user.email=op@localhost", "commit", "--quiet", "--message", "it"],
    )?;
    git(scene, &["rev-parse", "HEAD"])
}

fn git(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let project = scene.stage.deployment_yml().with_file_name("");
    run(Command::new("git").args(arguments).current_dir(project))
}
