//! The lease that shows that this coordinator is alive, and the values bound to it.
//!
//! What must stay true: a coordinator that cannot reach the store for the time of its lease counts as dead to the
//! others. It then treats itself as dead too, so its agents connect to a coordinator that can give them assignments.

use std::sync::Arc;

use lockstep_core::name::CoordinatorName;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::drive::lock::{LEASE_LIVES, LEASE_RENEWED_EVERY};
use crate::ports::clock::Clock;
use crate::record::coordinators::Alive;
use crate::store::{LeaseId, LeaseStanding, Store, StoreError, Write, keys};

/// The lease of this coordinator, while it has one.
#[derive(Debug, Clone)]
pub struct Presence(watch::Receiver<Option<LeaseId>>);

impl Presence {
    pub fn lease(&self) -> Option<LeaseId> {
        *self.0.borrow()
    }

    /// Waits until the lease is another than `lease`.
    pub async fn until_not(&mut self, lease: LeaseId) {
        if self.0.wait_for(|there| *there != Some(lease)).await.is_err() {
            // Whoever kept it has ended.
        }
    }
}

/// Keeps a coordinator's presence.
pub struct PresenceKeeper {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    name: CoordinatorName,
    lease: watch::Sender<Option<LeaseId>>,
}

impl PresenceKeeper {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, name: CoordinatorName) -> Self {
        Self { store, clock, name, lease: watch::Sender::new(None) }
    }

    pub fn presence(&self) -> Presence {
        Presence(self.lease.subscribe())
    }

    /// Goes on for ever.
    pub async fn run(&self) -> std::convert::Infallible {
        let lives = std::time::Duration::from_millis(LEASE_LIVES.0);
        let every = std::time::Duration::from_millis(LEASE_RENEWED_EVERY.0);
        let mut kept = Instant::now();
        loop {
            let asked = Instant::now();
            match self.keep().await {
                Ok(()) => kept = asked,
                Err(error) if kept.elapsed() >= lives => {
                    if self.lease.send_replace(None).is_some() {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot reach the store: agents must connect to another coordinator"
                        );
                    }
                }
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot renew the lease of this coordinator"
                ),
            }
            tokio::time::sleep(every).await;
        }
    }

    /// One sign of life; where there is no lease, or it has ended, another is begun.
    async fn keep(&self) -> Result<(), StoreError> {
        let lease = *self.lease.borrow();
        if let Some(lease) = lease
            && self.store.keep(lease).await? == LeaseStanding::Alive
        {
            return Ok(());
        }
        let lease = self.store.grant(LEASE_LIVES).await?;
        let alive = Alive { version: env!("CARGO_PKG_VERSION").to_owned(), since: self.clock.now() };
        let value = lockstep_core::stored::encode(&alive);
        let write = Write::put_leased(keys::coordinator_presence(&self.name), value, lease);
        self.store.commit(Vec::new(), vec![write]).await?;
        self.lease.send_replace(Some(lease));
        info!(coordinator = %self.name, "registered this coordinator as alive");
        Ok(())
    }

    /// Says that this coordinator ends: nobody need wait for its lease.
    pub async fn end(&self) {
        let Some(lease) = self.lease.send_replace(None) else { return };
        if let Err(error) = self.store.revoke(lease).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot revoke the lease of this coordinator; it ends by itself"
            );
        }
    }
}
