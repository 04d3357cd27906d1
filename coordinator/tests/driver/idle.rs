//! Drivers that have nothing to do: what they read of the record, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::{
    Committed, Guard, Key, LeaseId, LeaseStanding, Prefix, Store, StoreError, Stored, Wakeups, Write, keys,
};
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Millis;

use crate::fixture::Fixture;

/// Counts how often all that is recorded of every environment is read.
struct CountingStore {
    inner: Arc<MemoryStore>,
    reads_of_everything: AtomicUsize,
}

#[async_trait]
impl Store for CountingStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError> {
        if *prefix == keys::environments() {
            self.reads_of_everything.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.list(prefix).await
    }

    async fn list_named(&self, prefix: &Prefix, last: &str) -> Result<Vec<Stored>, StoreError> {
        self.inner.list_named(prefix, last).await
    }

    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError> {
        self.inner.page(prefix, from, most).await
    }

    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError> {
        self.inner.last(prefix, most).await
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError> {
        self.inner.commit(guards, writes).await
    }

    fn watch(&self, prefix: &Prefix) -> Wakeups {
        self.inner.watch(prefix)
    }

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError> {
        self.inner.grant(lives).await
    }

    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError> {
        self.inner.keep(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
}

#[tokio::test(start_paused = true)]
async fn drivers_with_nothing_to_do_do_not_read_every_document_of_every_environment() {
    let mut fixture = Fixture::new().await;
    let store = Arc::new(CountingStore {
        inner: Arc::clone(&fixture.store),
        reads_of_everything: AtomicUsize::new(0),
    });
    fixture.parts.store = Arc::<CountingStore>::clone(&store);
    let _drivers = fixture.drivers();
    let deployed = fixture.deploy("notes:1").await;
    fixture.check_ended(&deployed, Verdict::Succeeded).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    store.reads_of_everything.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(store.reads_of_everything.load(Ordering::Relaxed), 0);
    fixture.shut_down().await;
}
