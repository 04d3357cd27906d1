//! The interface to the secrets for code that needs no values: names and versions for plans, and a redactor for
//! output.

use async_trait::async_trait;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::SecretsSummary;
use lockstep_core::secret::redact::Redactor;
use tracing::warn;

/// For what a host says where the secrets cannot be read: all of it is masked.
pub(crate) fn masks_everything(error: &anyhow::Error) -> Redactor {
    warn!(
        error = format!("{error:#}"),
        "cannot read the secrets to redact what a host says, so all of it is masked"
    );
    Redactor::of_everything()
}

#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The newest version; nothing before the first import.
    async fn summary(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>>;

    /// Takes the values of this version out of text; of no version, nothing.
    async fn redactor(&self, environment: &EnvironmentKey, version: Option<u64>) -> anyhow::Result<Redactor>;
}
