//! The history of an environment: for each deployment its content, its verdict and its figures.

use crate::id::DeploymentId;
use crate::name::{EnvironmentKey, HostName, OperatorName};
use crate::plan::operation::OperationKind;
use crate::release::Release;
use crate::run::journal::StepFailure;
use crate::run::journal::{SnapshotTaken, Verdict};
use crate::slot::Slot;
use crate::spec::EnvironmentSpec;
use crate::time::{Millis, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One deployment in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSummary {
    pub id: DeploymentId,
    pub key: EnvironmentKey,
    pub kind: OperationKind,
    pub operator: OperatorName,
    pub release: Release,
    pub slot: Slot,
    pub spec: EnvironmentSpec,
    /// The app hosts that have the traffic if it succeeds.
    #[serde(default)]
    pub serving: Vec<HostName>,
    /// The app hosts that it excluded.
    #[serde(rename = "passed_by", default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<HostName>,
    pub secrets_version: Option<u64>,
    pub schema_before: Option<u64>,
    pub schema_after: Option<u64>,
    pub opened_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub verdict: Option<Verdict>,
    pub failure: Option<FailedStep>,
    pub steps: Vec<StepTime>,
    pub receipt: Receipt,
}

/// Why a deployment was reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedStep {
    /// The step's name, or what decided (`lock time-out`, `cancelled by anna`).
    pub step: String,
    pub host: Option<HostName>,
    pub failure: StepFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTime {
    pub name: String,
    pub host: HostName,
    pub took: Millis,
}

/// The figures that a deployment ends with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Requests of this environment that nginx answered while it ran, and those lost because no application answered.
    pub requests: Option<u64>,
    pub requests_lost: Option<u64>,
    pub migrations_run: u32,
    pub snapshot: Option<SnapshotTaken>,
    /// What the switch took, which is what a rollback will take.
    pub switch_took: Option<Millis>,
    /// How often nginx was reloaded for it: clients with idle connections may have lost a request each time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reloads: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Of a history, newest first, what came after the environment was given up last: of what was before, nothing is left
/// that a rollback could go back to.
pub fn since_decommission(history: &[DeploymentSummary]) -> &[DeploymentSummary] {
    let is_end = |summary: &DeploymentSummary| {
        summary.kind == OperationKind::Decommission && summary.is_verified_good()
    };
    history.split(is_end).next().unwrap_or_default()
}

impl DeploymentSummary {
    /// A release that served: what a rollback may go back to.
    pub fn is_verified_good(&self) -> bool {
        self.verdict == Some(Verdict::Succeeded)
    }
}
