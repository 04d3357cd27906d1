//! What the suite runs on: each adapter, and how its time passes.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_coordinator::ports::clock::Clock;
use lockstep_coordinator::program::settings::EtcdSettings;
use lockstep_coordinator::store::Store;
use lockstep_coordinator::store::etcd::EtcdStore;
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::sqlite::SqliteStore;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_tests::bed::server::etcd::{Etcd, Members};

use crate::LEASE;

/// Where time is real, what is to come is waited for so long.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) time: Time,
}

/// How time passes for a store.
pub(crate) enum Time {
    /// As the test says, to the millisecond.
    ByHand(Arc<HandClock>),
    /// By itself; etcd ends a lease at its next look after the lease's time.
    Real,
}

impl Time {
    pub(crate) async fn almost_a_lease(&self) {
        match self {
            Self::ByHand(clock) => clock.advance(Millis(LEASE.0 - 1)),
            Self::Real => tokio::time::sleep(Duration::from_millis(LEASE.0 / 2)).await,
        }
    }

    /// What [`Self::almost_a_lease`] left of it.
    pub(crate) async fn rest_of_a_lease(&self) {
        match self {
            Self::ByHand(clock) => clock.advance(Millis(1)),
            Self::Real => tokio::time::sleep(Duration::from_millis(LEASE.0 / 2)).await,
        }
    }

    /// Where time is by hand it is so at once.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        match self {
            Self::ByHand(_) => assert!(is_so().await, "not so: {what}"),
            Self::Real => until(what, is_so).await,
        }
    }
}

/// Looks until it is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < LIMIT, "not so after {} s: {what}", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl HandClock {
    fn advance(&self, by: Millis) {
        self.0.fetch_add(by.0, Ordering::SeqCst);
    }
}

/// Runs one case on every adapter.
pub(crate) async fn on_every_adapter<F: Future<Output = ()>>(case: impl Fn(Bench) -> F) {
    let clock = Arc::new(HandClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    case(Bench { store, time: Time::ByHand(clock) }).await;

    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(HandClock::default());
    let store = Arc::new(open_sqlite(directory.path(), clock.clone()).await);
    case(Bench { store, time: Time::ByHand(clock) }).await;

    let etcd = Etcd::start(&directory.path().join("etcd"), Members::One).expect("etcd starts");
    let store = Arc::new(open_etcd(&etcd, "/conformance").await);
    case(Bench { store, time: Time::Real }).await;
}

pub(crate) async fn open_sqlite(directory: &Path, clock: Arc<HandClock>) -> SqliteStore {
    SqliteStore::open(directory, clock).await.expect("the store opens")
}

pub(crate) async fn open_etcd(etcd: &Etcd, prefix: &str) -> EtcdStore {
    EtcdStore::open(&settings(etcd, prefix)).await.expect("the store opens")
}

pub(crate) fn settings(etcd: &Etcd, prefix: &str) -> EtcdSettings {
    EtcdSettings {
        endpoints: etcd.endpoints(),
        ca: etcd.certificates.authority.clone(),
        certificate: etcd.certificates.certificate.clone(),
        key: etcd.certificates.key.clone(),
        prefix: prefix.to_owned(),
    }
}
