//! Pending undos, one value for each host and environment.
//!
//! What must stay true: a pending undo is written in the transaction of the journal entry that makes it. It is deleted
//! only when the undo is done, when an operator skips it, or when its host is removed. Nothing is deployed to a host
//! while it has a pending undo of the environment.

use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::pending_undo::{PendingUndo, PendingUndos};

use crate::record::environments;
use crate::store::guarded::OwnedWrite;
use crate::store::{Committed, Store, StoreError, keys};

/// The pending undos of `host` for `environment`.
///
/// # Errors
/// When the store does not answer.
pub async fn of_host(
    store: &dyn Store,
    host: &HostId,
    environment: &EnvironmentKey,
) -> Result<PendingUndos, StoreError> {
    let stored = store.get(keys::pending_undos(host, environment).key()).await?;
    Ok(stored.map(|stored| stored.read()).transpose()?.unwrap_or_default())
}

/// All pending undos.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<PendingUndo>, StoreError> {
    let mut all = Vec::new();
    for stored in store.list(&keys::all_pending_undos()).await? {
        let PendingUndos { undos: pending } = stored.read()?;
        all.extend(pending);
    }
    Ok(all)
}

/// The write that makes `pending` the pending undos of `host`; an empty list deletes the key.
pub fn write(host: &HostId, environment: &EnvironmentKey, pending: &PendingUndos) -> OwnedWrite {
    let key = keys::pending_undos(host, environment);
    if pending.undos.is_empty() { OwnedWrite::delete(key) } else { OwnedWrite::put(key, pending) }
}

/// Refuses `plan` while one of its hosts has a pending undo of the environment.
///
/// # Errors
/// When one does, or the store does not answer.
pub async fn refuse_plan(store: &dyn Store, plan: &Plan) -> Result<Option<Refusal>, StoreError> {
    let pending = list(store).await?;
    let first = pending
        .iter()
        .find(|undo| undo.environment == plan.key && plan.steps().any(|step| step.host == undo.host));
    Ok(first.map(|undo| {
        let failed = undo.failure.as_ref().map(|failure| format!(" ({})", failure.what)).unwrap_or_default();
        let PendingUndo { host_name, key, change, .. } = undo;
        Refusal {
            what: format!("{host_name} has a pending undo of {}", key.deployment),
            why: format!("it must be done before the host serves {} again: {change}{failed}", plan.key),
            next: format!(
                "lockstep status {}    # Lockstep retries it while {host_name} is connected\nlockstep resolve {} --skip {}    # gives it up: you clean up by hand",
                plan.key, key.deployment, key.step
            ),
        }
    }))
}

/// Deletes the pending undo of a step: an operator cleans up by hand.
///
/// # Errors
/// When there is none, the environment is locked, or the store does not answer.
pub async fn drop_for_host(
    store: &dyn Store,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
    step: StepId,
    coordinator: &str,
) -> Result<Result<PendingUndo, Refusal>, StoreError> {
    let is_it = |undo: &PendingUndo| undo.key.deployment == *deployment && undo.key.step == step;
    let Some(undo) = list(store).await?.into_iter().find(is_it) else {
        return Ok(Err(Refusal {
            what: format!("there is no pending undo of {step} of {deployment}"),
            why: "the deployment has ended, and no host has this undo pending".to_owned(),
            next: format!("lockstep status {environment}"),
        }));
    };
    let busy = || Refusal {
        what: format!("{environment} is locked"),
        why: "another operation holds its lock, perhaps the undo itself".to_owned(),
        next: format!("lockstep status {environment}    # then try again"),
    };
    let Some(mut lock) = environments::locked(store, environment, coordinator).await else {
        return Ok(Err(busy()));
    };
    let forgotten = async {
        let held = lock.held().ok_or_else(|| StoreError::Unknown("the lock was lost".into()))?;
        let mut pending = of_host(store, &undo.host, environment).await?;
        pending.undos.retain(|undo| !is_it(undo));
        held.commit(store, Vec::new(), vec![write(&undo.host, environment, &pending)]).await
    }
    .await;
    lock.release(store).await;
    Ok(match forgotten? {
        Committed::Yes { .. } => Ok(undo),
        Committed::No => Err(busy()),
    })
}
