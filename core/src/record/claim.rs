//! The claim on an environment: the one deployment, build or freeze that owns it. Users call it the lock.

use crate::id::{DeploymentId, StepId};
use crate::name::OperatorName;
use crate::time::Timestamp;
use alloc::string::String;
use serde::{Deserialize, Serialize};

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
