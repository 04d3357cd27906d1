//! Local rollbacks, as reported by agents. They are kept for ever, and recorded as live under the environment's lock
//! while no deployment is open.
//!
//! What must stay true: what was done on the host is the reality, and the record follows it. Until it does, the host
//! keeps the traffic where it is. Lockstep never switches back silently. What one host can report is bounded
//! ([`REPORTED_MAX`]): its agent may be anybody's who is root there.

use std::collections::BTreeMap;

use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::{DeploymentSummary, Receipt};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{Adoption, LocalChange, LocalRollback};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::HostRoles;

use crate::record::{environments, hosts};
use crate::store::guarded;
use crate::store::{Store, StoreError, Stored, keys};

/// How many of one environment are kept from one host. Nobody switches by hand this often.
pub const REPORTED_MAX: usize = 1000;

/// What becomes of a local rollback that a host reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReply {
    /// The record knows of it.
    Adopted,
    /// It is kept until the record may follow it.
    Waits,
    /// The host has reported [`REPORTED_MAX`] of this environment already: it is not kept.
    OneTooMany,
}

/// Who stands in the history for what was done as root on a host; its change says who that was.
const ROOT: &str = "root";

pub(crate) fn root() -> OperatorName {
    ROOT.parse().expect("a constant that is a name")
}

/// Keeps what `host` says.
///
/// # Errors
/// When the store does not answer.
pub async fn report(
    store: &dyn Store,
    host: &HostId,
    rollback: LocalRollback,
) -> Result<ReportReply, StoreError> {
    let key = keys::local_change(&rollback.environment, host, rollback.seq);
    if let Some(there) = store.get(key.key()).await? {
        let change: LocalChange = there.read()?;
        return Ok(if change.adopted.is_some() { ReportReply::Adopted } else { ReportReply::Waits });
    }
    let Some(named) = hosts::find(store, host).await? else { return Ok(ReportReply::Waits) };
    let kept = keys::local_changes_on(&rollback.environment, host);
    if store.last(&kept, REPORTED_MAX).await?.len() >= REPORTED_MAX {
        return Ok(ReportReply::OneTooMany);
    }
    let change = LocalChange { host: host.clone(), host_name: named.name, rollback, adopted: None };
    // Not committed means that it is there already: the next time it is read.
    guarded::local_change(store, &change).await?;
    Ok(ReportReply::Waits)
}

/// Whether `host` can have anything of `environment`: it is declared for it, or is one of those that serve it.
///
/// # Errors
/// When the store does not answer.
pub async fn may_report(
    store: &dyn Store,
    environment: &EnvironmentKey,
    host: &HostId,
) -> Result<bool, StoreError> {
    let Some(host) = hosts::find(store, host).await? else { return Ok(false) };
    let found =
        tokio::try_join!(environments::spec(store, environment), environments::live(store, environment));
    let (spec, live) = found?;
    let declared = spec.map(|spec| spec.content.hosts);
    let serving = live.iter().flat_map(|live| [live.roles(), live.spec.hosts.clone()]);
    let is_of =
        |roles: HostRoles| roles.app.iter().chain(&roles.lb).chain(&roles.db).any(|name| *name == host.name);
    let is_excluded = live.as_ref().is_some_and(|live| live.excluded.contains(&host.name));
    Ok(is_excluded || declared.into_iter().chain(serving).any(is_of))
}

/// Those of every environment, in the order of the keys.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<BTreeMap<EnvironmentKey, Vec<LocalChange>>, StoreError> {
    let mut all: BTreeMap<_, Vec<LocalChange>> = BTreeMap::new();
    for stored in store.list(&keys::all_local_changes()).await? {
        let change: LocalChange = stored.read()?;
        all.entry(change.rollback.environment.clone()).or_default().push(change);
    }
    Ok(all)
}

/// Those of one environment that the record does not know of, or that are what is live.
pub fn relevant(of_one: &[LocalChange], live: Option<&LiveRelease>) -> Vec<LocalChange> {
    let matters = |change: &&LocalChange| match &change.adopted {
        None => true,
        Some(Adoption { deployment, .. }) => {
            deployment.is_some() && deployment.as_ref() == live.map(|live| &live.deployment)
        }
    };
    of_one.iter().filter(matters).cloned().collect()
}

/// The numbers of those that `host` has made and the record knows of.
///
/// # Errors
/// When the store does not answer.
pub async fn mark_adopted(
    store: &dyn Store,
    environment: &EnvironmentKey,
    host: &HostId,
) -> Result<Vec<u64>, StoreError> {
    let mut known = Vec::new();
    for stored in store.list(&keys::local_changes_on(environment, host)).await? {
        let change: LocalChange = stored.read()?;
        if change.adopted.is_some() {
            known.push(change.rollback.seq);
        }
    }
    Ok(known)
}

/// The oldest that the record does not know of, of each environment.
///
/// # Errors
/// When the store does not answer.
pub async fn not_adopted(store: &dyn Store) -> Result<Vec<(Stored, LocalChange)>, StoreError> {
    let mut waiting = Vec::new();
    for stored in store.list(&keys::all_local_changes()).await? {
        let change: LocalChange = stored.read()?;
        if change.adopted.is_none() {
            waiting.push((stored, change));
        }
    }
    waiting.sort_by_key(|(_, change)| {
        (change.rollback.environment.clone(), change.rollback.at, change.rollback.seq)
    });
    waiting.dedup_by(|(_, later), (_, first)| later.rollback.environment == first.rollback.environment);
    Ok(waiting)
}

/// What the history gets for a local rollback, given what is recorded of the deployment that it names; nothing
/// where what serves is recorded as live already.
///
/// # Errors
/// In words, when the record cannot say what serves.
pub fn recorded(
    rollback: &LocalRollback,
    live: &LiveRelease,
    served: Option<&DeploymentSummary>,
    id: DeploymentId,
) -> Result<Option<DeploymentSummary>, String> {
    if live.slot == rollback.to {
        return Ok(None);
    }
    let served = served.filter(|served| served.key == rollback.environment).ok_or_else(|| {
        format!("{} is not in the history, so the release in {} is unknown", rollback.deployment, rollback.to)
    })?;
    if !served.is_verified_good() || served.slot != rollback.to {
        return Err(format!("{} was not live in {}", rollback.deployment, rollback.to));
    }
    Ok(Some(DeploymentSummary {
        id,
        key: rollback.environment.clone(),
        kind: OperationKind::Rollback,
        operator: root(),
        release: served.release.clone(),
        slot: rollback.to,
        spec: served.spec.clone(),
        serving: live.serving.clone(),
        excluded: live.excluded.clone(),
        secrets_version: served.secrets_version,
        schema_before: live.schema_version,
        schema_after: live.schema_version,
        opened_at: rollback.at,
        ended_at: Some(rollback.at),
        verdict: Some(Verdict::Succeeded),
        failure: None,
        steps: Vec::new(),
        receipt: Receipt::default(),
    }))
}
