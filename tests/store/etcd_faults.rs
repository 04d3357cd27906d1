//! What may happen to a real etcd while it is used: members that are killed or frozen, most of them away,
//! answers that never come, history that is compacted, leases that somebody else ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::program::settings::EtcdSettings;
use lockstep_coordinator::store::etcd::{EtcdStore, OpenError};
use lockstep_coordinator::store::guarded::{Acquired, Acquisition};
use lockstep_coordinator::store::{Committed, Guard, LeaseStanding, Store, StoreError, Stored, Write, keys};
use lockstep_core::time::Millis;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::server::proxy::{Answers, Proxy};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bench::{open_etcd, settings, until};
use crate::{LEASE, acquisition, held, journal_write, key, put, value, yes};

/// A call may go to every member before it has an answer.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// A watch on a member that is frozen is found dead by its missing signs of life.
const WAKE_LIMIT: Duration = Duration::from_secs(20);

const PREFIX: &str = "/faults";

struct Faulty {
    etcd: Etcd,
    store: Arc<EtcdStore>,
    _directory: TempDir,
}

impl Faulty {
    async fn start(members: Members) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let etcd = Etcd::start(&directory.path().join("etcd"), members).expect("etcd starts");
        let store = Arc::new(open_etcd(&etcd, PREFIX).await);
        Self { etcd, store, _directory: directory }
    }
}

/// Commits one guarded transaction after another, each again until its outcome is known, until it is stopped.
/// What it says was written.
async fn write_on(store: Arc<EtcdStore>, stop: CancellationToken) -> BTreeMap<String, Outcome> {
    let mut written = BTreeMap::new();
    while !stop.is_cancelled() {
        let name = format!("{:05}", written.len());
        let outcome = write_once(&*store, &name).await;
        written.insert(name, outcome);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    written
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    unknown: u32,
    unavailable: u32,
}

async fn write_once(store: &dyn Store, name: &str) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let write = Write::put_bytes(key(name), name.to_owned());
        let answered =
            tokio::time::timeout(CALL_LIMIT, store.commit(vec![Guard::absent(key(name))], vec![write]));
        match answered.await.expect("every call has a limit") {
            Ok(Committed::Yes { .. }) => return outcome,
            Ok(Committed::No) => {
                assert!(outcome.unknown > 0, "{name} was there, and nobody has written it");
                return outcome;
            }
            Err(StoreError::Unknown(_)) => outcome.unknown += 1,
            Err(StoreError::Unavailable(_)) => outcome.unavailable += 1,
            Err(other) => panic!("{name}: {other}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Everything that was said to be written is there, once, in the order in which it was.
async fn assert_written(store: &dyn Store, written: &BTreeMap<String, Outcome>) {
    let there = store.list(&keys::join_tokens()).await.expect("listed");
    let names: Vec<&str> = there.iter().map(|stored| stored.key.last()).collect();
    assert_eq!(names, written.keys().map(String::as_str).collect::<Vec<_>>());
    assert!(there.iter().all(|stored| stored.created == stored.modified), "something was written twice");
    let in_order = |pair: &[Stored]| pair[0].created < pair[1].created;
    assert!(there.windows(2).all(in_order), "revisions are not in order");
}

/// Writes while `fault` happens, and for a while after it; how many outcomes were unknown, and how many calls
/// found nobody.
async fn write_during(faulty: &mut Faulty, fault: impl AsyncFnOnce(&mut Etcd)) -> (u32, u32) {
    let stop = CancellationToken::new();
    let writer = tokio::spawn(write_on(Arc::clone(&faulty.store), stop.clone()));
    until("some is written", async || {
        !faulty.store.last(&keys::join_tokens(), 1).await.expect("read").is_empty()
    })
    .await;
    fault(&mut faulty.etcd).await;
    let before = count(&*faulty.store).await;
    until("more is written", async || count(&*faulty.store).await > before + 20).await;
    stop.cancel();
    let written = writer.await.expect("it wrote");
    assert_written(&*faulty.store, &written).await;
    let sum = |of: fn(&Outcome) -> u32| written.values().map(of).sum();
    (sum(|outcome| outcome.unknown), sum(|outcome| outcome.unavailable))
}

async fn count(store: &dyn Store) -> usize {
    store.list(&keys::join_tokens()).await.map_or(0, |there| there.len())
}

async fn wakes(store: &dyn Store, change: impl AsyncFnOnce()) {
    let mut wakeups = store.watch(&keys::join_tokens());
    change().await;
    tokio::time::timeout(WAKE_LIMIT, wakeups.changed()).await.expect("it woke");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_costs_an_outcome_at_most_and_no_write() {
    let mut faulty = Faulty::start(Members::Three).await;
    let lease = faulty.store.grant(LEASE).await.expect("granted");
    let (unknown, _) = write_during(&mut faulty, async |etcd| {
        let leader = etcd.leader().expect("it has a leader");
        etcd.kill(leader).expect("killed");
    })
    .await;
    // One is under way when it dies; the election may take another.
    assert!(unknown <= 3, "{unknown} outcomes were unknown");
    assert_eq!(faulty.store.keep(lease).await.expect("kept"), LeaseStanding::Alive);
    let store = &*faulty.store;
    wakes(store, async || {
        put(store, "after", "1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_frozen_is_left_for_another() {
    let mut faulty = Faulty::start(Members::Three).await;
    // Whoever is first in the settings is whom calls go to.
    let (unknown, _) = write_during(&mut faulty, async |etcd| etcd.freeze(0).expect("frozen")).await;
    assert!(unknown <= 3, "{unknown} outcomes were unknown");
    let lease = faulty.store.grant(LEASE).await.expect("granted");
    assert_eq!(faulty.store.keep(lease).await.expect("kept"), LeaseStanding::Alive);
    let store = &*faulty.store;
    wakes(store, async || {
        put(store, "after", "1").await;
    })
    .await;
    faulty.etcd.thaw(0).expect("thawed");
    wakes(store, async || {
        put(store, "thawed", "1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_leaves_a_frozen_member_though_nobody_calls() {
    let faulty = Faulty::start(Members::Three).await;
    let (store, etcd) = (&*faulty.store, &faulty.etcd);
    etcd.freeze(0).expect("frozen");
    let written = format!("{PREFIX}{}", key("behind").key());
    wakes(store, async || {
        until("another writes", async || etcd.put(&written, "1").is_ok()).await;
    })
    .await;
    etcd.thaw(0).expect("thawed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_most_members_nothing_is_answered_and_with_them_everything_goes_on() {
    let mut faulty = Faulty::start(Members::Three).await;
    put(&*faulty.store, "before", "1").await;
    let lease = faulty.store.grant(LEASE).await.expect("granted");
    faulty.etcd.kill(1).expect("killed");
    faulty.etcd.kill(2).expect("killed");
    let store = &*faulty.store;
    for _ in 0..2 {
        let write = Write::put_bytes(key("during"), "1");
        let answered =
            tokio::time::timeout(CALL_LIMIT, store.commit(vec![Guard::absent(key("during"))], vec![write]));
        match answered.await.expect("every call has a limit") {
            Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => {}
            other => panic!("one of three decided alone: {other:?}"),
        }
        let read = tokio::time::timeout(CALL_LIMIT, store.get(key("before").key())).await;
        assert!(matches!(read.expect("every call has a limit"), Err(StoreError::Unavailable(_))));
        let kept = tokio::time::timeout(CALL_LIMIT, store.keep(lease)).await;
        assert!(matches!(kept.expect("every call has a limit"), Err(StoreError::Unavailable(_))));
    }
    until("it says why", async || {
        let refused = store.get(key("before").key()).await.err();
        refused.is_some_and(|refused| chain(&refused).contains("it has no leader: most members are offline"))
    })
    .await;

    let mut wakeups = store.watch(&keys::join_tokens());
    faulty.etcd.restart(1).expect("restarted");
    until("it is read", async || store.get(key("before").key()).await.is_ok()).await;
    // What was sent when most had just gone may happen when they are back.
    let write = Write::put_bytes(key("after"), "1");
    yes(store.commit(vec![Guard::absent(key("after"))], vec![write]).await.expect("written"));
    tokio::time::timeout(WAKE_LIMIT, wakeups.changed()).await.expect("it woke");
}

fn chain(error: &dyn std::error::Error) -> String {
    let all: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    all.join(": ")
}

/// A store whose way to the first member is through a proxy, and then the other addresses.
async fn behind_a_proxy(faulty: &Faulty, others: &[String]) -> (Proxy, EtcdStore) {
    let direct = faulty.etcd.endpoints().remove(0);
    let direct: SocketAddr = direct.trim_start_matches("https://").parse().expect("an address");
    let proxy = Proxy::start(direct).await.expect("a proxy");
    let mut endpoints = vec![format!("https://{}", proxy.address)];
    endpoints.extend_from_slice(others);
    let settings = EtcdSettings { endpoints, ..settings(&faulty.etcd, PREFIX) };
    let store = EtcdStore::open(&settings).await.expect("opened through the proxy");
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_does_not_come_is_unknown_and_is_settled_by_the_same_again() {
    let faulty = Faulty::start(Members::One).await;
    let (proxy, store) = behind_a_proxy(&faulty, &[]).await;
    let lease = store.grant(Millis(60_000)).await.expect("granted");
    let acquired = Acquisition { lease, ..acquisition(&store, "mine").await }.attempt(&store).await;
    let Ok(Acquired::Held(held)) = acquired else {
        panic!("the lock is not to be had: {acquired:?}");
    };
    let commit = async || {
        held.commit(&store, vec![Guard::absent(keys::journal_entry(&deployment(), 1))], journal_write("1"))
            .await
    };

    proxy.answers(Answers::Held);
    assert!(matches!(commit().await, Err(StoreError::Unknown(_))), "nobody can know this");
    let there = faulty.store.get(keys::journal_entry(&deployment(), 1).key()).await.expect("read");
    assert!(there.is_some(), "it had happened");
    // Nothing is sent to a member that does not say how it is, so that this did not happen.
    let unsent = commit().await;
    assert!(matches!(unsent, Err(StoreError::Unavailable(_))), "{unsent:?}");
    proxy.answers(Answers::Pass);
    assert!(matches!(commit().await, Ok(Committed::No)), "it was done twice");
    assert!(held.is_valid(&store).await.expect("looked"), "the lock is still mine: so the entry is");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_once_is_not_sent_to_another_member_and_what_may_be_repeated_is() {
    let faulty = Faulty::start(Members::One).await;
    let (proxy, store) = behind_a_proxy(&faulty, &faulty.etcd.endpoints()).await;
    let commit = async || {
        let write = Write::put_bytes(key("once"), "1");
        store.commit(vec![Guard::absent(key("once"))], vec![write]).await
    };
    proxy.answers(Answers::Held);
    let unknown = commit().await;
    assert!(matches!(unknown, Err(StoreError::Unknown(_))), "it was sent again: {unknown:?}");
    assert!(matches!(commit().await, Ok(Committed::No)), "the other way was not taken");

    let (proxy, store) = behind_a_proxy(&faulty, &faulty.etcd.endpoints()).await;
    proxy.answers(Answers::Held);
    assert_eq!(value(&store, "once").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watch_cannot_have_seen_wakes_all_the_same() {
    let faulty = Faulty::start(Members::One).await;
    let (proxy, store) = behind_a_proxy(&faulty, &[]).await;
    let mut wakeups = store.watch(&keys::join_tokens());
    proxy.answers(Answers::Held);
    assert!(store.get(key("a").key()).await.is_err(), "somebody answers");
    faulty.etcd.put(&format!("{PREFIX}{}", key("behind").key()), "1").expect("written");
    faulty.etcd.compact().expect("compacted");
    proxy.answers(Answers::Pass);
    tokio::time::timeout(WAKE_LIMIT, wakeups.changed()).await.expect("it woke");
    wakes(&store, async || {
        put(&store, "a", "1").await;
    })
    .await;
}

fn deployment() -> lockstep_core::id::DeploymentId {
    "dep_01JBQR2KXYZ987654321012345".parse().expect("a deployment")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_takes_nothing_from_a_watch_or_a_list() {
    let mut faulty = Faulty::start(Members::One).await;
    let store = Arc::clone(&faulty.store);
    put(&*store, "a", "1").await;
    faulty.etcd.compact().expect("compacted");
    wakes(&*store, async || {
        put(&*store, "a", "2").await;
    })
    .await;

    // What the watch had not seen when its member died is compacted when it begins again.
    let mut wakeups = store.watch(&keys::join_tokens());
    faulty.etcd.kill(0).expect("killed");
    faulty.etcd.restart(0).expect("restarted");
    faulty.etcd.put(&format!("{PREFIX}{}", key("behind").key()), "1").expect("written");
    faulty.etcd.compact().expect("compacted");
    tokio::time::timeout(WAKE_LIMIT, wakeups.changed()).await.expect("it woke");
    wakes(&*store, async || {
        put(&*store, "a", "3").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_moment_is_compacted_away_begins_anew() {
    let faulty = Faulty::start(Members::One).await;
    let store = Arc::clone(&faulty.store);
    const KEPT: usize = 4_000;
    let names: Vec<String> = (0..KEPT).map(|number| format!("{number:05}")).collect();
    for some in names.chunks(100) {
        let writes = some.iter().map(|name| Write::put_bytes(key(name), name.clone())).collect();
        yes(store.commit(vec![], writes).await.expect("written"));
    }
    let stop = CancellationToken::new();
    let busy = tokio::spawn({
        let (store, stop) = (Arc::clone(&store), stop.clone());
        async move {
            while !stop.is_cancelled() {
                put(&*store, "00000", "again").await;
            }
        }
    });
    let compacting = async {
        for _ in 0..20 {
            tokio::task::block_in_place(|| faulty.etcd.compact()).expect("compacted");
        }
        stop.cancel();
    };
    let list = tokio::spawn({
        let (store, stop) = (Arc::clone(&store), stop.clone());
        async move {
            while !stop.is_cancelled() {
                let listed = store.list(&keys::join_tokens()).await.expect("listed");
                assert_eq!(listed.len(), KEPT);
            }
        }
    });
    compacting.await;
    list.await.expect("every list was whole");
    busy.await.expect("it wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_ends_takes_the_lock_though_all_is_well() {
    let faulty = Faulty::start(Members::One).await;
    let store = &*faulty.store;
    let held = held(store, "mine").await;
    assert_eq!(store.keep(held.lease()).await.expect("kept"), LeaseStanding::Alive);
    faulty.etcd.control(&["lease", "revoke", &format!("{:x}", held.lease().0)]).expect("revoked");
    assert_eq!(store.keep(held.lease()).await.expect("asked"), LeaseStanding::Gone);
    let stale = held.commit(store, vec![], journal_write("stale")).await;
    assert!(matches!(stale, Ok(Committed::No)), "it wrote without its lock: {stale:?}");
    let again = crate::held(store, "again").await;
    assert_eq!(again.epoch(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_another_prefix_is_not_seen() {
    let faulty = Faulty::start(Members::One).await;
    let other = open_etcd(&faulty.etcd, "/faults-2").await;
    let longer = open_etcd(&faulty.etcd, "/faults/x").await;
    let mut wakeups = other.watch(&keys::join_tokens());
    put(&*faulty.store, "a", "1").await;
    assert_eq!(value(&other, "a").await, None);
    assert_eq!(value(&longer, "a").await, None);
    assert!(other.list(&keys::all()).await.expect("listed").is_empty());
    assert_eq!(faulty.store.list(&keys::all()).await.expect("listed").len(), 1);
    let silent = tokio::time::timeout(Duration::from_millis(300), wakeups.changed()).await;
    assert!(silent.is_err(), "it woke for another's keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_two_clusters_are_not_one_store() {
    let faulty = Faulty::start(Members::One).await;
    let directory = tempfile::tempdir().expect("a directory");
    let other = Etcd::start_with(&directory.path().join("etcd"), Members::One, &faulty.etcd.certificates)
        .expect("another etcd starts");
    let mut both = settings(&faulty.etcd, PREFIX);
    both.endpoints.extend(other.endpoints());
    match EtcdStore::open(&both).await {
        Err(error @ OpenError::OtherCluster { .. }) => {
            assert!(error.to_string().contains("correct store.etcd.endpoints"), "{error}");
        }
        Err(error) => panic!("another refusal: {error}"),
        Ok(_) => panic!("the record would be in two places"),
    }
}
