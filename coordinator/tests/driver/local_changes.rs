//! What was done on a host without a coordinator becomes the record, and is told.

use lockstep_coordinator::record::local_rollbacks::{self, REPORTED_MAX, ReportReply};
use lockstep_coordinator::record::{audit, environments, history};
use lockstep_coordinator::store::{Store, keys};
use lockstep_coordinator::view::status;
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{LocalChange, LocalRollback};
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::slot::Slot;

use crate::fixture::{Fixture, LIMIT, environment, host_id, spec};
use crate::hosts::Does;

async fn live(fixture: &Fixture) -> LiveRelease {
    environments::live(&*fixture.store, &environment()).await.expect("read").expect("something is live")
}

fn rollback(fixture: &Fixture, seq: u64, served: &DeploymentSummary) -> LocalRollback {
    LocalRollback {
        seq,
        environment: environment(),
        at: fixture.parts.clock.now(),
        by: "bea, as root".to_owned(),
        from: served.slot.other(),
        to: served.slot,
        deployment: served.id.clone(),
    }
}

/// What the agent does: says it again until it is taken in.
async fn tell(fixture: &Fixture, host: &HostId, rollback: &LocalRollback) -> LocalChange {
    let report =
        async || local_rollbacks::report(&*fixture.store, host, rollback.clone()).await.expect("told");
    let wait = async {
        while report().await == ReportReply::Waits {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it is taken in");
    let key = keys::local_change(&environment(), host, rollback.seq);
    let stored = fixture.store.get(key.key()).await.expect("read").expect("it is kept");
    stored.read().expect("a local change")
}

async fn two_deployed(fixture: &Fixture) -> (DeploymentSummary, DeploymentSummary) {
    let first = fixture.deploy("notes:1").await;
    let second = fixture.deploy("notes:2").await;
    assert_eq!((first.slot, second.slot), (Slot::Blue, Slot::Green));
    (first, second)
}

/// One that waits for health.
async fn open_deployment(fixture: &Fixture) -> DeploymentId {
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:3").await.expect("it starts");
    fixture.until_begun(&id, 4).await;
    id
}

#[tokio::test(start_paused = true)]
async fn what_serves_by_a_local_rollback_is_recorded_once_and_with_who_did_it() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (first, _) = two_deployed(&fixture).await;
    let rollback = rollback(&fixture, 1, &first);
    let change = tell(&fixture, &host_id(), &rollback).await;
    let id = change.adopted.expect("it is taken in").deployment.expect("it has a place in the history");
    // Said again, as after every break.
    tell(&fixture, &host_id(), &rollback).await;

    let live = live(&fixture).await;
    assert_eq!((live.slot, &live.release, &live.deployment), (Slot::Blue, &first.release, &id));
    assert_eq!((live.since, live.rollback_count), (rollback.at, 1));
    let past = history::recent(&*fixture.store, &environment(), 10).await.expect("read");
    assert_eq!(past.len(), 3, "it is recorded twice");
    assert_eq!((past[0].kind, past[0].verdict), (OperationKind::Rollback, Some(Verdict::Succeeded)));
    assert_eq!(past[0].operator.as_str(), "root");
    let told = audit::list(&*fixture.store, Some(&environment()), 10).await.expect("read");
    let said = told.iter().find(|entry| entry.verb == "local rollback").expect("it is in the audit");
    assert!(said.said.contains("bea, as root on app-1"), "{said:?}");
    let seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    assert_eq!(seen.local.len(), 1, "the status does not tell it");

    // The slot that the next deployment takes is the one that has no traffic.
    let next = fixture.deploy("notes:3").await;
    fixture.check_ended(&next, Verdict::Succeeded).await;
    assert_eq!(next.slot, Slot::Green);
    let seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    assert_eq!(seen.local, [], "what is over is still told");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_open_comes_to_its_end_first() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (first, _) = two_deployed(&fixture).await;
    let id = open_deployment(&fixture).await;
    let rollback = rollback(&fixture, 1, &first);
    for _ in 0..20 {
        let known =
            local_rollbacks::report(&*fixture.store, &host_id(), rollback.clone()).await.expect("told");
        assert_eq!(known, ReportReply::Waits, "the record was changed under an open deployment");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    fixture.hosts.unscript();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    fixture.ended(&id).await;
    tell(&fixture, &host_id(), &rollback).await;
    assert_eq!(live(&fixture).await.slot, Slot::Blue);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_reports_without_end_does_not_fill_the_record() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (first, _) = two_deployed(&fixture).await;
    // While a deployment is open the record follows nothing, so all of them wait.
    open_deployment(&fixture).await;
    let report = async |seq: u64| {
        let rollback = rollback(&fixture, seq, &first);
        local_rollbacks::report(&*fixture.store, &host_id(), rollback).await.expect("told")
    };
    for seq in 1..=REPORTED_MAX as u64 {
        assert_eq!(report(seq).await, ReportReply::Waits);
    }
    assert_eq!(report(REPORTED_MAX as u64 + 1).await, ReportReply::OneTooMany);
    assert_eq!(report(1).await, ReportReply::Waits, "what is kept is known no more");
    let kept = fixture.store.list(&keys::local_changes(&environment())).await.expect("read");
    assert_eq!(kept.len(), REPORTED_MAX);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_is_heard_about_the_environments_that_have_something_on_it() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let may = async |environment: &str, host: HostId| {
        let environment = environment.parse().expect("an environment");
        local_rollbacks::may_report(&*fixture.store, &environment, &host).await.expect("read")
    };
    let here = environment().to_string();
    assert!(!may(&here, host_id()).await, "nothing was deployed yet");
    two_deployed(&fixture).await;
    assert!(may(&here, host_id()).await);
    assert!(!may("other/production", host_id()).await);
    assert!(!may(&here, "host_01JBQR2KXYZ987654321012399".parse().expect("an id")).await);
    fixture.shut_down().await;
}

/// A rollback that is made of the two deployments is told in the audit, and changes nothing that is recorded as live.
async fn check_only_told(
    made: impl FnOnce(&Fixture, &DeploymentSummary, &DeploymentSummary) -> LocalRollback,
) {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (first, second) = two_deployed(&fixture).await;
    let before = live(&fixture).await;
    let change = tell(&fixture, &host_id(), &made(&fixture, &first, &second)).await;
    assert_eq!(change.adopted.expect("it is taken in").deployment, None);
    assert_eq!(live(&fixture).await, before);
    let told = audit::list(&*fixture.store, Some(&environment()), 10).await.expect("read");
    assert_eq!(told.iter().filter(|entry| entry.verb == "local rollback").count(), 1);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_deployment_that_is_unknown_is_told_and_changes_nothing() {
    check_only_told(|fixture, first, _| LocalRollback {
        deployment: "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("an id"),
        ..rollback(fixture, 1, first)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_slot_where_the_deployment_is_not_is_told_and_changes_nothing() {
    check_only_told(|fixture, _, second| LocalRollback { to: Slot::Blue, ..rollback(fixture, 2, second) })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_is_live_is_told_and_changes_nothing() {
    check_only_told(|fixture, _, second| rollback(fixture, 3, second)).await;
}
