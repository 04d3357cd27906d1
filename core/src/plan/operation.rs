//! The operations that an operator can request. A planner turns an operation into a plan; there is no second way.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::DeploymentId;
use crate::name::HostName;
use crate::release::Release;

/// What git calls the branch of a checkout that is on none.
pub const DETACHED: &str = "HEAD";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    Deploy(Deploy),
    Rollback(Rollback),
    /// What is live runs on one more app host, which gets its share of the traffic.
    AddHost(HostName),
    /// An app host gets no traffic and runs nothing of what is live; it stays declared.
    DrainHost(HostName),
    /// The same, and the environment is not declared to be on it any more.
    RemoveHost(HostName),
    /// The environment is given up: it serves nobody any more, and what is on its hosts is removed.
    Decommission,
}

impl Operation {
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Deploy(_) => OperationKind::Deploy,
            Self::Rollback(_) => OperationKind::Rollback,
            Self::AddHost(_) => OperationKind::AddHost,
            Self::DrainHost(_) => OperationKind::DrainHost,
            Self::RemoveHost(_) => OperationKind::RemoveHost,
            Self::Decommission => OperationKind::Decommission,
        }
    }

    /// The host that it changes; `None` if it is about the whole environment.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Deploy(_) | Self::Rollback(_) | Self::Decommission => None,
            Self::AddHost(host) | Self::DrainHost(host) | Self::RemoveHost(host) => Some(host),
        }
    }
}

/// Bring `release` into the inactive slot and give it the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    pub release: Release,
    /// The branch that the operator's checkout is on, where there is one.
    pub branch: Option<String>,
    pub any_branch: AnyBranch,
    #[serde(default, skip_serializing_if = "ChangedSite::is_refused")]
    pub changed_site: ChangedSite,
}

/// What becomes of changes by hand where nginx has to have another site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedSite {
    /// They stay, and there is no plan.
    #[default]
    Refused,
    /// `--overwrite-site`.
    Overwritten,
}

impl ChangedSite {
    fn is_refused(&self) -> bool {
        *self == Self::Refused
    }
}

/// Whether the environment's `branch` binds this deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyBranch {
    Refused,
    /// `--allow-branch`.
    Allowed,
}

/// Give the traffic back to an earlier release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// `None`: the newest verified-good deployment before the live one.
    pub to: Option<DeploymentId>,
    #[serde(default, skip_serializing_if = "ChangedSite::is_refused")]
    pub changed_site: ChangedSite,
}

/// Why what an operator asked for was refused, with nothing started: sent as a document beside the
/// refusal, so that a command line can show its three parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{what}: {why}")]
pub struct Refusal {
    pub what: String,
    pub why: String,
    /// The next command, or what to change.
    pub next: String,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy(deploy) => {
                write!(f, "deploy {} ({})", deploy.release.image, deploy.release.version())
            }
            Self::Rollback(Rollback { to: Some(to), .. }) => write!(f, "roll back to {to}"),
            Self::Rollback(Rollback { to: None, .. }) => f.write_str("roll back"),
            Self::AddHost(host) => write!(f, "add host {host}"),
            Self::DrainHost(host) => write!(f, "drain host {host}"),
            Self::RemoveHost(host) => write!(f, "remove host {host}"),
            Self::Decommission => f.write_str("decommission"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    Deploy,
    Rollback,
    AddHost,
    DrainHost,
    RemoveHost,
    Decommission,
}

impl OperationKind {
    /// As it is recorded, and as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::AddHost => "add_host",
            Self::DrainHost => "drain_host",
            Self::RemoveHost => "remove_host",
            Self::Decommission => "decommission",
        }
    }

    /// Whether what is live is another release afterwards, or another copy of the same.
    pub fn changes_release(self) -> bool {
        match self {
            Self::Deploy | Self::Rollback => true,
            Self::AddHost | Self::DrainHost | Self::RemoveHost | Self::Decommission => false,
        }
    }
}
