//! What is wrong with what an operator wrote is said with its place, before anything happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::cases::Cases;
use crate::scene::{ENVIRONMENT, Expect, Kept, Scene};

#[test]
fn mistakes_in_the_projects_files_are_refused_with_their_place() -> Result<()> {
    let mut scene = Scene::open("declared")?;
    let image = scene.stage.image("1", 1, &[])?;
    let mut cases = Cases::on(&scene);
    mistakes_in_the_declaration(&mut cases, &image);
    mistakes_in_the_secrets(&mut cases, &image);
    mistakes_in_the_command(&mut cases, &image);
    cases.end()?;
    // All of it was about the files: with them as they were, it deploys.
    scene.deploy(&image)?.expect_said(0, &["succeeded"])?;
    Ok(())
}

fn mistakes_in_the_declaration(cases: &mut Cases<'_>, image: &str) {
    cases.refused("malformed YAML", |scene| {
        let _declared = scene.declare("processes:", "processes: [")?;
        scene.deploy(image)?.expect_said(3, &["error", "deployment.yml", "line 3", "next"])?;
        Ok(())
    });
    cases.refused("an unknown key", |scene| {
        let _declared = scene.declare("stop_grace: 5s", "stop_grase: 5s")?;
        scene.deploy(image)?.expect_said(3, &["stop_grase", "did you mean `stop_grace`?", "line 4"])?;
        Ok(())
    });
    cases.refused("a wrong type", |scene| {
        let _declared = scene.declare("port: 8080", "port: eighty")?;
        scene.deploy(image)?.expect_said(3, &["port", "eighty", "line 4", "next"])?;
        Ok(())
    });
    cases.refused("two mistakes are told at once", |scene| {
        let _port = scene.declare("port: 8080", "port: 0")?;
        let _keep = scene.declare("keep: 3", "keep: 0")?;
        scene.deploy(image)?.expect_said(3, &["port", "keep"])?;
        Ok(())
    });
    cases.refused("no deployment.yml", |scene| {
        let _kept = Kept::of(&scene.stage.deployment_yml())?;
        fs::remove_file(scene.stage.deployment_yml())?;
        scene.deploy(image)?.expect_said(3, &["deployment.yml", "next"])?;
        Ok(())
    });
    cases.refused("an environment that is not declared", |scene| {
        let said = scene.stage.lockstep(&["deploy", "prodution", "--image", image])?;
        said.expect_said(3, &["prodution", "production"])?;
        Ok(())
    });
}

fn mistakes_in_the_secrets(cases: &mut Cases<'_>, image: &str) {
    cases.refused(".env that others can read", |scene| {
        let _kept = Kept::of(&scene.stage.env_file())?;
        fs::set_permissions(scene.stage.env_file(), fs::Permissions::from_mode(0o644))?;
        scene.deploy(image)?.expect_said(3, &[".env.production", "0644", "chmod 600"])?;
        Ok(())
    });
    cases.refused("CHANGE_ME", |scene| {
        let _secrets = scene.write_secrets("JWT_SECRET=CHANGE_ME\n")?;
        scene.deploy(image)?.expect_said(3, &["JWT_SECRET", "CHANGE_ME", ".env.production"])?;
        Ok(())
    });
    cases.refused("a required variable is missing", |scene| {
        let _declared = scene.declare("[DATABASE_URL]", "[DATABASE_URL, JWT_SECRET]")?;
        scene.deploy(image)?.expect_said(3, &["JWT_SECRET", ".env.production"])?;
        Ok(())
    });
    cases.refused("a file of secrets that is not there", |scene| {
        let _declared = scene.declare("env_file: .env.production", "env_file: .env.prod")?;
        scene.deploy(image)?.expect_said(3, &["lacks DATABASE_URL", "lockstep secret import"])?;
        Ok(())
    });
    cases.refused("a line that is no variable does not show its value", |scene| {
        let _secrets = scene.write_secrets("swordfish-swordfish\n")?;
        let said = scene.deploy(image)?.expect_said(3, &["line 3 of", ".env.production"])?;
        ensure!(!said.stderr.contains("swordfish"), "it shows what may be a secret: {}", said.stderr);
        Ok(())
    });
}

fn mistakes_in_the_command(cases: &mut Cases<'_>, image: &str) {
    cases.refused("an image that is not there", |scene| {
        let image = format!("{}:nowhere", scene.stage.application);
        scene.deploy(&image)?.expect_said(3, &[&image, "app-1", "next"])?;
        Ok(())
    });
    cases.refused("a command that is none", |scene| {
        scene
            .stage
            .lockstep(&["deplay", ENVIRONMENT, "--image", image])?
            .expect_said(2, &["deplay", "deploy"])?;
        Ok(())
    });
    cases.refused("no coordinator answers", |scene| {
        let mut command = scene.stage.command(&["status", ENVIRONMENT])?;
        let output = command.env("LOCKSTEP_COORDINATOR", "127.0.0.1:9").output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(5), "{} {said}", output.status);
        ensure!(said.contains("127.0.0.1:9") && said.contains("next"), "{said}");
        Ok(())
    });
}
