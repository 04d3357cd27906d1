//! What `lockstep status` shows of one environment.

use crate::count::times;
use crate::id::DeploymentId;
use crate::name::{EnvironmentKey, HostName, OperatorName, ProcessName};
use crate::record::claim::{Claim, Resolution};
use crate::record::history::{DeploymentSummary, FailedStep};
use crate::record::live::LiveRelease;
use crate::record::local_rollback::LocalChange;
use crate::record::observed::{Restarts, SiteChangeOn, exit_code_in_words};
use crate::record::pending_undo::PendingUndo;
use crate::record::removal::Removal;
use crate::release::{Release, Schema, SchemaState, dirty_because, dirty_repair};
use crate::slot::Slot;
use crate::time::{Millis, Timestamp};
use crate::view::host_status::{HostStatus, Presence};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
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
    /// `None` if it was not asked: for a reader, while a deployment runs, or where all environments are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// Which containers the engine restarted within the last hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<RestartsOn>,
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
    /// `None` if the containers have the newest secrets, or while a deployment runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeployed_secrets: Option<SecretsSet>,
}

impl EnvironmentStatus {
    /// The database. `None` also where the agent that asks it is offline: that is told, and nothing is known of the
    /// database.
    pub fn database_told(&self) -> Option<&DatabaseStatus> {
        let database = self.database.as_ref()?;
        let mut hosts = self.hosts.iter();
        let is_offline =
            hosts.any(|seen| seen.host.name == database.host && seen.presence == Presence::Absent);
        (!is_offline).then_some(database)
    }
}

/// A version of the secrets, and who set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSet {
    pub version: u64,
    pub by: OperatorName,
    pub at: Timestamp,
}

/// The database as a host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseStatus {
    pub host: HostName,
    pub seen: DatabaseSeen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DatabaseSeen {
    Schema(Schema),
    /// Another tool keeps its schema.
    Foreign {
        because: String,
    },
    /// Nothing is known of it, for this reason.
    Unknown {
        why: String,
    },
}

impl DatabaseStatus {
    /// What is wrong with it, and how to repair it.
    pub fn problem(&self) -> Option<(String, String)> {
        let Self { host, seen } = self;
        match seen {
            DatabaseSeen::Schema(Schema { version, state: SchemaState::Dirty }) => Some((
                format!("the schema is dirty at version {version}: {}", dirty_because(*version)),
                dirty_repair(*version),
            )),
            DatabaseSeen::Unknown { why } => Some((
                format!("unknown from {host}: {why}"),
                format!(
                    "pg_lsclusters    # where the database is: it must run, and its pg_hba.conf admit {host}"
                ),
            )),
            DatabaseSeen::Schema(Schema { state: SchemaState::Clean, .. }) | DatabaseSeen::Foreign { .. } => {
                None
            }
        }
    }
}

/// What ended by itself on a host, and was started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartsOn {
    pub host: HostName,
    pub slot: Slot,
    pub process: ProcessName,
    pub restarts: Restarts,
}

impl fmt::Display for RestartsOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, slot, process, restarts: Restarts { count, exit_code } } = self;
        let times = times(*count);
        write!(
            f,
            "{process} of {slot} on {host} ended by itself and was restarted, {times}, the last within the hour"
        )?;
        match exit_code {
            Some(code) => write!(f, "; {}", exit_code_in_words(*code)),
            None => Ok(()),
        }
    }
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
