//! What an environment may use outside of its containers is decided before a host is asked anything.

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::grants::{Authority, GrantChange, change_grant};
use lockstep_coordinator::planning::{PlanRequest, RequestedOperation, Requester, StartRequest};
use lockstep_coordinator::record::environments;
use lockstep_coordinator::store::guarded::{Accompanying, OwnedWrite, give_away};
use lockstep_coordinator::store::keys;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::grant::{HostPath, Resource, Widening};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::{EnvironmentSpec, HostRoles, Volume, VolumeAccess, VolumeScope};

use crate::fixture::{self, Fixture, anna, environment, spec};

/// An operator whose scope is this application, and who may not widen grants.
fn deployer() -> Requester {
    Requester { operator: "bob".parse().expect("a name"), authority: Authority::Deployer, ..anna() }
}

fn shop() -> EnvironmentSpec {
    let key = "shop/production".parse().expect("a key");
    EnvironmentSpec { key, url: "http://shop.example".to_owned(), database: None, ..spec() }
}

/// The declaration with a path of the host in its web containers.
fn with_path(mut spec: EnvironmentSpec, path: &str) -> EnvironmentSpec {
    let volume = Volume {
        source: path.to_owned(),
        target: "/host".to_owned(),
        access: VolumeAccess::ReadWrite,
        scope: VolumeScope::NotSaid,
    };
    for process in spec.processes.values_mut() {
        process.volumes = vec![volume.clone()];
    }
    spec
}

fn request(spec: EnvironmentSpec, widening: Option<&Widening>) -> StartRequest {
    let grant = widening.map(|widening| widening.hash(&spec.key));
    StartRequest { ask: Fixture::ask(spec, "notes:1"), hash: None, claim: None, grant }
}

async fn refused(fixture: &Fixture, start: &StartRequest, by: &Requester) -> Refusal {
    fixture::refused(planning::start(&fixture.parts, start, by).await)
}

async fn granted(fixture: &Fixture, environment: &EnvironmentKey) -> Vec<String> {
    let grant = environments::grant(&*fixture.store, environment).await.expect("read").expect("a grant");
    grant.content.resources.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deployer_cannot_begin_an_environment_that_nobody_granted() {
    let fixture = Fixture::new().await;
    let refusal = refused(&fixture, &request(shop(), None), &deployer()).await;
    assert_eq!(refusal.what, "shop/production is not granted what its declaration uses");
    let command = "lockstep env grant shop/production --host app-1 --site-name shop.example";
    assert!(refusal.next.ends_with(command), "{refusal:?}");
    assert_eq!(fixture.hosts.questions(), 0, "a host was asked");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_deployment_of_an_administrator_grants_hosts_and_names() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    assert_eq!(fixture.deploy_as(shop(), "notes:1").await.verdict, Some(Verdict::Succeeded));
    assert_eq!(granted(&fixture, &shop().key).await, ["host app-1", "host name shop.example"]);
    let again = request(shop(), None);
    planning::start(&fixture.parts, &again, &deployer())
        .await
        .expect("a deployer may deploy what is granted");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_deployment_of_an_administrator_grants_nothing_unasked() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(shop(), "notes:1").await;
    let elsewhere = EnvironmentSpec { url: "http://other.example".to_owned(), ..shop() };
    let refusal = refused(&fixture, &request(elsewhere, None), &anna()).await;
    assert_eq!(refusal.why, "its declaration uses: host name other.example");
    assert_eq!(granted(&fixture, &shop().key).await, ["host app-1", "host name shop.example"]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_of_a_host_needs_the_hash_of_exactly_that_widening() {
    let fixture = Fixture::new().await;
    let wanted = with_path(shop(), "/root/.ssh");
    let proposed = planning::plan(&fixture.parts, &Fixture::ask(wanted.clone(), "notes:1"), &anna()).await;
    let widening = proposed.expect("an administrator sees the plan").widening;
    assert_eq!(widening.to_string(), "/root/.ssh of its hosts, to read and write");
    let hash = widening.hash(&wanted.key);
    let refusal = refused(&fixture, &request(wanted.clone(), None), &anna()).await;
    assert!(refusal.next.ends_with(&format!("--grant {hash}")), "{refusal:?}");
    let other = with_path(shop(), "/");
    let refusal = refused(&fixture, &request(other, Some(&widening)), &anna()).await;
    assert!(refusal.what.contains("has changed"), "{refusal:?}");
    planning::start(&fixture.parts, &request(wanted.clone(), Some(&widening)), &anna())
        .await
        .expect("granted");
    assert!(granted(&fixture, &wanted.key).await.contains(&widening.to_string()));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployer_cannot_accept_a_widening() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(shop(), "notes:1").await;
    let wanted = with_path(shop(), "/");
    let proposed = planning::plan(&fixture.parts, &Fixture::ask(wanted.clone(), "notes:1"), &anna()).await;
    let widening = proposed.expect("a plan").widening;
    for start in [request(wanted.clone(), None), request(wanted, Some(&widening))] {
        let refusal = refused(&fixture, &start, &deployer()).await;
        assert!(refusal.why.contains("bob cannot grant it"), "{refusal:?}");
    }
    let elsewhere = EnvironmentSpec { url: "http://notes.example".to_owned(), ..shop() };
    let refusal = refused(&fixture, &request(elsewhere, None), &deployer()).await;
    assert!(refusal.why.contains("host name notes.example"), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_granted_is_not_asked() {
    let mut fixture = Fixture::new().await;
    fixture.join("app-2", 2).await;
    let mut wanted = shop();
    wanted.hosts.app = vec!["app-2".parse().expect("a name")];
    wanted.hosts.lb = wanted.hosts.app.clone();
    let refusal = refused(&fixture, &request(wanted, None), &deployer()).await;
    assert!(refusal.why.contains("host app-2"), "{refusal:?}");
    assert_eq!(fixture.hosts.questions(), 0);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_is_added_only_where_it_is_granted() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let on_first = HostRoles { app: vec!["app-1".parse().expect("a name")], ..HostRoles::default() };
    let lb = on_first.app.clone();
    let wanted = EnvironmentSpec { hosts: HostRoles { lb, ..on_first }, ..shop() };
    fixture.deploy_as(wanted, "notes:1").await;
    fixture.join("app-2", 2).await;
    let questions = fixture.hosts.questions();
    let what = RequestedOperation::AddHost("app-2".parse().expect("a name"));
    let add = StartRequest::of(PlanRequest { environment: shop().key, what });
    let refusal = refused(&fixture, &add, &deployer()).await;
    assert!(refusal.next.ends_with("lockstep env grant shop/production --host app-2"), "{refusal:?}");
    assert_eq!(fixture.hosts.questions(), questions, "a host was asked");
    let refusal = refused(&fixture, &add, &anna()).await;
    assert!(refusal.next.starts_with("lockstep host add shop/production app-2 --grant "), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_while_a_deployment_is_planned_is_not_used() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(shop(), "notes:1").await;
    let path =
        Resource::HostPath(HostPath { path: "/srv/uploads".to_owned(), access: VolumeAccess::ReadWrite });
    fixture.grant(&shop().key, path.clone()).await;
    let gate = fixture.hosts.hold_next_look();
    let (start, by) = (request(with_path(shop(), "/srv/uploads"), None), deployer());
    let revoking = async {
        gate.begun.notified().await;
        let change = GrantChange { revoked: vec![path], ..GrantChange::default() };
        change_grant(&*fixture.store, &shop().key, &change).await.expect("revoked");
        gate.end.notify_one();
    };
    let (started, ()) = tokio::join!(planning::start(&fixture.parts, &start, &by), revoking);
    let refusal = fixture::refused(started);
    assert!(refusal.why.contains("not granted: /srv/uploads"), "{refusal:?}");
    fixture.shut_down().await;
}

/// As if a version without grants had deployed it.
async fn forget_grant(fixture: &Fixture, environment: &EnvironmentKey) {
    let writes = vec![OwnedWrite::delete(keys::grant(environment))];
    let with = Accompanying { guards: Vec::new(), writes };
    give_away(&*fixture.store, environment, with).await.expect("a memory store");
}

#[tokio::test(start_paused = true)]
async fn what_was_live_before_there_were_grants_goes_on_but_for_paths_of_hosts() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(spec(), "notes:1").await;
    forget_grant(&fixture, &environment()).await;
    planning::start(&fixture.parts, &request(spec(), None), &deployer()).await.expect("it goes on");
    let granted = granted(&fixture, &environment()).await;
    assert!(granted.contains(&"host name notes.example".to_owned()), "{granted:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_from_before_there_were_grants_is_confirmed_by_an_administrator() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let wanted = with_path(shop(), "/srv/uploads");
    let path =
        Resource::HostPath(HostPath { path: "/srv/uploads".to_owned(), access: VolumeAccess::ReadWrite });
    fixture.grant(&wanted.key, path).await;
    fixture.deploy_as(wanted.clone(), "notes:1").await;
    forget_grant(&fixture, &wanted.key).await;
    let refusal = refused(&fixture, &request(wanted.clone(), None), &deployer()).await;
    assert!(refusal.next.ends_with("--path /srv/uploads"), "{refusal:?}");
    let refusal = refused(&fixture, &request(wanted, None), &anna()).await;
    assert!(refusal.next.contains("--grant "), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_uses_what_was_revoked_is_not_rolled_back_to() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let path =
        Resource::HostPath(HostPath { path: "/srv/uploads".to_owned(), access: VolumeAccess::ReadWrite });
    fixture.grant(&shop().key, path.clone()).await;
    let first = fixture.deploy_as(with_path(shop(), "/srv/uploads"), "notes:1").await;
    fixture.deploy_as(shop(), "notes:2").await;
    let change = GrantChange { revoked: vec![path], ..GrantChange::default() };
    change_grant(&*fixture.store, &shop().key, &change).await.expect("revoked");
    let what = RequestedOperation::Rollback {
        to: Some(first.id.to_string()),
        changed_site: lockstep_core::plan::operation::ChangedSite::Refused,
    };
    let ask = PlanRequest { environment: shop().key, what };
    let start = StartRequest::of(ask);
    let refusal = refused(&fixture, &start, &anna()).await;
    assert!(refusal.why.contains("/srv/uploads"), "{refusal:?}");
    fixture.shut_down().await;
}
