//! How a deployment comes to be open: claims for a build, plans that moved, ports that nobody else has.

use std::collections::BTreeSet;

use lockstep_coordinator::context::Context;
use lockstep_coordinator::planning;
use lockstep_coordinator::planning::image_transfer::{self, ImageOffer};
use lockstep_coordinator::planning::{DeployError, Requester, StartRequest, claims};
use lockstep_coordinator::record::environments;
use lockstep_coordinator::store::guarded::{Accompanying, OwnedWrite, claim};
use lockstep_coordinator::store::{OPERATIONS_MAX, Store, keys};
use lockstep_core::id::Digest;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::{Direction, Verdict};
use lockstep_core::slot::Slot;
use lockstep_core::spec::{EnvironmentSpec, ImageSource};
use lockstep_core::time::{Millis, Timestamp};

use crate::fixture::{Fixture, anna, environment, host_id, refused, spec};
use crate::hosts::Does;

#[tokio::test(start_paused = true)]
async fn a_claim_for_a_build_becomes_the_deployment_and_keeps_its_time() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let claim = claims::claim_for_build(&fixture.parts, spec(), &anna()).await.expect("claimed");
    let claimed = fixture.open().await.expect("it is owned");
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(matches!(fixture.start("notes:1").await, Err(DeployError::Locked { .. })), "it is claimed");
    let start =
        StartRequest { claim: Some(claim.clone()), ..StartRequest::of(Fixture::ask(spec(), "notes:1")) };
    let (id, _) = planning::start(&fixture.parts, &start, &anna()).await.expect("it starts");
    assert_eq!(id, claim);
    let open = fixture.open().await.expect("it is owned");
    assert_eq!((open.since, open.until), (claimed.since, claimed.until), "its time began with the claim");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_back_or_runs_out_owns_nothing() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let claim = claims::claim_for_build(&fixture.parts, spec(), &anna()).await.expect("claimed");
    claims::unclaim(&fixture.parts, &environment(), &claim).await.expect("given back");
    assert_eq!(fixture.open().await, None);
    let claim = claims::claim_for_build(&fixture.parts, spec(), &anna()).await.expect("claimed");
    fixture.until(|open| open.is_none()).await;
    let start = StartRequest { claim: Some(claim), ..StartRequest::of(Fixture::ask(spec(), "notes:1")) };
    let refusal = refused(planning::start(&fixture.parts, &start, &anna()).await);
    assert!(refusal.what.ends_with("has ended"), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_planned_is_started_or_it_is_said_what_moved() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let ask = Fixture::ask(spec(), "notes:1");
    let planned = fixture.plan(&ask).await.expect("a plan");
    assert_eq!(fixture.plan(&ask).await.expect("a plan"), planned, "the same again");
    let start = |hash| StartRequest { hash: Some(hash), ..StartRequest::of(ask.clone()) };
    let (id, started) =
        planning::start(&fixture.parts, &start(planned.hash.clone()), &anna()).await.expect("it starts");
    assert_eq!(started, planned, "what runs is what was shown");
    fixture.ended(&id).await;
    let refusal = refused(planning::start(&fixture.parts, &start(planned.hash), &anna()).await);
    assert!(refusal.why.contains("the live state"), "{refusal:?}");
    assert!(!refusal.why.contains("the configuration"), "{refusal:?}");
    assert_eq!(fixture.open().await, None);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_declaration_is_said_before_anything_starts() {
    let fixture = Fixture::new().await;
    let broken = EnvironmentSpec { url: "gopher://notes".to_owned(), ..spec() };
    let refusal = refused(fixture.plan(&Fixture::ask(broken, "notes:1")).await);
    assert!(refusal.why.contains("url"), "{refusal:?}");
    let lacking = EnvironmentSpec { required: vec!["JWT_SECRET".to_owned()], ..spec() };
    let refusal = refused(fixture.plan(&Fixture::ask(lacking, "notes:1")).await);
    assert!(refusal.what.contains("JWT_SECRET"), "{refusal:?}");
    fixture.hosts.absent(&crate::fixture::host_id());
    let refusal = refused(fixture.plan(&Fixture::ask(spec(), "notes:1")).await);
    assert!(refusal.what.contains("app-1"), "{refusal:?}");
    assert_eq!(environments::declared(&*fixture.store).await.expect("read"), [], "a plan leaves nothing");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_while_a_deployment_is_open_names_who_holds_the_lock() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    // The traffic is switched, and what is recorded as live is the release before.
    fixture.hosts.script("bake", Direction::Do, Does::Waits);
    let (id, plan) = fixture.start("notes:2").await.expect("it starts");
    let bakes = plan.steps().find(|step| step.action.name() == "bake").expect("it bakes");
    fixture.until_begun(&id, bakes.id.0).await;
    match fixture.plan(&Fixture::ask(spec(), "notes:3")).await {
        Err(DeployError::Locked { open, .. }) => assert_eq!(open.deployment(), Some(&id)),
        other => panic!("it is planned, or refused for another reason: {other:?}"),
    }
    fixture.hosts.unscript();
    fixture.ended(&id).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_while_it_is_frozen_mentions_the_freeze() {
    let fixture = Fixture::new().await;
    let until = fixture.parts.clock.now() + Millis::from_secs(60);
    claims::freeze(&fixture.parts, &environment(), "the fair".to_owned(), until, &anna())
        .await
        .expect("frozen");
    let plan = fixture.plan(&Fixture::ask(spec(), "notes:1")).await.expect("a plan");
    let warning = plan.warnings.first().expect("it warns");
    assert!(warning.contains("frozen by anna") && warning.contains("the fair"), "{warning}");
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    let plan = fixture.plan(&Fixture::ask(spec(), "notes:1")).await.expect("a plan");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_has_moved_is_answered_with_the_command_that_shows_the_next() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let ask = Fixture::ask(spec(), "notes:1");
    let hash = fixture.plan(&ask).await.expect("a plan").hash;
    fixture.deploy("notes:2").await;
    let start = StartRequest { hash: Some(hash), ..StartRequest::of(ask) };
    let refusal = refused(planning::start(&fixture.parts, &start, &anna()).await);
    assert!(refusal.next.starts_with("lockstep plan notes/production --image notes:1 "), "{refusal:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_declared_without_a_tag_and_what_is_recorded_stays() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let tagged = EnvironmentSpec { image: ImageSource::Repository("notes:1.0.0".to_owned()), ..spec() };
    let refusal = refused(fixture.plan(&Fixture::ask(tagged.clone(), "notes:1")).await);
    assert!(refusal.why.contains("notes:1.0.0 has a tag"), "{refusal:?}");
    assert!(lockstep_core::spec::check::check(tagged).is_ok(), "an environment of before can be rolled back");
    fixture.shut_down().await;
}

/// It would be stored with every deployment: that it cannot be is known before anything is locked.
#[tokio::test(start_paused = true)]
async fn a_declaration_that_is_too_large_is_refused_by_its_plan() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let many = (0..30).map(|number| (format!("A{number}"), "x".repeat(60 * 1024)));
    let large = EnvironmentSpec { env: many.collect(), ..spec() };
    let ask = Fixture::ask(large.clone(), "notes:1");
    let refusal = refused(fixture.plan(&ask).await);
    assert!(refusal.why.contains("KiB with all defaults"), "{refusal:?}");
    assert!(refusal.next.starts_with("lockstep env check notes/production"), "{refusal:?}");
    assert_eq!(refused(planning::start(&fixture.parts, &StartRequest::of(ask), &anna()).await), refusal);
    assert_eq!(refused(claims::claim_for_build(&fixture.parts, large, &anna()).await), refusal);
    assert!(fixture.open().await.is_none(), "nothing is locked");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_sent_under_the_name_of_its_own_application_only() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let claim = claims::claim_for_build(&fixture.parts, spec(), &anna()).await.expect("claimed");
    let offer = |image: &str| ImageOffer {
        environment: environment(),
        spec: spec(),
        claim: claim.clone(),
        image: image.to_owned(),
        image_id: Digest::of_content(b"image"),
    };
    let sent = async |image: &str| {
        refused(image_transfer::receiver(&fixture.parts, &offer(image), &anna()).await).why
    };
    assert_eq!(sent("shop:1").await, "the images of this environment are named notes");
    let to =
        image_transfer::receiver(&fixture.parts, &offer("notes:1"), &anna()).await.expect("it may be sent");
    assert_eq!(to.id, host_id());
    let shop = "shop/production".parse().expect("a key");
    fixture
        .deploy_as(EnvironmentSpec { key: shop, url: "http://shop.example".to_owned(), ..spec() }, "notes:1")
        .await;
    assert_eq!(sent("notes:1").await, "the images of shop have the same name");
    let bob = Requester { operator: "bob".parse().expect("a name"), ..anna() };
    let of_another = image_transfer::receiver(&fixture.parts, &offer("notes:1"), &bob).await;
    assert!(matches!(of_another, Err(DeployError::Locked { .. })), "{of_another:?}");
    fixture.shut_down().await;
}

/// Ports that some other environment has.
async fn give_away(fixture: &Fixture, ports: Vec<u16>) {
    let other = "other/production".parse().expect("a key");
    let open = Claim {
        kind: ClaimKind::Freeze { reason: "it takes ports".to_owned() },
        by: anna().operator,
        since: Timestamp(0),
        until: Timestamp(u64::MAX),
        hostname: String::new(),
        pid: 0,
        traceparent: String::new(),
    };
    for some in ports.chunks(OPERATIONS_MAX - 10) {
        let seen = environments::open(&*fixture.store, &other).await.expect("read").map(|seen| seen.stored);
        let take = |port: &u16| OwnedWrite::put_bytes(keys::port("172.17.0.1", *port), "other/production");
        let with = Accompanying { guards: vec![], writes: some.iter().map(take).collect() };
        claim(&*fixture.store, &other, seen.as_ref(), &open, with).await.expect("taken");
    }
}

async fn ports(parts: &Context, environment: &str) -> Vec<u16> {
    let key = environment.parse().expect("a key");
    let table = environments::ports(&*parts.store, &key).await.expect("read").expect("it has ports");
    table.content.ports.iter().map(|entry| entry.port).collect()
}

/// The host says that something else listens on these ports.
fn occupy(fixture: &Fixture, ports: &[u16]) {
    let ports_in_use = ports.iter().copied().collect();
    fixture.hosts.sees(&host_id(), Observation { ports_in_use, ..Observation::default() });
}

#[tokio::test(start_paused = true)]
async fn a_port_on_which_something_listens_is_not_chosen() {
    let fixture = Fixture::new().await;
    fixture.start("notes:1").await.expect("it starts");
    let usual = ports(&fixture.parts, "notes/production").await;
    fixture.shut_down().await;
    let fixture = Fixture::new().await;
    occupy(&fixture, &usual);
    fixture.start("notes:1").await.expect("it starts");
    let chosen = ports(&fixture.parts, "notes/production").await;
    assert!(chosen.iter().all(|port| !usual.contains(port)), "{chosen:?} of {usual:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_another_program_takes_is_given_up_unless_its_slot_is_live() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    let live = environments::live(&*fixture.store, &environment()).await.expect("read").expect("live").slot;
    let of_slot = async |slot: Slot| {
        let table = environments::ports(&*fixture.store, &environment()).await.expect("read").expect("ports");
        table.content.ports.iter().find(|entry| entry.slot == slot).expect("a port").port
    };
    let (serving, other) = (of_slot(live).await, of_slot(live.other()).await);
    occupy(&fixture, &[serving, other]);
    let (_, plan) = fixture.start("notes:2").await.expect("it starts");
    let warning = format!("port {other} on app-1 is used by another program");
    assert!(plan.warnings.iter().any(|said| said.starts_with(&warning)), "{:?}", plan.warnings);
    assert_eq!(of_slot(live).await, serving);
    assert_ne!(of_slot(live.other()).await, other);
    let given = fixture.store.get(keys::port("172.17.0.1", other).key()).await.expect("read");
    assert!(given.is_some(), "it is the environment's until that is removed");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn no_two_environments_share_a_port() {
    const ENVIRONMENTS: usize = 8;
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    // So few are left that everybody wants the same.
    give_away(&fixture, (20_000..30_000).filter(|port| port % 500 != 0).collect()).await;
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..ENVIRONMENTS {
        let key = format!("notes/e{number}").parse().expect("a key");
        let start = StartRequest::of(Fixture::ask(
            EnvironmentSpec { key, url: format!("http://e{number}.example"), database: None, ..spec() },
            "notes:1",
        ));
        let parts = fixture.parts.clone();
        starts.spawn(async move { planning::start(&parts, &start, &anna()).await.map(|_| ()) });
    }
    for started in starts.join_all().await {
        started.expect("it starts");
    }
    let mut taken = BTreeSet::new();
    for number in 0..ENVIRONMENTS {
        let own = ports(&fixture.parts, &format!("notes/e{number}")).await;
        assert_eq!(own.len(), 2, "one for each slot");
        for port in own {
            assert!((20_000..30_000).contains(&port), "{port}");
            assert!(taken.insert(port), "{port} is given away twice");
        }
    }
    fixture.shut_down().await;
}
