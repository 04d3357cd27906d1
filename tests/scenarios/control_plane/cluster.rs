//! Two coordinators with one record: each answers every request and can drive every deployment. If one dies, stands
//! still or is removed, the other takes over, and no request is lost.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Millis;
use lockstep_core::view::host_status::{HostStatus, Presence};
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::program::{run, run_with_input};
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::cluster::{FIRST_COORDINATOR, SECOND_COORDINATOR, other_than};
use lockstep_tests::scene::credential::agent_command;
use lockstep_tests::scene::traffic::{RATE, assert_none_lost};
use lockstep_tests::scene::{ENVIRONMENT, Scene, TAKEOVER_LIMIT};
use serde_json::Value;

/// Half as long again as a driver's lock outlives its last sign of life.
const LEASE_SECONDS: &str = "15";

/// How long a session may outlive the certificate that it was let in with.
const CUT_LIMIT: Duration = Duration::from_secs(5);

/// Outside of what coordinators write.
const PEERS_KEY: &str = "beside";

/// The host's facts as `asked` lists them, once it has heard its agent.
fn listed(cluster: &Scene, asked: &str) -> Result<HostStatus> {
    let mut found = None;
    until("the host's agent has said how its machine is", TAKEOVER_LIMIT, || {
        let hosts: Vec<HostStatus> = cluster.json_at(asked, &["host", "list"])?;
        found = hosts.into_iter().next().filter(|host| host.vitals.is_some());
        Ok(found.is_some())
    })?;
    found.context("it was found")
}

#[test]
fn any_coordinator_answers_whichever_has_the_host() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("any", "1s")?;
    let images = [cluster.stage.image("1", 1, &[])?, cluster.stage.image("2", 2, &[])?];
    for asked in [FIRST_COORDINATOR, SECOND_COORDINATOR] {
        let all = cluster.coordinators(asked)?;
        let alive: Vec<String> =
            all.iter().filter(|one| one.presence.is_some()).map(|one| one.name.to_string()).collect();
        ensure!(alive == [SECOND_COORDINATOR, FIRST_COORDINATOR], "{asked} knows of {alive:?}");
        ensure!(cluster.sessions(asked)? == [0, 1], "{asked} says otherwise");
        until("the host is known to be connected", TAKEOVER_LIMIT, || {
            Ok(cluster.must_at(asked, &["host", "list"])?.stdout.contains("connected"))
        })?;
    }
    for asked in [FIRST_COORDINATOR, SECOND_COORDINATOR] {
        let host = listed(&cluster, asked)?;
        let vitals = host.vitals.clone().context("it was waited for")?;
        // One machine has one clock, and half a round trip is all that can be wrong.
        ensure!(vitals.clock.ahead_ms.unsigned_abs() <= vitals.clock.within.0 + 1, "{vitals:?}");
        ensure!(vitals.disk.is_some_and(|disk| 0 < disk.free_bytes && disk.free_bytes < disk.size_bytes));
        let valid = vitals.certificate.context("its certificate is not known")?;
        ensure!(vitals.heard_at.since(valid.issued) < Millis::from_secs(600), "{vitals:?}");
        ensure!(valid.ends.since(valid.issued) == Millis::from_secs(30 * 24 * 3600), "{vitals:?}");
        ensure!(host.presence == Presence::Connected && host.last_seen == Some(vitals.heard_at), "{host:?}");
    }
    // The second one has no host's session: it asks through the first.
    cluster.must_at(SECOND_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[0]])?;
    until("the second one knows of the containers' health", TAKEOVER_LIMIT, || {
        Ok(cluster.must_at(SECOND_COORDINATOR, &["status", ENVIRONMENT])?.stdout.contains("healthy"))
    })?;
    cluster.must_at(SECOND_COORDINATOR, &["logs", ENVIRONMENT, "--deployment", "@last", "--step", "s1"])?;
    cluster.must_at(FIRST_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[1]])?;
    cluster.must_at(SECOND_COORDINATOR, &["rollback", ENVIRONMENT])?;
    let listed = cluster.must_at(SECOND_COORDINATOR, &["coordinator", "list"])?.stdout;
    ensure!(listed.contains("holds the root key"), "{listed}");
    Ok(())
}

#[test]
fn when_the_driver_dies_another_goes_on_in_time() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("dies", "20s")?;
    let images = [cluster.stage.image("1", 1, &[])?, cluster.stage.image("2", 2, &[])?];
    cluster.deploy_without_bake(&images[0])?;
    let load = cluster.stage.load(RATE)?;
    // The one that has the host's session too: both have to find another.
    cluster.coordinator(SECOND_COORDINATOR).freeze()?;
    let deploying = cluster.start_deploy(&images[1])?;
    let driver = cluster.wait_for_driver(FIRST_COORDINATOR, 2, 1)?;
    cluster.coordinator(SECOND_COORDINATOR).thaw()?;
    let successor = other_than(&driver);
    cluster.wait_for_step("bake")?;
    cluster.coordinator(&driver).kill()?;
    // In the same etcd, so that what makes leases live longer, a busy machine or a new leader, does it to both.
    cluster.etcd()?.put_with_lease(PEERS_KEY, LEASE_SECONDS)?;
    ensure!(cluster.wait_for_driver(successor, 2, 2)? == successor);
    let beside = cluster.etcd()?.control(&["get", PEERS_KEY, "--print-value-only"])?;
    ensure!(!beside.is_empty(), "a lease of {LEASE_SECONDS} s ended before anybody took over");
    cluster.wait_for_verdict(2, Verdict::Succeeded)?;
    // The command that began it has moved on too.
    deploying.wait(TAKEOVER_LIMIT)?.expect_said(0, &[])?;
    assert_none_lost(load)?;
    let drivers = cluster.drivers(successor, 2)?;
    ensure!(drivers == [driver.as_str(), successor], "{drivers:?}");

    // The agent is where it can be reached, and the dead one comes back as one of two.
    cluster.start_coordinator(&driver)?;
    cluster.must_at(&driver, &["rollback", ENVIRONMENT])?;
    Ok(())
}

#[test]
fn a_driver_that_stood_still_past_its_lease_is_refused_when_it_wakes() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("still", "25s")?;
    let images = [cluster.stage.image("1", 1, &[])?, cluster.stage.image("2", 2, &[])?];
    cluster.deploy_without_bake(&images[0])?;
    let load = cluster.stage.load(RATE)?;
    let deploying = cluster.start_deploy(&images[1])?;
    cluster.wait_for_step("bake")?;
    let driver = cluster.wait_for_driver(SECOND_COORDINATOR, 2, 1)?;
    let successor = other_than(&driver);
    cluster.coordinator(&driver).freeze()?;
    ensure!(cluster.wait_for_driver(successor, 2, 2)? == successor);
    cluster.coordinator(&driver).thaw()?;
    cluster.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait(TAKEOVER_LIMIT)?;
    assert_none_lost(load)?;
    let drivers = cluster.drivers(successor, 2)?;
    ensure!(drivers == [driver.as_str(), successor], "{drivers:?}");
    until("the one that stood still has noticed", TAKEOVER_LIMIT, || {
        Ok(cluster.coordinator(&driver).tail().contains("another driver has taken over"))
    })?;
    // Both are good for the next.
    cluster.must_at(&driver, &["rollback", ENVIRONMENT])?;
    Ok(())
}

#[test]
fn a_host_that_was_removed_is_cut_off_in_time_whoever_was_told() -> Result<()> {
    let cluster = Scene::open_in_cluster("host-removed", "1s")?;
    ensure!(cluster.sessions(SECOND_COORDINATOR)? == [0, 1]);
    cluster.must_at(SECOND_COORDINATOR, &["host", "forget", "app-1"])?;
    let removed = Instant::now();
    until("the first one has cut its session", TAKEOVER_LIMIT, || {
        Ok(cluster.sessions(SECOND_COORDINATOR)? == [0, 0])
    })?;
    let took = removed.elapsed();
    ensure!(took < CUT_LIMIT, "it was cut after {took:?}, and {CUT_LIMIT:?} are the most");
    until("it is told why, and is not let in again", TAKEOVER_LIMIT, || {
        let told = cluster.stage.agent.tail();
        Ok(told.contains("this host was removed") && told.contains("was removed, or never joined"))
    })
}

#[test]
fn a_host_whose_certificate_a_removed_coordinator_signed_is_cut_off_in_time() -> Result<()> {
    let cluster = Scene::open_in_cluster("signed", "1s")?;
    let stage = &cluster.stage;
    let own = stage.directory.join("agent-2");
    let token: Value = cluster.json_at(SECOND_COORDINATOR, &["host", "token", "--name", "app-2"])?;
    let mut join = agent_command("join", &own)?;
    join.args(["--coordinator", &stage.address_of(SECOND_COORDINATOR)?]);
    run_with_input(&mut join, token["token"].as_str().context("there is no token")?)?;
    fs::copy(stage.directory.join("agent/agent.toml"), own.join("agent.toml"))?;
    let mut second = Process::start(&mut agent_command("run", &own)?, &stage.directory.join("agent-2.log"))?;
    until("both hosts have a session", TAKEOVER_LIMIT, || {
        Ok(cluster.sessions(FIRST_COORDINATOR)?.iter().sum::<u32>() == 2)
    })?;
    cluster.must_at(FIRST_COORDINATOR, &["coordinator", "remove", SECOND_COORDINATOR])?;
    let removed = Instant::now();
    until("its session is cut", TAKEOVER_LIMIT, || {
        Ok(second.tail().contains("the coordinator that signed its certificate"))
    })?;
    let took = removed.elapsed();
    ensure!(took < CUT_LIMIT, "it was cut after {took:?}, and {CUT_LIMIT:?} are the most");
    // The other host's is as it was.
    ensure!(cluster.sessions(FIRST_COORDINATOR)? == [1], "{}", stage.agent.tail());
    second.kill()
}

#[test]
fn a_copy_of_a_host_is_refused_and_told_by_every_coordinator() -> Result<()> {
    let cluster = Scene::open_in_cluster("copied", "1s")?;
    let stage = &cluster.stage;
    let copy = stage.directory.join("copy");
    run(Command::new("cp").arg("-a").arg(stage.directory.join("agent")).arg(&copy))?;
    // Its place is with the first one: it tries at the other.
    let identity = copy.join("identity.toml");
    let text = fs::read_to_string(&identity)?;
    let elsewhere = text.replace(&stage.address_of("coordinator")?, &stage.address_of(SECOND_COORDINATOR)?);
    ensure!(elsewhere != text, "{text}");
    fs::write(&identity, elsewhere)?;
    let mut second = Process::start(&mut agent_command("run", &copy)?, &stage.directory.join("copy.log"))?;
    for asked in [FIRST_COORDINATOR, SECOND_COORDINATOR] {
        until("it is told that two machines use one key", TAKEOVER_LIMIT, || {
            Ok(cluster.must_at(asked, &["host", "list"])?.stdout.contains("two machines use its key"))
        })
        .with_context(|| second.tail())?;
    }
    let doctor = cluster.lockstep_at(SECOND_COORDINATOR, &["doctor"])?;
    ensure!(doctor.code == 1 && doctor.stdout.contains("two machines use its key"), "{doctor:?}");
    // The host itself has never lost its session.
    ensure!(
        second.tail().contains("may have a copy of its key")
            && cluster.sessions(FIRST_COORDINATOR)? == [0, 1]
    );
    ensure!(!stage.agent.tail().contains("no session with a coordinator"), "{}", stage.agent.tail());
    second.kill()
}

#[test]
fn who_is_no_coordinator_of_this_cluster_is_told_so() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("joins", "1s")?;
    let taken =
        cluster.lockstep_at(FIRST_COORDINATOR, &["coordinator", "token", "--name", SECOND_COORDINATOR])?;
    ensure!(taken.code == 0, "{taken:?}");
    let own = cluster.lockstep_at(FIRST_COORDINATOR, &["coordinator", "remove", FIRST_COORDINATOR])?;
    ensure!(own.code == 3 && own.stderr.contains("the root key of the cluster"), "{own:?}");

    cluster.must_at(FIRST_COORDINATOR, &["coordinator", "remove", SECOND_COORDINATOR])?;
    let mut refused = None;
    until("the removed one is refused", TAKEOVER_LIMIT, || {
        let said = cluster.must_at(FIRST_COORDINATOR, &["coordinator", "list"])?.stdout;
        let gone = !said.contains(SECOND_COORDINATOR);
        refused = Some(said);
        Ok(gone)
    })
    .with_context(|| format!("{refused:?}"))?;
    cluster.coordinator(SECOND_COORDINATOR).stop()?;
    let failed = cluster.stage.refused_coordinator(SECOND_COORDINATOR)?;
    ensure!(failed.contains("c2 was removed from this cluster"), "{failed}");
    Ok(())
}
