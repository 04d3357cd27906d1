//! After a start: what an earlier process left, before anything is accepted.
//!
//! What the journal calls running runs no longer than its process did, so it becomes *interrupted*:
//! neither done nor running. Nothing is carried on with on this host's own account. A driver that asks
//! is told that nothing is done for it, sends it again under its own token, and the executor, which
//! looks before it does anything, converges from whatever is there.

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
