//! What hosts owe: undos that were not waited for, one value for each host and environment.
//!
//! What must stay true: a debt is written in the transaction of the journal entry that makes it, and goes
//! only when its undo is done, when an operator answers for it, or with its host. Nothing is deployed to a
//! host while it owes something to the environment.

use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::pending_undo::{PendingUndo, PendingUndos};

use crate::record::environments;
use crate::store::guarded::OwnedWrite;
use crate::store::{Committed, Store, StoreError, keys};

/// What `host` owes to `environment`.
///
/// # Errors
/// When the store does not answer.
pub async fn of_host(
    store: &dyn Store,
    host: &HostId,
    environment: &EnvironmentKey,
) -> Result<PendingUndos, StoreError> {
    let stored = store.get(keys::debts(host, environment).key()).await?;
    Ok(stored.map(|stored| stored.read()).transpose()?.unwrap_or_default())
}

/// Every debt that there is.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<PendingUndo>, StoreError> {
    let mut all = Vec::new();
    for stored in store.list(&keys::all_debts()).await? {
        let PendingUndos { undos: owed } = stored.read()?;
        all.extend(owed);
    }
    Ok(all)
}

/// What makes `debts` those of `host`; where there are none, nothing is kept.
pub fn write(host: &HostId, environment: &EnvironmentKey, debts: &PendingUndos) -> OwnedWrite {
    let key = keys::debts(host, environment);
    if debts.undos.is_empty() { OwnedWrite::delete(key) } else { OwnedWrite::put(key, debts) }
}

/// Refuses `plan` while one of its hosts owes something: it does not serve before that is taken back.
///
/// # Errors
/// When one does, or the store does not answer.
pub async fn refuse_plan(store: &dyn Store, plan: &Plan) -> Result<Option<Refusal>, StoreError> {
    let owed = list(store).await?;
    let first = owed
        .iter()
        .find(|debt| debt.environment == plan.key && plan.steps().any(|step| step.host == debt.host));
    Ok(first.map(|debt| {
        let failed = debt.failure.as_ref().map(|failure| format!(" ({})", failure.what)).unwrap_or_default();
        let PendingUndo { host_name, key, change, .. } = debt;
        Refusal {
            what: format!("{host_name} has a pending undo of {}", key.deployment),
            why: format!("it must be done before the host serves {} again: {change}{failed}", plan.key),
            next: format!(
                "Lockstep retries it while {host_name} is connected: lockstep status {}; or skip it and clean up by hand: lockstep resolve {} --skip {}",
                plan.key, key.deployment, key.step
            ),
        }
    }))
}

/// Forgets the debt of a step: an operator answers for what is left.
///
/// # Errors
/// When there is none, the environment is worked on, or the store does not answer.
pub async fn drop_for_host(
    store: &dyn Store,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
    step: StepId,
    coordinator: &str,
) -> Result<Result<PendingUndo, Refusal>, StoreError> {
    let is_it = |debt: &PendingUndo| debt.key.deployment == *deployment && debt.key.step == step;
    let Some(debt) = list(store).await?.into_iter().find(is_it) else {
        return Ok(Err(Refusal {
            what: format!("there is no pending undo of {step} of {deployment}"),
            why: "the deployment has ended, and no host has this undo pending".to_owned(),
            next: format!("lockstep status {environment}"),
        }));
    };
    let busy = || Refusal {
        what: format!("{environment} is locked"),
        why: "another operation holds its lock, perhaps the undo itself".to_owned(),
        next: format!("lockstep status {environment}, then try again"),
    };
    let Some(mut lock) = environments::locked(store, environment, coordinator).await else {
        return Ok(Err(busy()));
    };
    let forgotten = async {
        let held = lock.held().ok_or_else(|| StoreError::Unknown("the lock was lost".into()))?;
        let mut debts = of_host(store, &debt.host, environment).await?;
        debts.undos.retain(|debt| !is_it(debt));
        held.commit(store, Vec::new(), vec![write(&debt.host, environment, &debts)]).await
    }
    .await;
    lock.release(store).await;
    Ok(match forgotten? {
        Committed::Yes { .. } => Ok(debt),
        Committed::No => Err(busy()),
    })
}
