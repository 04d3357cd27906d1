//! The last line of output of each running step, in the store. One key is overwritten, so any coordinator can show any
//! deployment. It is for people only; nothing is decided from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::id::{DeploymentId, StepId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::ports::agents::ProgressLine;
use crate::store::{OPERATIONS_MAX, Store, StoreError, Write, keys};

/// The longest line that is kept, in characters.
const LINE_MAX: usize = 500;

/// Keeps what the agents of this coordinator send, until `stop` says so.
pub async fn keep(
    store: Arc<dyn Store>,
    mut progress: broadcast::Receiver<ProgressLine>,
    stop: CancellationToken,
) {
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = progress.recv() => received,
        };
        match received {
            Ok(ProgressLine { key, line, .. }) => {
                let short: String = line.chars().take(LINE_MAX).collect();
                let write = Write::put_bytes(keys::tail(&key.deployment, key.step), short);
                if let Err(error) = store.commit(vec![], vec![write]).await {
                    debug!(error = &error as &dyn std::error::Error, "cannot store a line of progress");
                }
            }
            // Older lines were overwritten anyway.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// The last line of each step that has said one.
///
/// # Errors
/// When the store does not answer.
pub async fn of_deployment(
    store: &dyn Store,
    deployment: &DeploymentId,
) -> Result<BTreeMap<StepId, String>, StoreError> {
    let stored = store.list(&keys::tails(deployment)).await?;
    Ok(stored
        .iter()
        .filter_map(|tail| {
            let step = tail.key.last().parse().ok()?;
            Some((step, String::from_utf8_lossy(&tail.value).into_owned()))
        })
        .collect())
}

/// Forgets the lines of a deployment that has ended.
///
/// # Errors
/// When the store does not answer.
pub async fn forget(store: &dyn Store, deployment: &DeploymentId) -> Result<(), StoreError> {
    let steps: Vec<StepId> = of_deployment(store, deployment).await?.into_keys().collect();
    for some in steps.chunks(OPERATIONS_MAX) {
        let writes = some.iter().map(|step| Write::delete(keys::tail(deployment, *step))).collect();
        store.commit(vec![], writes).await?;
    }
    Ok(())
}
