//! What was done on a host without a coordinator becomes the record, and is told.

use lockstep_coordinator::record::{audit, environments, history, local_rollbacks};
use lockstep_coordinator::store::{Store, keys};
use lockstep_coordinator::view::status;
use lockstep_core::id::HostId;
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{LocalChange, LocalRollback};
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::slot::Slot;

use crate::hosts::Does;
use crate::world::{LIMIT, World, environment, host_id, spec};

async fn live(world: &World) -> LiveRelease {
    environments::live(&*world.store, &environment()).await.expect("read").expect("something is live")
}

fn rollback(world: &World, seq: u64, served: &DeploymentSummary) -> LocalRollback {
    LocalRollback {
        seq,
        environment: environment(),
        at: world.parts.clock.now(),
        by: "bea, as root".to_owned(),
        from: served.slot.other(),
        to: served.slot,
        deployment: served.id.clone(),
    }
}

/// What the agent does: says it again until it is taken in.
async fn tell(world: &World, host: &HostId, rollback: &LocalRollback) -> LocalChange {
    let wait = async {
        while local_rollbacks::report(&*world.store, host, rollback.clone()).await.expect("told").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it is taken in");
    let key = keys::local_change(&environment(), host, rollback.seq);
    let stored = world.store.get(key.key()).await.expect("read").expect("it is kept");
    stored.read().expect("a local change")
}

async fn two_deployed(world: &World) -> (DeploymentSummary, DeploymentSummary) {
    let first = world.deploy("notes:1").await;
    let second = world.deploy("notes:2").await;
    assert_eq!((first.slot, second.slot), (Slot::Blue, Slot::Green));
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn what_serves_by_a_local_rollback_is_recorded_once_and_with_who_did_it() {
    let world = World::new().await;
    let _drivers = world.drivers();
    let (first, _) = two_deployed(&world).await;
    let rollback = rollback(&world, 1, &first);
    let change = tell(&world, &host_id(), &rollback).await;
    let id = change.adopted.expect("it is taken in").deployment.expect("it has a place in the history");
    // Said again, as after every break.
    tell(&world, &host_id(), &rollback).await;

    let live = live(&world).await;
    assert_eq!((live.slot, &live.release, &live.deployment), (Slot::Blue, &first.release, &id));
    assert_eq!((live.since, live.rollback_count), (rollback.at, 1));
    let past = history::recent(&*world.store, &environment(), 10).await.expect("read");
    assert_eq!(past.len(), 3, "it is recorded twice");
    assert_eq!((past[0].kind, past[0].verdict), (OperationKind::Rollback, Some(Verdict::Succeeded)));
    assert_eq!(past[0].operator.as_str(), "root");
    let told = audit::list(&*world.store, Some(&environment()), 10).await.expect("read");
    let said = told.iter().find(|entry| entry.verb == "local rollback").expect("it is in the audit");
    assert!(said.said.contains("bea, as root on app-1"), "{said:?}");
    let seen = status::load_status(&world.parts, &spec()).await.expect("read");
    assert_eq!(seen.local.len(), 1, "the status does not tell it");

    // The slot that the next deployment takes is the one that has no traffic.
    let next = world.deploy("notes:3").await;
    world.check_ended(&next, Verdict::Succeeded).await;
    assert_eq!(next.slot, Slot::Green);
    let seen = status::load_status(&world.parts, &spec()).await.expect("read");
    assert_eq!(seen.local, [], "what is over is still told");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_open_comes_to_its_end_first() {
    let world = World::new().await;
    let _drivers = world.drivers();
    let (first, _) = two_deployed(&world).await;
    world.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = world.start("notes:3").await.expect("it starts");
    world.until_begun(&id, 4).await;
    let rollback = rollback(&world, 1, &first);
    for _ in 0..20 {
        let known = local_rollbacks::report(&*world.store, &host_id(), rollback.clone()).await.expect("told");
        assert_eq!(known, None, "the record was changed under an open deployment");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    world.hosts.unscript();
    world.hosts.script("health", Direction::Do, Does::Fails);
    world.ended(&id).await;
    tell(&world, &host_id(), &rollback).await;
    assert_eq!(live(&world).await.slot, Slot::Blue);
    world.shut_down().await;
}

/// A rollback that is made of the two deployments is told in the audit, and changes nothing that is recorded as live.
async fn check_only_told(made: impl FnOnce(&World, &DeploymentSummary, &DeploymentSummary) -> LocalRollback) {
    let world = World::new().await;
    let _drivers = world.drivers();
    let (first, second) = two_deployed(&world).await;
    let before = live(&world).await;
    let change = tell(&world, &host_id(), &made(&world, &first, &second)).await;
    assert_eq!(change.adopted.expect("it is taken in").deployment, None);
    assert_eq!(live(&world).await, before);
    let told = audit::list(&*world.store, Some(&environment()), 10).await.expect("read");
    assert_eq!(told.iter().filter(|entry| entry.verb == "local rollback").count(), 1);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_deployment_that_is_unknown_is_told_and_changes_nothing() {
    check_only_told(|world, first, _| LocalRollback {
        deployment: "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("an id"),
        ..rollback(world, 1, first)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_slot_where_the_deployment_is_not_is_told_and_changes_nothing() {
    check_only_told(|world, _, second| LocalRollback { to: Slot::Blue, ..rollback(world, 2, second) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_is_live_is_told_and_changes_nothing() {
    check_only_told(|world, _, second| rollback(world, 3, second)).await;
}
