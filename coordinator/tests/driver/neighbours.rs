//! Several environments on one host: what one keeps the others do not remove, and a status has all of them.

use lockstep_coordinator::drive::removal::{self, WhileServing};
use lockstep_coordinator::record::{environments, history};
use lockstep_coordinator::view::status::{self, DatabaseLook};
use lockstep_core::id::Digest;
use lockstep_core::plan::{Action, Plan};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::EnvironmentSpec;

use crate::fixture::{Fixture, anna, spec};

/// More deployments than an environment keeps images.
const MANY: usize = 6;

fn other() -> EnvironmentSpec {
    let key = "other/production".parse().expect("a key");
    EnvironmentSpec { key, url: "http://other.example".to_owned(), ..spec() }
}

/// Deploys `image` to the other environment.
async fn deploy_other(fixture: &Fixture, image: &str) {
    fixture.grant_snapshots(&other().key).await;
    let summary = fixture.deploy_as(other(), image).await;
    assert_eq!(summary.verdict, Some(Verdict::Succeeded), "{:?}", summary.failure);
}

async fn plan(fixture: &Fixture) -> Plan {
    fixture.plan(&Fixture::ask(spec(), "notes:next")).await.expect("a plan")
}

/// Whether the plan may remove this image.
fn may_remove(plan: &Plan, image: &str) -> bool {
    let image = Digest::of_content(image.as_bytes());
    plan.steps().any(
        |step| matches!(&step.action, Action::CleanUp(clean_up) if clean_up.known_images.contains(&image)),
    )
}

async fn deployed_often() -> (Fixture, tokio::task::JoinSet<()>) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    for number in 0..MANY {
        fixture.deploy(&format!("notes:{number}")).await;
    }
    (fixture, drivers)
}

#[tokio::test(start_paused = true)]
async fn an_image_that_another_environment_serves_is_not_removed() {
    let (fixture, _drivers) = deployed_often().await;
    assert!(may_remove(&plan(&fixture).await, "notes:0"));
    deploy_other(&fixture, "notes:0").await;
    assert!(!may_remove(&plan(&fixture).await, "notes:0"));
    assert!(may_remove(&plan(&fixture).await, "notes:1"));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_another_environment_may_go_back_to_is_not_removed() {
    let (fixture, _drivers) = deployed_often().await;
    for image in ["notes:0", "other:1", "other:2", "other:3"] {
        deploy_other(&fixture, image).await;
        assert!(!may_remove(&plan(&fixture).await, "notes:0"), "after {image}");
    }
    deploy_other(&fixture, "other:4").await;
    assert!(may_remove(&plan(&fixture).await, "notes:0"), "nobody can go back to it");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_of_an_environment_that_was_removed_is_removed() {
    let (fixture, _drivers) = deployed_often().await;
    deploy_other(&fixture, "notes:0").await;
    assert!(!may_remove(&plan(&fixture).await, "notes:0"));
    let abandoned = WhileServing::Abandoned;
    removal::remove(&fixture.parts, &other().key, &anna().operator, abandoned).await.expect("removed");
    assert!(may_remove(&plan(&fixture).await, "notes:0"));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_kept_though_the_store_wakes_nobody() {
    let (fixture, _drivers) = deployed_often().await;
    assert!(may_remove(&plan(&fixture).await, "notes:0"));
    fixture.store.mute();
    deploy_other(&fixture, "notes:0").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(!may_remove(&plan(&fixture).await, "notes:0"));
    fixture.store.unmute();
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_of_all_has_each_environment_as_a_status_of_one_has_it() {
    let (fixture, _drivers) = deployed_often().await;
    deploy_other(&fixture, "notes:0").await;
    let all = environments::all_recorded(&*fixture.store, |_| true).await.expect("read");
    let all = status::of_all(&fixture.parts, all, DatabaseLook::Skip).await.expect("read");
    let notes = status::load_status(&fixture.parts, &spec()).await.expect("read");
    let other = status::load_status(&fixture.parts, &other()).await.expect("read");
    assert_eq!(all, [notes, other]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_of_all_has_only_what_may_be_seen() {
    let (fixture, _drivers) = deployed_often().await;
    deploy_other(&fixture, "notes:0").await;
    let may = environments::all_recorded(&*fixture.store, |key| *key == other().key).await.expect("read");
    let keys: Vec<_> = may.into_iter().map(|recorded| recorded.spec.key).collect();
    assert_eq!(keys, [other().key]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_offered_however_many_deployments_ago_its_release_was_live() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.deploy("notes:2").await;
    let mut seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    assert_eq!(seen.rollback.map(|rollback| rollback.deployment), Some(first.id.clone()));
    // The newest that the record is read for at first are all of one release.
    for _ in 0..MANY {
        fixture.deploy("notes:2").await;
    }
    seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    assert_eq!(seen.rollback.map(|rollback| rollback.deployment), Some(first.id));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_past_is_read_as_far_as_somebody_asks() {
    let (fixture, _drivers) = deployed_often().await;
    let key = spec().key;
    let mut past = history::Past::of(&*fixture.store, &key);
    assert!(past.read().is_empty());
    let newest = past.find(|past| past.first().cloned()).await.expect("read").expect("there is one");
    assert_eq!(newest.release.image, format!("notes:{}", MANY - 1));
    assert!(past.read().len() < MANY, "all of it is read for the newest");
    let oldest = |past: &[lockstep_core::record::history::DeploymentSummary]| {
        past.iter().find(|summary| summary.release.image == "notes:0").cloned()
    };
    assert!(past.find(oldest).await.expect("read").is_some());
    assert_eq!(past.read().len(), MANY);
    fixture.shut_down().await;
}
