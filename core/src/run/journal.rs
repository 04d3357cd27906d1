//! The journal: an append-only list of entries, and the one function that says which entry may follow which
//! ([`StepStatus::next_status`]).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::health::Probe;
use crate::id::{DeploymentId, Digest, HostId, StepId};
use crate::name::{HostName, OperatorName};
use crate::plan::action::Endpoint;
use crate::time::{Millis, Timestamp};

/// One line of a deployment's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1, 2, 3 … within the deployment, without gaps.
    pub seq: u32,
    pub at: Timestamp,
    /// Of the driver that wrote it.
    pub epoch: u64,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A driver has the lock, with this entry's epoch.
    #[serde(rename = "taken")]
    LockTaken {
        by: String,
    },
    /// An intent: from here on the step has perhaps happened.
    Begun {
        step: StepId,
        direction: Direction,
    },
    Done {
        step: StepId,
        direction: Direction,
        finding: Finding,
    },
    Failed {
        step: StepId,
        direction: Direction,
        failure: StepFailure,
    },
    /// From here on the host is excluded because of this step: the rest is as it would be without that host.
    #[serde(rename = "passed_by")]
    Excluded {
        host: HostId,
        because: StepId,
    },
    /// The decision to revert; it is final.
    #[serde(rename = "turned")]
    RevertStarted {
        because: RevertReason,
    },
    /// An undo failed for good: an operator must choose a resolution.
    Stuck {
        step: StepId,
        failure: StepFailure,
    },
    /// An operator requested another attempt at the undo.
    Resumed {
        by: OperatorName,
    },
    /// The undo of the step is deferred: it is pending, or it is skipped.
    #[serde(rename = "left")]
    UndoDeferred {
        step: StepId,
        how: Deferral,
    },
    Ended {
        verdict: Verdict,
    },
}

impl Event {
    /// The step of the event; `None` if it is about no step.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Self::Begun { step, .. }
            | Self::Done { step, .. }
            | Self::Failed { step, .. }
            | Self::Stuck { step, .. }
            | Self::UndoDeferred { step, .. } => Some(*step),
            Self::LockTaken { .. }
            | Self::Excluded { .. }
            | Self::RevertStarted { .. }
            | Self::Resumed { .. }
            | Self::Ended { .. } => None,
        }
    }
}

/// How an undo is deferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Deferral {
    /// It runs before that host serves the environment again.
    #[serde(rename = "owed")]
    Pending {
        because: String,
        /// The operator who decided it; `None` if the host was offline.
        by: Option<OperatorName>,
    },
    /// It is never done: an operator cleans up by hand.
    Skipped { by: OperatorName },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Do,
    Undo,
}

impl Direction {
    /// As it is written in files, rows and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
        }
    }
}

impl core::fmt::Display for Direction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a deployment is reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RevertReason {
    StepFailed { step: StepId },
    LockTimeout,
    Cancelled { by: OperatorName },
}

/// What a step that was done has found: facts for the record, not for decisions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// For people, one line: `adopted 2 containers`.
    pub said: String,
    pub migrated: Option<Migrated>,
    pub snapshot: Option<Box<SnapshotTaken>>,
    pub probes: Vec<Probe>,
    pub traffic: Option<TrafficCount>,
    /// How long the switch itself took, without its proof.
    pub switch_took: Option<Millis>,
    /// The unhealthy endpoints, if the slot can do without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unhealthy: Vec<Endpoint>,
    /// nginx was reloaded: clients with idle connections may have lost a request, which no log shows.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub reloaded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrated {
    pub applied: Vec<u64>,
    pub schema_version: u64,
}

/// The requests of the environment that nginx has answered at one moment of a deployment: the receipt is the difference
/// of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficCount {
    pub requests: u64,
    /// Answered by nginx itself because no application answered.
    pub lost: u64,
}

/// What failed, said so that an operator can act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFailure {
    pub certainty: Certainty,
    /// What happened, to what.
    pub what: String,
    pub why: Option<String>,
    /// The last lines of what ran, redacted.
    pub tail: Vec<String>,
    pub probes: Vec<Probe>,
    /// The next command.
    pub next: Option<String>,
    /// Of migrations: what of them was applied all the same. `None` if nobody knows, or if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrated: Option<Migrated>,
}

/// A time-out means that it may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The agent says that it failed.
    Failed,
    /// The outcome is unknown.
    Unknown,
}

impl StepFailure {
    /// A failure that the agent is sure of.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            certainty: Certainty::Failed,
            what: what.into(),
            why: None,
            tail: Vec::new(),
            probes: Vec::new(),
            next: None,
            migrated: None,
        }
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// The status of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepStatus {
    Waiting,
    Begun {
        at: Timestamp,
    },
    Done,
    Failed {
        certainty: Certainty,
    },
    Undoing {
        at: Timestamp,
        attempt: u16,
    },
    UndoFailed {
        at: Timestamp,
        attempt: u16,
    },
    Undone,
    /// Its undo is pending, or was skipped.
    UndoDeferred,
}

/// An entry that cannot follow what came before it: the journal is damaged, or the code is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} of the journal is invalid: {what}")]
pub struct IllegalEntry {
    pub seq: u32,
    pub what: String,
}

impl StepStatus {
    /// Since when the step runs, in either direction; `None` if it does not run.
    pub fn begun_at(&self) -> Option<Timestamp> {
        match self {
            Self::Begun { at } | Self::Undoing { at, .. } => Some(*at),
            Self::Waiting
            | Self::Done
            | Self::Failed { .. }
            | Self::UndoFailed { .. }
            | Self::Undone
            | Self::UndoDeferred => None,
        }
    }

    /// Where the step stands after `event`, which concerns it; `None` when that cannot follow.
    pub fn next_status(&self, event: &Event, at: Timestamp) -> Option<StepStatus> {
        use Direction::{Do, Undo};
        match (self, event) {
            (Self::Waiting, Event::Begun { direction: Do, .. }) => Some(Self::Begun { at }),
            (Self::Begun { .. }, Event::Done { direction: Do, .. }) => Some(Self::Done),
            (Self::Begun { .. }, Event::Failed { direction: Do, failure, .. }) => {
                Some(Self::Failed { certainty: failure.certainty })
            }
            (Self::Begun { .. } | Self::Done | Self::Failed { .. }, Event::Begun { direction: Undo, .. }) => {
                Some(Self::Undoing { at, attempt: 1 })
            }
            (Self::UndoFailed { attempt, .. }, Event::Begun { direction: Undo, .. }) => {
                Some(Self::Undoing { at, attempt: attempt.saturating_add(1) })
            }
            (Self::Undoing { .. }, Event::Done { direction: Undo, .. }) => Some(Self::Undone),
            (Self::Undoing { attempt, .. }, Event::Failed { direction: Undo, .. }) => {
                Some(Self::UndoFailed { at, attempt: *attempt })
            }
            (
                Self::Begun { .. }
                | Self::Done
                | Self::Failed { .. }
                | Self::Undoing { .. }
                | Self::UndoFailed { .. },
                Event::UndoDeferred { .. },
            ) => Some(Self::UndoDeferred),
            // An operator gives the undo a fresh row of attempts.
            (Self::UndoFailed { .. }, Event::Resumed { .. }) => Some(Self::UndoFailed { at, attempt: 0 }),
            (status, Event::Resumed { .. }) => Some(status.clone()),
            (_, _) => None,
        }
    }
}

/// `<deployment>/<step>/<direction>`: the same for every time that a step is sent, whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepKey {
    pub deployment: DeploymentId,
    pub step: StepId,
    pub direction: Direction,
}

impl core::fmt::Display for StepKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}/{}", self.deployment, self.step, self.direction)
    }
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Succeeded,
    RolledBack,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled back",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTaken {
    pub host: HostName,
    pub path: String,
    pub bytes: u64,
    /// Of the manifest, which has the digest of every file.
    pub manifest: Digest,
}
