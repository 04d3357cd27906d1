//! What `lockstep status` shows of one environment.

use crate::id::DeploymentId;
use crate::name::{EnvironmentKey, HostName};
use crate::record::claim::{Claim, Resolution};
use crate::record::history::{DeploymentSummary, FailedStep};
use crate::record::live::LiveRelease;
use crate::record::local_rollback::LocalChange;
use crate::record::observed::SiteChangeOn;
use crate::record::pending_undo::PendingUndo;
use crate::record::removal::Removal;
use crate::release::Release;
use crate::slot::Slot;
use crate::time::{Millis, Timestamp};
use crate::view::host_status::HostStatus;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A resolution of a stuck deployment, as shown to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolutionOption {
    #[serde(rename = "way")]
    pub resolution: Resolution,
    #[serde(rename = "costs")]
    pub cost: String,
    /// The rule that it would break; `None` if it is possible.
    pub refused: Option<String>,
}

/// `lockstep status` of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentStatus {
    pub key: EnvironmentKey,
    pub url: String,
    pub description: Option<String>,
    pub branch: Option<String>,
    pub live: Option<LiveRelease>,
    /// The release that a rollback without an argument goes to, and whether its slot is warm.
    pub rollback: Option<RollbackReady>,
    pub open: Option<ClaimStatus>,
    pub last: Option<DeploymentSummary>,
    pub hosts: Vec<HostStatus>,
    /// `None` if the load balancer did not report it.
    #[serde(default)]
    pub traffic: Option<TrafficObservation>,
    /// The differences between the record and the hosts.
    pub drift: Vec<String>,
    /// In nginx's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_changed: Option<SiteChangeOn>,
    /// The pending undos of its hosts.
    #[serde(rename = "debts", default)]
    pub pending_undos: Vec<PendingUndo>,
    /// Local rollbacks that are not recorded yet, or that made the live release.
    #[serde(default)]
    pub local: Vec<LocalChange>,
    /// `None` unless a removal was decided that is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
}

/// The slot that a load balancer's host sends an environment to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficObservation {
    pub host: HostName,
    pub slot: Slot,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackReady {
    pub deployment: DeploymentId,
    pub release: Release,
    /// `None` when its slot would have to be started first.
    pub takes: Option<Millis>,
}

/// The open deployment, as far as it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimStatus {
    pub open: Claim,
    pub release: Option<Release>,
    pub direction: crate::run::journal::Direction,
    pub steps_done: u32,
    pub steps_all: u32,
    /// What runs.
    pub running: Vec<RunningStep>,
    pub failure: Option<FailedStep>,
    /// Whether users' requests are touched if it is cancelled at this point.
    pub traffic_moved: TrafficMoved,
    /// Of a stuck deployment.
    #[serde(rename = "ways_out", default)]
    pub resolutions: Vec<ResolutionOption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficMoved {
    NotYet,
    Moved,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningStep {
    pub step: crate::id::StepId,
    pub name: String,
    pub host: HostName,
    pub since: Timestamp,
    pub usual: Option<Millis>,
    pub tail: Option<String>,
}
