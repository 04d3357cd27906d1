//! How a driver takes, keeps and releases the lock of an environment.
//!
//! The lock is bound to a lease, so it is released when its holder dies. The transaction that takes the lock makes its
//! proof, [`Held`]. [`lockstep_core::run::driver_phase`] decides what to do if the outcome of an attempt is unknown.

use std::time::Duration;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::driver_phase::{AcquireOutcome, RESEND_AFTER};
use lockstep_core::time::Millis;
use lockstep_mutant::{Mutant, is_on};
use tracing::{debug, warn};
use ulid::Ulid;

use crate::store::guarded::{self, Acquired, Acquisition, Held};
use crate::store::{LeaseStanding, Store, StoreError};

/// How long a lock outlives its holder's last sign of life.
pub const LEASE_LIVES: Millis = Millis::from_secs(10);

/// How often a holder gives a sign of life.
pub const LEASE_RENEWED_EVERY: Millis = Millis::from_secs(2);

/// One driver's way to the lock of one environment.
#[derive(Debug)]
pub struct Lock {
    environment: EnvironmentKey,
    coordinator: String,
    /// Kept until its outcome is known, with its nonce.
    attempt: Option<Acquisition>,
    held: Option<Held>,
    /// Another had it when it was last tried for.
    is_anothers: bool,
}

impl Lock {
    pub fn new(environment: EnvironmentKey, coordinator: String) -> Self {
        Self { environment, coordinator, attempt: None, held: None, is_anothers: false }
    }

    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Tries once. An attempt of unknown outcome is the same attempt the next time.
    pub async fn acquire(&mut self, store: &dyn Store) -> AcquireOutcome {
        match self.try_acquire(store).await {
            Ok(Acquired::Held(held)) => {
                let epoch = held.epoch();
                self.attempt = None;
                self.held = Some(held);
                AcquireOutcome::Held { epoch }
            }
            Ok(Acquired::ByAnother(record)) => {
                self.is_anothers = true;
                // Whatever it has sent cannot happen any more when its lease has ended.
                if let Some(attempt) = &self.attempt
                    && store.revoke(attempt.lease).await.is_ok()
                {
                    self.attempt = None;
                }
                debug!(environment = %self.environment, by = record.coordinator, "another coordinator has the lock");
                AcquireOutcome::HeldByAnother
            }
            Ok(Acquired::Again) => {
                if is_on(Mutant::NewNonce) {
                    self.attempt = None;
                }
                AcquireOutcome::Unknown
            }
            Err(StoreError::NoSuchLease(_)) => {
                // Whatever the attempt wrote went with its lease.
                self.attempt = None;
                AcquireOutcome::Unknown
            }
            Err(error) => {
                warn!(environment = %self.environment, error = &error as &dyn std::error::Error, "cannot take the lock");
                AcquireOutcome::Unknown
            }
        }
    }

    async fn try_acquire(&mut self, store: &dyn Store) -> Result<Acquired, StoreError> {
        let attempt = match &self.attempt {
            Some(attempt) => {
                // Waiting for another's lock may take longer than a lease lives.
                if store.keep(attempt.lease).await? == LeaseStanding::Gone {
                    return Err(StoreError::NoSuchLease(attempt.lease));
                }
                attempt
            }
            None => {
                // Who waits only looks, until there is something to take.
                if self.is_anothers
                    && let Some((record, _)) = guarded::holder(store, &self.environment).await?
                {
                    return Ok(Acquired::ByAnother(record));
                }
                self.attempt.insert(Acquisition {
                    environment: self.environment.clone(),
                    coordinator: self.coordinator.clone(),
                    nonce: Ulid::generate().to_string(),
                    lease: store.grant(LEASE_LIVES).await?,
                })
            }
        };
        attempt.attempt(store).await
    }

    /// Gives a sign of life. `Gone` means that the lock is or will be another's: its lease has ended, or its epoch is
    /// not the newest any more, as after `fence bump`.
    pub async fn keep(&self, store: &dyn Store) -> LeaseStanding {
        let Some(held) = &self.held else {
            return LeaseStanding::Alive;
        };
        match self.standing(held, store).await {
            Ok(standing) => standing,
            Err(error) => {
                // The guards of the next write tell; a missed sign of life alone proves nothing.
                warn!(environment = %self.environment, error = &error as &dyn std::error::Error, "cannot renew the lease");
                LeaseStanding::Alive
            }
        }
    }

    async fn standing(&self, held: &Held, store: &dyn Store) -> Result<LeaseStanding, StoreError> {
        let standing = store.keep(held.lease()).await?;
        if standing == LeaseStanding::Alive && !held.is_valid(store).await? {
            return Ok(LeaseStanding::Gone);
        }
        Ok(standing)
    }

    /// Gives the lock back, or what an attempt of unknown outcome has written: again and again where nobody answers,
    /// because the next holder waits for it. The end of the lease does it in the end.
    pub async fn release(&mut self, store: &dyn Store) {
        let (held, attempt) = (self.held.take(), self.attempt.take());
        let release = async || match (&held, &attempt) {
            (Some(held), _) => held.release(store).await,
            (None, Some(attempt)) => store.revoke(attempt.lease).await,
            (None, None) => Ok(()),
        };
        let given_back = async {
            while let Err(error) = release().await {
                warn!(environment = %self.environment, error = &error as &dyn std::error::Error, "cannot release the lock");
                tokio::time::sleep(Duration::from_millis(RESEND_AFTER.0)).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(LEASE_LIVES.0), given_back).await.is_err() {
            debug!(environment = %self.environment, "the lock stays until its lease ends");
        }
    }
}
