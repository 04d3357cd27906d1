//! The guarded transactions of a driver. Each is made once and sent until its outcome is known.

use std::collections::BTreeMap;

use lockstep_core::agent::fence::Token;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::run::journal::Entry;
use lockstep_core::stored::encode;
use lockstep_core::time::Millis;
use tracing::Span;

use crate::store::guarded::OwnedWrite;
use crate::store::{Guard, OPERATIONS_MAX, Owned, TRANSACTION_BYTES_MAX, keys};

/// How many operations are left for the last entry of a transaction, for what belongs to it, and for the lock.
const OPERATIONS_LEFT: usize = 30;

/// How much of a transaction's size is left for the same.
const BYTES_LEFT: usize = TRANSACTION_BYTES_MAX * 3 / 4;

/// What is written at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingTransaction {
    /// What it adds to the journal.
    pub(super) entries: Vec<JournaledEntry>,
    pub(super) guards: Vec<Guard>,
    pub(super) writes: Vec<OwnedWrite>,
}

/// An entry, and what it tells of.
#[derive(Debug, Clone)]
pub(super) struct JournaledEntry {
    pub(super) entry: Entry,
    pub(super) span: Span,
    /// How long the step had been under way when it was written, where it was.
    pub(super) took: Option<Millis>,
}

impl PendingTransaction {
    /// Adds `entry` to the journal of `deployment`, if nobody else has added one in its place.
    pub(super) fn append(&mut self, deployment: &DeploymentId, journaled: JournaledEntry) {
        let key = keys::journal_entry(deployment, journaled.entry.seq);
        if self.entries.is_empty() {
            // An entry has one before it: where the first is not there, the others are not either.
            self.guards.push(Guard::absent(&key));
        }
        self.writes.push(OwnedWrite::put_bytes(key, encode(&journaled.entry)));
        self.entries.push(journaled);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Whether one more entry fits in.
    pub(super) fn has_room(&self) -> bool {
        let bytes: usize = self.writes.iter().filter_map(OwnedWrite::value).map(|value| value.len()).sum();
        let operations = self.guards.len() + self.writes.len();
        operations + OPERATIONS_LEFT <= OPERATIONS_MAX && bytes + BYTES_LEFT <= TRANSACTION_BYTES_MAX
    }

    /// Whether it has an entry about `step`: a second one would write the same keys.
    pub(super) fn is_about(&self, step: StepId) -> bool {
        self.entries.iter().any(|journaled| journaled.entry.event.step() == Some(step))
    }
}

/// A step that is handed to a host.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    pub(super) key: Owned,
    pub(super) token: Token,
    /// Open for as long as the step is.
    pub(super) span: Span,
}

/// The steps that are handed out. More than one for a step only where a predecessor left one behind.
#[derive(Debug, Default)]
pub(super) struct AssignedSteps(BTreeMap<StepId, Vec<Assigned>>);

impl AssignedSteps {
    pub(super) fn add(&mut self, step: StepId, assigned: Assigned) {
        self.0.entry(step).or_default().push(assigned);
    }

    /// From here on the step has only this one.
    pub(super) fn set(&mut self, step: StepId, assigned: Assigned) {
        self.0.insert(step, vec![assigned]);
    }

    pub(super) fn is_current(&self, step: StepId, token: &Token) -> bool {
        self.0.get(&step).is_some_and(|all| all.iter().any(|assigned| assigned.token == *token))
    }

    pub(super) fn span(&self, step: StepId) -> Option<Span> {
        self.0.get(&step)?.last().map(|assigned| assigned.span.clone())
    }

    /// Deletes what the step has in any direction.
    pub(super) fn withdraw(&mut self, step: StepId) -> Vec<OwnedWrite> {
        deletions(self.0.remove(&step).into_iter().flatten())
    }

    pub(super) fn withdraw_all(&mut self) -> Vec<OwnedWrite> {
        deletions(std::mem::take(&mut self.0).into_values().flatten())
    }
}

fn deletions(withdrawn: impl Iterator<Item = Assigned>) -> Vec<OwnedWrite> {
    withdrawn.map(|assigned| OwnedWrite::delete(assigned.key)).collect()
}
