//! The token of a machine: what a CI system does that stores nothing, and what it is refused.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::credential::{coordinator_address, log_in};
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};
use serde_json::Value;

/// A runner: it knows where the coordinator is, and its token.
struct Machine<'a> {
    scene: &'a Scene,
    coordinator: String,
    token: String,
    /// It stays empty.
    home: PathBuf,
}

impl<'a> Machine<'a> {
    fn create(scene: &'a Scene, name: &str, limits: &[&str]) -> Result<Self> {
        let create = ["token", "create", name, "--env", ENVIRONMENT];
        let created: Value = scene.stage.json(&[&create, limits].concat())?;
        let token = created["token"].as_str().context("there is no token")?.to_owned();
        let home = scene.stage.directory.join(format!("runner-{name}"));
        std::fs::create_dir(&home)?;
        Ok(Self { scene, coordinator: coordinator_address(scene)?, token, home })
    }

    fn run(&self, arguments: &[&str]) -> Result<CommandOutput> {
        let mut command = self.scene.stage.command(arguments)?;
        command.env("LOCKSTEP_TOKEN", &self.token).env("LOCKSTEP_COORDINATOR", &self.coordinator);
        command.env("LOCKSTEP_CREDENTIAL", &self.home);
        CommandOutput::of(&mut command)
    }

    fn refused(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        self.run(arguments)?.expect_said(3, words).with_context(|| arguments.join(" "))?;
        Ok(())
    }
}

#[test]
fn a_machine_does_what_its_token_says_and_stores_nothing() -> Result<()> {
    let mut scene = Scene::open("tokens")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    let repository = first.split(':').next().unwrap_or_default().to_owned();
    let limits =
        ["--allow", "deploy,secrets", "--repository", &repository, "--branch", "main", "--for", "1h"];
    let machine = Machine::create(&scene, "ci", &limits)?;

    let deploy = ["deploy", ENVIRONMENT, "--image", &second];
    machine.run(&[&deploy[..], &["--branch", "main"]].concat())?.expect_said(0, &["succeeded"])?;
    ensure!(scene.served_version()? == "2");
    machine.run(&["status", ENVIRONMENT])?.expect_said(0, &[&second])?;
    ensure!(std::fs::read_dir(&machine.home)?.next().is_none(), "something is stored");
    scene.stage.lockstep(&["audit", ENVIRONMENT])?.expect_said(0, &["ci", "create token"])?;

    scene.assert_refused("what the token does not allow", |_| {
        machine.refused(&[&deploy[..], &["--branch", "feature"]].concat(), &["for the branch main"])?;
        machine
            .refused(&[&deploy[..], &["--branch", "feature", "--allow-branch"]].concat(), &["branch main"])?;
        let other = ["deploy", ENVIRONMENT, "--image", "nginx:1", "--branch", "main"];
        machine.refused(&other, &["for images of", &repository])?;
        let other = "lockstep token revoke ci && lockstep token create ci --env";
        let rollback = ["allows deploy, secrets, and not rollback", other, "--allow deploy,rollback,secrets"];
        machine.refused(&["rollback", ENVIRONMENT], &rollback)?;
        machine
            .refused(&["lock", "freeze", ENVIRONMENT, "--for", "1h", "--reason", "fair"], &["for people"])?;
        machine.refused(&["logs", ENVIRONMENT], &["for people"])?;
        machine.refused(&["operator", "list"], &["for people", "unset LOCKSTEP_TOKEN"])?;
        machine.refused(&["token", "renew", "ci"], &["for people"])?;
        let other = ["no access", "lockstep token create NAME --env other/production"];
        machine.refused(&["status", "other/production"], &other)?;
        Ok(())
    })?;

    // The same token, for longer; and its end.
    scene.stage.must(&["token", "renew", "ci", "--for", "30d"])?;
    let listed = scene.stage.must(&["token", "list"])?.stdout;
    for words in ["ci", ENVIRONMENT, "deploy", &repository, "main"] {
        ensure!(listed.contains(words), "{words:?} is not in: {listed}");
    }
    machine.run(&["status", ENVIRONMENT])?.expect_said(0, &[&second])?;
    let operators = scene.stage.must(&["operator", "list"])?.stdout;
    ensure!(operators.contains("lockstep token list"), "it does not say where machines are: {operators}");
    ensure!(!operators.lines().any(|line| line.starts_with("ci ")), "a machine is no operator: {operators}");
    scene
        .stage
        .lockstep(&["token", "revoke", "admin"])?
        .expect_said(3, &["lockstep operator revoke admin"])?;
    scene.stage.lockstep(&["token", "revoke", "ci"])?.expect_said(0, &["the token of ci is revoked"])?;
    machine.refused(&["status", ENVIRONMENT], &["unknown", "lockstep token create NAME"])?;
    Ok(())
}

/// Its certificates would count as the operator's, who may do more.
#[test]
fn an_operator_does_not_take_the_name_of_a_machine() -> Result<()> {
    let mut scene = Scene::open("names")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    let operator = ["operator", "add", "ci", "--env", "*", "--role", "admin"];
    let waiting: Value = scene.stage.json(&operator)?;
    let waiting = waiting["token"].as_str().context("there is no token")?.to_owned();
    let machine = Machine::create(&scene, "ci", &["--allow", "deploy"])?;

    scene.assert_refused("an operator with the name of a machine", |scene| {
        scene.stage.lockstep(&operator)?.expect_said(3, &["a machine of this name", "token revoke ci"])?;
        let credential = scene.stage.directory.join("operator-ci");
        log_in(scene, &credential, &waiting)?.expect_said(3, &["a machine is named ci"])?;
        machine.refused(&["operator", "list"], &["for people"])
    })?;
    scene.stage.must(&["token", "revoke", "ci"])?;
    scene.stage.lockstep(&operator)?.expect_said(0, &["lockstep login"])?;
    Ok(())
}

/// Who only plans looks, as a reader does.
#[test]
fn a_token_for_plans_starts_nothing() -> Result<()> {
    let mut scene = Scene::open("planner")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    let machine = Machine::create(&scene, "review", &["--allow", "plan"])?;
    machine.run(&["plan", ENVIRONMENT, "--image", &image])?.expect_said(0, &["made for a reader"])?;
    let deploy = ["deploy", ENVIRONMENT, "--image", &image];
    scene.assert_refused("a token that only plans", |_| {
        machine.refused(&deploy, &["allows plan, and not"])?;
        machine.refused(&["secret", "list", ENVIRONMENT], &["allows plan, and not secrets"])
    })?;
    scene.stage.must(&["token", "revoke", "review"])?;
    until("its certificate does not count any more", SOON, || {
        Ok(machine.run(&["status", ENVIRONMENT])?.code == 3)
    })
}
