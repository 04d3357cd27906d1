//! Several environments on one host: what one keeps the others do not remove, and a status has all of them.

use lockstep_coordinator::drive::removal::{self, WhileServing};
use lockstep_coordinator::planning;
use lockstep_coordinator::planning::StartRequest;
use lockstep_coordinator::record::{environments, history};
use lockstep_coordinator::view::status;
use lockstep_core::id::Digest;
use lockstep_core::plan::{Action, Plan};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::EnvironmentSpec;

use crate::world::{LIMIT, World, anna, spec};

/// More deployments than an environment keeps images.
const MANY: usize = 6;

fn other() -> EnvironmentSpec {
    let key = "other/production".parse().expect("a key");
    EnvironmentSpec { key, url: "http://other.example".to_owned(), ..spec() }
}

/// Deploys `image` to the other environment.
async fn deploy_other(world: &World, image: &str) {
    let start = StartRequest { ask: World::ask(other(), image), hash: None, claim: None };
    let (id, _) = planning::start(&world.parts, &start, &anna()).await.expect("it starts");
    let ended = async {
        while environments::open(&*world.store, &other().key).await.expect("read").is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("it ends");
    let summary = history::summary(&*world.store, &id).await.expect("read").expect("it is in the history");
    assert_eq!(summary.verdict, Some(Verdict::Succeeded), "{:?}", summary.failure);
}

async fn plan(world: &World) -> Plan {
    planning::plan(&world.parts, &World::ask(spec(), "notes:next")).await.expect("a plan")
}

/// Whether the plan may remove this image.
fn may_remove(plan: &Plan, image: &str) -> bool {
    let image = Digest::of_content(image.as_bytes());
    plan.steps().any(
        |step| matches!(&step.action, Action::CleanUp(clean_up) if clean_up.known_images.contains(&image)),
    )
}

async fn deployed_often() -> (World, tokio::task::JoinSet<()>) {
    let world = World::new().await;
    let drivers = world.drivers();
    for number in 0..MANY {
        world.deploy(&format!("notes:{number}")).await;
    }
    (world, drivers)
}

#[tokio::test(start_paused = true)]
async fn an_image_that_another_environment_serves_is_not_removed() {
    let (world, _drivers) = deployed_often().await;
    assert!(may_remove(&plan(&world).await, "notes:0"));
    deploy_other(&world, "notes:0").await;
    assert!(!may_remove(&plan(&world).await, "notes:0"));
    assert!(may_remove(&plan(&world).await, "notes:1"));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_another_environment_may_go_back_to_is_not_removed() {
    let (world, _drivers) = deployed_often().await;
    for image in ["notes:0", "other:1", "other:2", "other:3"] {
        deploy_other(&world, image).await;
        assert!(!may_remove(&plan(&world).await, "notes:0"), "after {image}");
    }
    deploy_other(&world, "other:4").await;
    assert!(may_remove(&plan(&world).await, "notes:0"), "nobody can go back to it");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_of_an_environment_that_was_removed_is_removed() {
    let (world, _drivers) = deployed_often().await;
    deploy_other(&world, "notes:0").await;
    assert!(!may_remove(&plan(&world).await, "notes:0"));
    let abandoned = WhileServing::Abandoned;
    removal::remove(&world.parts, &other().key, &anna().operator, abandoned).await.expect("removed");
    assert!(may_remove(&plan(&world).await, "notes:0"));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_kept_though_the_store_wakes_nobody() {
    let (world, _drivers) = deployed_often().await;
    assert!(may_remove(&plan(&world).await, "notes:0"));
    world.store.mute();
    deploy_other(&world, "notes:0").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(!may_remove(&plan(&world).await, "notes:0"));
    world.store.unmute();
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_of_all_has_each_environment_as_a_status_of_one_has_it() {
    let (world, _drivers) = deployed_often().await;
    deploy_other(&world, "notes:0").await;
    let all = environments::all_recorded(&*world.store, |_| true).await.expect("read");
    let all = status::of_all(&world.parts, all).await.expect("read");
    let notes = status::load_status(&world.parts, &spec()).await.expect("read");
    let other = status::load_status(&world.parts, &other()).await.expect("read");
    assert_eq!(all, [notes, other]);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_of_all_has_only_what_may_be_seen() {
    let (world, _drivers) = deployed_often().await;
    deploy_other(&world, "notes:0").await;
    let may = environments::all_recorded(&*world.store, |key| *key == other().key).await.expect("read");
    let keys: Vec<_> = may.into_iter().map(|recorded| recorded.spec.key).collect();
    assert_eq!(keys, [other().key]);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_offered_however_many_deployments_ago_its_release_was_live() {
    let world = World::new().await;
    let _drivers = world.drivers();
    let first = world.deploy("notes:1").await;
    world.deploy("notes:2").await;
    let mut seen = status::load_status(&world.parts, &spec()).await.expect("read");
    assert_eq!(seen.rollback.map(|rollback| rollback.deployment), Some(first.id.clone()));
    // The newest that the record is read for at first are all of one release.
    for _ in 0..MANY {
        world.deploy("notes:2").await;
    }
    seen = status::load_status(&world.parts, &spec()).await.expect("read");
    assert_eq!(seen.rollback.map(|rollback| rollback.deployment), Some(first.id));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_past_is_read_as_far_as_somebody_asks() {
    let (world, _drivers) = deployed_often().await;
    let key = spec().key;
    let mut past = history::Past::of(&*world.store, &key);
    assert!(past.read().is_empty());
    let newest = past.find(|past| past.first().cloned()).await.expect("read").expect("there is one");
    assert_eq!(newest.release.image, format!("notes:{}", MANY - 1));
    assert!(past.read().len() < MANY, "all of it is read for the newest");
    let oldest = |past: &[lockstep_core::record::history::DeploymentSummary]| {
        past.iter().find(|summary| summary.release.image == "notes:0").cloned()
    };
    assert!(past.find(oldest).await.expect("read").is_some());
    assert_eq!(past.read().len(), MANY);
    world.shut_down().await;
}
