//! Pending undos: what a host still has to revert before it serves the environment again.

use crate::id::HostId;
use crate::name::{EnvironmentKey, HostName, OperatorName};
use crate::plan::Action;
use crate::run::journal::{StepFailure, StepKey};
use crate::time::{Millis, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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
