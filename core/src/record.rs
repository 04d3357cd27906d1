//! What is so: the recorded and observed state of an environment, which is all that a planner sees.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host_status::HostStatus;
use crate::id::{DeploymentId, Digest, HostId, StepId};
use crate::journal::{StepFailure, StepKey};
use crate::name::{CoordinatorName, EnvironmentKey, HostName, OperatorName, ProcessName};
use crate::plan::Action;
use crate::release::Release;
use crate::spec::EnvironmentSpec;
use crate::time::{Millis, Timestamp};

mod live;
mod observed;

pub use live::LiveRelease;
pub use observed::{
    ContainerObservation, ContainerRunState, HbaObservation, ImageObservation, LocalHba, Observation,
    SiteChange, SiteChangeOn,
};

/// Where a release runs on every app host; one of the two is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    Blue,
    Green,
}

impl Slot {
    pub fn other(self) -> Slot {
        match self {
            Slot::Blue => Slot::Green,
            Slot::Green => Slot::Blue,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Slot::Blue => "blue",
            Slot::Green => "green",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub id: HostId,
    pub name: HostName,
    /// The address by which load balancers reach its containers.
    pub address: String,
    pub roles: BTreeSet<HostRole>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRole {
    App,
    Lb,
    Db,
}

impl HostRole {
    /// As it is typed, and as `deployment.yml` has it under `hosts`.
    pub fn as_str(self) -> &'static str {
        match self {
            HostRole::App => "app",
            HostRole::Lb => "lb",
            HostRole::Db => "db",
        }
    }
}

/// What no host is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role of a host: app, lb or db")]
pub struct InvalidHostRole(String);

impl FromStr for HostRole {
    type Err = InvalidHostRole;
    fn from_str(text: &str) -> Result<Self, InvalidHostRole> {
        match text {
            "app" => Ok(Self::App),
            "lb" => Ok(Self::Lb),
            "db" => Ok(Self::Db),
            _ => Err(InvalidHostRole(text.to_owned())),
        }
    }
}

impl fmt::Display for HostRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The ports of one environment: allocated once, for each host, slot and process with a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortTable {
    pub ports: Vec<PortEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortEntry {
    pub host: HostId,
    pub slot: Slot,
    pub process: ProcessName,
    pub port: u16,
}

impl PortTable {
    pub fn get(&self, host: &HostId, slot: Slot, process: &ProcessName) -> Option<u16> {
        self.ports
            .iter()
            .find(|entry| entry.host == *host && entry.slot == slot && entry.process == *process)
            .map(|entry| entry.port)
    }
}

/// The secrets of an environment without their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSummary {
    pub version: u64,
    pub names: BTreeSet<String>,
}

/// Everything that a planner may look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub key: EnvironmentKey,
    pub live: Option<LiveRelease>,
    /// Ended deployments, newest first.
    pub history: Vec<DeploymentSummary>,
    pub hosts: Vec<Host>,
    pub ports: PortTable,
    pub secrets: Option<SecretsSummary>,
    pub observed: BTreeMap<HostId, Observation>,
    /// How long each kind of step took of late, for estimates.
    pub usual: BTreeMap<String, Millis>,
    /// Images that other environments run or may go back to.
    pub kept_elsewhere: BTreeSet<Digest>,
    /// Hosts that have something to take back before they serve it again.
    #[serde(rename = "owing", default)]
    pub hosts_with_pending_undos: BTreeSet<HostId>,
}

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
    /// Those that were to have it, and could not.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    Deploy,
    Rollback,
    AddHost,
    DrainHost,
    RemoveHost,
}

impl OperationKind {
    /// As it is recorded, and as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::AddHost => "add_host",
            Self::DrainHost => "drain_host",
            Self::RemoveHost => "remove_host",
        }
    }

    /// Whether what is live is another release afterwards, or another copy of the same.
    pub fn changes_release(self) -> bool {
        match self {
            Self::Deploy | Self::Rollback => true,
            Self::AddHost | Self::DrainHost | Self::RemoveHost => false,
        }
    }
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Succeeded,
    RolledBack,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled back",
        })
    }
}

/// Why a deployment was unwound.
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
    /// Requests that nginx answered while it ran, and those lost because no application answered.
    pub requests: Option<u64>,
    pub requests_lost: Option<u64>,
    pub migrations_run: u32,
    pub snapshot: Option<SnapshotTaken>,
    /// What the switch took, which is what a rollback will take.
    pub switch_took: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTaken {
    pub host: HostName,
    pub path: String,
    pub bytes: u64,
    /// Of the manifest, which has the digest of every file.
    pub manifest: Digest,
}

impl DeploymentSummary {
    /// A release that served: what a rollback may go back to.
    pub fn is_verified_good(&self) -> bool {
        self.verdict == Some(Verdict::Succeeded)
    }
}

/// What owns an environment: a deployment, or a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub kind: ClaimKind,
    pub by: OperatorName,
    pub since: Timestamp,
    /// A deployment is unwound then; a hold ends then.
    pub until: Timestamp,
    /// Where the operator's command line runs.
    pub hostname: String,
    pub pid: u32,
    /// W3C Trace Context of the call that opened it; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClaimKind {
    /// The command line builds the image; there is no plan yet.
    Building { deployment: DeploymentId },
    Running {
        deployment: DeploymentId,
        #[serde(rename = "wish")]
        request: OperatorRequest,
    },
    /// It cannot go on by itself.
    Stuck { deployment: DeploymentId },
    /// No deployments, because.
    #[serde(rename = "hold")]
    Freeze { reason: String },
}

/// What an operator wants of an open deployment, beside that it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OperatorRequest {
    None,
    Cancel {
        by: OperatorName,
    },
    /// Of a deployment that was stuck: that its undo is tried again.
    Retry {
        by: OperatorName,
    },
    /// Of a deployment that was stuck: that the rest is taken back, and what cannot be is owed.
    Unwind {
        by: OperatorName,
    },
    /// Of a deployment that was stuck: that the undo of this step is never done.
    Skip {
        by: OperatorName,
        step: StepId,
    },
}

/// How an operator gets a stuck deployment to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resolution {
    Retry,
    Unwind,
    Skip { step: StepId },
}

impl Resolution {
    /// That `by` wishes it.
    pub fn requested_by(self, by: OperatorName) -> OperatorRequest {
        match self {
            Self::Retry => OperatorRequest::Retry { by },
            Self::Unwind => OperatorRequest::Unwind { by },
            Self::Skip { step } => OperatorRequest::Skip { by, step },
        }
    }
}

/// A way out of a stuck deployment, as an operator reads it before taking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolutionOption {
    #[serde(rename = "way")]
    pub resolution: Resolution,
    #[serde(rename = "costs")]
    pub cost: String,
    /// The rule that it would break: then it cannot be taken.
    pub refused: Option<String>,
}

/// An undo that a host owes to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingUndo {
    pub key: StepKey,
    pub environment: EnvironmentKey,
    pub host: HostId,
    pub host_name: HostName,
    /// Nothing: only make sure that the step's "do" has ended and will not begin.
    pub action: Option<Action>,
    pub limit: Millis,
    /// What it changes, in one line.
    pub change: String,
    pub because: String,
    /// Who decided that it is owed; nobody where the host was gone.
    pub by: Option<OperatorName>,
    pub since: Timestamp,
    /// How the last attempt to have it paid failed.
    pub failure: Option<StepFailure>,
}

/// What one host owes to one environment, to be paid in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingUndos {
    #[serde(rename = "owed")]
    pub undos: Vec<PendingUndo>,
}

impl Claim {
    pub fn deployment(&self) -> Option<&DeploymentId> {
        match &self.kind {
            ClaimKind::Building { deployment }
            | ClaimKind::Running { deployment, .. }
            | ClaimKind::Stuck { deployment } => Some(deployment),
            ClaimKind::Freeze { .. } => None,
        }
    }
}

/// A switch that somebody made on the load balancer's host, without a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRollback {
    /// Its number on that host.
    pub seq: u64,
    pub environment: EnvironmentKey,
    pub at: Timestamp,
    /// As that host calls them.
    pub by: String,
    pub from: Slot,
    pub to: Slot,
    /// The deployment that gave its traffic to `to` before: its release serves again.
    pub deployment: DeploymentId,
}

/// A local rollback, as the coordinators know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalChange {
    pub host: HostId,
    pub host_name: HostName,
    pub rollback: LocalRollback,
    /// Until then its host keeps the traffic where it is, whatever a deployment wants.
    #[serde(rename = "taken_in")]
    pub adopted: Option<Adoption>,
}

/// That the record says what a local rollback has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    pub at: Timestamp,
    /// As what it stands in the history; nothing where the record said so already, or cannot.
    pub deployment: Option<DeploymentId>,
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
    /// Nothing where the load balancer's host does not say.
    #[serde(default)]
    pub traffic: Option<TrafficObservation>,
    /// Where the record and the reality differ.
    pub drift: Vec<String>,
    /// In nginx's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_changed: Option<SiteChangeOn>,
    /// What its hosts have not taken back yet.
    #[serde(default)]
    pub debts: Vec<PendingUndo>,
    /// Made without a coordinator: not taken in yet, or what is live.
    #[serde(default)]
    pub local: Vec<LocalChange>,
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
    pub direction: crate::journal::Direction,
    pub steps_done: u32,
    pub steps_all: u32,
    /// What runs.
    pub running: Vec<RunningStep>,
    pub failure: Option<FailedStep>,
    /// Whether users' requests are touched if it is cancelled at this point.
    pub traffic_moved: TrafficMoved,
    /// Of a stuck deployment.
    #[serde(default)]
    pub ways_out: Vec<ResolutionOption>,
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

/// A coordinator, as its cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorStatus {
    pub name: CoordinatorName,
    /// `host:port`
    pub address: String,
    /// Nothing: it gives no sign of life.
    pub presence: Option<CoordinatorsPresence>,
    pub root_key: RootKey,
    /// Whose deployments it drives.
    pub drives: Vec<EnvironmentKey>,
    /// How many hosts it has the sessions of.
    pub sessions: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorsPresence {
    pub version: String,
    pub since: Timestamp,
}

/// Which coordinator has the key of the root, at which others join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootKey {
    Here,
    Elsewhere,
}
