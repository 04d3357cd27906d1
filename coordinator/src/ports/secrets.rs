//! The interface to the secrets for code that needs no values: names and versions for plans, and a redactor for
//! output.

use std::time::Duration;

use async_trait::async_trait;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::SecretsSummary;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::view::environment::SecretsSet;
use tracing::warn;

use crate::store::StoreError;

/// For what a host says where the secrets cannot be read: all of it is masked.
pub(crate) fn masks_everything(error: &anyhow::Error) -> Redactor {
    warn!(
        error = format!("{error:#}"),
        "cannot read the secrets to redact what a host says, so all of it is masked"
    );
    Redactor::of_everything()
}

/// How the values of two versions differ. Names are no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretsChange {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The newest version; nothing before the first import.
    async fn summary(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>>;

    /// The newest version, if it is newer than `deployed`. It is asked for every environment at once, so it is cheap
    /// where nothing is newer.
    async fn newer_than(
        &self,
        environment: &EnvironmentKey,
        deployed: Option<u64>,
    ) -> Result<Option<SecretsSet>, StoreError>;

    /// By name, what differs from one version to another.
    async fn changes(
        &self,
        environment: &EnvironmentKey,
        from: Option<u64>,
        to: Option<u64>,
    ) -> anyhow::Result<SecretsChange>;

    /// Takes the values of this version out of text; of no version, nothing.
    async fn redactor(&self, environment: &EnvironmentKey, version: Option<u64>) -> anyhow::Result<Redactor>;
}

/// Secrets without values, for the tests of drivers and the simulation: one version for ever, or none.
#[derive(Debug, Clone, Default)]
pub struct FixedSecrets {
    pub summary: Option<SecretsSummary>,
    /// How long it takes to make a redactor.
    pub redactor_takes: Duration,
}

impl FixedSecrets {
    /// One version, with this name.
    pub fn of(name: &str) -> Self {
        let summary = SecretsSummary { version: 1, names: [name.to_owned()].into() };
        Self { summary: Some(summary), ..Self::default() }
    }
}

#[async_trait]
impl Secrets for FixedSecrets {
    async fn summary(&self, _: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>> {
        Ok(self.summary.clone())
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
        if !self.redactor_takes.is_zero() {
            tokio::time::sleep(self.redactor_takes).await;
        }
        Ok(Redactor::none())
    }
}
