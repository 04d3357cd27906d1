//! One suite for every adapter of the store: what holds for one holds for all.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::store::guarded::{Acquired, Acquisition, Held, OwnedWrite};
use lockstep_coordinator::store::memory::{Fault, MemoryStore};
use lockstep_coordinator::store::sqlite::{OpenError, SqliteStore};
use lockstep_coordinator::store::{
    Committed, Free, Guard, LeaseStanding, OPERATIONS_MAX, Store, StoreError, Stored, TRANSACTION_BYTES_MAX,
    VALUE_BYTES_MAX, Write, keys,
};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::Claim;
use lockstep_core::time::Millis;

pub(crate) mod bench;
mod etcd_faults;

use bench::{Bench, HandClock, on_every_adapter, open_sqlite as open};

/// Long enough for a case, and not too long to wait for its end where time is real.
const LEASE: Millis = Millis(4_000);

/// How long a wake-up may take before it counts as lost.
const WAKE_LIMIT: Duration = Duration::from_secs(10);

fn key(name: &str) -> Free {
    keys::join_token(name)
}

async fn put(store: &dyn Store, name: &str, value: &str) -> u64 {
    let write = Write::put_bytes(key(name), value.as_bytes().to_vec());
    yes(store.commit(vec![], vec![write]).await.expect("it is written"))
}

fn yes(committed: Committed) -> u64 {
    match committed {
        Committed::Yes { revision } => revision,
        Committed::No => panic!("a guard did not hold"),
    }
}

async fn value(store: &dyn Store, name: &str) -> Option<String> {
    let stored = store.get(key(name).key()).await.expect("it is read")?;
    Some(String::from_utf8(stored.value.to_vec()).expect("text"))
}

#[tokio::test]
async fn a_value_knows_when_it_came_to_be_and_when_it_was_last_written() {
    on_every_adapter(|Bench { store, .. }| async move {
        let first = put(&*store, "a", "1").await;
        let second = put(&*store, "a", "2").await;
        assert!(second > first);
        let there = store.get(key("a").key()).await.expect("read").expect("there");
        assert_eq!((there.created, there.modified), (first, second));
        store.commit(vec![], vec![Write::delete(key("a"))]).await.expect("deleted");
        let third = put(&*store, "a", "3").await;
        let there = store.get(key("a").key()).await.expect("read").expect("there");
        assert_eq!((there.created, there.modified), (third, third), "a key made again is another");
    })
    .await;
}

/// One test for all guards, because each test starts an etcd; a failure names the guard.
#[tokio::test]
async fn every_guard_holds_when_it_should_and_only_then() {
    on_every_adapter(|Bench { store, .. }| async move {
        let created = put(&*store, "a", "1").await;
        let modified = put(&*store, "a", "2").await;
        let a = || key("a").into();
        let missing = || key("missing").into();
        for (guard, holds) in [
            (Guard::Absent(a()), false),
            (Guard::Absent(missing()), true),
            (Guard::Created(a(), created), true),
            (Guard::Created(a(), modified), false),
            (Guard::Created(missing(), created), false),
            (Guard::Unchanged(a(), modified), true),
            (Guard::Unchanged(a(), created), false),
            (Guard::Unchanged(missing(), modified), false),
            (Guard::Equals(a(), "2".into()), true),
            (Guard::Equals(a(), "1".into()), false),
            (Guard::Equals(missing(), "".into()), false),
        ] {
            let said = format!("{guard:?}");
            let write = Write::put_bytes(key("probe"), "x");
            let committed = store.commit(vec![guard], vec![write]).await.expect("answered");
            assert_eq!(committed != Committed::No, holds, "{said}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_happens_as_a_whole_or_not_at_all() {
    on_every_adapter(|Bench { store, .. }| async move {
        put(&*store, "there", "1").await;
        let writes = || {
            vec![
                Write::put_bytes(key("x"), "1"),
                Write::delete(key("there")),
                Write::put_bytes(key("y"), "1"),
            ]
        };
        let guards = vec![Guard::absent(key("x")), Guard::absent(key("there")), Guard::absent(key("y"))];
        let committed = store.commit(guards, writes()).await.expect("answered");
        assert_eq!(committed, Committed::No);
        assert_eq!(value(&*store, "x").await, None);
        assert_eq!(value(&*store, "there").await.as_deref(), Some("1"));

        let revision = yes(store.commit(vec![], writes()).await.expect("answered"));
        for name in ["x", "y"] {
            let there = store.get(key(name).key()).await.expect("read").expect("there");
            assert_eq!(there.created, revision, "all of a transaction is of one revision");
        }
        assert_eq!(value(&*store, "there").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_written_once_in_a_transaction() {
    on_every_adapter(|Bench { store, .. }| async move {
        let twice = vec![Write::put_bytes(key("a"), "1"), Write::delete(key("a"))];
        let refused = store.commit(vec![], twice).await.expect_err("which of the two is meant");
        assert!(matches!(refused, StoreError::WrittenTwice { .. }), "{refused}");
        assert_eq!(value(&*store, "a").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_without_writes_says_whether_its_guards_hold() {
    on_every_adapter(|Bench { store, .. }| async move {
        let revision = put(&*store, "a", "1").await;
        let said = store.commit(vec![Guard::Created(key("a").into(), revision)], vec![]).await;
        assert_eq!(said.expect("answered"), Committed::Yes { revision }, "nothing was written since");
        let said = store.commit(vec![Guard::absent(key("a"))], vec![]).await;
        assert_eq!(said.expect("answered"), Committed::No);
    })
    .await;
}

#[tokio::test]
async fn of_many_that_want_the_same_key_one_gets_it() {
    on_every_adapter(|Bench { store, .. }| async move {
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..20 {
            let store = store.clone();
            racers.spawn(async move {
                let write = Write::put_bytes(key("prize"), format!("{racer}"));
                store.commit(vec![Guard::absent(key("prize"))], vec![write]).await
            });
        }
        let won = racers.join_all().await.into_iter().filter(|r| matches!(r, Ok(Committed::Yes { .. })));
        assert_eq!(won.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_list_is_ordered_and_has_nothing_of_the_neighbours() {
    on_every_adapter(|Bench { store, .. }| async move {
        for name in ["b", "a", "c"] {
            put(&*store, name, name).await;
        }
        let neighbour = keys::audit_record(1);
        store.commit(vec![], vec![Write::put_bytes(neighbour, "n")]).await.expect("written");
        let listed = store.list(&keys::join_tokens()).await.expect("listed");
        let names: Vec<&str> = listed.iter().map(|stored| stored.key.last()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let last = store.last(&keys::join_tokens(), 2).await.expect("listed");
        let names: Vec<&str> = last.iter().map(|stored| stored.key.last()).collect();
        assert_eq!(names, ["c", "b"], "the last come first");
        assert!(store.last(&keys::join_tokens(), 0).await.expect("listed").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_long_list_has_everything_once() {
    on_every_adapter(|Bench { store, .. }| async move {
        let names: Vec<String> = (0..400).map(|number| format!("{number:04}")).collect();
        for some in names.chunks(OPERATIONS_MAX) {
            let writes = some.iter().map(|name| Write::put_bytes(key(name), name.clone())).collect();
            yes(store.commit(vec![], writes).await.expect("written"));
        }
        let read = |listed: Vec<Stored>| {
            listed.iter().map(|stored| stored.key.last().to_owned()).collect::<Vec<String>>()
        };
        assert_eq!(read(store.list(&keys::join_tokens()).await.expect("listed")), names);
        let last: Vec<String> = names.iter().rev().take(300).cloned().collect();
        assert_eq!(read(store.last(&keys::join_tokens(), 300).await.expect("listed")), last);
    })
    .await;
}

#[tokio::test]
async fn a_list_of_one_name_has_the_keys_that_end_with_it_and_no_others() {
    on_every_adapter(|Bench { store, .. }| async move {
        for name in ["a/lock", "a/spec", "b/lock", "b/padlock", "c/lock/inner", "lock"] {
            put(&*store, name, name).await;
        }
        let lease = store.grant(LEASE).await.expect("granted");
        let leased = Write::put_leased(key("d/lock"), b"d".to_vec(), lease);
        store.commit(vec![], vec![leased]).await.expect("written");
        let named = || async {
            let found = store.list_named(&keys::join_tokens(), "lock").await.expect("listed");
            found.iter().map(|stored| stored.value.to_vec()).collect::<Vec<Vec<u8>>>()
        };
        assert_eq!(named().await, [&b"a/lock"[..], b"b/lock", b"d", b"lock"]);
        store.revoke(lease).await.expect("revoked");
        assert_eq!(named().await, [&b"a/lock"[..], b"b/lock", b"lock"]);
    })
    .await;
}

#[tokio::test]
async fn a_page_begins_where_it_is_told_and_stays_below_its_prefix() {
    on_every_adapter(|Bench { store, .. }| async move {
        for number in 0..5 {
            put(&*store, &format!("{number}"), "x").await;
        }
        let host = keys::host_name(&"neighbour".parse().expect("a name"));
        store.commit(vec![], vec![Write::put_bytes(host, "x")]).await.expect("written");
        let page = |from: Free, most: usize| {
            let store = &store;
            async move {
                let page = store.page(&keys::join_tokens(), from.key(), most).await.expect("listed");
                page.iter().map(|stored| stored.key.last().to_owned()).collect::<Vec<String>>()
            }
        };
        assert_eq!(page(key("1"), 2).await, ["1", "2"]);
        assert_eq!(page(key("25"), 9).await, ["3", "4"]);
        assert!(page(key("9"), 9).await.is_empty());
        assert!(page(key("0"), 0).await.is_empty());
        let from_the_first = store.page(&keys::join_tokens(), &keys::join_tokens().first(), 9).await;
        assert_eq!(from_the_first.expect("listed").len(), 5);
    })
    .await;
}

/// One test for all values, because each test starts an etcd; a failure names the value.
#[tokio::test]
async fn a_value_that_is_not_what_it_should_be_is_refused_by_its_key() {
    on_every_adapter(|Bench { store, .. }| async move {
        let open = |kind: &str, version: u32, content: &str| {
            format!(r#"{{"kind":"{kind}","version":{version},"content":{content}}}"#)
        };
        for (value, why) in [
            ("damaged".to_owned(), "this is not a Lockstep document"),
            (open("open", 1, "{"), "this is not a Lockstep document"),
            (open("open", 1, "{}"), "this open cannot be read"),
            (open("summary", 1, "{}"), "this is a summary, not a open"),
            (open("open", 2, "{}"), "this open has version 2; this program reads versions up to 1"),
        ] {
            put(&*store, "a", &value).await;
            let there = store.get(key("a").key()).await.expect("it is got").expect("it is there");
            let refused = there.read::<Claim>().expect_err("it was read");
            assert_eq!(refused.to_string(), "cannot read /lockstep/v1/token/a in the store", "{value}");
            let said = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
            assert!(said.starts_with(why), "{value}: {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_wakes_for_its_prefix_also_for_what_came_before_the_wait() {
    on_every_adapter(|Bench { store, .. }| async move {
        let mut mine = store.watch(&keys::join_tokens());
        let mut other = store.watch(&keys::audit());
        put(&*store, "a", "1").await;
        tokio::time::timeout(WAKE_LIMIT, mine.changed()).await.expect("it woke");
        let silent = tokio::time::timeout(Duration::from_millis(50), other.changed()).await;
        assert!(silent.is_err(), "it woke for another prefix");
        let again = tokio::time::timeout(Duration::from_millis(50), mine.changed()).await;
        assert!(again.is_err(), "it woke twice for one change");

        let refused =
            store.commit(vec![Guard::absent(key("a"))], vec![Write::put_bytes(key("a"), "2")]).await;
        assert!(matches!(refused, Ok(Committed::No)));
        let silent = tokio::time::timeout(Duration::from_millis(50), mine.changed()).await;
        assert!(silent.is_err(), "it woke for a transaction that did not happen");
    })
    .await;
}

#[tokio::test]
async fn what_is_bound_to_a_lease_goes_with_it() {
    on_every_adapter(|Bench { store, time }| async move {
        let lease = store.grant(LEASE).await.expect("granted");
        let write = Write::put_leased(key("leased"), "1", lease);
        store.commit(vec![], vec![write]).await.expect("written");
        for _ in 0..2 {
            time.almost_a_lease().await;
            assert_eq!(store.keep(lease).await.expect("kept"), LeaseStanding::Alive);
        }
        time.almost_a_lease().await;
        assert_eq!(value(&*store, "leased").await.as_deref(), Some("1"), "keeping it changed nothing");
        time.rest_of_a_lease().await;
        time.until("it went with its lease", async || value(&*store, "leased").await.is_none()).await;
        assert!(store.list(&keys::join_tokens()).await.expect("listed").is_empty());
        let absent =
            store.commit(vec![Guard::absent(key("leased"))], vec![Write::put_bytes(key("x"), "1")]).await;
        assert!(matches!(absent, Ok(Committed::Yes { .. })), "a guard saw it after its lease");
        assert_eq!(store.keep(lease).await.expect("asked"), LeaseStanding::Gone);
        let late = Write::put_leased(key("late"), "1", lease);
        assert!(matches!(store.commit(vec![], vec![late]).await, Err(StoreError::NoSuchLease(_))));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_lease_takes_its_keys_and_wakes_who_watches() {
    on_every_adapter(|Bench { store, .. }| async move {
        let lease = store.grant(LEASE).await.expect("granted");
        let write = Write::put_leased(key("leased"), "1", lease);
        store.commit(vec![], vec![write]).await.expect("written");
        let mut wakeups = store.watch(&keys::join_tokens());
        store.revoke(lease).await.expect("revoked");
        tokio::time::timeout(WAKE_LIMIT, wakeups.changed()).await.expect("it woke");
        assert_eq!(value(&*store, "leased").await, None);
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_size() {
    on_every_adapter(|Bench { store, .. }| async move {
        let most = Write::put_bytes(key("most"), vec![0; VALUE_BYTES_MAX]);
        yes(store.commit(vec![], vec![most]).await.expect("it fits"));
        let more = Write::put_bytes(key("more"), vec![0; VALUE_BYTES_MAX + 1]);
        let refused = store.commit(vec![], vec![more]).await.expect_err("it is too large");
        assert_eq!(
            refused.to_string(),
            "/lockstep/v1/token/more would have 524289 bytes; the limit is 524288"
        );
        let many = |count: usize| (0..count).map(|at| Write::put_bytes(key(&format!("{at}")), "1")).collect();
        yes(store.commit(vec![], many(OPERATIONS_MAX)).await.expect("it fits"));
        let refused =
            store.commit(vec![Guard::absent(key("z"))], many(OPERATIONS_MAX)).await.expect_err("too many");
        assert_eq!(refused.to_string(), "the transaction has 101 operations; the limit is 100");

        let large = |count: usize| {
            let values =
                (0..count).map(|at| Write::put_bytes(key(&format!("{at}")), vec![0; VALUE_BYTES_MAX]));
            values.collect::<Vec<_>>()
        };
        let fits = TRANSACTION_BYTES_MAX / VALUE_BYTES_MAX;
        yes(store.commit(vec![], large(fits)).await.expect("it fits"));
        let mut more = large(fits);
        more.push(Write::put_bytes(key("more"), "1"));
        let refused = store.commit(vec![], more).await.expect_err("all of it is too large");
        assert_eq!(refused.to_string(), "the transaction has 1048577 bytes; the limit is 1048576");
        assert_eq!(value(&*store, "more").await, None);
    })
    .await;
}

fn environment() -> EnvironmentKey {
    "notes/production".parse().expect("a key")
}

async fn acquisition(store: &dyn Store, nonce: &str) -> Acquisition {
    Acquisition {
        environment: environment(),
        coordinator: "c1".to_owned(),
        nonce: nonce.to_owned(),
        lease: store.grant(LEASE).await.expect("granted"),
    }
}

async fn held(store: &dyn Store, nonce: &str) -> Held {
    match acquisition(store, nonce).await.attempt(store).await {
        Ok(Acquired::Held(held)) => held,
        other => panic!("the lock is not to be had: {other:?}"),
    }
}

fn journal_write(text: &str) -> Vec<OwnedWrite> {
    let deployment = "dep_01JBQR2KXYZ987654321012345".parse().expect("a deployment");
    vec![OwnedWrite::put_bytes(keys::journal_entry(&deployment, 1), text.to_owned())]
}

#[tokio::test]
async fn a_deposed_holder_writes_nothing() {
    on_every_adapter(|Bench { store, time }| async move {
        let first = held(&*store, "first").await;
        assert_eq!(first.epoch(), 1);
        let second = acquisition(&*store, "second").await;
        assert!(matches!(second.attempt(&*store).await, Ok(Acquired::ByAnother(_))));
        time.almost_a_lease().await;
        time.rest_of_a_lease().await;
        time.until("the lock is free", async || !first.is_valid(&*store).await.expect("looked")).await;
        let second = held(&*store, "second").await;
        assert_eq!(second.epoch(), 2);
        let stale = first.commit(&*store, vec![], journal_write("stale")).await;
        assert!(matches!(stale, Ok(Committed::No)), "a deposed holder wrote: {stale:?}");
        assert!(!first.is_valid(&*store).await.expect("looked"));
        first.release(&*store).await.expect("released");
        assert!(second.is_valid(&*store).await.expect("looked"), "the first gave away what was not its own");
        yes(second.commit(&*store, vec![], journal_write("good")).await.expect("written"));
        second.release(&*store).await.expect("released");
        assert_eq!(held(&*store, "third").await.epoch(), 3, "an epoch only rises");
    })
    .await;
}

#[tokio::test]
async fn an_acquisition_whose_answer_was_lost_is_found_to_be_mine() {
    let store = MemoryStore::new(Arc::new(HandClock::default()));
    let acquisition = acquisition(&store, "mine").await;
    store.inject(Box::new(|_| Fault::AnswerLost));
    assert!(matches!(acquisition.attempt(&store).await, Ok(Acquired::Again)));
    store.heal();
    match acquisition.attempt(&store).await {
        Ok(Acquired::Held(held)) => {
            assert_eq!(held.epoch(), 1, "it was taken twice");
            assert!(held.is_valid(&store).await.expect("looked"));
        }
        other => panic!("it is not mine: {other:?}"),
    }
}

#[tokio::test]
async fn sqlite_keeps_what_it_answered_and_drops_what_the_dead_had_leased() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(HandClock::default());
    let store = open(directory.path(), clock.clone()).await;
    let revision = put(&store, "a", "1").await;
    let lease = store.grant(LEASE).await.expect("granted");
    let write = Write::put_leased(key("leased"), "1", lease);
    let last = yes(store.commit(vec![], vec![write]).await.expect("written"));
    drop(store);
    let store = open(directory.path(), clock).await;
    let there = store.get(key("a").key()).await.expect("read").expect("it is kept");
    assert_eq!(there.created, revision);
    assert_eq!(value(&store, "leased").await, None, "its holder is dead: nobody waits for a lease");
    assert!(put(&store, "b", "1").await > last, "the revision went backwards");
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(HandClock::default());
    let _first = open(directory.path(), clock.clone()).await;
    match SqliteStore::open(directory.path(), clock).await {
        Err(error @ OpenError::InUse { .. }) => {
            assert!(error.to_string().starts_with("another coordinator uses "), "{error}");
        }
        Err(other) => panic!("another refusal: {other}"),
        Ok(_) => panic!("two coordinators have one store"),
    }
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(HandClock::default());
    drop(open(directory.path(), clock.clone()).await);
    let url = format!("sqlite://{}", directory.path().join("store.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connected");
    sqlx::raw_sql("PRAGMA user_version = 2").execute(&pool).await.expect("set");
    pool.close().await;
    let refused = SqliteStore::open(directory.path(), clock).await;
    assert!(matches!(refused, Err(OpenError::Newer { found: 2, .. })));
}
