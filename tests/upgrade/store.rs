//! The coordinator's store: `store.txt` has every key with its value, `store.sqlite` is the file with them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lockstep_coordinator::identity::operators;
use lockstep_coordinator::ports::clock::SystemClock;
use lockstep_coordinator::record::{audit, cluster, coordinators, history, hosts, tails};
use lockstep_coordinator::store::guarded::{Restored, epoch_of};
use lockstep_coordinator::store::keys::{self, Key, Prefix};
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::sqlite::SqliteStore;
use lockstep_coordinator::store::{Store, Stored};
use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::owned_names::{OwnedName, SiteName};
use lockstep_core::secret::join_token::JoinToken;

use crate::golden::{self, ADVICE, UNRELEASED, VERSIONS};
use crate::tables;

const CLUSTER: &str = "cl_01JBQR2KXYZ987654321012345";

pub(crate) fn environment() -> EnvironmentKey {
    "notes/production".parse().expect("a key")
}

/// The deployment of this last digit.
pub(crate) fn deployment(last: u8) -> DeploymentId {
    format!("dep_01JBQR2KXYZ98765432101234{last}").parse().expect("an id")
}

pub(crate) fn host() -> HostId {
    "host_01JBQR2KXYZ987654321012345".parse().expect("an id")
}

/// Keys and values, as they stand in the file.
pub(crate) fn entries(version: &str) -> Vec<(String, String)> {
    read(&golden::text(version, "store.txt"))
}

pub(crate) fn read(text: &str) -> Vec<(String, String)> {
    let entries = text
        .split("\n\n")
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.split_once('\n').expect("a key and a value"));
    entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn written(entries: &[Stored]) -> String {
    let entry = |stored: &Stored| {
        let value = std::str::from_utf8(&stored.value).expect("every value is text");
        format!("{}\n{value}\n\n", stored.key)
    };
    entries.iter().map(entry).collect()
}

/// Puts `entries` into a store, as a restore does.
pub(crate) async fn fill(store: &dyn Store, entries: &[(String, String)]) {
    for (key, value) in entries {
        let key = keys::read(key).unwrap_or_else(|| panic!("{key} is no key of this program: {ADVICE}"));
        let write = Restored::key(key).put(value.clone().into());
        store.commit(Vec::new(), vec![write]).await.expect("the store takes it");
    }
}

/// What is bound to a lease is not in a file that is opened again.
fn is_leased(key: &str) -> bool {
    key.ends_with("/lock") || key.ends_with("/presence")
}

async fn memory(version: &str) -> MemoryStore {
    let store = MemoryStore::new(Arc::new(SystemClock));
    fill(&store, &entries(version)).await;
    store
}

async fn at(store: &dyn Store, key: &Key) -> String {
    let stored =
        store.get(key).await.expect("read").unwrap_or_else(|| panic!("{key} is not there: {ADVICE}"));
    String::from_utf8(stored.value.to_vec()).expect("text")
}

macro_rules! named {
    ($($name:ident($($argument:expr),*)),* $(,)?) => {
        vec![$((stringify!($name), keys::$name($($argument),*).into())),*]
    };
}

/// Every key that this program makes, with the name of what makes it.
fn made(version: &str) -> Vec<(&'static str, Key)> {
    let (environment, host, deployment) = (&environment(), &host(), &deployment(5));
    let name = |text: &str| text.parse().expect("a name");
    named![
        meta(),
        spec(environment),
        lock(environment),
        epoch(environment),
        open(environment),
        live(environment),
        ports(environment),
        removal(environment),
        names(environment),
        grant(environment),
        owned_name(&site_name()),
        history_entry(environment, deployment),
        port("10.0.0.1", 20554),
        registry(&"ghcr.io".parse().expect("a registry")),
        plan(deployment),
        plan_part(&self::deployment(7), EDITION, 1),
        summary(deployment),
        journal_entry(deployment, 3),
        tail(deployment, StepId(2)),
        assignment(host, environment, 7, 3),
        report(environment, 7, 3),
        pending_undos(host, environment),
        local_change(environment, host, 4),
        host_spec(host),
        host_name(&"app-1".parse().expect("a name")),
        host_seen(host),
        host_signer(host),
        host_second(host),
        host_presence(host),
        roots(),
        coordinator_spec(&name("coordinator-1")),
        coordinator_presence(&name("coordinator-1")),
        operator(&"anna".parse().expect("a name")),
        join_token(&token(version).id),
        secrets_version(environment, 1),
        audit_record(2),
    ]
}

fn site_name() -> OwnedName {
    let server_name = "notes.example".to_owned();
    OwnedName::Site(SiteName { load_balancer: host(), port: 443, server_name })
}

/// The edition of the plan that is kept in parts.
const EDITION: &str = "01JBQR2KXYZ987654321012399";

/// The token that an operator was given, and of which the store has the digest.
pub(crate) fn token(version: &str) -> JoinToken {
    golden::text(version, "token.txt").trim().parse().expect("a token")
}

#[test]
fn every_key_is_what_it_was() {
    let all = [golden::newest(), UNRELEASED].map(entries).concat();
    let there: BTreeSet<String> = all.into_iter().map(|(key, _)| key).collect();
    for (name, key) in made(golden::newest()) {
        assert!(there.contains(key.as_str()), "no golden store has {key}, which is keys::{name}: {ADVICE}");
    }
}

/// A key that [`made`] has not is one that no golden store shows.
#[test]
fn every_key_of_the_program_is_known_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace");
    let source = fs::read_to_string(root.join("coordinator/src/store/keys.rs")).expect("where keys are made");
    let functions = source.split("\npub fn ").skip(1).filter_map(|rest| {
        let signature = rest.split('{').next()?;
        let is_key = signature.contains("-> Owned") || signature.contains("-> Free");
        is_key.then(|| signature.split('(').next().unwrap_or_default())
    });
    let known: Vec<&str> = made(golden::newest()).iter().map(|(name, _)| *name).collect();
    let found: Vec<&str> = functions.collect();
    assert!(
        found.len() > 30,
        "only {found:?} were found: the test looks for something that is written otherwise"
    );
    for name in found {
        assert!(
            known.contains(&name),
            "keys::{name} is not in made(), and no golden store shows it: {ADVICE}"
        );
    }
}

fn below(prefix: &Prefix, all: &[(String, String)]) -> usize {
    all.iter().filter(|(key, _)| key.starts_with(prefix.as_str())).count()
}

/// What is listed is found by what its keys begin with.
#[test]
fn every_prefix_covers_what_it_covered() {
    let all = entries("da8beec");
    let (environment, host, deployment) = (&environment(), &host(), &deployment(5));
    let counted = [
        ("environments", below(&keys::environments(), &all), 6),
        ("environment", below(&keys::environment(environment), &all), 6),
        ("histories", below(&keys::histories(), &all), 1),
        ("history", below(&keys::history(environment), &all), 1),
        ("all_ports", below(&keys::all_ports(), &all), 1),
        ("ports_of", below(&keys::ports_of("10.0.0.1"), &all), 1),
        ("registries", below(&keys::registries(), &all), 1),
        ("plan_waves", below(&keys::plan_waves(&self::deployment(6)), &all), 2),
        ("plan_parts", below(&keys::plan_parts(&self::deployment(7), EDITION), &all), 2),
        ("deployment", below(&keys::deployment(deployment), &all), 5),
        ("journal", below(&keys::journal(deployment), &all), 3),
        ("tails", below(&keys::tails(deployment), &all), 1),
        ("all_assignments", below(&keys::all_assignments(), &all), 1),
        ("assignments_to", below(&keys::assignments_to(host), &all), 1),
        ("assignments", below(&keys::assignments(host, environment), &all), 1),
        ("reports", below(&keys::reports(environment), &all), 1),
        ("all_debts", below(&keys::all_pending_undos(), &all), 1),
        ("all_local_changes", below(&keys::all_local_changes(), &all), 1),
        ("local_changes", below(&keys::local_changes(environment), &all), 1),
        ("local_changes_on", below(&keys::local_changes_on(environment, host), &all), 1),
        ("hosts", below(&keys::hosts(), &all), 5),
        ("host_names", below(&keys::host_names(), &all), 1),
        ("authority", below(&keys::authority(), &all), 1),
        ("coordinators", below(&keys::coordinators(), &all), 3),
        ("operators", below(&keys::operators(), &all), 1),
        ("join_tokens", below(&keys::join_tokens(), &all), 1),
        ("secrets", below(&keys::secrets(environment), &all), 1),
        ("audit", below(&keys::audit(), &all), 2),
    ];
    for (name, found, wanted) in counted {
        assert_eq!(found, wanted, "keys::{name}: {ADVICE}");
    }
}

#[tokio::test]
async fn what_is_no_document_is_read_as_it_was() {
    let store = memory("da8beec").await;
    let epoch = store.get(keys::epoch(&environment()).key()).await.expect("read");
    assert_eq!(epoch_of(epoch.as_ref()).expect("a number"), 8);
    assert_eq!(at(&store, keys::port("10.0.0.1", 20554).key()).await, "notes/production");
    let named =
        hosts::named(&store, &"app-1".parse().expect("a name")).await.expect("read").expect("it has joined");
    assert_eq!((named.id, named.address.as_str()), (host(), "10.0.0.1"));
    assert_eq!(hosts::ids(&store).await.expect("read"), [host()].into());
    let tails = tails::of_deployment(&store, &deployment(5)).await.expect("read");
    assert_eq!(tails, [(StepId(2), "listening on 8080".to_owned())].into());
}

#[tokio::test]
async fn a_plan_is_read_whole_in_parts_and_by_wave() {
    let store = memory("da8beec").await;
    let whole = history::plan(&store, &deployment(5)).await.expect("read").expect("it is there");
    assert_eq!((whole.hash.to_string().as_str(), whole.waves.len()), ("3fa9c1-77b210-0c9e41-5d1e02", 2));
    let by_wave = history::plan(&store, &deployment(6)).await.expect("read").expect("it is there");
    assert_eq!(by_wave.waves, whole.waves);
    let in_parts = history::plan(&store, &deployment(7)).await.expect("read").expect("it is there");
    assert_eq!(in_parts.waves, whole.waves);
}

#[tokio::test]
async fn the_record_is_found_in_the_store() {
    let store = memory("da8beec").await;
    let cluster_id = CLUSTER.parse().expect("an id");
    assert_eq!(cluster::identify(&store, Some(&cluster_id)).await.expect("it is of it"), cluster_id);
    let newest = history::recent(&store, &environment(), 5).await.expect("read");
    assert_eq!(newest.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), [deployment(5)]);
    let journal = history::journal(&store, &deployment(5)).await.expect("read");
    assert_eq!(journal.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let operators = operators::list(&store).await.expect("read");
    assert!(operators[0].rights("0a1b2c").is_some());
    let coordinators: Vec<_> = coordinators::list(&store).await.expect("read");
    assert_eq!(
        coordinators.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["coordinator-1", "coordinator-2"]
    );
    let session = coordinators::with_session_of(&store, &host()).await.expect("read").expect("it has one");
    assert_eq!(session.as_str(), "coordinator-1");
    let noted = &hosts::notes(&store).await.expect("read")[&host()];
    assert_eq!(noted.sighting.as_ref().expect("it was seen").version, "0.1.0");
    assert_eq!(noted.second.as_ref().expect("there was one").session.from, "10.0.0.9");
    assert_eq!(hosts::signers(&store).await.expect("read")[&host()].coordinator.as_str(), "coordinator-1");
    let audit = audit::list(&store, None, 10).await.expect("read");
    assert_eq!(audit.iter().map(|entry| entry.verb.as_str()).collect::<Vec<_>>(), ["backup", "freeze"]);
}

#[tokio::test]
async fn the_file_of_an_earlier_coordinator_is_opened_with_all_that_is_in_it() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("store.sqlite"), golden::bytes(version, "store.sqlite"))
            .expect("copied");
        let store = SqliteStore::open(folder.path(), Arc::new(SystemClock)).await.expect("it is opened");
        let there = store.list(&keys::all()).await.expect("read");
        let mut wanted = entries(version);
        wanted.retain(|(key, _)| !is_leased(key));
        assert_eq!(read(&written(&there)), wanted, "{version}");
        assert!(there.iter().all(|stored| stored.created > 0 && stored.created <= stored.modified));
    }
}

#[tokio::test]
async fn a_file_is_made_with_the_tables_that_it_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path(), Arc::new(SystemClock)).await.expect("it is made");
    drop(store);
    let made = tables::schema(&folder.path().join("store.sqlite")).await;
    let golden = folder.path().join("golden.sqlite");
    fs::write(&golden, golden::bytes(golden::newest(), "store.sqlite")).expect("copied");
    assert_eq!(made, tables::schema(&golden).await, "{ADVICE}");
}
