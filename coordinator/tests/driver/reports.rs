//! A report counts only from the host to which its token was assigned, for that step.

use lockstep_coordinator::store::guarded::{ReportAcceptance, report};
use lockstep_coordinator::store::handover::{Assignment, Report, Reported};
use lockstep_coordinator::store::{Store, keys};
use lockstep_core::id::{HostId, StepId};
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey, Verdict};

use crate::fixture::{Fixture, environment, host_id};
use crate::hosts::Does;

/// A deployment whose check of health is assigned and not carried out, and a host that has no part in it.
async fn assigned() -> (Fixture, tokio::task::JoinSet<()>, HostId, Report) {
    let fixture = Fixture::new().await;
    let other = format!("host_{:026}", 2).parse().expect("a host's id");
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, plan) = fixture.start("notes:1").await.expect("it starts");
    let health = plan.steps().find(|step| step.action.name() == "health").expect("it checks").id;
    fixture.until_begun(&id, health.0).await;
    let there = fixture.store.list(&keys::assignments_to(&host_id())).await.expect("listed");
    let assignments = there.iter().map(|stored| stored.read::<Assignment>().expect("an assignment"));
    let Assignment { token, key, environment, .. } =
        assignments.into_iter().find(|assignment| assignment.key.step == health).expect("it is assigned");
    let outcome = Reported::Done(Finding::default());
    (fixture, drivers, other, Report { token, key, environment, outcome })
}

async fn said_by(fixture: &Fixture, host: &HostId, said: &Report) -> ReportAcceptance {
    report(&*fixture.store, host, said).await.expect("a memory store")
}

#[tokio::test(start_paused = true)]
async fn another_host_cannot_report_a_step_as_done() {
    let (fixture, _drivers, other, said) = assigned().await;
    assert_eq!(said_by(&fixture, &other, &said).await, ReportAcceptance::NotAssigned);
    assert!(fixture.store.list(&keys::reports(&environment())).await.expect("listed").is_empty());
    assert_eq!(said_by(&fixture, &host_id(), &said).await, ReportAcceptance::Written);
    fixture.hosts.unscript();
    let id = said.key.deployment.clone();
    assert_eq!(fixture.ended(&id).await.verdict, Some(Verdict::Succeeded));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_cannot_take_the_place_of_a_report_that_is_to_come() {
    let (fixture, _drivers, other, said) = assigned().await;
    let mut later = said.clone();
    later.token.seq += 1;
    for host in [&host_id(), &other] {
        assert_eq!(said_by(&fixture, host, &later).await, ReportAcceptance::NotAssigned);
    }
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_reported_first_counts() {
    let (fixture, drivers, _, said) = assigned().await;
    // Nobody takes the report in.
    drop(drivers);
    assert_eq!(said_by(&fixture, &host_id(), &said).await, ReportAcceptance::Written);
    let other = Report { outcome: Reported::Failed(StepFailure::new("it broke")), ..said.clone() };
    assert_eq!(said_by(&fixture, &host_id(), &other).await, ReportAcceptance::NotNeeded);
    let there = fixture.store.list(&keys::reports(&environment())).await.expect("listed");
    let there: Vec<Report> = there.iter().map(|stored| stored.read().expect("a report")).collect();
    assert_eq!(there, [said]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_its_own_step_only() {
    let (fixture, _drivers, _, said) = assigned().await;
    let key = StepKey { step: StepId(said.key.step.0 + 1), ..said.key.clone() };
    let of_next = Report { key, ..said };
    assert_eq!(said_by(&fixture, &host_id(), &of_next).await, ReportAcceptance::NotAssigned);
    fixture.shut_down().await;
}
