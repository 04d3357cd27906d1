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

use crate::hosts::Does;
use crate::world::{LIMIT, World, anna, environment, host_id, spec};

fn is_stuck(open: Option<&Claim>) -> bool {
    matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))
}

async fn owed(world: &World) -> Vec<PendingUndo> {
    pending_undos::list(&*world.store).await.expect("read")
}

async fn until_nothing_is_owed(world: &World) {
    let wait = async {
        while !owed(world).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(LIMIT, wait).await.is_err() {
        panic!("it stays owed: {:?}", owed(world).await);
    }
}

/// A deployment whose health check failed, and whose start cannot be taken back.
async fn stuck_at_the_start() -> (World, tokio::task::JoinSet<()>, DeploymentId) {
    let world = World::new().await;
    let drivers = world.drivers();
    world.hosts.script("health", Direction::Do, Does::Fails);
    world.hosts.script("stop", Direction::Undo, Does::Fails);
    let (id, _) = world.start("notes:1").await.expect("it starts");
    world.until(is_stuck).await;
    (world, drivers, id)
}

async fn resolve(world: &World, id: &DeploymentId, way: Resolution) -> Result<String, DeployError> {
    claims::resolve(&world.parts, (&environment(), id), way, &anna()).await
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_is_owed_by_its_host_and_paid_before_it_is_deployed_to() {
    let (world, _drivers, id) = stuck_at_the_start().await;
    let seen = status::load_status(&world.parts, &spec()).await.expect("read");
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

    resolve(&world, &id, Resolution::Unwind).await.expect("it is wished for");
    let summary = world.ended(&id).await;
    world.check_ended(&summary, Verdict::RolledBack).await;
    let seen = status::load_status(&world.parts, &spec()).await.expect("read");
    let [debt] = seen.pending_undos.as_slice() else { panic!("{:?}", seen.pending_undos) };
    assert_eq!(
        (&debt.key.deployment, &debt.host, debt.by.as_ref()),
        (&id, &host_id(), Some(&anna().operator))
    );
    let of_hosts = status::all_hosts(&world.parts).await.expect("read");
    assert_eq!(of_hosts[0].pending_undos.len(), 1, "the host is not named with it");
    match world.start("notes:2").await {
        Err(DeployError::Refused(refusal)) => {
            assert!(refusal.what.contains("app-1 has a pending undo"), "{refusal}")
        }
        other => panic!("a host that owes something is deployed to: {other:?}"),
    }

    // It is handed out again and again; as soon as the host can do it, it is done.
    world.hosts.unscript();
    until_nothing_is_owed(&world).await;
    assert_eq!(world.hosts.effects().last().map(String::as_str), Some("stop undo"));
    let told = audit::list(&*world.store, Some(&environment()), 10).await.expect("read");
    assert!(told.iter().any(|entry| entry.verb == "pending undo"), "{told:?}");
    let next = world.deploy("notes:2").await;
    world.check_ended(&next, Verdict::Succeeded).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_is_skipped_only_where_no_rule_is_broken_and_by_somebody() {
    let (world, drivers, id) = stuck_at_the_start().await;
    let refused = resolve(&world, &id, Resolution::Skip { step: StepId(2) }).await;
    assert!(
        matches!(&refused, Err(DeployError::Refused(refusal)) if refusal.why.contains("s3")),
        "{refused:?}"
    );
    // What is chosen is in the record: a successor does it.
    drop(drivers);
    resolve(&world, &id, Resolution::Skip { step: StepId(3) }).await.expect("it is wished for");
    let _successor = world.drivers();
    let summary = world.ended(&id).await;
    world.check_ended(&summary, Verdict::RolledBack).await;
    let entries = history::journal(&*world.store, &id).await.expect("read");
    let skipped = Event::UndoDeferred { step: StepId(3), how: Deferral::Skipped { by: anna().operator } };
    assert!(entries.iter().any(|entry| entry.event == skipped), "the journal does not say who skipped it");
    assert_eq!(owed(&world).await, []);
    world.hosts.unscript();
    let next = world.deploy("notes:2").await;
    world.check_ended(&next, Verdict::Succeeded).await;
    world.shut_down().await;
}

/// A deployment that is stuck because its switch cannot be taken back, and the switch.
async fn stuck_at_the_switch() -> (World, tokio::task::JoinSet<()>, DeploymentId, StepId) {
    let world = World::new().await;
    let drivers = world.drivers();
    let first = world.deploy("notes:1").await;
    world.check_ended(&first, Verdict::Succeeded).await;
    world.hosts.script("bake", Direction::Do, Does::Fails);
    world.hosts.script("switch", Direction::Undo, Does::Fails);
    let (id, plan) = world.start("notes:2").await.expect("it starts");
    world.until(is_stuck).await;
    let switch = plan.steps().find(|step| step.action.name() == "switch").expect("it switches").id;
    (world, drivers, id, switch)
}

/// A way out that would leave the traffic where it is, is refused, and what has the traffic goes on.
async fn check_traffic_stays(world: &World, id: &DeploymentId, way: Resolution) {
    match resolve(world, id, way).await {
        Err(DeployError::Refused(refusal)) => {
            assert!(refusal.why.contains("does not end with the traffic"), "{refusal}");
        }
        other => panic!("the traffic is left where it is: {other:?}"),
    }
    assert!(!world.hosts.effects().contains(&"stop undo".to_owned()), "what has the traffic was stopped");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_not_left_behind() {
    let (world, _drivers, id, _) = stuck_at_the_switch().await;
    check_traffic_stays(&world, &id, Resolution::Unwind).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_not_skipped() {
    let (world, _drivers, id, step) = stuck_at_the_switch().await;
    check_traffic_stays(&world, &id, Resolution::Skip { step }).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_taken_back_is_tried_again() {
    let (world, _drivers, id, _) = stuck_at_the_switch().await;
    world.hosts.unscript();
    resolve(&world, &id, Resolution::Retry).await.expect("it is wished for");
    let summary = world.ended(&id).await;
    world.check_ended(&summary, Verdict::RolledBack).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_host_that_is_gone_has_to_take_back_is_owed_until_it_is_back() {
    let world = World::new().await;
    let drivers = world.drivers();
    world.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = world.start("notes:1").await.expect("it starts");
    world.until_begun(&id, 4).await;
    let gone_at = world.parts.clock.now();
    world.hosts.absent(&host_id());
    claims::cancel(&world.parts, &environment(), &id, &anna()).await.expect("it is wished for");
    let summary = world.ended(&id).await;
    world.check_ended(&summary, Verdict::RolledBack).await;
    let took = summary.ended_at.expect("it has ended").since(gone_at);
    assert!(took >= Millis::from_secs(60) && took < Millis::from_secs(70), "a host is gone after {took}");
    let pending_undos = owed(&world).await;
    let steps: Vec<u16> = pending_undos.iter().map(|debt| debt.key.step.0).collect();
    assert_eq!(steps, [4, 3], "newest first");
    // Nobody pays while it is away, whoever drives.
    drop(drivers);
    let _successor = world.drivers();
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(owed(&world).await.len(), 2);
    world.hosts.unscript();
    world.hosts.present(&host_id());
    until_nothing_is_owed(&world).await;
    let effects = world.hosts.effects();
    assert_eq!(effects[effects.len() - 2..], ["nothing undo", "stop undo"]);
    let left = world.store.list(&keys::assignments_to(&host_id())).await;
    assert_eq!(left.expect("listed").len(), 0, "it is still handed out");
    let next = world.deploy("notes:2").await;
    world.check_ended(&next, Verdict::Succeeded).await;
    world.shut_down().await;
}

/// A deployment that has ended and left one undo pending.
async fn one_owed() -> (World, tokio::task::JoinSet<()>, DeploymentId) {
    let (world, drivers, id) = stuck_at_the_start().await;
    resolve(&world, &id, Resolution::Unwind).await.expect("it is wished for");
    world.ended(&id).await;
    assert_eq!(owed(&world).await.len(), 1);
    (world, drivers, id)
}

#[tokio::test(start_paused = true)]
async fn a_debt_goes_with_an_operator_who_answers_for_it() {
    let (world, _drivers, id) = one_owed().await;
    world.hosts.absent(&host_id());
    let forgiven = pending_undos::drop_for_host(&*world.store, &environment(), &id, StepId(3), "c1").await;
    forgiven.expect("the store answers").expect("it was owed");
    until_nothing_is_owed(&world).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_debt_goes_with_its_host() {
    let (world, _drivers, _) = one_owed().await;
    joined::remove(&*world.store, &host_id()).await.expect("removed");
    until_nothing_is_owed(&world).await;
    world.shut_down().await;
}
