//! Local rollbacks: switches that somebody made on the load balancer's host without a coordinator.

use crate::id::{DeploymentId, HostId};
use crate::name::{EnvironmentKey, HostName};
use crate::slot::Slot;
use crate::time::Timestamp;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// A switch that somebody made on the load balancer's host, without a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRollback {
    /// Its number on that host.
    pub seq: u64,
    pub environment: EnvironmentKey,
    pub at: Timestamp,
    /// The user name on that host.
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
    /// `None` until it is recorded. Until then its host keeps the traffic where it is, whatever a deployment wants.
    #[serde(rename = "taken_in")]
    pub adopted: Option<Adoption>,
}

/// A local rollback that the record has adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    pub at: Timestamp,
    /// Its entry in the history; `None` if the record already agreed, or cannot.
    pub deployment: Option<DeploymentId>,
}
