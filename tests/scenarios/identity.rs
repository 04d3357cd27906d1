//! Nobody gets in: without a certificate, with one of another role or another authority, or with a token twice.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::access::{Callers, METHODS, OperatorRole};
use lockstep_tests::bed::process::{Process, built};
use lockstep_tests::bed::program::{run, run_with_input};
use lockstep_tests::bed::stage::Said;
use lockstep_tests::bed::wait::until;

use crate::background::Background;
use crate::cases::Cases;
use crate::scene::{ENVIRONMENT, Expect, SOON, Scene};

/// What a revocation takes to take hold, and somewhat more for a machine that is busy.
const CUT_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn nobody_gets_in_who_may_not() -> Result<()> {
    let mut scene = Scene::open("identity")?;
    let image = scene.stage.image("1", 1, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    let mut cases = Cases::on(&scene);
    certificates(&mut cases);
    tokens(&mut cases);
    roles(&mut cases, &image);
    every_method(&mut cases);
    cases.end()
}

#[test]
fn what_an_operator_still_reads_ends_when_they_are_revoked() -> Result<()> {
    let mut scene = Scene::open_with_bake("revoked", "60s")?;
    let image = scene.stage.image("1", 1, &[])?;
    let watcher = operator(&scene, "watcher", "*", "read")?;
    scene.stage.must(&["deploy", ENVIRONMENT, "--image", &image, "--detach"])?;
    let mut watch = scene.stage.command(&["watch", "@open", "--env", ENVIRONMENT])?;
    let told = scene.stage.directory.join("watched.log");
    let mut watching = Process::start(watch.env("LOCKSTEP_CREDENTIAL", watcher), &told)?;
    watching.wait_until("it is watched", SOON, || Ok(!fs::read_to_string(&told)?.is_empty()))?;
    scene.stage.must(&["operator", "revoke", "watcher"])?;
    until("it is cut", CUT_WITHIN, || Ok(watching.ended()?.is_some()))?;
    let code = watching.ended()?.and_then(|status| status.code());
    let told = fs::read_to_string(&told)?;
    ensure!(code == Some(3) && told.contains("has been revoked"), "{code:?} {told}");
    Ok(())
}

fn certificates(cases: &mut Cases<'_>) {
    cases.refused("no credential", |scene| {
        let empty = scene.stage.directory.join("nobody");
        with_credential(scene, &empty, &["status", ENVIRONMENT])?
            .expect_said(3, &["lockstep login", "next"])?;
        Ok(())
    });
    cases.refused("an agent's certificate", |scene| {
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
    cases.refused("a certificate of another authority", |scene| {
        let stranger = Stranger::start(scene)?;
        with_credential(scene, &stranger.credential, &["status", ENVIRONMENT])?
            .expect_said(3, &["refused this certificate", "does not trust", "lockstep login"])?;
        Ok(())
    });
}

/// The table of roles as the network sees it: each method that is not somebody's is refused to them.
fn every_method(cases: &mut Cases<'_>) {
    const UNAUTHENTICATED: &str = "16";
    const PERMISSION_DENIED: &str = "7";
    cases.refused("every method, without a certificate", |scene| {
        for (method, callers) in METHODS.iter().filter(|(_, callers)| *callers != Callers::Anyone) {
            let status = call(scene, method, None)?;
            ensure!(status == UNAUTHENTICATED, "{method} of {callers:?} is answered with {status}");
        }
        Ok(())
    });
    cases.refused("every method of others, as an agent", |scene| {
        let agent = scene.stage.directory.join("agent");
        for (method, callers) in METHODS {
            if matches!(callers, Callers::Coordinators | Callers::Operators(_) | Callers::Administrators) {
                let status = call(scene, method, Some(&agent))?;
                ensure!(status == PERMISSION_DENIED, "{method} of {callers:?} is answered with {status}");
            }
        }
        Ok(())
    });
    cases.refused("every method of others, as an operator who may only read", |scene| {
        let reader = operator(scene, "looker", "*", "read")?;
        for (method, callers) in METHODS {
            let is_others = match callers {
                Callers::Anyone | Callers::Known => false,
                Callers::Agents | Callers::Coordinators | Callers::Administrators => true,
                Callers::Operators(role) => *role != OperatorRole::Read,
            };
            if is_others {
                let status = call(scene, method, Some(&reader))?;
                ensure!(status == PERMISSION_DENIED, "{method} of {callers:?} is answered with {status}");
            }
        }
        Ok(())
    });
    cases.refused("a method that is not in the table", |scene| {
        let status =
            call(scene, "/lockstep.v1.Control/Nothing", Some(&scene.stage.directory.join("operator")))?;
        ensure!(status == "12", "it is answered with {status}");
        Ok(())
    });
}

/// Calls a method without a message, which nobody reads of a call that is refused; gives the status that gRPC
/// ends with.
fn call(scene: &Scene, method: &str, credential: Option<&Path>) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--tlsv1.3", "--http2", "--max-time", "10", "--dump-header", "-"])
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .args(["--request", "POST"]);
    if let Some(credential) = credential {
        curl.arg("--cert")
            .arg(credential.join("certificate.pem"))
            .arg("--key")
            .arg(credential.join("key.pem"));
    }
    let said = run(curl.arg(format!("https://{}{method}", address(scene)?)))?;
    let status = said.lines().find_map(|line| line.strip_prefix("grpc-status: "));
    Ok(status.with_context(|| format!("{method} was answered without a status: {said}"))?.trim().to_owned())
}

fn tokens(cases: &mut Cases<'_>) {
    cases.refused("an operator's token, used again", |scene| {
        let added = scene.stage.json(&["operator", "add", "twice", "--env", "*", "--role", "read"])?;
        let token = added["token"].as_str().context("there is no token")?;
        log_in(scene, &scene.stage.directory.join("twice"), token)?.expect_said(0, &[])?;
        let credential = scene.stage.directory.join("replayed");
        log_in(scene, &credential, token)?.expect_said(3, &["token", "used"])?;
        ensure!(!credential.join("certificate.pem").exists(), "a certificate was given out");
        Ok(())
    });
    cases.refused("a host's token, used again", |scene| {
        let token = scene.stage.json(&["host", "token", "--name", "app-2"])?;
        let token = token["token"].as_str().context("there is no token")?;
        let said = join(scene, "agent-2", token)?;
        let why = "reach it at 127.0.0.1: the address from which this machine reaches 127.0.0.1:";
        ensure!(said.contains(why) && said.contains("--address"), "it does not say its address: {said}");
        let again = join(scene, "agent-3", token);
        // As it was, for the cases that follow: with two hosts it would have to be said which does what.
        scene.stage.must(&["host", "forget", "app-2"])?;
        let error = format!("{:#}", again.err().context("the token was good twice")?);
        ensure!(error.contains("used"), "{error}");
        ensure!(!scene.stage.directory.join("agent-3/certificate.pem").exists());
        Ok(())
    });
    cases.refused("a token that was never given out", |scene| {
        let error = join(scene, "agent-4", "lockstep-token").err().context("any token is good")?;
        ensure!(format!("{error:#}").contains("token"), "{error:#}");
        Ok(())
    });
}

fn roles(cases: &mut Cases<'_>, image: &str) {
    cases.refused("an operator who may only read", |scene| {
        let reader = operator(scene, "reader", "*", "read")?;
        with_credential(scene, &reader, &["status", ENVIRONMENT])?.expect_said(0, &["blue"])?;
        let deploy = ["deploy", ENVIRONMENT, "--image", image];
        with_credential(scene, &reader, &deploy)?.expect_said(3, &["reader", "read", "deploy"])?;
        Ok(())
    });
    cases.refused("an operator of another application", |scene| {
        let other = operator(scene, "other", "something/*", "deploy")?;
        let deploy = ["deploy", ENVIRONMENT, "--image", image];
        with_credential(scene, &other, &deploy)?.expect_said(3, &["other", "no access"])?;
        with_credential(scene, &other, &["status", ENVIRONMENT])?.expect_said(3, &["other", "no access"])?;
        Ok(())
    });
    cases.refused("an operator who was revoked", |scene| {
        let gone = operator(scene, "gone", "*", "admin")?;
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

fn log_in(scene: &Scene, credential: &Path, token: &str) -> Result<Said> {
    log_in_at(scene, credential, &address(scene)?, token)
}

fn log_in_at(scene: &Scene, credential: &Path, address: &str, token: &str) -> Result<Said> {
    let mut command = scene.stage.command(&["login", "--coordinator", address])?;
    command.env("LOCKSTEP_CREDENTIAL", credential);
    let running = Background::start_with_input(command, token)?;
    running.wait(SOON)
}

/// Adds an operator and logs in as it; gives the folder of its credential.
pub(crate) fn operator(scene: &Scene, name: &str, environments: &str, role: &str) -> Result<PathBuf> {
    let added = scene.stage.json(&["operator", "add", name, "--env", environments, "--role", role])?;
    let token = added["token"].as_str().context("there is no token")?;
    let credential = scene.stage.directory.join(name);
    log_in(scene, &credential, token)?.expect_said(0, &[])?;
    Ok(credential)
}

fn with_credential(scene: &Scene, credential: &Path, arguments: &[&str]) -> Result<Said> {
    let output = scene.stage.command(arguments)?.env("LOCKSTEP_CREDENTIAL", credential).output()?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn copy_of_operator(scene: &Scene, credential: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(scene.stage.directory.join("operator")).arg(credential);
    ensure!(copy.status()?.success(), "cannot copy the credential");
    Ok(())
}

fn address(scene: &Scene) -> Result<String> {
    Ok(fs::read_to_string(scene.stage.directory.join("coordinator/address"))?.trim().to_owned())
}

pub(crate) fn join(scene: &Scene, folder: &str, token: &str) -> Result<String> {
    let mut command = Command::new(built("lockstep-agent")?);
    command.arg("join").arg("--directory").arg(scene.stage.directory.join(folder));
    command.args(["--coordinator", &address(scene)?]);
    run_with_input(&mut command, token)
}
