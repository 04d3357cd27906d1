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
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState, Observation};
use lockstep_core::record::ports::{PortEntry, PortTable};
use lockstep_core::run::journal::{Direction, Verdict};
use lockstep_core::slot::Slot;
use lockstep_core::time::{Millis, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::hosts::{Does, Hosts};
use crate::world::{LIMIT, World, anna, environment, host_id, spec};

/// More than etcd takes in one transaction.
const PORTS: u16 = 300;

/// More transactions than a removal of so many ports has.
const TRANSACTIONS_MAX: usize = 40;

async fn removed(world: &World, while_serving: WhileServing) -> Result<Removed, RemoveError> {
    remove(&world.parts, &environment(), &anna().operator, while_serving).await
}

async fn refused(world: &World, while_serving: WhileServing) -> Refusal {
    match removed(world, while_serving).await {
        Err(RemoveError::Refused(refusal)) => refusal,
        other => panic!("it is not refused: {other:?}"),
    }
}

/// An environment that was deployed to once, with its driver.
async fn deployed() -> (World, JoinSet<()>) {
    let world = World::new().await;
    let drivers = world.drivers();
    let summary = world.deploy("notes:1").await;
    world.check_ended(&summary, Verdict::Succeeded).await;
    (world, drivers)
}

/// An environment whose only deployment failed and was rolled back: nothing is recorded as live.
async fn never_live() -> (World, JoinSet<()>) {
    let world = World::new().await;
    let drivers = world.drivers();
    world.hosts.script("health", Direction::Do, Does::Fails);
    let summary = world.deploy("notes:1").await;
    assert_eq!(environments::live(&*world.store, &environment()).await.expect("read"), None);
    assert_eq!(summary.verdict, Some(Verdict::RolledBack));
    (world, drivers)
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
    }
}

async fn check_nothing_left(store: &dyn Store) {
    let left = store.list(&keys::environment(&environment())).await.expect("listed");
    let left: Vec<&str> = left.iter().map(|stored| stored.key.last()).collect();
    assert!(left.iter().all(|last| ["epoch", "lock"].contains(last)), "{left:?}");
    assert_eq!(store.list(&keys::all_ports()).await.expect("listed"), []);
    assert_eq!(pending_undos::list(store).await.expect("listed"), []);
}

async fn check_still_there(world: &World) {
    let declared = environments::declared(&*world.store).await.expect("read");
    assert_eq!(declared.len(), 1, "it is declared");
    assert!(!world.store.list(&keys::all_ports()).await.expect("listed").is_empty(), "it has its ports");
}

#[tokio::test(start_paused = true)]
async fn a_live_environment_is_not_removed_and_it_is_said_what_serves_where_and_since_when() {
    let (world, _drivers) = deployed().await;
    let live = environments::live(&*world.store, &environment()).await.expect("read").expect("live");
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.what.ends_with("it is live"), "{refusal:?}");
    let live_release = format!("notes:1 (blue) has been live on app-1 since {}", live.since);
    assert!(refusal.why.contains(&live_release), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep env remove notes/production --abandon");
    assert_eq!(environments::live(&*world.store, &environment()).await.expect("read"), Some(live));
    check_still_there(&world).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_is_forgotten_and_the_receipt_says_what_goes_on() {
    let (world, _drivers) = deployed().await;
    let seen = Observation {
        traffic: Some(Slot::Blue),
        containers: vec![container(ContainerRunState::Yes)],
        ..Observation::default()
    };
    world.hosts.sees(&host_id(), seen);
    let receipt = removed(&world, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("its declaration, 2 ports are deleted"), "{receipt}");
    assert!(receipt.contains("its history and its audit entries stay"), "{receipt}");
    assert!(receipt.contains("containers run on app-1: lockstep-notes-production-blue-web"), "{receipt}");
    assert!(receipt.contains("nginx on app-1 has its site, and sends requests to blue"), "{receipt}");
    check_nothing_left(&*world.store).await;
    let past = history::recent(&*world.store, &environment(), 10).await.expect("read");
    assert_eq!(past.len(), 1, "its history stays");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_of_which_nothing_runs_is_removed_unasked_and_can_be_deployed_again() {
    let (world, _drivers) = never_live().await;
    let receipt = removed(&world, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(receipt.ends_with("Every host was checked, and nothing of it is left there."), "{receipt}");
    check_nothing_left(&*world.store).await;
    world.hosts.unscript();
    let summary = world.deploy("notes:2").await;
    world.check_ended(&summary, Verdict::Succeeded).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_run_are_not_taken_for_nothing_where_nothing_is_recorded_as_live() {
    let (world, _drivers) = never_live().await;
    let seen = Observation { containers: vec![container(ContainerRunState::Yes)], ..Observation::default() };
    world.hosts.sees(&host_id(), seen);
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.why.contains("containers run on app-1"), "{refusal:?}");
    check_still_there(&world).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn stopped_containers_forbid_nothing_and_the_receipt_names_them() {
    let (world, _drivers) = never_live().await;
    let seen =
        Observation { containers: vec![container(ContainerRunState::Exited(0))], ..Observation::default() };
    world.hosts.sees(&host_id(), seen);
    let receipt = removed(&world, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(
        receipt.contains("stopped containers are on app-1: lockstep-notes-production-blue-web"),
        "{receipt}"
    );
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_site_of_nginx_is_not_taken_for_nothing() {
    let (world, _drivers) = never_live().await;
    let seen = Observation { site: Some(Digest::of_content(b"site")), ..Observation::default() };
    world.hosts.sees(&host_id(), seen);
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.why.contains("nginx on app-1 has its site"), "{refusal:?}");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn containers_on_a_host_that_the_record_does_not_name_are_found() {
    let (mut world, _drivers) = never_live().await;
    let other = world.join("app-2", 2).await;
    let seen = Observation { containers: vec![container(ContainerRunState::Yes)], ..Observation::default() };
    world.hosts.sees(&other, seen);
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.why.contains("containers run on app-2"), "{refusal:?}");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_unknown_and_not_empty() {
    let (world, _drivers) = never_live().await;
    world.hosts.absent(&host_id());
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.what.ends_with("some hosts did not report what runs there"), "{refusal:?}");
    assert!(refusal.why.contains("what runs on app-1 is unknown: the agent of"), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep host list");
    check_still_there(&world).await;
    let receipt = removed(&world, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("what runs on app-1 is unknown"), "{receipt}");
    check_nothing_left(&*world.store).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_docker_does_not_answer_is_unknown_and_not_empty() {
    let (world, _drivers) = never_live().await;
    let problems = vec!["the containers cannot be seen: the engine does not answer".to_owned()];
    world.hosts.sees(&host_id(), Observation { problems, ..Observation::default() });
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(
        refusal.why.contains("what runs on app-1 is unknown: the containers cannot be seen"),
        "{refusal:?}"
    );
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_the_record_does_not_name_forbids_nothing_by_its_silence_and_is_told_of() {
    let (mut world, _drivers) = never_live().await;
    let other = world.join("app-2", 2).await;
    world.hosts.absent(&other);
    let receipt = removed(&world, WhileServing::Refused).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("app-2, which the record does not name for it, did not report"), "{receipt}");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_with_an_open_deployment_is_not_even_abandoned() {
    let world = World::new().await;
    let _drivers = world.drivers();
    world.hosts.script("start", Direction::Do, Does::Waits);
    let (id, _) = world.start("notes:1").await.expect("it starts");
    let refusal = refused(&world, WhileServing::Abandoned).await;
    assert!(refusal.why.contains(id.as_str()), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep cancel notes/production");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_with_a_stuck_deployment_is_not_even_abandoned() {
    let world = World::new().await;
    let _drivers = world.drivers();
    world.hosts.script("health", Direction::Do, Does::Fails);
    world.hosts.script("stop", Direction::Undo, Does::Fails);
    world.start("notes:1").await.expect("it starts");
    world.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    let refusal = refused(&world, WhileServing::Abandoned).await;
    assert_eq!(refusal.next, "lockstep status notes/production");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_environment_is_not_removed() {
    let (world, _drivers) = never_live().await;
    let until = world.parts.clock.now() + Millis::from_secs(60);
    claims::freeze(&world.parts, &environment(), "audit".to_owned(), until, &anna()).await.expect("frozen");
    let refusal = refused(&world, WhileServing::Refused).await;
    assert!(refusal.why.contains("audit"), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep lock thaw notes/production");
    claims::thaw(&world.parts, &environment()).await.expect("thawed");
    removed(&world, WhileServing::Refused).await.expect("removed");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_has_run_out_goes_with_the_environment() {
    let (world, drivers) = never_live().await;
    // Nobody ends it before.
    drop(drivers);
    let until = world.parts.clock.now() + Millis::from_secs(60);
    claims::freeze(&world.parts, &environment(), "audit".to_owned(), until, &anna()).await.expect("frozen");
    tokio::time::sleep(Duration::from_secs(61)).await;
    removed(&world, WhileServing::Refused).await.expect("removed");
    check_nothing_left(&*world.store).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_undo_forbids_the_removal_and_is_forgotten_only_with_what_is_abandoned() {
    let world = World::new().await;
    let drivers = world.drivers();
    world.hosts.script("health", Direction::Do, Does::Fails);
    world.hosts.script("stop", Direction::Undo, Does::Fails);
    let (id, _) = world.start("notes:1").await.expect("it starts");
    world.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    claims::resolve(&world.parts, (&environment(), &id), Resolution::Unwind, &anna())
        .await
        .expect("resolved");
    world.ended(&id).await;
    // Nobody tries the undo meanwhile, so that nobody has the lock.
    drop(drivers);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refusal = refused(&world, WhileServing::Refused).await;
    let step = StepId(3);
    assert!(refusal.why.contains(&format!("the undo of {step} of {id} on app-1 is pending")), "{refusal:?}");
    assert_eq!(refusal.next, "lockstep status notes/production");
    let receipt = removed(&world, WhileServing::Abandoned).await.expect("removed").receipt(&environment());
    assert!(receipt.contains("1 pending undo"), "{receipt}");
    check_nothing_left(&*world.store).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_opened_while_the_hosts_are_looked_at_is_seen() {
    let (world, drivers) = never_live().await;
    drop(drivers);
    // The lock of whoever drove it ends with its lease.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let gate = world.hosts.hold_next_look();
    let open = async {
        gate.begun.notified().await;
        let claim = claims::claim_for_build(&world.parts, spec(), &anna()).await.expect("claimed");
        gate.end.notify_one();
        claim
    };
    let both = async { tokio::join!(removed(&world, WhileServing::Refused), open) };
    let (outcome, _) = tokio::time::timeout(LIMIT, both).await.expect("the hosts are looked at");
    assert!(matches!(outcome, Err(RemoveError::Changed(_))), "{outcome:?}");
    check_still_there(&world).await;
    assert!(world.open().await.is_some(), "the claim stands");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_never_declared_is_unknown() {
    let world = World::new().await;
    let outcome = removed(&world, WhileServing::Abandoned).await;
    assert!(matches!(outcome, Err(RemoveError::Unknown(_))), "{outcome:?}");
    world.shut_down().await;
}

/// A deployment that failed, as the history has it.
async fn failed_deployment() -> DeploymentSummary {
    let (world, _drivers) = never_live().await;
    let past = history::recent(&*world.store, &environment(), 1).await.expect("read");
    world.shut_down().await;
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
    let mut writes = vec![
        OwnedWrite::put(keys::spec(&environment), &spec()),
        OwnedWrite::put(keys::ports(&environment), &table),
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
fn parts_on(world: &World, store: Arc<dyn Store>) -> Context {
    Context { store: store.clone(), agents: Arc::new(Hosts::new(store)), ..world.parts.clone() }
}

async fn a_large_environment_is_removed(store: Arc<dyn Store>) {
    let world = World::new().await;
    let parts = parts_on(&world, store.clone());
    declare_large(&*store, &failed_deployment().await).await;
    let entries = store.list(&keys::history(&environment())).await.expect("listed");
    assert_eq!(entries.len(), usize::from(PORTS));
    let removed = remove(&parts, &environment(), &anna().operator, WhileServing::Refused).await;
    let removed = removed.expect("removed");
    assert_eq!(removed.ports, usize::from(PORTS));
    check_nothing_left(&*store).await;
    let entries = store.list(&keys::history(&environment())).await.expect("listed");
    assert_eq!(entries.len(), usize::from(PORTS), "its history stays");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_one_transaction_takes_go_from_memory() {
    let world = World::new().await;
    a_large_environment_is_removed(Arc::new(MemoryStore::new(world.parts.clock.clone()))).await;
}

#[tokio::test]
async fn more_keys_than_one_transaction_takes_go_from_sqlite() {
    let world = World::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), world.parts.clock.clone()).await.expect("it opens");
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
async fn stage(world: &World) -> Stage {
    let store = &*world.store;
    let ports = store.list(&keys::all_ports()).await.expect("listed").len();
    let Some(recorded) = environments::recorded(store, &environment()).await.expect("read") else {
        assert_eq!(ports, 0, "nothing names the ports that are left");
        return Stage::Gone;
    };
    let seen = status::all_recorded(&world.parts, vec![recorded]).await.expect("read");
    if seen[0].removal.is_none() {
        assert_eq!(ports, usize::from(PORTS), "it looks alive and has lost ports");
        return Stage::Untouched;
    }
    let claimed = claims::claim_for_build(&world.parts, spec(), &anna()).await;
    match claimed {
        Err(DeployError::Refused(refusal)) => {
            assert_eq!(refusal.next, "lockstep env remove notes/production");
        }
        other => panic!("what is being removed is claimed: {other:?}"),
    }
    let planned = world.start("notes:9").await;
    assert!(matches!(planned, Err(DeployError::Refused(_))), "{planned:?}");
    Stage::Unfinished
}

/// A removal meets `fault` at each of its transactions, one after the other; whoever repeats it finishes it.
async fn a_removal_survives(fault: Fault) -> Vec<Stage> {
    let past = failed_deployment().await;
    let mut stages = Vec::new();
    for nth in 1..TRANSACTIONS_MAX {
        let world = World::new().await;
        declare_large(&*world.store, &past).await;
        let happened = Arc::new(Notify::new());
        let (tell, mut count) = (happened.clone(), 0);
        world.store.inject(Box::new(move |_| {
            count += 1;
            if count == nth {
                tell.notify_one();
                return fault;
            }
            Fault::None
        }));
        let removing = removed(&world, WhileServing::Refused);
        let ended = tokio::time::timeout(Duration::from_secs(120), removing).await;
        world.store.heal();
        if tokio::time::timeout(Duration::ZERO, happened.notified()).await.is_err() {
            ended.expect("it ends").expect("removed");
            world.shut_down().await;
            return stages;
        }
        let stage = stage(&world).await;
        stages.push(stage);
        // The lock of whoever died ends with its lease.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = removed(&world, WhileServing::Refused).await;
        match stage {
            Stage::Untouched | Stage::Unfinished => drop(again.expect("the repetition finishes it")),
            Stage::Gone => assert!(matches!(again, Err(RemoveError::Unknown(_))), "{again:?}"),
        }
        check_nothing_left(&*world.store).await;
        world.shut_down().await;
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
