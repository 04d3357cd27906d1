//! Pending undos: what a host still has to revert before it serves the environment again.

use crate::id::HostId;
use crate::name::{EnvironmentKey, HostName, OperatorName};
use crate::plan::Action;
use crate::run::journal::{StepFailure, StepKey};
use crate::time::{Millis, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// An undo that a host must do before it serves the environment again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingUndo {
    pub key: StepKey,
    pub environment: EnvironmentKey,
    pub host: HostId,
    pub host_name: HostName,
    /// `None`: only make sure that the "do" of the step has ended and never begins.
    pub action: Option<Action>,
    pub limit: Millis,
    /// What it changes, in one line.
    pub change: String,
    pub because: String,
    /// The operator who made it pending; `None` if the host was offline.
    pub by: Option<OperatorName>,
    pub since: Timestamp,
    /// How the last attempt failed.
    pub failure: Option<StepFailure>,
}

/// The pending undos of one host for one environment, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingUndos {
    #[serde(rename = "owed")]
    pub undos: Vec<PendingUndo>,
}
