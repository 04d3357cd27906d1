//! The claim on an environment: the one deployment, build or freeze that holds it. Users call it the lock.

use crate::id::{DeploymentId, StepId};
use crate::name::OperatorName;
use crate::time::Timestamp;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The holder of an environment: a deployment, a build or a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub kind: ClaimKind,
    pub by: OperatorName,
    pub since: Timestamp,
    /// A deployment is reverted then; a freeze ends then.
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
    /// It waits for a resolution of an operator.
    Stuck { deployment: DeploymentId },
    /// Deployments are refused, for this reason.
    #[serde(rename = "hold")]
    Freeze { reason: String },
}

/// What an operator requests of an open deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OperatorRequest {
    None,
    Cancel {
        by: OperatorName,
    },
    /// Retry the undo of a stuck deployment.
    Retry {
        by: OperatorName,
    },
    /// Undo the other steps of a stuck deployment, and leave the failed undo pending.
    Unwind {
        by: OperatorName,
    },
    /// Never do the undo of this step of a stuck deployment.
    Skip {
        by: OperatorName,
        step: StepId,
    },
}

/// How an operator ends a stuck deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resolution {
    Retry,
    Unwind,
    Skip { step: StepId },
}

impl Resolution {
    /// This resolution as a request of `by`.
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
