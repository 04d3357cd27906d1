//! Mistakes in the files and commands of an operator: refused with their place, before anything happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

use crate::group::{Cases, Setup, SharedStage, deploy};

struct Project {
    scene: Scene,
    image: String,
}

impl Setup for Project {
    const NAME: &'static str = "declaration";
    const RATE: Option<u32> = None;

    fn open() -> Result<Self> {
        let mut scene = Scene::open("declared")?;
        let image = scene.stage.image("1", 1, &[])?;
        Ok(Self { scene, image })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    mistakes_in_the_declaration(&mut cases);
    mistakes_in_the_secrets(&mut cases);
    mistakes_in_the_command(&mut cases);
    // All of it was about the files: with them as they were, it deploys.
    cases.case("files without a mistake", |Project { scene, image }| deploy(scene, image));
    cases.into_trials()
}

fn mistakes_in_the_declaration(cases: &mut Cases<Project>) {
    cases.refused("malformed YAML", |Project { scene, image }| {
        let _declared = scene.declare("processes:", "processes: [")?;
        scene.deploy(image)?.expect_said(3, &["error", "deployment.yml", "line 3", "next"])?;
        Ok(())
    });
    cases.refused("an unknown key", |Project { scene, image }| {
        let _declared = scene.declare("stop_grace: 5s", "stop_grase: 5s")?;
        scene.deploy(image)?.expect_said(3, &["stop_grase", "did you mean `stop_grace`?", "line 4"])?;
        Ok(())
    });
    cases.refused("a wrong type", |Project { scene, image }| {
        let _declared = scene.declare("port: 8080", "port: eighty")?;
        scene.deploy(image)?.expect_said(3, &["port", "eighty", "line 4", "next"])?;
        Ok(())
    });
    cases.refused("two mistakes are told at once", |Project { scene, image }| {
        let _port = scene.declare("port: 8080", "port: 0")?;
        let _keep = scene.declare("keep: 3", "keep: 0")?;
        scene.deploy(image)?.expect_said(3, &["port", "keep"])?;
        Ok(())
    });
    cases.refused("no deployment.yml", |Project { scene, image }| {
        let _kept = RestoredFile::keep(&scene.stage.deployment_yml())?;
        fs::remove_file(scene.stage.deployment_yml())?;
        scene.deploy(image)?.expect_said(3, &["deployment.yml", "next"])?;
        Ok(())
    });
    cases.refused("an environment that is not declared", |Project { scene, image }| {
        let said = scene.stage.lockstep(&["deploy", "prodution", "--image", image])?;
        said.expect_said(3, &["prodution", "production"])?;
        Ok(())
    });
}

fn mistakes_in_the_secrets(cases: &mut Cases<Project>) {
    cases.refused(".env that others can read", |Project { scene, image }| {
        let _kept = RestoredFile::keep(&scene.stage.env_file())?;
        fs::set_permissions(scene.stage.env_file(), fs::Permissions::from_mode(0o644))?;
        scene.deploy(image)?.expect_said(3, &[".env.production", "0644", "chmod 600"])?;
        Ok(())
    });
    cases.refused("CHANGE_ME", |Project { scene, image }| {
        let _secrets = scene.write_secrets("JWT_SECRET=CHANGE_ME\n")?;
        scene.deploy(image)?.expect_said(3, &["JWT_SECRET", "CHANGE_ME", ".env.production"])?;
        Ok(())
    });
    cases.refused("a required variable is missing", |Project { scene, image }| {
        let _declared = scene.declare("[DATABASE_URL]", "[DATABASE_URL, JWT_SECRET]")?;
        scene.deploy(image)?.expect_said(3, &["JWT_SECRET", ".env.production"])?;
        Ok(())
    });
    cases.refused("a file of secrets that is not there", |Project { scene, image }| {
        let _declared = scene.declare("env_file: .env.production", "env_file: .env.prod")?;
        scene.deploy(image)?.expect_said(3, &["lacks DATABASE_URL", "lockstep secret set"])?;
        Ok(())
    });
    cases.refused("a line that is no variable does not show its value", |Project { scene, image }| {
        let _secrets = scene.write_secrets("swordfish-swordfish\n")?;
        let said = scene.deploy(image)?.expect_said(3, &["line 3 of", ".env.production"])?;
        ensure!(!said.stderr.contains("swordfish"), "it shows what may be a secret: {}", said.stderr);
        Ok(())
    });
}

fn mistakes_in_the_command(cases: &mut Cases<Project>) {
    cases.refused("an image that is not there", |Project { scene, .. }| {
        let image = format!("{}:nowhere", scene.stage.application);
        scene.deploy(&image)?.expect_said(3, &[&image, "app-1", "next"])?;
        Ok(())
    });
    cases.refused("a command that is none", |Project { scene, image }| {
        scene
            .stage
            .lockstep(&["deplay", ENVIRONMENT, "--image", image])?
            .expect_said(2, &["deplay", "deploy"])?;
        Ok(())
    });
    cases.refused("no coordinator answers", |Project { scene, .. }| {
        let mut command = scene.stage.command(&["status", ENVIRONMENT])?;
        let output = command.env("LOCKSTEP_COORDINATOR", "127.0.0.1:9").output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(5), "{} {said}", output.status);
        ensure!(said.contains("127.0.0.1:9") && said.contains("next"), "{said}");
        Ok(())
    });
}
