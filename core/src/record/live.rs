//! The live release, and how it follows from the deployment that made it live.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::DeploymentId;
use crate::name::HostName;
use crate::plan::operation::OperationKind;
use crate::record::history::DeploymentSummary;
use crate::release::Release;
use crate::run::journal::Verdict;
use crate::slot::Slot;
use crate::spec::{EnvironmentSpec, HostRoles};
use crate::time::Timestamp;

/// The release that has the traffic, as recorded when the last deployment succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRelease {
    pub slot: Slot,
    pub release: Release,
    /// The deployment that brought it here.
    pub deployment: DeploymentId,
    /// As declared when it was deployed; a rollback brings this back.
    pub spec: EnvironmentSpec,
    pub secrets_version: Option<u64>,
    pub schema_version: Option<u64>,
    pub since: Timestamp,
    /// How often the environment was rolled back to it.
    pub rollback_count: u32,
    /// The app hosts that have the traffic; those of the declaration that are not among them were drained or excluded.
    #[serde(default)]
    pub serving: Vec<HostName>,
    /// The app hosts that the deployment excluded. They are re-admitted when they are well.
    #[serde(rename = "passed_by", default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<HostName>,
}

impl LiveRelease {
    /// What is live after a deployment that succeeded at `at`; `None` if it gave the environment up. `before` is what was
    /// live, `history` has the deployments that ended earlier.
    pub fn after(
        summary: &DeploymentSummary,
        before: Option<&LiveRelease>,
        history: &[DeploymentSummary],
        at: Timestamp,
    ) -> Option<LiveRelease> {
        if summary.kind == OperationKind::Decommission {
            return None;
        }
        let (spec, serving) = (summary.spec.clone(), summary.serving.clone());
        let excluded = summary.excluded.clone();
        if let Some(before) = before
            && !summary.kind.changes_release()
        {
            return Some(LiveRelease { spec, serving, excluded, ..before.clone() });
        }
        let is_rollback_to_it = |past: &&DeploymentSummary| {
            past.kind == OperationKind::Rollback
                && past.verdict == Some(Verdict::Succeeded)
                && past.release.image_id == summary.release.image_id
        };
        let rollbacks = history.iter().chain([summary]).filter(is_rollback_to_it).count();
        Some(LiveRelease {
            slot: summary.slot,
            release: summary.release.clone(),
            deployment: summary.id.clone(),
            spec,
            secrets_version: summary.secrets_version,
            schema_version: summary.schema_after,
            since: at,
            rollback_count: u32::try_from(rollbacks).unwrap_or(u32::MAX),
            serving,
            excluded,
        })
    }

    /// The hosts of what is live, by role. If no host is declared for a role that the environment needs, the role falls
    /// to the first host that serves. An environment without a database needs no host for one.
    pub fn roles(&self) -> HostRoles {
        let first = || self.serving.first().cloned().into_iter().collect::<Vec<_>>();
        let or_first = |names: &Vec<HostName>| if names.is_empty() { first() } else { names.clone() };
        let HostRoles { app: _, lb, db } = &self.spec.hosts;
        let db = if self.spec.database.is_some() { or_first(db) } else { db.clone() };
        HostRoles { app: self.serving.clone(), lb: or_first(lb), db }
    }

    /// Whether this host is declared and was drained.
    pub fn is_drained(&self, host: &HostName) -> bool {
        self.spec.hosts.app.contains(host)
            && !self.serving.is_empty()
            && !self.serving.contains(host)
            && !self.excluded.contains(host)
    }
}
