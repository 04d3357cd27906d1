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

use crate::hosts::Does;
use crate::world::{World, anna, environment, spec};

fn on(app: &[&str]) -> EnvironmentSpec {
    let name = |name: &&str| name.parse().expect("a name");
    let lb = vec![name(&"app-1")];
    EnvironmentSpec { hosts: HostRoles { app: app.iter().map(name).collect(), lb, db: Vec::new() }, ..spec() }
}

fn hosts_of(plan: &Plan) -> BTreeSet<&str> {
    plan.steps().map(|step| HostName::as_str(&step.host_name)).collect()
}

async fn plan(world: &World, what: RequestedOperation) -> Result<Plan, DeployError> {
    planning::plan(&world.parts, &PlanRequest { environment: environment(), what }).await
}

#[tokio::test(start_paused = true)]
async fn a_second_host_that_never_served_has_no_part_in_a_rollback() {
    let mut world = World::new().await;
    let _drivers = world.drivers();
    world.deploy_as(on(&["app-1"]), "notes:1").await;
    world.deploy_as(on(&["app-1"]), "notes:2").await;
    let second = world.join("app-2", 2).await;
    world.hosts.script("health", Direction::Do, Does::Fails);
    let failed = world.deploy_as(on(&["app-1", "app-2"]), "notes:3").await;
    assert_eq!(failed.verdict, Some(Verdict::RolledBack));
    world.hosts.unscript();
    // It is declared, and away.
    world.hosts.absent(&second);
    let rollback =
        plan(&world, RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused })
            .await
            .expect("a plan");
    assert_eq!(rollback.release.image, "notes:1");
    assert_eq!(hosts_of(&rollback), BTreeSet::from(["app-1"]));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_on_every_host_that_serves_and_none_of_them_is_left_out() {
    let mut world = World::new().await;
    let _drivers = world.drivers();
    world.deploy_as(on(&["app-1"]), "notes:1").await;
    world.join("app-2", 2).await;
    let grown = world.deploy_as(on(&["app-1", "app-2"]), "notes:2").await;
    world.check_ended(&grown, Verdict::Succeeded).await;
    let ask = World::ask(on(&["app-1"]), "notes:3");
    let Err(DeployError::Refused(refusal)) = planning::plan(&world.parts, &ask).await else {
        panic!("a host that serves is left out");
    };
    assert_eq!(refusal.what, "app-2 serves notes/production, but deployment.yml does not name it");
    let ask = PlanRequest {
        environment: environment(),
        what: RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused },
    };
    let start = StartRequest { ask, hash: None, claim: None };
    let (id, back) = planning::start(&world.parts, &start, &anna()).await.expect("it starts");
    assert_eq!(hosts_of(&back), BTreeSet::from(["app-1", "app-2"]));
    world.check_ended(&world.ended(&id).await, Verdict::Succeeded).await;
}

/// More hosts than a transaction has operations for, and a plan that is larger than a value may be.
#[tokio::test(start_paused = true)]
async fn a_deployment_to_very_many_hosts_is_opened_and_ends() {
    let mut world = World::new().await;
    let mut names = vec!["app-1".to_owned()];
    for number in 2..=150 {
        names.push(format!("app-{number}"));
        world.join(&names[names.len() - 1], number).await;
    }
    let _drivers = world.drivers();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let planned = planning::plan(&world.parts, &World::ask(on(&names), "notes:1")).await.expect("a plan");
    let first = world.deploy_as(on(&names), "notes:1").await;
    world.check_ended(&first, Verdict::Succeeded).await;
    let kept = history::plan(&*world.store, &first.id).await.expect("read").expect("it is kept");
    assert_eq!(kept, planned, "what was shown is what ran, ports and all");
    assert!(kept.steps().count() > 5 * 100, "there are many steps");
    let starts = first.steps.iter().filter(|step| step.name == "start").count();
    assert_eq!(starts, 100, "some times stand for all");
    let second = world.deploy_as(on(&names), "notes:2").await;
    world.check_ended(&second, Verdict::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn a_role_that_nobody_declared_is_required_of_no_host() {
    let mut world = World::new().await;
    let _drivers = world.drivers();
    for (name, number) in [("app-2", 2), ("app-3", 3), ("app-4", 4)] {
        world.join_as(name, number, &[HostRole::App]).await;
    }
    for image in ["notes:1", "notes:2"] {
        let deployed = world.deploy_as(on(&["app-2", "app-3"]), image).await;
        world.check_ended(&deployed, Verdict::Succeeded).await;
    }
    let name = |name: &str| -> HostName { name.parse().expect("a name") };
    for what in [
        RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused },
        RequestedOperation::AddHost(name("app-4")),
        RequestedOperation::DrainHost(name("app-2")),
        RequestedOperation::RemoveHost(name("app-3")),
    ] {
        let planned = plan(&world, what.clone()).await.unwrap_or_else(|error| panic!("{what:?}: {error}"));
        assert!(planned.spec.hosts.db.is_empty(), "{what:?}: {:?}", planned.spec.hosts);
    }
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_without_a_database_grows_without_a_host_for_one() {
    let mut world = World::new().await;
    let _drivers = world.drivers();
    world.deploy("notes:1").await;
    world.join_as("app-2", 2, &[HostRole::App]).await;
    let grown = plan(&world, RequestedOperation::AddHost("app-2".parse().expect("a name"))).await;
    let hosts = grown.expect("a plan").spec.hosts;
    assert_eq!((hosts.lb.len(), hosts.db.len()), (1, 0), "{hosts:?}");
    world.shut_down().await;
}
