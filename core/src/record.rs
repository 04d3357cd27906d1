//! Everything that a planner sees of an environment besides the operation: recorded and observed state.

use crate::host::Host;
use crate::id::{Digest, HostId};
use crate::name::EnvironmentKey;
use crate::record::history::DeploymentSummary;
use crate::record::live::LiveRelease;
use crate::record::observed::Observation;
use crate::record::ports::PortTable;
use crate::time::Millis;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

pub mod claim;
pub mod grant;
pub mod history;
pub mod live;
pub mod local_rollback;
pub mod observed;
pub mod owned_names;
pub mod pending_undo;
pub mod ports;
pub mod removal;

/// The secrets of an environment without their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSummary {
    pub version: u64,
    pub names: BTreeSet<String>,
}

/// Everything that a planner sees.
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
    /// Which images of its history other environments run or may roll back to.
    pub kept_elsewhere: BTreeSet<Digest>,
    /// Hosts with pending undos, which run before the host serves the environment again.
    #[serde(rename = "owing", default)]
    pub hosts_with_pending_undos: BTreeSet<HostId>,
}
