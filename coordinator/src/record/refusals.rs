//! Writes to the audit log whom the coordinator refused what.
//!
//! The bound: one line a day for each caller and method, and [`LINES_MAX`] lines a day in all. Who has a stolen
//! certificate can repeat a refused call as often as they like; without a bound they would fill the store, and nobody
//! would find the changes among the refusals. The log of the coordinator has every refusal. A coordinator counts for
//! itself, and begins anew when it starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::access::Identity;
use lockstep_core::time::{Millis, Timestamp};
use tracing::warn;

use crate::ports::clock::Clock;
use crate::record::audit::{self, Change};
use crate::store::Store;

/// How long a refusal stands for those that are like it.
const ONCE_IN: Millis = Millis::from_secs(24 * 3600);

/// How many are written down in that time: of a thousand callers that are refused something, each has its first ones.
const LINES_MAX: usize = 2000;

pub struct Refusals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// When each was written down. Held for a look-up and an insertion, never across an await.
    noted: Mutex<BTreeMap<(String, &'static str), Timestamp>>,
}

impl Refusals {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { store, clock, noted: Mutex::default() })
    }

    /// Writes down that `caller` was refused: `verb` is what the audit log calls it, and `said` one sentence. `what` is
    /// what is counted: the method, or the kind of message.
    pub async fn note(&self, caller: &Identity, verb: &'static str, what: &'static str, said: String) {
        let now = self.clock.now();
        if *caller == Identity::Nobody || !self.is_new(caller, what, now) {
            return;
        }
        let operator = match caller {
            Identity::Operator(name) => name.clone(),
            Identity::Nobody | Identity::Agent(_) | Identity::Coordinator(_) => audit::lockstep(),
        };
        let change = Change { operator, verb, environment: None, said };
        if let Err(error) = audit::append(&*self.store, now, change).await {
            // It is refused all the same.
            warn!(%caller, what, %error, "cannot write a refusal to the audit log");
        }
    }

    /// Whether it is to be written down.
    fn is_new(&self, caller: &Identity, what: &'static str, now: Timestamp) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now < *at + ONCE_IN);
        let key = (caller.to_string(), what);
        if noted.contains_key(&key) || noted.len() >= LINES_MAX {
            return false;
        }
        noted.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::memory::MemoryStore;

    struct SetClock(AtomicU64);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    struct Fixture {
        clock: Arc<SetClock>,
        store: Arc<MemoryStore>,
        refusals: Arc<Refusals>,
    }

    impl Fixture {
        fn new() -> Self {
            let clock = Arc::new(SetClock(AtomicU64::new(1_800_000_000_000)));
            let store = Arc::new(MemoryStore::new(clock.clone()));
            Self { refusals: Refusals::new(store.clone(), clock.clone()), clock, store }
        }

        async fn refuse(&self, caller: &Identity, what: &'static str) {
            self.refusals.note(caller, "refuse call", what, format!("refused {what}")).await;
        }

        async fn lines(&self) -> Vec<(String, String)> {
            let entries = audit::list(&*self.store, None, usize::MAX).await.unwrap();
            entries.into_iter().rev().map(|entry| (entry.operator.to_string(), entry.said)).collect()
        }
    }

    fn operator(name: &str) -> Identity {
        Identity::Operator(name.parse().unwrap())
    }

    #[tokio::test]
    async fn each_caller_and_method_has_one_line_a_day() {
        let fixture = Fixture::new();
        let agent = Identity::Agent("host_01JBQR2KXYZ987654321012345".parse().unwrap());
        for _ in 0..3 {
            fixture.refuse(&operator("eve"), "Thaw").await;
            fixture.refuse(&operator("eve"), "Start").await;
            fixture.refuse(&agent, "Thaw").await;
            fixture.refuse(&Identity::Nobody, "Thaw").await;
        }
        let line = |operator: &str, what: &str| (operator.to_owned(), format!("refused {what}"));
        let first = [line("eve", "Thaw"), line("eve", "Start"), line("lockstep", "Thaw")];
        assert_eq!(fixture.lines().await, first);
        fixture.clock.0.fetch_add(ONCE_IN.0, Ordering::Relaxed);
        fixture.refuse(&operator("eve"), "Thaw").await;
        assert_eq!(fixture.lines().await.len(), first.len() + 1);
    }

    /// Whoever has the key of a coordinator that was removed can sign certificates for any names.
    #[tokio::test]
    async fn callers_without_number_do_not_fill_the_log() {
        let fixture = Fixture::new();
        for number in 0..LINES_MAX + 50 {
            fixture.refuse(&operator(&format!("eve-{number}")), "Thaw").await;
        }
        assert_eq!(fixture.lines().await.len(), LINES_MAX);
    }
}
