//! Reconciles the journal after a start, before anything is accepted.
//!
//! A step that the journal has as running ended with the earlier process, so it becomes *interrupted*: neither done nor
//! running. This host resumes nothing by itself. A driver that asks is told that the step does not run, and assigns it
//! again under its own token. The executor then converges from whatever exists.

use tracing::{info, warn};

use crate::journal::step_log::StepLogs;
use crate::journal::{Journal, JournalError};

/// Writes down what was interrupted, and drops the output of deployments that ended long ago.
///
/// # Errors
/// When the journal cannot be read or written.
pub async fn reconcile(journal: &Journal, logs: &StepLogs) -> Result<(), JournalError> {
    for (key, environment) in journal.interrupt().await? {
        info!(
            deployment = %key.deployment, %environment, step = %key.step,
            "step was interrupted; it resumes when a coordinator assigns it again"
        );
    }
    if let Err(error) = logs.prune() {
        // Old output costs disk and nothing else; the agent serves without this.
        warn!(%error, "cannot remove old step logs");
    }
    Ok(())
}
