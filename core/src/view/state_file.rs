//! The seed's `deployment-state.json` (T2): its format, and how it follows from the record.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::name::EnvironmentKey;
use crate::planner::earlier_good;
use crate::record::claim::Claim;
use crate::record::history::{DeploymentSummary, since_decommission};
use crate::record::live::LiveRelease;
use crate::run::journal::Verdict;
use crate::slot::Slot;

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

/// How the two slots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHealth {
    pub live: Health,
    pub standby: Health,
}

/// The state file of `key`. `history` has its ended deployments, newest first.
pub fn state_file_of(
    key: &EnvironmentKey,
    live: Option<&LiveRelease>,
    history: &[DeploymentSummary],
    open: Option<&Claim>,
    health: SlotHealth,
) -> StateFile {
    let previous = live.and_then(|live| previous(live, history));
    StateFile {
        environment: key.environment.to_string(),
        current_deployment: live.map(|live| current(live, history, health.live)),
        previous_deployment: previous.map(|previous| Deployed {
            rollback_count: 0,
            ..deployed(previous, previous.slot, health.standby, "superseded")
        }),
        deployment_history: history
            .iter()
            .filter(|summary| summary.kind.changes_release())
            .filter_map(|summary| past(summary, live))
            .collect(),
        lock: lock(open),
    }
}

/// What a rollback goes to; after a rollback to the first release, what it was taken back from.
fn previous<'a>(live: &LiveRelease, history: &'a [DeploymentSummary]) -> Option<&'a DeploymentSummary> {
    let other = |summary: &&DeploymentSummary| {
        summary.kind.changes_release() && summary.is_verified_good() && summary.id != live.deployment
    };
    earlier_good(live, history).or_else(|| since_decommission(history).iter().find(other))
}

fn current(live: &LiveRelease, history: &[DeploymentSummary], health: Health) -> Deployed {
    match history.iter().find(|summary| summary.id == live.deployment) {
        Some(summary) => {
            Deployed { rollback_count: live.rollback_count, ..deployed(summary, live.slot, health, "active") }
        }
        // Its summary is older than the history that was handed in.
        None => Deployed {
            id: live.deployment.to_string(),
            version: live.release.version(),
            git_commit: live.release.commit.clone(),
            deployed_at: live.since.to_string(),
            deployed_by: String::new(),
            active_slot: live.slot.to_string(),
            health_status: health.to_string(),
            status: "active".to_string(),
            migrations_run: 0,
            rollback_count: live.rollback_count,
        },
    }
}

fn deployed(summary: &DeploymentSummary, slot: Slot, health: Health, status: &str) -> Deployed {
    Deployed {
        id: summary.id.to_string(),
        version: summary.release.version(),
        git_commit: summary.release.commit.clone(),
        deployed_at: summary.ended_at.unwrap_or(summary.opened_at).to_string(),
        deployed_by: summary.operator.to_string(),
        active_slot: slot.to_string(),
        health_status: health.to_string(),
        status: status.to_string(),
        migrations_run: summary.receipt.migrations_run,
        rollback_count: 0,
    }
}

fn past(summary: &DeploymentSummary, live: Option<&LiveRelease>) -> Option<Past> {
    let status = match summary.verdict? {
        Verdict::Succeeded if live.is_some_and(|live| live.deployment == summary.id) => "active",
        Verdict::Succeeded => "superseded",
        Verdict::RolledBack => "rolled_back",
    };
    let ended = summary.ended_at.unwrap_or(summary.opened_at);
    Some(Past {
        id: summary.id.to_string(),
        version: summary.release.version(),
        deployed_at: ended.to_string(),
        deployed_by: summary.operator.to_string(),
        status: status.to_string(),
        duration_seconds: ended.since(summary.opened_at).0 / 1000,
    })
}

/// A hold locks too, but the seed knows locks of deployments only: it stands here without particulars.
fn lock(open: Option<&Claim>) -> Lock {
    let held = open.and_then(|open| {
        let deployment = open.deployment()?;
        Some(LockHeld {
            lock_id: format!("lock_{}", deployment.ulid()),
            locked_by: open.by.to_string(),
            locked_at: open.since.to_string(),
            lock_expires_at: open.until.to_string(),
            deployment_id: deployment.to_string(),
            pid: open.pid,
            hostname: open.hostname.clone(),
        })
    });
    Lock { locked: open.is_some(), held }
}

#[cfg(test)]
mod tests;
