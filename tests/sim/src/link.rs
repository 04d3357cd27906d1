//! What one process of a coordinator has of the store: everything goes through here, and may go wrong here.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_coordinator::store::{
    Committed, Guard, Key, LeaseId, LeaseStanding, Prefix, Store, StoreError, Stored, Wakeups, Write,
};
use lockstep_core::time::Millis;

use crate::fault::{Fault, Point};
use crate::world::{World, wait};

/// The longest that a coordinator is frozen: its lease ends meanwhile.
const FREEZE_MS_MAX: u64 = 16_000;

/// How far the epoch is raised past a driver.
const EPOCHS_SKIPPED: u64 = 10;

#[derive(Clone)]
pub struct Link {
    pub world: Arc<World>,
    pub coordinator: usize,
    pub incarnation: u32,
}

impl Link {
    /// Goes on when the process does: for ever, when it is dead.
    pub async fn gate(&self) {
        loop {
            let frozen_until = {
                let state = self.world.lock();
                let coordinator = &state.coordinators[self.coordinator];
                if coordinator.process.incarnation != self.incarnation || !coordinator.process.is_up {
                    None
                } else if let Some(until) = coordinator.frozen_until {
                    Some(until)
                } else {
                    return;
                }
            };
            match frozen_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    fn is_alive(&self) -> bool {
        let process = &self.world.lock().coordinators[self.coordinator].process;
        process.incarnation == self.incarnation && process.is_up
    }

    async fn die(&self) -> ! {
        // Another of its tasks may have been faster.
        if self.is_alive() {
            self.world.crash_coordinator(self.coordinator);
        }
        std::future::pending().await
    }

    async fn freeze(&self) {
        let ms = self.world.chance(|rng| rng.u64(500..FREEZE_MS_MAX));
        if self.is_alive() {
            self.world.freeze_coordinator(self.coordinator, ms);
        }
        self.gate().await;
    }

    fn unknown() -> StoreError {
        StoreError::Unknown("a fault of the simulation".into())
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable("a fault of the simulation".into())
    }

    /// What goes wrong before a request that changes nothing.
    async fn before_a_read(&self, point: Point) -> Result<(), StoreError> {
        self.gate().await;
        match self.world.strike(point) {
            Some(Fault::CoordinatorCrash) => self.die().await,
            Some(Fault::CoordinatorFreeze) => self.freeze().await,
            Some(Fault::StoreUnavailable) => {
                // A driver that cannot read gives the lock back, and any may take it.
                self.world.deposes(0);
                self.world.holds_up(1_500);
                return Err(Self::unavailable());
            }
            Some(Fault::StoreSlow) => self.slow().await,
            Some(Fault::WatchLost) => self.world.mute(),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Sometimes whoever else is ready goes first.
    async fn others_first(&self) {
        if self.world.chance(|rng| rng.u8(0..6)) == 0 {
            tokio::task::yield_now().await;
            self.gate().await;
        }
    }

    async fn slow(&self) {
        let ms = self.world.chance(|rng| rng.u64(50..4_000));
        self.world.holds_up(ms);
        self.world.deposes(ms);
        wait(ms).await;
        self.gate().await;
    }

    /// What goes wrong with a transaction before it happens; what is left goes wrong after it.
    async fn before_a_commit(&self) -> Result<Option<Fault>, StoreError> {
        self.gate().await;
        let fault = self.world.strike(Point::StoreWrite);
        let is_before = self.world.chance(fastrand::Rng::bool);
        match fault {
            Some(Fault::CoordinatorCrash) if is_before => self.die().await,
            Some(Fault::CoordinatorFreeze) if is_before => self.freeze().await,
            Some(Fault::RequestLost) => {
                wait(self.world.chance(|rng| rng.u64(0..2_000))).await;
                self.gate().await;
                return Err(Self::unknown());
            }
            Some(Fault::StoreUnavailable) => return Err(Self::unavailable()),
            Some(Fault::StoreSlow) => self.slow().await,
            Some(Fault::WatchLost) => self.world.mute(),
            Some(Fault::EpochRaised) => self.world.raise_epoch(EPOCHS_SKIPPED),
            Some(_) | None => return Ok(fault),
        }
        Ok(None)
    }
}

#[async_trait]
impl Store for Link {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        self.others_first().await;
        Ok(self.world.store.peek(key))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        self.others_first().await;
        Ok(self.world.store.peek_all(prefix))
    }

    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        self.others_first().await;
        Ok(self.world.store.peek_page(prefix, from, most))
    }

    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        self.others_first().await;
        let mut found = self.world.store.peek_all(prefix);
        found.reverse();
        found.truncate(most);
        Ok(found)
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError> {
        let fault = self.before_a_commit().await?;
        let way_ms = self.world.chance(|rng| rng.u64(0..4));
        if way_ms > 0 {
            wait(way_ms).await;
        }
        let written: Vec<(Key, Option<Bytes>)> =
            writes.iter().map(|write| (write.key().clone(), write.value().cloned())).collect();
        let committed = self.world.store.commit(guards, writes).await;
        if let Ok(Committed::Yes { .. }) = committed {
            self.world.committed(self.coordinator, &written);
        }
        match fault {
            Some(Fault::CoordinatorCrash) => self.die().await,
            Some(Fault::CoordinatorFreeze) => self.freeze().await,
            Some(Fault::AnswerLost) => {
                wait(self.world.chance(|rng| rng.u64(0..2_000))).await;
                self.gate().await;
                return Err(Self::unknown());
            }
            Some(_) | None => {}
        }
        self.gate().await;
        committed
    }

    fn watch(&self, prefix: &Prefix) -> Wakeups {
        self.world.store.watch(prefix)
    }

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        let granted = self.world.store.grant(lives).await;
        self.gate().await;
        granted
    }

    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError> {
        self.gate().await;
        match self.world.strike(Point::LeaseKept) {
            Some(Fault::CoordinatorFreeze) => self.freeze().await,
            Some(Fault::LeaseLost) => {
                self.world.deposes(0);
                self.world.store.revoke(lease).await?;
            }
            Some(Fault::StoreUnavailable) => return Err(Self::unavailable()),
            Some(_) | None => {}
        }
        let standing = self.world.store.keep(lease).await;
        self.gate().await;
        standing
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.before_a_read(Point::StoreRead).await?;
        let revoked = self.world.store.revoke(lease).await;
        self.gate().await;
        revoked
    }
}

impl World {
    /// Nobody who watches is told anything for a while.
    fn mute(self: &Arc<Self>) {
        let ms = self.chance(|rng| rng.u64(500..6_000));
        self.store.mute();
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(ms).await;
            world.store.unmute();
        });
    }

    /// What an operator does who has restored the store from a backup.
    fn raise_epoch(&self, by: u64) {
        let key = &self.keys.epoch;
        let there = self.store.peek(key);
        let epoch = lockstep_coordinator::store::guarded::epoch_of(there.as_ref()).unwrap_or(0);
        self.store.overwrite(key, (epoch + by).to_string());
        self.deposes(0);
        self.holds_up(13_000);
        self.tell(|| format!("the epoch is raised from {epoch} to {}", epoch + by));
    }
}
