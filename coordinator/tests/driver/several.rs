//! Several app hosts: how an environment grows, and what is refused.

use std::collections::BTreeSet;

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::{DeployError, PlanRequest, RequestedOperation, StartRequest};
use lockstep_coordinator::record::history;
use lockstep_core::host::HostRole;
use lockstep_core::name::HostName;
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::ChangedSite;
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::{EnvironmentSpec, HostRoles};

use crate::fixture::{Fixture, anna, environment, spec};
use crate::hosts::Does;

fn on(app: &[&str]) -> EnvironmentSpec {
    let name = |name: &&str| name.parse().expect("a name");
    let lb = vec![name(&"app-1")];
    EnvironmentSpec { hosts: HostRoles { app: app.iter().map(name).collect(), lb, db: Vec::new() }, ..spec() }
}

fn hosts_of(plan: &Plan) -> BTreeSet<&str> {
    plan.steps().map(|step| HostName::as_str(&step.host_name)).collect()
}

async fn plan(fixture: &Fixture, what: RequestedOperation) -> Result<Plan, DeployError> {
    fixture.plan(&PlanRequest { environment: environment(), what }).await
}

#[tokio::test(start_paused = true)]
async fn a_second_host_that_never_served_has_no_part_in_a_rollback() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(on(&["app-1"]), "notes:1").await;
    fixture.deploy_as(on(&["app-1"]), "notes:2").await;
    let second = fixture.join("app-2", 2).await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let failed = fixture.deploy_as(on(&["app-1", "app-2"]), "notes:3").await;
    assert_eq!(failed.verdict, Some(Verdict::RolledBack));
    fixture.hosts.unscript();
    // It is declared, and away.
    fixture.hosts.absent(&second);
    let rollback =
        plan(&fixture, RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused })
            .await
            .expect("a plan");
    assert_eq!(rollback.release.image, "notes:1");
    assert_eq!(hosts_of(&rollback), BTreeSet::from(["app-1"]));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_on_every_host_that_serves_and_none_of_them_is_left_out() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(on(&["app-1"]), "notes:1").await;
    fixture.join("app-2", 2).await;
    let grown = fixture.deploy_as(on(&["app-1", "app-2"]), "notes:2").await;
    fixture.check_ended(&grown, Verdict::Succeeded).await;
    let ask = Fixture::ask(on(&["app-1"]), "notes:3");
    let Err(DeployError::Refused(refusal)) = fixture.plan(&ask).await else {
        panic!("a host that serves is left out");
    };
    assert_eq!(refusal.what, "app-2 serves notes/production, but deployment.yml does not name it");
    let ask = PlanRequest {
        environment: environment(),
        what: RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused },
    };
    let start = StartRequest::of(ask);
    let (id, back) = planning::start(&fixture.parts, &start, &anna()).await.expect("it starts");
    assert_eq!(hosts_of(&back), BTreeSet::from(["app-1", "app-2"]));
    fixture.check_ended(&fixture.ended(&id).await, Verdict::Succeeded).await;
}

/// More hosts than a transaction has operations for, and a plan that is larger than a value may be.
#[tokio::test(start_paused = true)]
async fn a_deployment_to_very_many_hosts_is_opened_and_ends() {
    let mut fixture = Fixture::new().await;
    let mut names = vec!["app-1".to_owned()];
    for number in 2..=150 {
        names.push(format!("app-{number}"));
        fixture.join(&names[names.len() - 1], number).await;
    }
    let _drivers = fixture.drivers();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let planned = fixture.plan(&Fixture::ask(on(&names), "notes:1")).await.expect("a plan");
    let first = fixture.deploy_as(on(&names), "notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    let kept = history::plan(&*fixture.store, &first.id).await.expect("read").expect("it is kept");
    assert_eq!(kept, planned, "what was shown is what ran, ports and all");
    assert!(kept.steps().count() > 5 * 100, "there are many steps");
    let starts = first.steps.iter().filter(|step| step.name == "start").count();
    assert_eq!(starts, 100, "some times stand for all");
    let second = fixture.deploy_as(on(&names), "notes:2").await;
    fixture.check_ended(&second, Verdict::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn a_role_that_nobody_declared_is_required_of_no_host() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    for (name, number) in [("app-2", 2), ("app-3", 3), ("app-4", 4)] {
        fixture.join_as(name, number, &[HostRole::App]).await;
    }
    for image in ["notes:1", "notes:2"] {
        let deployed = fixture.deploy_as(on(&["app-2", "app-3"]), image).await;
        fixture.check_ended(&deployed, Verdict::Succeeded).await;
    }
    let name = |name: &str| -> HostName { name.parse().expect("a name") };
    for what in [
        RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused },
        RequestedOperation::AddHost(name("app-4")),
        RequestedOperation::DrainHost(name("app-2")),
        RequestedOperation::RemoveHost(name("app-3")),
    ] {
        let planned = plan(&fixture, what.clone()).await.unwrap_or_else(|error| panic!("{what:?}: {error}"));
        assert!(planned.spec.hosts.db.is_empty(), "{what:?}: {:?}", planned.spec.hosts);
    }
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_without_a_database_grows_without_a_host_for_one() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    fixture.join_as("app-2", 2, &[HostRole::App]).await;
    let grown = plan(&fixture, RequestedOperation::AddHost("app-2".parse().expect("a name"))).await;
    let hosts = grown.expect("a plan").spec.hosts;
    assert_eq!((hosts.lb.len(), hosts.db.len()), (1, 0), "{hosts:?}");
    fixture.shut_down().await;
}
