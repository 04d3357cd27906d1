//! What `lockstep coordinator list` shows of one coordinator.

use crate::name::{CoordinatorName, EnvironmentKey};
use crate::time::Timestamp;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A coordinator, as its cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorStatus {
    pub name: CoordinatorName,
    /// `host:port`
    pub address: String,
    /// `None` if the coordinator has no live lease.
    pub presence: Option<CoordinatorsPresence>,
    pub root_key: RootKey,
    /// The environments whose deployments it drives.
    pub drives: Vec<EnvironmentKey>,
    /// How many hosts are connected to it.
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
