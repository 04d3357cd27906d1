//! The seed's `deployment-state.json` (T2): its shape, and how it follows from the record.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// `deployment-state.json` of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub environment: String,
    pub current_deployment: Option<Deployed>,
    pub previous_deployment: Option<Deployed>,
    pub deployment_history: Vec<Past>,
    pub lock: Lock,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    pub id: String,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    pub deployed_at: String,
    pub deployed_by: String,
    pub active_slot: String,
    pub health_status: String,
    pub status: String,
    pub migrations_run: u32,
    pub rollback_count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub id: String,
    pub version: String,
    pub deployed_at: String,
    pub deployed_by: String,
    pub status: String,
    pub duration_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub locked: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub held: Option<LockHeld>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHeld {
    pub lock_id: String,
    pub locked_by: String,
    pub locked_at: String,
    pub lock_expires_at: String,
    pub deployment_id: String,
    pub pid: u32,
    pub hostname: String,
}
