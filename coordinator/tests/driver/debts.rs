//! The ways out of a deployment that is stuck, and what a host owes that was gone.

use lockstep_coordinator::planning::{DeployError, claims};
use lockstep_coordinator::record::{audit, history, hosts as joined, pending_undos};
use lockstep_coordinator::store::{Store, keys};
use lockstep_coordinator::view::status;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::record::claim::{Claim, ClaimKind, Resolution};
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Deferral, Direction, Event};
use lockstep_core::time::Millis;

use crate::fixture::{Fixture, LIMIT, anna, environment, host_id, spec};
use crate::hosts::Does;

fn is_stuck(open: Option<&Claim>) -> bool {
    matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))
}

async fn owed(fixture: &Fixture) -> Vec<PendingUndo> {
    pending_undos::list(&*fixture.store).await.expect("read")
}

async fn until_nothing_is_owed(fixture: &Fixture) {
    let wait = async {
        while !owed(fixture).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(LIMIT, wait).await.is_err() {
        panic!("it stays owed: {:?}", owed(fixture).await);
    }
}

/// A deployment whose health check failed, and whose start cannot be taken back.
async fn stuck_at_the_start() -> (Fixture, tokio::task::JoinSet<()>, DeploymentId) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    fixture.hosts.script("stop", Direction::Undo, Does::Fails);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    fixture.until(is_stuck).await;
    (fixture, drivers, id)
}

async fn resolve(fixture: &Fixture, id: &DeploymentId, way: Resolution) -> Result<String, DeployError> {
    claims::resolve(&fixture.parts, (&environment(), id), way, &anna()).await
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_is_owed_by_its_host_and_paid_before_it_is_deployed_to() {
    let (fixture, _drivers, id) = stuck_at_the_start().await;
    let seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    let ways: Vec<(Resolution, bool)> = seen
        .open
        .expect("it is open")
        .resolutions
        .into_iter()
        .map(|out| (out.resolution, out.refused.is_none()))
        .collect();
    assert_eq!(
        ways,
        [(Resolution::Retry, true), (Resolution::Unwind, true), (Resolution::Skip { step: StepId(3) }, true)]
    );

    resolve(&fixture, &id, Resolution::Unwind).await.expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    let seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    let [debt] = seen.pending_undos.as_slice() else { panic!("{:?}", seen.pending_undos) };
    assert_eq!(
        (&debt.key.deployment, &debt.host, debt.by.as_ref()),
        (&id, &host_id(), Some(&anna().operator))
    );
    let shown_to_others = status::all_hosts(&fixture.parts, |key| *key != environment()).await.expect("read");
    assert!(shown_to_others.iter().all(|host| host.pending_undos.is_empty()), "{shown_to_others:?}");
    let of_hosts = status::all_hosts(&fixture.parts, |key| *key == environment()).await.expect("read");
    assert_eq!(of_hosts[0].pending_undos.len(), 1, "the host is not named with it");
    match fixture.start("notes:2").await {
        Err(DeployError::Refused(refusal)) => {
            assert!(refusal.what.contains("app-1 has a pending undo"), "{refusal}")
        }
        other => panic!("a host that owes something is deployed to: {other:?}"),
    }

    // It is handed out again and again; as soon as the host can do it, it is done.
    fixture.hosts.unscript();
    until_nothing_is_owed(&fixture).await;
    assert_eq!(fixture.hosts.effects().last().map(String::as_str), Some("stop undo"));
    let told = audit::list(&*fixture.store, Some(&environment()), 10).await.expect("read");
    assert!(told.iter().any(|entry| entry.verb == "pending undo"), "{told:?}");
    let next = fixture.deploy("notes:2").await;
    fixture.check_ended(&next, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_is_skipped_only_where_no_rule_is_broken_and_by_somebody() {
    let (fixture, drivers, id) = stuck_at_the_start().await;
    let refused = resolve(&fixture, &id, Resolution::Skip { step: StepId(2) }).await;
    assert!(
        matches!(&refused, Err(DeployError::Refused(refusal)) if refusal.why.contains("s3")),
        "{refused:?}"
    );
    // What is chosen is in the record: a successor does it.
    drop(drivers);
    resolve(&fixture, &id, Resolution::Skip { step: StepId(3) }).await.expect("it is wished for");
    let _successor = fixture.drivers();
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    let entries = history::journal(&*fixture.store, &id).await.expect("read");
    let skipped = Event::UndoDeferred { step: StepId(3), how: Deferral::Skipped { by: anna().operator } };
    assert!(entries.iter().any(|entry| entry.event == skipped), "the journal does not say who skipped it");
    assert_eq!(owed(&fixture).await, []);
    fixture.hosts.unscript();
    let next = fixture.deploy("notes:2").await;
    fixture.check_ended(&next, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

/// A deployment that is stuck because its switch cannot be taken back, and the switch.
async fn stuck_at_the_switch() -> (Fixture, tokio::task::JoinSet<()>, DeploymentId, StepId) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    fixture.hosts.script("bake", Direction::Do, Does::Fails);
    fixture.hosts.script("switch", Direction::Undo, Does::Fails);
    let (id, plan) = fixture.start("notes:2").await.expect("it starts");
    fixture.until(is_stuck).await;
    let switch = plan.steps().find(|step| step.action.name() == "switch").expect("it switches").id;
    (fixture, drivers, id, switch)
}

/// A way out that would leave the traffic where it is, is refused, and what has the traffic goes on.
async fn check_traffic_stays(fixture: &Fixture, id: &DeploymentId, way: Resolution) {
    match resolve(fixture, id, way).await {
        Err(DeployError::Refused(refusal)) => {
            assert!(refusal.why.contains("does not end with the traffic"), "{refusal}");
        }
        other => panic!("the traffic is left where it is: {other:?}"),
    }
    assert!(!fixture.hosts.effects().contains(&"stop undo".to_owned()), "what has the traffic was stopped");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_not_left_behind() {
    let (fixture, _drivers, id, _) = stuck_at_the_switch().await;
    check_traffic_stays(&fixture, &id, Resolution::Unwind).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_not_skipped() {
    let (fixture, _drivers, id, step) = stuck_at_the_switch().await;
    check_traffic_stays(&fixture, &id, Resolution::Skip { step }).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_tried_again() {
    let (fixture, _drivers, id, _) = stuck_at_the_switch().await;
    fixture.hosts.unscript();
    resolve(&fixture, &id, Resolution::Retry).await.expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_host_that_is_gone_has_to_take_back_is_owed_until_it_is_back() {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    fixture.until_begun(&id, 4).await;
    let gone_at = fixture.parts.clock.now();
    fixture.hosts.absent(&host_id());
    claims::cancel(&fixture.parts, &environment(), &id, &anna()).await.expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    let took = summary.ended_at.expect("it has ended").since(gone_at);
    assert!(took >= Millis::from_secs(60) && took < Millis::from_secs(70), "a host is gone after {took}");
    let pending_undos = owed(&fixture).await;
    let steps: Vec<u16> = pending_undos.iter().map(|debt| debt.key.step.0).collect();
    assert_eq!(steps, [4, 3], "newest first");
    // Nobody pays while it is away, whoever drives.
    drop(drivers);
    let _successor = fixture.drivers();
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(owed(&fixture).await.len(), 2);
    fixture.hosts.unscript();
    fixture.hosts.present(&host_id());
    until_nothing_is_owed(&fixture).await;
    let effects = fixture.hosts.effects();
    assert_eq!(effects[effects.len() - 2..], ["nothing undo", "stop undo"]);
    let left = fixture.store.list(&keys::assignments_to(&host_id())).await;
    assert_eq!(left.expect("listed").len(), 0, "it is still handed out");
    let next = fixture.deploy("notes:2").await;
    fixture.check_ended(&next, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

/// A deployment that has ended and left one undo pending.
async fn one_owed() -> (Fixture, tokio::task::JoinSet<()>, DeploymentId) {
    let (fixture, drivers, id) = stuck_at_the_start().await;
    resolve(&fixture, &id, Resolution::Unwind).await.expect("it is wished for");
    fixture.ended(&id).await;
    assert_eq!(owed(&fixture).await.len(), 1);
    (fixture, drivers, id)
}

#[tokio::test(start_paused = true)]
async fn a_debt_goes_with_an_operator_who_answers_for_it() {
    let (fixture, _drivers, id) = one_owed().await;
    fixture.hosts.absent(&host_id());
    let forgiven = pending_undos::drop_for_host(&*fixture.store, &environment(), &id, StepId(3), "c1").await;
    forgiven.expect("the store answers").expect("it was owed");
    until_nothing_is_owed(&fixture).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_debt_goes_with_its_host() {
    let (fixture, _drivers, _) = one_owed().await;
    joined::remove(&*fixture.store, &host_id()).await.expect("removed");
    until_nothing_is_owed(&fixture).await;
    fixture.shut_down().await;
}
