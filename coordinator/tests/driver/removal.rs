//! What it takes to remove an environment: nothing of it serves, or somebody abandons what does; and a removal that
//! a crash interrupts is neither alive nor empty.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::context::Context;
use lockstep_coordinator::drive::removal::{RemoveError, Removed, WhileServing, remove};
use lockstep_coordinator::planning::{DeployError, claims};
use lockstep_coordinator::record::{environments, history, pending_undos};
use lockstep_coordinator::store::guarded::{Accompanying, OwnedWrite, claim, disclaim};
use lockstep_coordinator::store::memory::{Fault, MemoryStore};
use lockstep_coordinator::store::sqlite::SqliteStore;
use lockstep_coordinator::store::{OPERATIONS_MAX, Store, keys};
use lockstep_coordinator::view::status;
use lockstep_core::health::Health;
use lockstep_core::id::{Digest, StepId};
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState, Observation};
use lockstep_core::record::owned_names::{OwnedName, OwnedNames, SiteName};
use lockstep_core::record::ports::{PortEntry, PortTable};
use lockstep_core::run::journal::{Direction, Verdict};
use lockstep_core::slot::Slot;
use lockstep_core::time::{Millis, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, LIMIT, anna, environment, host_id, spec};
use crate::hosts::{Does, Hosts};

/// More than etcd takes in one transaction.
const PORTS: u16 = 300;

/// More transactions than a removal of so many ports has.
const TRANSACTIONS_MAX: usize = 40;

async fn removed(fixture: &Fixture, while_serving: WhileServing) -> Result<Removed, RemoveError> {
    remove(&fixture.parts, &environment(), &anna().operator, while_serving).await
}

async fn refused(fixture: &Fixture, while_serving: WhileServing) -> Refusal {
    match removed(fixture, while_serving).await {
        Err(RemoveError::Refused(refusal)) => refusal,
        other => panic!("it is not refused: {other:?}"),
    }
}

/// An environment that was deployed to once, with its driver.
async fn deployed() -> (Fixture, JoinSet<()>) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    let summary = fixture.deploy("notes:1").await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    (fixture, drivers)
}

/// An environment whose only deployment failed and was rolled back: nothing is recorded as live.
async fn never_live() -> (Fixture, JoinSet<()>) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let summary = fixture.deploy("notes:1").await;
    assert_eq!(environments::live(&*fixture.store, &environment()).await.expect("read"), None);
    assert_eq!(summary.verdict, Some(Verdict::RolledBack));
    (fixture, drivers)
}

fn container(running: ContainerRunState) -> ContainerObservation {
    ContainerObservation {
        name: "lockstep-notes-production-blue-web".to_owned(),
        slot: Slot::Blue,
        process: "web".parse().expect("a name"),
        deployment: "dep_01JBQR2KXYZ987654321012345".parse().expect("an id"),
        spec: Digest::of_content(b"spec"),
        image_id: Digest::of_content(b"image"),
        running,
        health: Health::Unknown,
        restarts: None,
    }
}

async fn check_nothing_left(store: &dyn Store) {
    let left = store.list(&keys::environment(&environment())).await.expect("listed");
    let left: Vec<&str> = left.iter().map(|stored| stored.key.last()).collect();
    assert!(left.iter().all(|last| ["epoch", "lock", "names"].contains(last)), "{left:?}");
    assert_eq!(store.list(&keys::all_ports()).await.expect("listed"), []);
    assert_eq!(
        store.get(keys::owned_name(&site()).key()).await.expect("read"),
        None,
        "its site is owned still"
    );
    assert_eq!(pending_undos::list(store).await.expect("listed"), []);
}

async fn check_still_there(fixture: &Fixture) {
    let declared = environments::declared(&*fixture.store).await.expect("read");
    assert_eq!(declared.len(), 1, "it is declared");
    assert!(!fixture.store.list(&keys::all_ports()).await.expect("listed").is_empty(), "it has its ports");
}

#[tokio::test(start_paused = true)]
async fn a_live_environment_is_not_removed_and_it_is_said_what_serves_where_and_since_when() {
    let (fixture, _drivers) = deployed().await;
    let live = environments::live(&*fixture.store, &environment()).await.expect("read").expect("live");
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.what.ends_with("it is live"), "{refusal:?}");
    let live_release = format!("notes:1 (blue) has been live on app-1 since {}", live.since);
    assert!(refusal.why.contains(&live_release), "{refusal:?}");
    assert!(refusal.next.starts_with("lockstep env decommission notes/production "), "{refusal:?}");
    assert!(refusal.next.ends_with("\nlockstep env remove notes/production --abandon"), "{refusal:?}");
    assert_eq!(environments::live(&*fixture.store, &environment()).await.expect("read"), Some(live));
    check_still_there(&fixture).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_is_forgotten_and_the_receipt_says_what_goes_on() {
    let (fixture, _drivers) = deployed().await;
    let seen = Observation {
        traffic: Some(Slot::Blue),
        containers: vec![container(ContainerRunState::Yes)],
        ..Observation::default()
    };
    fixture.hosts.sees(&host_id(), seen);
    let receipt = removed(&fixture, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("its declaration, 2 ports are deleted"), "{receipt}");
    assert!(receipt.contains("its history and its audit entries stay"), "{receipt}");
    assert!(receipt.contains("containers run on app-1: lockstep-notes-production-blue-web"), "{receipt}");
    assert!(receipt.contains("nginx on app-1 has its site, and sends requests to blue"), "{receipt}");
    check_nothing_left(&*fixture.store).await;
    let past = history::recent(&*fixture.store, &environment(), 10).await.expect("read");
    assert_eq!(past.len(), 1, "its history stays");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_of_which_nothing_runs_is_removed_unasked_and_can_be_deployed_again() {
    let (fixture, _drivers) = never_live().await;
    let receipt = removed(&fixture, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(receipt.ends_with("Every host was checked, and nothing of it is left there."), "{receipt}");
    check_nothing_left(&*fixture.store).await;
    fixture.hosts.unscript();
    fixture.grant_snapshots(&environment()).await;
    let summary = fixture.deploy("notes:2").await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_run_are_not_taken_for_nothing_where_nothing_is_recorded_as_live() {
    let (fixture, _drivers) = never_live().await;
    let seen = Observation { containers: vec![container(ContainerRunState::Yes)], ..Observation::default() };
    fixture.hosts.sees(&host_id(), seen);
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.why.contains("containers run on app-1"), "{refusal:?}");
    check_still_there(&fixture).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn stopped_containers_forbid_nothing_and_the_receipt_names_them() {
    let (fixture, _drivers) = never_live().await;
    let seen =
        Observation { containers: vec![container(ContainerRunState::Exited(0))], ..Observation::default() };
    fixture.hosts.sees(&host_id(), seen);
    let receipt = removed(&fixture, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(
        receipt.contains("stopped containers are on app-1: lockstep-notes-production-blue-web"),
        "{receipt}"
    );
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_site_of_nginx_is_not_taken_for_nothing() {
    let (fixture, _drivers) = never_live().await;
    let seen = Observation { site: Some(Digest::of_content(b"site")), ..Observation::default() };
    fixture.hosts.sees(&host_id(), seen);
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.why.contains("nginx on app-1 has its site"), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn containers_on_a_host_that_the_record_does_not_name_are_found() {
    let (mut fixture, _drivers) = never_live().await;
    let other = fixture.join("app-2", 2).await;
    let seen = Observation { containers: vec![container(ContainerRunState::Yes)], ..Observation::default() };
    fixture.hosts.sees(&other, seen);
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.why.contains("containers run on app-2"), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_unknown_and_not_empty() {
    let (fixture, _drivers) = never_live().await;
    fixture.hosts.absent(&host_id());
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.what.ends_with("some hosts did not report what runs there"), "{refusal:?}");
    assert!(refusal.why.contains("what runs on app-1 is unknown: its agent is not connected"), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep host list");
    check_still_there(&fixture).await;
    let receipt = removed(&fixture, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("what runs on app-1 is unknown"), "{receipt}");
    check_nothing_left(&*fixture.store).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_docker_does_not_answer_is_unknown_and_not_empty() {
    let (fixture, _drivers) = never_live().await;
    let problems = vec!["the containers cannot be seen: the engine does not answer".to_owned()];
    fixture.hosts.sees(&host_id(), Observation { problems, ..Observation::default() });
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(
        refusal.why.contains("what runs on app-1 is unknown: the containers cannot be seen"),
        "{refusal:?}"
    );
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_the_record_does_not_name_forbids_nothing_by_its_silence_and_is_told_of() {
    let (mut fixture, _drivers) = never_live().await;
    let other = fixture.join("app-2", 2).await;
    fixture.hosts.absent(&other);
    let receipt = removed(&fixture, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("app-2, which the record does not name for it, did not report"), "{receipt}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_with_an_open_deployment_is_not_even_abandoned() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("start", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    let refusal = refused(&fixture, WhileServing::Abandoned).await;
    assert!(refusal.why.contains(id.as_str()), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep cancel notes/production");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_with_a_stuck_deployment_is_not_even_abandoned() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    fixture.hosts.script("stop", Direction::Undo, Does::Fails);
    fixture.start("notes:1").await.expect("it starts");
    fixture.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    let refusal = refused(&fixture, WhileServing::Abandoned).await;
    assert_eq!(refusal.next, "lockstep status notes/production");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_environment_is_not_removed() {
    let (fixture, _drivers) = never_live().await;
    let until = fixture.parts.clock.now() + Millis::from_secs(60);
    claims::freeze(&fixture.parts, &environment(), "audit".to_owned(), until, &anna()).await.expect("frozen");
    let refusal = refused(&fixture, WhileServing::Refused).await;
    assert!(refusal.why.contains("audit"), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep lock thaw notes/production");
    claims::thaw(&fixture.parts, &environment()).await.expect("thawed");
    removed(&fixture, WhileServing::Refused).await.expect("removed");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_has_run_out_goes_with_the_environment() {
    let (fixture, drivers) = never_live().await;
    // Nobody ends it before.
    drop(drivers);
    let until = fixture.parts.clock.now() + Millis::from_secs(60);
    claims::freeze(&fixture.parts, &environment(), "audit".to_owned(), until, &anna()).await.expect("frozen");
    tokio::time::sleep(Duration::from_secs(61)).await;
    removed(&fixture, WhileServing::Refused).await.expect("removed");
    check_nothing_left(&*fixture.store).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_undo_forbids_the_removal_and_is_forgotten_only_with_what_is_abandoned() {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    fixture.hosts.script("stop", Direction::Undo, Does::Fails);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    fixture.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    claims::resolve(&fixture.parts, (&environment(), &id), Resolution::Unwind, &anna())
        .await
        .expect("resolved");
    fixture.ended(&id).await;
    // Nobody tries the undo meanwhile, so that nobody has the lock.
    drop(drivers);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refusal = refused(&fixture, WhileServing::Refused).await;
    let step = StepId(3);
    assert!(refusal.why.contains(&format!("the undo of {step} of {id} on app-1 is pending")), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep status notes/production");
    let receipt = removed(&fixture, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("1 pending undo"), "{receipt}");
    check_nothing_left(&*fixture.store).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_opened_while_the_hosts_are_looked_at_is_seen() {
    let (fixture, drivers) = never_live().await;
    drop(drivers);
    // The lock of whoever drove it ends with its lease.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let gate = fixture.hosts.hold_next_look();
    let open = async {
        gate.begun.notified().await;
        let claim = claims::claim_for_build(&fixture.parts, spec(), &anna()).await.expect("claimed");
        gate.end.notify_one();
        claim
    };
    let both = async { tokio::join!(removed(&fixture, WhileServing::Refused), open) };
    let (outcome, _) = tokio::time::timeout(LIMIT, both).await.expect("the hosts are looked at");
    assert!(matches!(outcome, Err(RemoveError::Changed(_))), "{outcome:?}");
    check_still_there(&fixture).await;
    assert!(fixture.open().await.is_some(), "the claim stands");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_never_declared_is_unknown() {
    let fixture = Fixture::new().await;
    let outcome = removed(&fixture, WhileServing::Abandoned).await;
    assert!(matches!(outcome, Err(RemoveError::Absent(_))), "{outcome:?}");
    fixture.shut_down().await;
}

/// The name under which it is served.
fn site() -> OwnedName {
    let server_name = "notes.example".to_owned();
    OwnedName::Site(SiteName { load_balancer: host_id(), port: 80, server_name })
}

/// A deployment that failed, as the history has it.
async fn failed_deployment() -> DeploymentSummary {
    let (fixture, _drivers) = never_live().await;
    let past = history::recent(&*fixture.store, &environment(), 1).await.expect("read");
    fixture.shut_down().await;
    past.into_iter().next().expect("it is in the history")
}

/// Declares an environment with very many ports and a long history, on whatever store.
async fn declare_large(store: &dyn Store, past: &DeploymentSummary) {
    let environment = environment();
    let open = Claim {
        kind: ClaimKind::Freeze { reason: "it takes ports".to_owned() },
        by: anna().operator,
        since: Timestamp(0),
        until: Timestamp(u64::MAX),
        hostname: String::new(),
        pid: 0,
        traceparent: String::new(),
    };
    let entry = |number: u16| PortEntry {
        host: host_id(),
        slot: Slot::Blue,
        process: "web".parse().expect("a name"),
        port: 20_000 + number,
    };
    let table = PortTable { ports: (0..PORTS).map(entry).collect() };
    let spec = spec();
    let names = OwnedNames::of(ObjectName::encode(&environment), [(&spec, &host_id())]);
    let mut writes = vec![
        OwnedWrite::put(keys::spec(&environment), &spec),
        OwnedWrite::put(keys::ports(&environment), &table),
        OwnedWrite::put(keys::names(&environment), &names),
        OwnedWrite::put_bytes(keys::owned_name(&site()), environment.to_string()),
    ];
    writes.extend((0..PORTS).map(|number| {
        OwnedWrite::put_bytes(keys::port("172.17.0.1", 20_000 + number), environment.to_string())
    }));
    writes.extend((0..PORTS).flat_map(|number| {
        let id = format!("dep_01JBQR2KXYZ98765432{number:07}").parse().expect("an id");
        history::summary_writes(&DeploymentSummary { id, ..past.clone() })
    }));
    for some in writes.chunks(OPERATIONS_MAX - 10) {
        let seen = environments::open(store, &environment).await.expect("read").map(|seen| seen.stored);
        let with = Accompanying { guards: vec![], writes: some.to_vec() };
        claim(store, &environment, seen.as_ref(), &open, with).await.expect("written");
    }
    let seen = environments::open(store, &environment).await.expect("read").expect("open").stored;
    disclaim(store, &environment, &seen).await.expect("given back");
}

/// What works on `store`, which knows no host.
fn parts_on(fixture: &Fixture, store: Arc<dyn Store>) -> Context {
    Context { store: store.clone(), agents: Arc::new(Hosts::new(store)), ..fixture.parts.clone() }
}

async fn a_large_environment_is_removed(store: Arc<dyn Store>) {
    let fixture = Fixture::new().await;
    let parts = parts_on(&fixture, store.clone());
    declare_large(&*store, &failed_deployment().await).await;
    let entries = store.list(&keys::history(&environment())).await.expect("listed");
    assert_eq!(entries.len(), usize::from(PORTS));
    let removed = remove(&parts, &environment(), &anna().operator, WhileServing::Refused).await;
    let removed = removed.expect("removed");
    assert_eq!(removed.ports, usize::from(PORTS));
    check_nothing_left(&*store).await;
    let entries = store.list(&keys::history(&environment())).await.expect("listed");
    assert_eq!(entries.len(), usize::from(PORTS), "its history stays");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_one_transaction_takes_go_from_memory() {
    let fixture = Fixture::new().await;
    a_large_environment_is_removed(Arc::new(MemoryStore::new(fixture.parts.clock.clone()))).await;
}

#[tokio::test]
async fn more_keys_than_one_transaction_takes_go_from_sqlite() {
    let fixture = Fixture::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), fixture.parts.clock.clone()).await.expect("it opens");
    a_large_environment_is_removed(Arc::new(store)).await;
}

/// How far a removal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Untouched,
    Unfinished,
    Gone,
}

/// The stage, and that nobody takes it for another.
async fn stage(fixture: &Fixture) -> Stage {
    let store = &*fixture.store;
    let ports = store.list(&keys::all_ports()).await.expect("listed").len();
    let Some(recorded) = environments::recorded(store, &environment()).await.expect("read") else {
        assert_eq!(ports, 0, "nothing names the ports that are left");
        return Stage::Gone;
    };
    let seen = status::all_recorded(&fixture.parts, vec![recorded]).await.expect("read");
    if seen[0].removal.is_none() {
        assert_eq!(ports, usize::from(PORTS), "it looks alive and has lost ports");
        return Stage::Untouched;
    }
    let claimed = claims::claim_for_build(&fixture.parts, spec(), &anna()).await;
    match claimed {
        Err(DeployError::Refused(refusal)) => {
            assert_eq!(refusal.next, "lockstep env remove notes/production");
        }
        other => panic!("what is being removed is claimed: {other:?}"),
    }
    let planned = fixture.start("notes:9").await;
    assert!(matches!(planned, Err(DeployError::Refused(_))), "{planned:?}");
    Stage::Unfinished
}

/// A removal meets `fault` at each of its transactions, one after the other; whoever repeats it finishes it.
async fn a_removal_survives(fault: Fault) -> Vec<Stage> {
    let past = failed_deployment().await;
    let mut stages = Vec::new();
    for nth in 1..TRANSACTIONS_MAX {
        let fixture = Fixture::new().await;
        declare_large(&*fixture.store, &past).await;
        let happened = Arc::new(Notify::new());
        let (tell, mut count) = (happened.clone(), 0);
        fixture.store.inject(Box::new(move |_| {
            count += 1;
            if count == nth {
                tell.notify_one();
                return fault;
            }
            Fault::None
        }));
        let removing = removed(&fixture, WhileServing::Refused);
        let ended = tokio::time::timeout(Duration::from_secs(120), removing).await;
        fixture.store.heal();
        if tokio::time::timeout(Duration::ZERO, happened.notified()).await.is_err() {
            ended.expect("it ends").expect("removed");
            fixture.shut_down().await;
            return stages;
        }
        let stage = stage(&fixture).await;
        stages.push(stage);
        // The lock of whoever died ends with its lease.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = removed(&fixture, WhileServing::Refused).await;
        match stage {
            Stage::Untouched | Stage::Unfinished => drop(again.expect("the repetition finishes it")),
            Stage::Gone => assert!(matches!(again, Err(RemoveError::Absent(_))), "{again:?}"),
        }
        check_nothing_left(&*fixture.store).await;
        fixture.shut_down().await;
    }
    panic!("it has more transactions than {TRANSACTIONS_MAX}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_coordinator_dies_after_any_transaction_is_finished_by_a_repetition() {
    let stages = a_removal_survives(Fault::Silence).await;
    for expected in [Stage::Untouched, Stage::Unfinished, Stage::Gone] {
        assert!(stages.contains(&expected), "{expected:?} was not met: {stages:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_which_any_answer_is_lost_is_finished_by_a_repetition() {
    a_removal_survives(Fault::AnswerLost).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_which_any_request_is_lost_is_finished_by_a_repetition() {
    a_removal_survives(Fault::RequestLost).await;
}
