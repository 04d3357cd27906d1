//! A name has one owner: of objects on hosts, and of sites at load balancers.

use std::sync::Arc;

use lockstep_coordinator::drive::removal::{WhileServing, remove};
use lockstep_coordinator::planning;
use lockstep_coordinator::planning::names::own_shared_names;
use lockstep_coordinator::planning::{PlanRequest, RequestedOperation, StartRequest};
use lockstep_coordinator::record::environments;
use lockstep_coordinator::store::guarded::{Accompanying, OwnedWrite, give_away};
use lockstep_coordinator::store::{Store, keys};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::{ChangedSite, Refusal};
use lockstep_core::record::grant::Resource;
use lockstep_core::record::owned_names::{OwnedName, OwnedNames};
use lockstep_core::run::journal::{Direction, Verdict};
use lockstep_core::spec::{EnvironmentSpec, HostRoles};

use crate::fixture::{self, Fixture, anna, spec};
use crate::hosts::Does;

fn declared(key: &str, url: &str) -> EnvironmentSpec {
    let key = key.parse().expect("a key");
    EnvironmentSpec { key, url: url.to_owned(), database: None, ..spec() }
}

async fn refused(fixture: &Fixture, spec: EnvironmentSpec) -> Refusal {
    let start = StartRequest::of(Fixture::ask(spec, "notes:9"));
    fixture::refused(planning::start(&fixture.parts, &start, &anna()).await)
}

async fn deploy(fixture: &Fixture, spec: EnvironmentSpec, image: &str) {
    let summary = fixture.deploy_as(spec, image).await;
    assert_eq!(summary.verdict, Some(Verdict::Succeeded), "{:?}", summary.failure);
}

async fn names(fixture: &Fixture, key: &str) -> OwnedNames {
    let key: EnvironmentKey = key.parse().expect("a key");
    environments::names(&*fixture.store, &key).await.expect("read").expect("it owns names").content
}

fn sites(names: &OwnedNames) -> Vec<&str> {
    names.sites.iter().map(|site| site.server_name.as_str()).collect()
}

/// As if a version that did not claim names had deployed it, and the coordinator had begun after that.
async fn forget_names(fixture: &mut Fixture, key: &str) {
    let owned = names(fixture, key).await;
    let key: EnvironmentKey = key.parse().expect("a key");
    let mut writes = vec![OwnedWrite::delete(keys::names(&key))];
    writes.extend(owned.each().iter().map(|name| OwnedWrite::delete(keys::owned_name(name))));
    let with = Accompanying { guards: Vec::new(), writes };
    give_away(&*fixture.store, &key, with).await.expect("a memory store");
    fixture.parts.unclaimed_names = Arc::default();
}

#[tokio::test(start_paused = true)]
async fn a_site_that_another_environment_has_is_refused_with_its_owner() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    deploy(&fixture, declared("shop/production", "http://shop.example"), "notes:1").await;
    for url in
        ["http://shop.example", "http://SHOP.example", "http://shop.example.", "http://shop.example:80"]
    {
        let refusal = refused(&fixture, declared("thief/production", url)).await;
        assert_eq!(refusal.what, "thief/production cannot use shop.example on port 80", "{url}");
        assert_eq!(refusal.why, "it belongs to shop/production", "{url}");
    }
    deploy(&fixture, declared("other/production", "http://shop.example:8080"), "notes:1").await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_begin_at_once_with_one_site_one_is_refused() {
    let fixture = Fixture::new().await;
    let start = |key: &str| {
        let ask = Fixture::ask(declared(key, "http://shop.example"), "notes:1");
        StartRequest::of(ask)
    };
    let (one, other, by) = (start("one/production"), start("other/production"), anna());
    let (one, other) = tokio::join!(
        planning::start(&fixture.parts, &one, &by),
        planning::start(&fixture.parts, &other, &by)
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1, "{one:?} {other:?}");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_earlier_site_stays_owned_while_a_rollback_may_need_it() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let shop = |url| declared("shop/production", url);
    deploy(&fixture, shop("http://old.example"), "notes:1").await;
    fixture.grant(&shop("").key, Resource::SiteName("new.example".to_owned())).await;
    deploy(&fixture, shop("http://new.example"), "notes:2").await;
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example", "old.example"]);
    // What was live before is within reach, too.
    deploy(&fixture, shop("http://new.example"), "notes:3").await;
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example", "old.example"]);
    refused(&fixture, declared("thief/production", "http://old.example")).await;
    // The images of what was deployed first are not kept any more.
    for image in ["notes:4", "notes:5", "notes:6"] {
        deploy(&fixture, shop("http://new.example"), image).await;
    }
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example"]);
    deploy(&fixture, declared("heir/production", "http://old.example"), "notes:1").await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn one_host_name_at_two_load_balancers_is_two_sites() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.join("app-2", 2).await;
    let at = |key, host: &str| {
        let app = vec![host.parse().expect("a name")];
        let hosts = HostRoles { lb: app.clone(), app, db: Vec::new() };
        EnvironmentSpec { hosts, ..declared(key, "http://shop.example") }
    };
    deploy(&fixture, at("shop/one", "app-1"), "notes:1").await;
    deploy(&fixture, at("shop/two", "app-2"), "notes:1").await;
    refused(&fixture, at("thief/production", "app-2")).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_site_of_a_deployment_that_failed_is_given_up_by_the_next() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let shop = |url| declared("shop/production", url);
    deploy(&fixture, shop("http://shop.example"), "notes:1").await;
    fixture.grant(&shop("").key, Resource::SiteName("new.example".to_owned())).await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let failed = fixture.deploy_as(shop("http://new.example"), "notes:1").await;
    assert_eq!(failed.verdict, Some(Verdict::RolledBack));
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example", "shop.example"]);
    fixture.hosts.unscript();
    deploy(&fixture, shop("http://shop.example"), "notes:2").await;
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["shop.example"]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_had_one_name_on_hosts_have_two() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    deploy(&fixture, declared("sn-a/b", "http://one.example"), "notes:1").await;
    deploy(&fixture, declared("sn/a-b", "http://two.example"), "notes:1").await;
    let (one, two) = (names(&fixture, "sn-a/b").await, names(&fixture, "sn/a-b").await);
    assert_eq!((one.objects.as_str(), two.objects.as_str()), ("sn__a_b", "sn_a__b"));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_exists_keeps_the_name_that_it_has() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    deploy(&fixture, declared("sn-a/b", "http://one.example"), "notes:1").await;
    forget_names(&mut fixture, "sn-a/b").await;
    deploy(&fixture, declared("sn-a/b", "http://one.example"), "notes:2").await;
    assert_eq!(names(&fixture, "sn-a/b").await.objects.as_str(), "sn-a-b");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_two_environments_share_is_theirs_only_after_an_administrator_has_decided() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (one, two) = ("sn-a/b", "sn/a-b");
    deploy(&fixture, declared(one, "http://one.example"), "notes:1").await;
    deploy(&fixture, declared(two, "http://two.example"), "notes:1").await;
    forget_names(&mut fixture, one).await;
    forget_names(&mut fixture, two).await;
    for (key, url, other) in [(one, "http://one.example", two), (two, "http://two.example", one)] {
        let refusal = refused(&fixture, declared(key, url)).await;
        assert_eq!(
            refusal.what,
            format!("{key} and {other} share the name sn-a-b of files and containers on hosts")
        );
        assert!(
            refusal.next.contains(&format!("lockstep env grant {key} --own-shared-names")),
            "{refusal:?}"
        );
    }
    own_shared_names(&*fixture.store, &one.parse().expect("a key")).await.expect("decided");
    deploy(&fixture, declared(one, "http://one.example"), "notes:2").await;
    deploy(&fixture, declared(two, "http://two.example"), "notes:2").await;
    assert_eq!(names(&fixture, one).await.objects.as_str(), "sn-a-b");
    assert_eq!(names(&fixture, two).await.objects.as_str(), "sn_a__b");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_one_environment_owns_is_not_given_to_another() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let (one, two): (EnvironmentKey, EnvironmentKey) =
        ("sn-a/b".parse().expect("a key"), "sn/a-b".parse().expect("a key"));
    deploy(&fixture, declared("sn-a/b", "http://one.example"), "notes:1").await;
    deploy(&fixture, declared("sn/a-b", "http://two.example"), "notes:1").await;
    forget_names(&mut fixture, "sn-a/b").await;
    forget_names(&mut fixture, "sn/a-b").await;
    own_shared_names(&*fixture.store, &one).await.expect("decided");
    for (key, why) in [(one, "it owns its names already"), (two, " belongs to sn-a/b")] {
        let refusal = fixture::refused(own_shared_names(&*fixture.store, &key).await);
        assert!(refusal.why.ends_with(why), "{refusal:?}");
    }
    fixture.shut_down().await;
}

fn shop(url: &str) -> EnvironmentSpec {
    declared("shop/production", url)
}

/// An earlier version, which claimed no names, deploys the shop to one site and then to another; now the heir is at the
/// first.
async fn shop_moves_and_heir_gets_its_name(fixture: &mut Fixture) {
    deploy(fixture, shop("http://old.example"), "notes:1").await;
    fixture.grant(&shop("").key, Resource::SiteName("new.example".to_owned())).await;
    deploy(fixture, shop("http://new.example"), "notes:2").await;
    forget_names(fixture, "shop/production").await;
    deploy(fixture, declared("heir/production", "http://old.example"), "notes:1").await;
}

/// Its site was never claimed: an earlier version deployed it there, and then elsewhere.
#[tokio::test(start_paused = true)]
async fn a_release_whose_site_another_environment_has_is_not_rolled_back_to() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    shop_moves_and_heir_gets_its_name(&mut fixture).await;
    let what = RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused };
    let start = StartRequest::of(PlanRequest { environment: shop("").key, what });
    let refusal = fixture::refused(planning::start(&fixture.parts, &start, &anna()).await);
    let what =
        "shop/production cannot be rolled back to a release that used old.example on port 80".to_owned();
    assert_eq!((refusal.what, refusal.why), (what, "it belongs to heir/production".to_owned()));
    deploy(&fixture, shop("http://new.example"), "notes:3").await;
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example"]);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_an_earlier_release_used_is_not_claimed_where_another_uses_it_unclaimed() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    shop_moves_and_heir_gets_its_name(&mut fixture).await;
    forget_names(&mut fixture, "heir/production").await;
    deploy(&fixture, shop("http://new.example"), "notes:3").await;
    assert_eq!(sites(&names(&fixture, "shop/production").await), ["new.example"]);
    deploy(&fixture, declared("heir/production", "http://old.example"), "notes:2").await;
    assert_eq!(sites(&names(&fixture, "heir/production").await), ["old.example"]);
    fixture.shut_down().await;
}

/// Hosts keep what they have of it.
#[tokio::test(start_paused = true)]
async fn a_removed_environment_keeps_the_name_of_its_objects_and_no_site() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let shop = declared("shop/production", "http://shop.example");
    deploy(&fixture, shop.clone(), "notes:1").await;
    remove(&fixture.parts, &shop.key, &anna().operator, WhileServing::Abandoned).await.expect("removed");
    let objects = names(&fixture, "shop/production").await.objects;
    let owner = fixture.store.get(keys::owned_name(&OwnedName::Objects(objects)).key()).await.expect("read");
    assert_eq!(owner.expect("it is owned").value, "shop/production");
    deploy(&fixture, declared("heir/production", "http://shop.example"), "notes:1").await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_site_from_before_names_were_claimed_is_not_taken() {
    let mut fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    deploy(&fixture, declared("shop/production", "http://shop.example"), "notes:1").await;
    forget_names(&mut fixture, "shop/production").await;
    let refusal = refused(&fixture, declared("thief/production", "http://shop.example")).await;
    assert_eq!(refusal.why, "it belongs to shop/production");
    deploy(&fixture, declared("shop/production", "http://shop.example"), "notes:2").await;
    let claimed = fixture.store.list(&keys::all()).await.expect("a list");
    assert!(claimed.iter().any(|stored| stored.key.last() == "shop.example"));
    fixture.shut_down().await;
}
