//! The store in memory, with fault injection, for simulation and tests. Its content is lost with its process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_core::time::Millis;

use super::lease::Leases;
use super::watch::Watchers;
use super::{
    Change, Committed, Guard, Key, LeaseId, LeaseStanding, Prefix, Revision, Store, StoreError, Stored,
    Wakeups, Write, within_limits,
};
use crate::ports::clock::Clock;

/// What happens to one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It does not happen, and the caller is told.
    Unavailable,
    /// It happens, and the caller is told that nobody knows.
    AnswerLost,
    /// It does not happen, and the caller is told that nobody knows.
    RequestLost,
    /// It happens, and the caller never hears of it: as good as dead.
    Silence,
}

/// Chooses a fault for a transaction, by the keys that it writes.
pub type Faults = Box<dyn FnMut(&[&Key]) -> Fault + Send>;

pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    // One map behind a lock that is never held across an await: it stands for a server.
    state: Mutex<State>,
    watchers: Watchers,
    /// Whether those who watch are told nothing.
    is_mute: AtomicBool,
}

#[derive(Default)]
struct State {
    revision: Revision,
    values: BTreeMap<Key, (Stored, Option<LeaseId>)>,
    leases: Leases,
    faults: Option<Faults>,
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            watchers: Watchers::default(),
            is_mute: AtomicBool::new(false),
        }
    }

    /// Another store with what this one has and no lease, for a world that begins where another ended.
    pub fn copy(&self, clock: Arc<dyn Clock>) -> Self {
        let (revision, values) = {
            let state = self.lock();
            let values = state.values.iter().filter(|(_, (_, lease))| lease.is_none());
            (state.revision, values.map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        let copy = Self::new(clock);
        *copy.lock() = State { revision, values, ..State::default() };
        copy
    }

    /// From here on nobody who watches is told anything.
    pub fn mute(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }

    /// Who watches is told again, from the next change on.
    pub fn unmute(&self) {
        self.is_mute.store(false, Ordering::Relaxed);
    }

    /// Writes past every guard, as a restore from a backup does.
    pub fn overwrite(&self, key: &Key, value: impl Into<Bytes>) {
        let mut state = self.lock();
        state.revision += 1;
        state.put(key.clone(), value.into(), None);
    }

    /// What is there, without a fault and without waiting.
    pub fn peek(&self, key: &Key) -> Option<Stored> {
        self.current().values.get(key).map(|(stored, _)| stored.clone())
    }

    /// As [`Store::page`], without a fault and without waiting.
    pub fn peek_page(&self, prefix: &Prefix, from: &Key, most: usize) -> Vec<Stored> {
        let from = from.max(&prefix.first()).clone();
        let state = self.current();
        let page = state.values.range(from..).take_while(|(key, _)| prefix.covers(key)).take(most);
        page.map(|(_, (stored, _))| stored.clone()).collect()
    }

    /// Everything below `prefix`, without a fault and without waiting.
    pub fn peek_all(&self, prefix: &Prefix) -> Vec<Stored> {
        self.current().below(prefix)
    }

    fn wake<'a>(&self, keys: impl Iterator<Item = &'a Key> + Clone) {
        if !self.is_mute.load(Ordering::Relaxed) {
            self.watchers.wake(keys);
        }
    }

    /// From here on `faults` chooses what happens to each transaction.
    pub fn inject(&self, faults: Faults) {
        self.lock().faults = Some(faults);
    }

    pub fn heal(&self) {
        self.lock().faults = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A transaction changes the map only after everything that can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state without what ended leases held.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let ended = state.leases.ended(self.clock.now());
        let mut deleted = Vec::new();
        for lease in ended {
            deleted.extend(state.drop_lease(lease));
        }
        if !deleted.is_empty() {
            self.wake(deleted.iter());
        }
        state
    }
}

impl State {
    fn below(&self, prefix: &Prefix) -> Vec<Stored> {
        let below = self.values.range(prefix.first()..).take_while(|(key, _)| prefix.covers(key));
        below.map(|(_, (stored, _))| stored.clone()).collect()
    }

    fn drop_lease(&mut self, lease: LeaseId) -> Vec<Key> {
        self.leases.forget(lease);
        let deleted: Vec<Key> = self
            .values
            .iter()
            .filter(|(_, (_, bound))| *bound == Some(lease))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &deleted {
            self.values.remove(key);
        }
        if !deleted.is_empty() {
            self.revision += 1;
        }
        deleted
    }

    fn apply(&mut self, writes: Vec<Write>) -> Revision {
        if writes.is_empty() {
            return self.revision;
        }
        self.revision += 1;
        for Write { key, change } in writes {
            match change {
                Change::Delete => {
                    self.values.remove(&key);
                }
                Change::Put { value, lease } => self.put(key, value, lease),
            }
        }
        self.revision
    }

    fn put(&mut self, key: Key, value: Bytes, lease: Option<LeaseId>) {
        let created = self.values.get(&key).map_or(self.revision, |(there, _)| there.created);
        let stored = Stored { key: key.clone(), value, created, modified: self.revision };
        self.values.insert(key, (stored, lease));
    }
}

/// A server answers later, and others are served in between.
async fn answer_later() {
    tokio::task::yield_now().await;
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        answer_later().await;
        Ok(self.current().values.get(key).map(|(stored, _)| stored.clone()))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError> {
        answer_later().await;
        Ok(self.peek_all(prefix))
    }

    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError> {
        answer_later().await;
        Ok(self.peek_page(prefix, from, most))
    }

    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError> {
        let mut found = self.list(prefix).await?;
        found.reverse();
        found.truncate(most);
        Ok(found)
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError> {
        within_limits(&guards, &writes)?;
        answer_later().await;
        let touched: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
        let (fault, committed) = {
            let mut state = self.current();
            let fault = match &mut state.faults {
                Some(faults) => faults(&touched.iter().collect::<Vec<_>>()),
                None => Fault::None,
            };
            match fault {
                Fault::Unavailable => {
                    return Err(StoreError::Unavailable("a fault of the test".into()));
                }
                Fault::RequestLost => return Err(StoreError::Unknown("a fault of the test".into())),
                Fault::None | Fault::AnswerLost | Fault::Silence => {}
            }
            for write in &writes {
                if let Change::Put { lease: Some(lease), .. } = &write.change
                    && !state.leases.is_alive(*lease, self.clock.now())
                {
                    return Err(StoreError::NoSuchLease(*lease));
                }
            }
            let holds = guards
                .iter()
                .all(|guard| guard.holds(state.values.get(guard.key()).map(|(stored, _)| stored)));
            let committed = if holds {
                let revision = state.apply(writes);
                Committed::Yes { revision }
            } else {
                Committed::No
            };
            (fault, committed)
        };
        if committed != Committed::No {
            self.wake(touched.iter());
        }
        match fault {
            Fault::AnswerLost => Err(StoreError::Unknown("a fault of the test".into())),
            Fault::Silence => std::future::pending().await,
            Fault::None | Fault::Unavailable | Fault::RequestLost => Ok(committed),
        }
    }

    fn watch(&self, prefix: &Prefix) -> Wakeups {
        self.watchers.watch(prefix)
    }

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError> {
        let now = self.clock.now();
        Ok(self.lock().leases.grant(lives, now))
    }

    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError> {
        let now = self.clock.now();
        Ok(self.current().leases.keep(lease, now))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let deleted = self.lock().drop_lease(lease);
        self.wake(deleted.iter());
        Ok(())
    }
}
