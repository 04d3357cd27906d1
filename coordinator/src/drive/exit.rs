//! How a driver ends, and why a driver cannot continue.

use lockstep_core::id::DeploymentId;
use lockstep_core::run::journal::IllegalEntry;

use crate::store::StoreError;

/// How a driver left its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriverExit {
    Ended,
    /// Another has the environment.
    Deposed,
    /// It had ended before.
    NotOpen,
}

/// Why a driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    #[error("cannot read or write the record")]
    Store(#[from] StoreError),
    #[error("the record of {0} lacks its {1}")]
    Missing(DeploymentId, &'static str),
    #[error("the journal is damaged")]
    Journal(#[from] IllegalEntry),
    #[error("the plan breaks a rule: {0}")]
    Plan(String),
    #[error("bug: {0}")]
    Bug(&'static str),
}
