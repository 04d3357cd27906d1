//! A driver that waits for a lock that another has, or comes when the lock's time is over.

use std::time::Duration;

use lockstep_coordinator::store::guarded::{Acquired, Acquisition, Held, OwnedWrite, epoch_of};
use lockstep_coordinator::store::{Store, keys};
use lockstep_core::id::DeploymentId;
use lockstep_core::run::driver_phase::LOCK_RETRY_AFTER;
use lockstep_core::run::journal::Event;
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Millis;
use tokio::task::JoinSet;

use crate::history;
use crate::world::{World, environment, spec};

/// Not a multiple of how often the lock is tried for.
const HELD_FOR: Millis = Millis(LOCK_RETRY_AFTER.0 * 5 / 2);

/// A deployment whose lock another coordinator has, and drivers that have waited for it a while.
async fn waiting() -> (World, Held, DeploymentId, JoinSet<()>) {
    let world = World::new().await;
    let lease = world.store.grant(Millis::from_secs(60)).await.expect("granted");
    let acquisition = Acquisition {
        environment: environment(),
        coordinator: "c2".to_owned(),
        nonce: "another's".to_owned(),
        lease,
    };
    let Ok(Acquired::Held(held)) = acquisition.attempt(&*world.store).await else {
        panic!("nobody else wants it yet");
    };
    let (id, _) = world.start("notes:1").await.expect("it starts");
    let drivers = world.drivers();
    tokio::time::sleep(Duration::from_millis(HELD_FOR.0)).await;
    (world, held, id, drivers)
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_the_lock_is_free() {
    let (world, held, id, _drivers) = waiting().await;
    let freed = world.parts.clock.now();
    held.release(&*world.store).await.expect("given back");
    world.ended(&id).await;
    let entries = history::journal(&*world.store, &id).await.expect("read");
    let taken = entries.iter().find(|entry| matches!(entry.event, Event::LockTaken { .. })).expect("taken");
    assert_eq!(taken.at.since(freed), Millis(0), "it has waited for its next try");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn it_does_not_take_the_lock_of_what_has_ended() {
    let (world, held, _, _drivers) = waiting().await;
    let end = OwnedWrite::delete(keys::open(&environment()));
    held.commit(&*world.store, Vec::new(), vec![end]).await.expect("it ends");
    held.release(&*world.store).await.expect("given back");
    tokio::time::sleep(Duration::from_millis(HELD_FOR.0)).await;
    let epoch = world.store.get(keys::epoch(&environment()).key()).await.expect("read");
    assert_eq!(epoch_of(epoch.as_ref()).expect("an epoch"), held.epoch(), "somebody has taken it");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn it_says_that_the_time_was_over_before_it_came() {
    let world = World::new().await;
    let (id, _) = world.start("notes:1").await.expect("it starts");
    tokio::time::sleep(Duration::from_millis(spec().deploy.lock_timeout.0)).await;
    let _drivers = world.drivers();
    let summary = world.ended(&id).await;
    world.check_ended(&summary, Verdict::RolledBack).await;
    let failed = summary.failure.expect("it says why");
    assert_eq!(
        failed.failure.what,
        "the lock_timeout of 30 min ended before the first step began, so nothing was changed"
    );
    let why = failed.failure.why.unwrap_or_default();
    assert!(
        why.contains("c1 began to drive it") && why.contains("the clock of a coordinator is wrong"),
        "{why}"
    );
    world.shut_down().await;
}
