//! The interface to the secrets for code that needs no values: names and versions for plans, and a redactor for
//! output.

use async_trait::async_trait;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::SecretsSummary;
use lockstep_core::secret::redact::Redactor;

#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The newest version; nothing before the first import.
    async fn summary(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>>;

    /// Takes the values of this version out of text; of no version, nothing.
    async fn redactor(&self, environment: &EnvironmentKey, version: Option<u64>) -> anyhow::Result<Redactor>;
}
