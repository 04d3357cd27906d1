//! A driver keeps its lock, whatever else takes its time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_coordinator::drive::lock::LEASE_LIVES;
use lockstep_coordinator::ports::secrets::{Secrets, SecretsChange};
use lockstep_coordinator::record::history;
use lockstep_coordinator::store::StoreError;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::SecretsSummary;
use lockstep_core::run::journal::{Event, Verdict};
use lockstep_core::secret::redact::Redactor;
use lockstep_core::view::environment::SecretsSet;

use crate::fixture::Fixture;

/// Secrets whose redactor takes longer than a lease lives.
struct SlowSecrets;

#[async_trait]
impl Secrets for SlowSecrets {
    async fn summary(&self, _: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>> {
        Ok(None)
    }

    async fn newer_than(&self, _: &EnvironmentKey, _: Option<u64>) -> Result<Option<SecretsSet>, StoreError> {
        Ok(None)
    }

    async fn changes(
        &self,
        _: &EnvironmentKey,
        _: Option<u64>,
        _: Option<u64>,
    ) -> anyhow::Result<SecretsChange> {
        Ok(SecretsChange::default())
    }

    async fn redactor(&self, _: &EnvironmentKey, _: Option<u64>) -> anyhow::Result<Redactor> {
        tokio::time::sleep(Duration::from_millis(LEASE_LIVES.0 * 3)).await;
        Ok(Redactor::none())
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_keeps_its_lock_while_it_loads() {
    let mut fixture = Fixture::new().await;
    fixture.parts.secrets = Arc::new(SlowSecrets);
    let _drivers = fixture.drivers();
    let ended = fixture.deploy("notes:1.0.0").await;
    fixture.check_ended(&ended, Verdict::Succeeded).await;
    let entries = history::journal(&*fixture.store, &ended.id).await.unwrap();
    let taken = entries.iter().filter(|entry| matches!(entry.event, Event::LockTaken { .. })).count();
    assert_eq!(taken, 1, "the lock was lost while the driver loaded");
    fixture.shut_down().await;
}
