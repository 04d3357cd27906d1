//! Callers without the right are refused, as the command line shows it: no certificate, another role, another authority,
//! a token that was used. Every method with every caller is in `tests/attack`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::scene::credential::{add_operator, join_host, log_in, log_in_at, with_credential};
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};

use crate::group::{Cases, Setup, SharedStage, deploy};

struct Deployed {
    scene: Scene,
    image: String,
}

impl Setup for Deployed {
    const NAME: &'static str = "identity";
    const RATE: Option<u32> = None;

    fn open() -> Result<Self> {
        let mut scene = Scene::open("identity")?;
        let image = scene.stage.image("1", 1, &[])?;
        deploy(&scene, &image)?;
        Ok(Self { scene, image })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    certificates(&mut cases);
    tokens(&mut cases);
    roles(&mut cases);
    cases.into_trials()
}

fn certificates(cases: &mut Cases<Deployed>) {
    cases.refused("no credential", |Deployed { scene, .. }| {
        let empty = scene.stage.directory.join("nobody");
        with_credential(scene, &empty, &["status", ENVIRONMENT])?
            .expect_said(3, &["lockstep login", "next"])?;
        Ok(())
    });
    cases.refused("an agent's certificate", |Deployed { scene, .. }| {
        let credential = scene.stage.directory.join("as-agent");
        copy_of_operator(scene, &credential)?;
        for file in ["key.pem", "certificate.pem"] {
            fs::copy(scene.stage.directory.join("agent").join(file), credential.join(file))?;
        }
        let said = with_credential(scene, &credential, &["status", ENVIRONMENT])?;
        said.expect_said(3, &["agent", "may not"])?;
        let said = with_credential(scene, &credential, &["lock", "thaw", ENVIRONMENT])?;
        said.expect_said(3, &["agent", "may not"])?;
        Ok(())
    });
    cases.refused("a certificate of another authority", |Deployed { scene, .. }| {
        let stranger = Stranger::start(scene)?;
        with_credential(scene, &stranger.credential, &["status", ENVIRONMENT])?
            .expect_said(3, &["refused this certificate", "does not trust", "lockstep login"])?;
        Ok(())
    });
}

fn tokens(cases: &mut Cases<Deployed>) {
    cases.refused("an operator's token, used again", |Deployed { scene, .. }| {
        let added = scene.stage.json(&["operator", "add", "twice", "--env", "*", "--role", "read"])?;
        let token = added["token"].as_str().context("there is no token")?;
        log_in(scene, &scene.stage.directory.join("twice"), token)?.expect_said(0, &[])?;
        let credential = scene.stage.directory.join("replayed");
        log_in(scene, &credential, token)?.expect_said(3, &["token", "used"])?;
        ensure!(!credential.join("certificate.pem").exists(), "a certificate was given out");
        Ok(())
    });
    cases.refused("a host's token, used again", |Deployed { scene, .. }| {
        let token = scene.stage.json(&["host", "token", "--name", "app-2"])?;
        let token = token["token"].as_str().context("there is no token")?;
        let said = join_host(scene, "agent-2", token)?;
        let why = "reach it at 127.0.0.1: the address from which this machine reaches 127.0.0.1:";
        ensure!(said.contains(why) && said.contains("--address"), "it does not say its address: {said}");
        let again = join_host(scene, "agent-3", token);
        // As it was, for the cases that follow: with two hosts it would have to be said which does what.
        scene.stage.must(&["host", "forget", "app-2"])?;
        let error = format!("{:#}", again.err().context("the token was good twice")?);
        ensure!(error.contains("used"), "{error}");
        ensure!(!scene.stage.directory.join("agent-3/certificate.pem").exists());
        Ok(())
    });
    cases.refused("a token that was never given out", |Deployed { scene, .. }| {
        let error = join_host(scene, "agent-4", "lockstep-token").err().context("any token is good")?;
        ensure!(format!("{error:#}").contains("token"), "{error:#}");
        Ok(())
    });
}

fn roles(cases: &mut Cases<Deployed>) {
    cases.refused("an operator who may only read", |Deployed { scene, image }| {
        let reader = add_operator(scene, "reader", "*", "read")?;
        with_credential(scene, &reader, &["status", ENVIRONMENT])?.expect_said(0, &["blue"])?;
        let deploy = ["deploy", ENVIRONMENT, "--image", image];
        with_credential(scene, &reader, &deploy)?.expect_said(3, &["reader", "read", "deploy"])?;
        Ok(())
    });
    cases.refused("an operator of another application", |Deployed { scene, image }| {
        let other = add_operator(scene, "other", "something/*", "deploy")?;
        let deploy = ["deploy", ENVIRONMENT, "--image", image];
        with_credential(scene, &other, &deploy)?.expect_said(3, &["other", "no access"])?;
        with_credential(scene, &other, &["status", ENVIRONMENT])?.expect_said(3, &["other", "no access"])?;
        Ok(())
    });
    cases.refused("an operator who was revoked", |Deployed { scene, .. }| {
        let gone = add_operator(scene, "gone", "*", "admin")?;
        with_credential(scene, &gone, &["status", ENVIRONMENT])?.expect_said(0, &[])?;
        scene.stage.must(&["operator", "revoke", "gone"])?;
        let said = with_credential(scene, &gone, &["status", ENVIRONMENT])?;
        ensure!(said.code == 3, "{} {}{}", said.code, said.stdout, said.stderr);
        Ok(())
    });
}

/// A credential of another cluster, whose authority is not ours.
struct Stranger {
    credential: PathBuf,
    _coordinator: Process,
}

impl Stranger {
    fn start(scene: &Scene) -> Result<Self> {
        let own = scene.stage.directory.join("stranger");
        fs::DirBuilder::new().mode(0o700).create(&own)?;
        let mut command = Command::new(built("lockstep-coordinator")?);
        command.arg("--directory").arg(&own).args(["--listen", "127.0.0.1:0"]);
        let mut coordinator = Process::start(&mut command, &scene.stage.directory.join("stranger.log"))?;
        let address = own.join("address");
        coordinator.wait_until("the stranger's coordinator is ready", SOON, || Ok(address.exists()))?;
        let theirs = scene.stage.directory.join("stranger-operator");
        let token = fs::read_to_string(own.join("operator.token"))?;
        log_in_at(scene, &theirs, fs::read_to_string(&address)?.trim(), &token)?.expect_said(0, &[])?;
        let credential = scene.stage.directory.join("as-stranger");
        copy_of_operator(scene, &credential)?;
        for file in ["key.pem", "certificate.pem"] {
            fs::copy(theirs.join(file), credential.join(file))?;
        }
        Ok(Self { credential, _coordinator: coordinator })
    }
}

fn copy_of_operator(scene: &Scene, credential: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(scene.stage.directory.join("operator")).arg(credential);
    ensure!(copy.status()?.success(), "cannot copy the credential");
    Ok(())
}
