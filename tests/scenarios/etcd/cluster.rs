//! Several coordinators over one record: any answers, any drives, and one that dies, stands still or is removed
//! costs time and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Entry, Event};
use lockstep_core::time::Millis;
use lockstep_core::view::coordinator::CoordinatorStatus;
use lockstep_core::view::host_status::{HostStatus, Presence};
use lockstep_tests::bed::process::{Process, built};
use lockstep_tests::bed::program::{run, run_with_input};
use lockstep_tests::bed::stage::Said;
use lockstep_tests::bed::wait::until;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::on_etcd::{ENVIRONMENT, LIMIT, OnEtcd, RATE, assert_none_lost};

/// What the first coordinator of a cluster is called.
pub(super) const FIRST: &str = "coordinator-1";
pub(super) const SECOND: &str = "c2";

/// Half as long again as a driver's lock outlives its last sign of life.
const LEASE_SECONDS: &str = "15";

/// How long a session may outlive the certificate that it was let in with.
const CUT_LIMIT: Duration = Duration::from_secs(5);

/// Outside of what coordinators write.
const PEERS_KEY: &str = "beside";

/// What is read of what `show` prints.
#[derive(Deserialize)]
struct Shown {
    journal: Vec<Entry>,
}

pub(super) struct Cluster {
    pub(super) bed: OnEtcd,
}

impl Cluster {
    pub(super) fn start(name: &str, bake: &'static str) -> Result<Self> {
        let mut bed = OnEtcd::start(name, bake)?;
        bed.stage.add_coordinator(SECOND, &bed.etcd)?;
        Ok(Self { bed })
    }

    /// Asks one coordinator and no other.
    pub(super) fn ask(&self, coordinator: &str, arguments: &[&str]) -> Result<Said> {
        let directory = if coordinator == FIRST { "coordinator" } else { coordinator };
        let address = self.bed.stage.address_of(directory)?;
        let mut all = vec!["--coordinator", address.as_str()];
        all.extend(arguments);
        self.bed.stage.lockstep(&all)
    }

    pub(super) fn must(&self, coordinator: &str, arguments: &[&str]) -> Result<Said> {
        let said = self.ask(coordinator, arguments)?;
        ensure!(said.code == 0, "{coordinator} answers {arguments:?} with {said:?}");
        Ok(said)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, asked: &str, arguments: &[&str]) -> Result<T> {
        let said = self.must(asked, &[&["--output", "json"], arguments].concat())?;
        serde_json::from_str(&said.stdout).with_context(|| said.stdout.clone())
    }

    /// How many hosts' sessions each of them has, by name.
    pub(super) fn sessions(&self, asked: &str) -> Result<Vec<u32>> {
        Ok(self.coordinators(asked)?.iter().map(|one| one.sessions).collect())
    }

    fn coordinators(&self, asked: &str) -> Result<Vec<CoordinatorStatus>> {
        self.json(asked, &["coordinator", "list"])
    }

    /// The coordinators that have driven the environment's newest deployment, in turn, once it is the `nth`.
    fn drivers(&self, asked: &str, nth: usize) -> Result<Vec<String>> {
        let history: Vec<DeploymentSummary> = self.json(asked, &["history", ENVIRONMENT])?;
        if history.len() < nth {
            return Ok(Vec::new());
        }
        let Shown { journal } = self.json(asked, &["show", "@last", "--env", ENVIRONMENT])?;
        let taken = |entry: Entry| if let Event::LockTaken { by } = entry.event { Some(by) } else { None };
        Ok(journal.into_iter().filter_map(taken).collect())
    }

    /// Who drives the `nth` deployment, once `driven_by` coordinators in turn have had it.
    fn driver(&self, asked: &str, nth: usize, driven_by: usize) -> Result<String> {
        let mut drivers = Vec::new();
        until(&format!("coordinator {driven_by} in turn drives"), LIMIT, || {
            drivers = self.drivers(asked, nth)?;
            Ok(drivers.len() >= driven_by)
        })?;
        drivers.pop().context("nobody drives")
    }

    pub(super) fn process(&mut self, name: &str) -> &mut lockstep_tests::bed::process::Process {
        if name == FIRST { &mut self.bed.stage.coordinator } else { &mut self.bed.stage.others[0] }
    }

    pub(super) fn start_again(&mut self, name: &str) -> Result<()> {
        if name == FIRST {
            self.bed.stage.start_coordinator(&[])
        } else {
            self.bed.stage.start_other(0, SECOND, &[])
        }
    }
}

/// The host's facts as `asked` lists them, once it has heard its agent.
fn listed(cluster: &Cluster, asked: &str) -> Result<HostStatus> {
    let mut found = None;
    until("the host's agent has said how its machine is", LIMIT, || {
        let hosts: Vec<HostStatus> = cluster.json(asked, &["host", "list"])?;
        found = hosts.into_iter().next().filter(|host| host.vitals.is_some());
        Ok(found.is_some())
    })?;
    found.context("it was found")
}

fn other_than(name: &str) -> &'static str {
    if name == FIRST { SECOND } else { FIRST }
}

#[test]
fn any_coordinator_answers_whichever_has_the_host() -> Result<()> {
    let mut cluster = Cluster::start("any", "1s")?;
    let images = [cluster.bed.stage.image("1", 1, &[])?, cluster.bed.stage.image("2", 2, &[])?];
    for asked in [FIRST, SECOND] {
        let all = cluster.coordinators(asked)?;
        let alive: Vec<String> =
            all.iter().filter(|one| one.presence.is_some()).map(|one| one.name.to_string()).collect();
        ensure!(alive == [SECOND, FIRST], "{asked} knows of {alive:?}");
        ensure!(cluster.sessions(asked)? == [0, 1], "{asked} says otherwise");
        until("the host is known to be connected", LIMIT, || {
            Ok(cluster.must(asked, &["host", "list"])?.stdout.contains("connected"))
        })?;
    }
    for asked in [FIRST, SECOND] {
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
    cluster.must(SECOND, &["deploy", ENVIRONMENT, "--image", &images[0]])?;
    until("the second one knows of the containers' health", LIMIT, || {
        Ok(cluster.must(SECOND, &["status", ENVIRONMENT])?.stdout.contains("healthy"))
    })?;
    cluster.must(SECOND, &["logs", ENVIRONMENT, "--deployment", "@last", "--step", "s1"])?;
    cluster.must(FIRST, &["deploy", ENVIRONMENT, "--image", &images[1]])?;
    cluster.must(SECOND, &["rollback", ENVIRONMENT])?;
    let listed = cluster.must(SECOND, &["coordinator", "list"])?.stdout;
    ensure!(listed.contains("holds the root key"), "{listed}");
    Ok(())
}

#[test]
fn when_the_driver_dies_another_goes_on_in_time() -> Result<()> {
    let mut cluster = Cluster::start("dies", "20s")?;
    let images = [cluster.bed.stage.image("1", 1, &[])?, cluster.bed.stage.image("2", 2, &[])?];
    cluster.bed.deploy(&images[0])?;
    let load = cluster.bed.stage.load(RATE)?;
    // The one that has the host's session too: both have to find another.
    cluster.process(SECOND).freeze()?;
    let mut deploying = cluster.bed.begin(&images[1])?;
    let driver = cluster.driver(FIRST, 2, 1)?;
    cluster.process(SECOND).thaw()?;
    let successor = other_than(&driver);
    cluster.bed.wait_for_step("bake")?;
    cluster.process(&driver).kill()?;
    // In the same etcd, so that what makes leases live longer, a busy machine or a new leader, does it to both.
    cluster.bed.etcd.put_with_lease(PEERS_KEY, LEASE_SECONDS)?;
    ensure!(cluster.driver(successor, 2, 2)? == successor);
    let beside = cluster.bed.etcd.control(&["get", PEERS_KEY, "--print-value-only"])?;
    ensure!(!beside.is_empty(), "a lease of {LEASE_SECONDS} s ended before anybody took over");
    cluster.bed.wait_for_verdict(2, Verdict::Succeeded)?;
    // The command that began it has moved on too.
    ensure!(deploying.wait()?.success(), "the command that began it failed");
    assert_none_lost(load)?;
    let drivers = cluster.drivers(successor, 2)?;
    ensure!(drivers == [driver.as_str(), successor], "{drivers:?}");

    // The agent is where it can be reached, and the dead one comes back as one of two.
    cluster.start_again(&driver)?;
    cluster.must(&driver, &["rollback", ENVIRONMENT])?;
    Ok(())
}

#[test]
fn a_driver_that_stood_still_past_its_lease_is_refused_when_it_wakes() -> Result<()> {
    let mut cluster = Cluster::start("still", "25s")?;
    let images = [cluster.bed.stage.image("1", 1, &[])?, cluster.bed.stage.image("2", 2, &[])?];
    cluster.bed.deploy(&images[0])?;
    let load = cluster.bed.stage.load(RATE)?;
    let mut deploying = cluster.bed.begin(&images[1])?;
    cluster.bed.wait_for_step("bake")?;
    let driver = cluster.driver(SECOND, 2, 1)?;
    let successor = other_than(&driver);
    cluster.process(&driver).freeze()?;
    ensure!(cluster.driver(successor, 2, 2)? == successor);
    cluster.process(&driver).thaw()?;
    cluster.bed.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait()?;
    assert_none_lost(load)?;
    let drivers = cluster.drivers(successor, 2)?;
    ensure!(drivers == [driver.as_str(), successor], "{drivers:?}");
    until("the one that stood still has noticed", LIMIT, || {
        Ok(cluster.process(&driver).tail().contains("deposed"))
    })?;
    // Both are good for the next.
    cluster.must(&driver, &["rollback", ENVIRONMENT])?;
    Ok(())
}

#[test]
fn a_host_that_was_removed_is_cut_off_in_time_whoever_was_told() -> Result<()> {
    let cluster = Cluster::start("revoked", "1s")?;
    ensure!(cluster.sessions(SECOND)? == [0, 1]);
    cluster.must(SECOND, &["host", "forget", "app-1"])?;
    let removed = Instant::now();
    until("the first one has cut its session", LIMIT, || Ok(cluster.sessions(SECOND)? == [0, 0]))?;
    let took = removed.elapsed();
    ensure!(took < CUT_LIMIT, "it was cut after {took:?}, and {CUT_LIMIT:?} are the most");
    until("it is told why, and is not let in again", LIMIT, || {
        let told = cluster.bed.stage.agent.tail();
        Ok(told.contains("this host was removed") && told.contains("was removed, or never joined"))
    })
}

#[test]
fn a_host_whose_certificate_a_removed_coordinator_signed_is_cut_off_in_time() -> Result<()> {
    let cluster = Cluster::start("signed", "1s")?;
    let stage = &cluster.bed.stage;
    let own = stage.directory.join("agent-2");
    let token: Value = cluster.json(SECOND, &["host", "token", "--name", "app-2"])?;
    let mut join = agent("join", &own)?;
    join.args(["--coordinator", &stage.address_of(SECOND)?]);
    run_with_input(&mut join, token["token"].as_str().context("there is no token")?)?;
    fs::copy(stage.directory.join("agent/agent.toml"), own.join("agent.toml"))?;
    let mut second = Process::start(&mut agent("run", &own)?, &stage.directory.join("agent-2.log"))?;
    until("both hosts have a session", LIMIT, || Ok(cluster.sessions(FIRST)?.iter().sum::<u32>() == 2))?;
    cluster.must(FIRST, &["coordinator", "remove", SECOND])?;
    let removed = Instant::now();
    until("its session is cut", LIMIT, || Ok(second.tail().contains("who signed its certificate")))?;
    let took = removed.elapsed();
    ensure!(took < CUT_LIMIT, "it was cut after {took:?}, and {CUT_LIMIT:?} are the most");
    // The other host's is as it was.
    ensure!(cluster.sessions(FIRST)? == [1], "{}", stage.agent.tail());
    second.kill()
}

pub(super) fn agent(command: &str, directory: &Path) -> Result<Command> {
    let mut agent = Command::new(built("lockstep-agent")?);
    agent.arg(command).arg("--directory").arg(directory);
    Ok(agent)
}

#[test]
fn a_copy_of_a_host_is_refused_and_told_by_every_coordinator() -> Result<()> {
    let cluster = Cluster::start("copied", "1s")?;
    let stage = &cluster.bed.stage;
    let copy = stage.directory.join("copy");
    run(Command::new("cp").arg("-a").arg(stage.directory.join("agent")).arg(&copy))?;
    // Its place is with the first one: it tries at the other.
    let identity = copy.join("identity.toml");
    let text = fs::read_to_string(&identity)?;
    let elsewhere = text.replace(&stage.address_of("coordinator")?, &stage.address_of(SECOND)?);
    ensure!(elsewhere != text, "{text}");
    fs::write(&identity, elsewhere)?;
    let mut second = Process::start(&mut agent("run", &copy)?, &stage.directory.join("copy.log"))?;
    for asked in [FIRST, SECOND] {
        until("it is told that two machines use one key", LIMIT, || {
            Ok(cluster.must(asked, &["host", "list"])?.stdout.contains("two machines use its key"))
        })
        .with_context(|| second.tail())?;
    }
    let doctor = cluster.ask(SECOND, &["doctor"])?;
    ensure!(doctor.code == 1 && doctor.stdout.contains("two machines use its key"), "{doctor:?}");
    // The host itself has never lost its session.
    ensure!(second.tail().contains("was its key copied?") && cluster.sessions(FIRST)? == [0, 1]);
    ensure!(!stage.agent.tail().contains("no session with a coordinator"), "{}", stage.agent.tail());
    second.kill()
}

#[test]
fn who_is_no_coordinator_of_this_cluster_is_told_so() -> Result<()> {
    let mut cluster = Cluster::start("joins", "1s")?;
    let taken = cluster.ask(FIRST, &["coordinator", "token", "--name", SECOND])?;
    ensure!(taken.code == 0, "{taken:?}");
    let own = cluster.ask(FIRST, &["coordinator", "remove", FIRST])?;
    ensure!(own.code == 3 && own.stderr.contains("the key of the cluster's root"), "{own:?}");

    cluster.must(FIRST, &["coordinator", "remove", SECOND])?;
    let mut refused = None;
    until("the removed one is refused", LIMIT, || {
        let said = cluster.must(FIRST, &["coordinator", "list"])?.stdout;
        let gone = !said.contains(SECOND);
        refused = Some(said);
        Ok(gone)
    })
    .with_context(|| format!("{refused:?}"))?;
    cluster.process(SECOND).stop()?;
    let failed = cluster.bed.stage.refused_coordinator(SECOND)?;
    ensure!(failed.contains("c2 was removed from this cluster"), "{failed}");
    Ok(())
}
