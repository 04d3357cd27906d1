//! The root is replaced under load. Connected hosts, coordinators and operators get certificates of the next root by
//! themselves. A host that is away can come back until the earlier root is retired, and must join again afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::view::authority_status::{AuthorityStatus, HostsToMove, Retiring};
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::program::{run, run_with_input};
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::cluster::{FIRST_COORDINATOR, SECOND_COORDINATOR};
use lockstep_tests::scene::credential::agent_command;
use lockstep_tests::scene::traffic::{RATE, assert_none_lost};
use lockstep_tests::scene::{ENVIRONMENT, Scene, TAKEOVER_LIMIT};
use serde_json::Value;

/// How soon everybody who is connected has moved over.
const MOVED_LIMIT: Duration = Duration::from_secs(20);

/// The first host does everything: the others join and leave beside it.
const DECLARED: &str = "required: [DATABASE_URL]\n    hosts: { app: [app-1], lb: [app-1], db: [app-1] }";

fn status(cluster: &Scene) -> Result<AuthorityStatus> {
    cluster.json_at(SECOND_COORDINATOR, &["authority", "list"])
}

fn left(cluster: &Scene) -> Result<HostsToMove> {
    let Retiring { left, .. } = status(cluster)?.retiring.context("no root is waiting to be retired")?;
    Ok(left)
}

fn names<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}

fn token(cluster: &Scene, name: &str) -> Result<String> {
    let token: Value = cluster.json_at(SECOND_COORDINATOR, &["host", "token", "--name", name])?;
    Ok(token["token"].as_str().context("there is no token")?.to_owned())
}

/// Joins at a coordinator; gives the directory of the host.
fn join(cluster: &Scene, name: &str, at: &str, token: &str) -> Result<PathBuf> {
    let stage = &cluster.stage;
    let own = stage.directory.join(name);
    let mut join = agent_command("join", &own)?;
    join.args(["--coordinator", &stage.address_of(at)?]);
    run_with_input(&mut join, token)?;
    fs::copy(stage.directory.join("agent/agent.toml"), own.join("agent.toml"))?;
    Ok(own)
}

fn start(cluster: &Scene, directory: &Path, log: &str) -> Result<Process> {
    Process::start(&mut agent_command("run", directory)?, &cluster.stage.directory.join(log))
}

fn copy(from: &Path, to: &str) -> Result<PathBuf> {
    let to = from.with_file_name(to);
    run(Command::new("cp").arg("-a").arg(from).arg(&to))?;
    Ok(to)
}

#[test]
fn the_root_is_replaced_under_load_and_who_is_away_until_its_end_joins_again() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("root", "1s")?;
    let _declared = cluster.declare("required: [DATABASE_URL]", DECLARED)?;
    let stage = &mut cluster.stage;
    let images = [stage.image("1", 1, &[])?, stage.image("2", 2, &[])?, stage.image("3", 3, &[])?];
    cluster.must_at(FIRST_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[0]])?;
    let load = cluster.stage.load(RATE)?;
    let away = join(&cluster, "app-2", "c2", &token(&cluster, "app-2")?)?;
    let left_behind = copy(&away, "app-2-left-behind")?;
    let elsewhere = copy(&cluster.stage.directory.join("operator"), "operator-elsewhere")?;
    let from_before = token(&cluster, "app-3")?;

    rotated(&cluster)?;
    // A token of either root is good at either coordinator.
    let of_earlier = join(&cluster, "app-3", "c2", &from_before)?;
    join(&cluster, "app-4", "coordinator", &token(&cluster, "app-4")?)?;
    for own in ["app-3", "app-4"] {
        let authority = fs::read_to_string(cluster.stage.directory.join(own).join("authority.pem"))?;
        ensure!(authority.matches("BEGIN CERTIFICATE").count() == 2, "{own} trusts {authority}");
    }
    cluster.must_at(SECOND_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[1]])?;

    let refused = cluster.lockstep_at(SECOND_COORDINATOR, &["authority", "retire"])?;
    ensure!(refused.code == 3, "{refused:?}");
    ensure!(refused.stderr.contains("it would disconnect app-2"), "{refused:?}");
    ensure!(refused.stderr.contains("lockstep authority retire --force"), "{refused:?}");
    // It comes back with what it had.
    let mut back = start(&cluster, &away, "app-2.log")?;
    until("who was away has moved over", TAKEOVER_LIMIT, || Ok(left(&cluster)?.hosts.is_empty()))
        .with_context(|| back.tail())?;

    let retired = cluster.must_at(SECOND_COORDINATOR, &["authority", "retire"])?;
    ensure!(retired.stdout.contains("is retired, and only"), "{retired:?}");
    ensure!(status(&cluster)?.retiring.is_none());
    // Nobody's session is cut, because everybody has shown another certificate before.
    for told in [&cluster.stage.coordinator, &cluster.stage.others[0]] {
        ensure!(!told.tail().contains("its certificate is no longer trusted"), "{}", told.tail());
    }
    until("everybody who is here trusts one root", MOVED_LIMIT, || {
        let own = [cluster.stage.directory.join("agent"), away.clone()];
        Ok(own.iter().all(|own| {
            let trusted = fs::read_to_string(own.join("authority.pem")).unwrap_or_default();
            trusted.matches("BEGIN CERTIFICATE").count() == 1
        }))
    })?;
    back.kill()?;

    refuses_what_is_left(&cluster, (&left_behind, &of_earlier), &elsewhere)?;
    // What the disk has is what the record says.
    for name in [SECOND_COORDINATOR, FIRST_COORDINATOR] {
        cluster.coordinator(name).stop()?;
        cluster.start_coordinator(name)?;
    }
    cluster.stage.wait_for_agent()?;
    cluster.must_at(FIRST_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[2]])?;
    cluster.must_at(SECOND_COORDINATOR, &["rollback", ENVIRONMENT])?;
    assert_none_lost(load)?;
    let audit = format!("/{}/lockstep/v1/audit", cluster.stage.application);
    let audit = cluster.etcd()?.control(&["get", "--prefix", &audit])?;
    ensure!(audit.contains("rotate authority") && audit.contains("retire authority"), "{audit}");
    Ok(())
}

/// Rotates, and waits until all who are here have moved over: one host is away.
fn rotated(cluster: &Scene) -> Result<()> {
    let before = status(cluster)?;
    ensure!(before.retiring.is_none(), "{before:?}");
    let elsewhere = cluster.lockstep_at(SECOND_COORDINATOR, &["authority", "rotate"])?;
    let next =
        format!("lockstep authority rotate --coordinator {}", cluster.stage.address_of("coordinator")?);
    ensure!(elsewhere.code == 3 && elsewhere.stderr.contains(&next), "{elsewhere:?}");
    let nothing = cluster.lockstep_at(SECOND_COORDINATOR, &["authority", "retire"])?;
    ensure!(nothing.code == 3 && nothing.stderr.contains("no root is waiting to be retired"), "{nothing:?}");
    let said = cluster.must_at(FIRST_COORDINATOR, &["authority", "rotate"])?.stdout;
    ensure!(said.contains("lockstep authority retire"), "{said}");
    let again = cluster.lockstep_at(FIRST_COORDINATOR, &["authority", "rotate"])?;
    ensure!(again.code == 3 && again.stderr.contains("a rotation has been in progress since"), "{again:?}");
    let mut seen = None;
    until("all but who is away have moved over", MOVED_LIMIT, || {
        let left = left(cluster)?;
        let hosts = names(left.hosts.iter().map(|host| &host.name));
        let is_so = hosts == ["app-2"] && left.coordinators.is_empty() && left.operators.is_empty();
        seen = Some(left);
        Ok(is_so)
    })
    .with_context(|| format!("{seen:?}\n{}", cluster.stage.agent.tail()))?;
    let during = status(cluster)?;
    let retiring = during.retiring.context("no root is waiting to be retired")?;
    ensure!(retiring.root.pin == before.signing.pin && during.signing.pin != before.signing.pin);
    ensure!(cluster.sessions(FIRST_COORDINATOR)?.iter().sum::<u32>() == 1, "the host has lost its session");
    Ok(())
}

/// A copy of a host and of an operator from before the rotation.
fn refuses_what_is_left(
    cluster: &Scene,
    (left_behind, of_earlier): (&Path, &Path),
    elsewhere: &Path,
) -> Result<()> {
    let mut refused = start(cluster, left_behind, "left-behind.log")?;
    until("who has only the earlier root is told to join again", TAKEOVER_LIMIT, || {
        Ok(refused.tail().contains("if the cluster retired its root while this host was offline, join again"))
    })
    .with_context(|| refused.tail())?;
    refused.kill()?;
    let mut command = cluster.stage.command(&["status", ENVIRONMENT])?;
    let said = command.env("LOCKSTEP_CREDENTIAL", elsewhere).output()?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(!said.status.success() && text.contains("lockstep login"), "{text}");
    ensure!(text.contains("a retired root"), "{text}");
    // It joined with a token of the earlier root, and got a certificate of the later.
    let mut joined = start(cluster, of_earlier, "app-3.log")?;
    until("who joined by the earlier root is let in", TAKEOVER_LIMIT, || {
        Ok(joined.tail().contains("session accepted"))
    })
    .with_context(|| joined.tail())?;
    joined.kill()
}
