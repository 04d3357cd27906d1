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

use crate::fixture::{Fixture, environment, spec};
use crate::history;

/// Not a multiple of how often the lock is tried for.
const HELD_FOR: Millis = Millis(LOCK_RETRY_AFTER.0 * 5 / 2);

/// A deployment whose lock another coordinator has, and drivers that have waited for it a while.
async fn waiting() -> (Fixture, Held, DeploymentId, JoinSet<()>) {
    let fixture = Fixture::new().await;
    let lease = fixture.store.grant(Millis::from_secs(60)).await.expect("granted");
    let acquisition = Acquisition {
        environment: environment(),
        coordinator: "c2".to_owned(),
        nonce: "another's".to_owned(),
        lease,
    };
    let Ok(Acquired::Held(held)) = acquisition.attempt(&*fixture.store).await else {
        panic!("nobody else wants it yet");
    };
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    let drivers = fixture.drivers();
    tokio::time::sleep(Duration::from_millis(HELD_FOR.0)).await;
    (fixture, held, id, drivers)
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_the_lock_is_free() {
    let (fixture, held, id, _drivers) = waiting().await;
    let freed = fixture.parts.clock.now();
    held.release(&*fixture.store).await.expect("given back");
    fixture.ended(&id).await;
    let entries = history::journal(&*fixture.store, &id).await.expect("read");
    let taken = entries.iter().find(|entry| matches!(entry.event, Event::LockTaken { .. })).expect("taken");
    assert_eq!(taken.at.since(freed), Millis(0), "it has waited for its next try");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn it_does_not_take_the_lock_of_what_has_ended() {
    let (fixture, held, _, _drivers) = waiting().await;
    let end = OwnedWrite::delete(keys::open(&environment()));
    held.commit(&*fixture.store, Vec::new(), vec![end]).await.expect("it ends");
    held.release(&*fixture.store).await.expect("given back");
    tokio::time::sleep(Duration::from_millis(HELD_FOR.0)).await;
    let epoch = fixture.store.get(keys::epoch(&environment()).key()).await.expect("read");
    assert_eq!(epoch_of(epoch.as_ref()).expect("an epoch"), held.epoch(), "somebody has taken it");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn it_says_that_the_time_was_over_before_it_came() {
    let fixture = Fixture::new().await;
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    tokio::time::sleep(Duration::from_millis(spec().deploy.lock_timeout.0)).await;
    let _drivers = fixture.drivers();
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
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
    fixture.shut_down().await;
}
