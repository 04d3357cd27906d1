//! The guarded transactions of a driver: each is made once and sent until its outcome is known.

use std::collections::BTreeMap;

use lockstep_core::fence::Token;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::journal::{Direction, Entry};
use lockstep_core::stored::encode;
use tracing::Span;

use crate::store::guarded::OwnedWrite;
use crate::store::{Guard, Owned, keys};

/// What is written at one moment.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// What it adds to the journal, if anything.
    pub(super) entry: Option<Entry>,
    pub(super) guards: Vec<Guard>,
    pub(super) writes: Vec<OwnedWrite>,
    /// What the step has when it is written.
    pub(super) assigned: Option<(StepId, Vec<Assigned>)>,
}

/// A step that is handed to a host.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    pub(super) key: Owned,
    pub(super) token: Token,
    pub(super) direction: Direction,
    /// Open for as long as the step is.
    pub(super) span: Span,
}

/// The steps that are handed out. More than one for a step only where a predecessor left one behind.
#[derive(Debug, Default)]
pub(super) struct Handed(BTreeMap<StepId, Vec<Assigned>>);

impl Handed {
    pub(super) fn add(&mut self, step: StepId, assigned: Assigned) {
        self.0.entry(step).or_default().push(assigned);
    }

    pub(super) fn set(&mut self, step: StepId, assigned: Vec<Assigned>) {
        self.0.insert(step, assigned);
    }

    pub(super) fn is_current(&self, step: StepId, token: &Token) -> bool {
        self.0.get(&step).is_some_and(|all| all.iter().any(|assigned| assigned.token == *token))
    }

    pub(super) fn span(&self, step: StepId) -> Option<Span> {
        self.0.get(&step)?.last().map(|assigned| assigned.span.clone())
    }

    /// Deletes what the step has in any direction.
    pub(super) fn withdraw(&self, step: StepId) -> Vec<OwnedWrite> {
        let all = self.0.get(&step).into_iter().flatten();
        all.map(|assigned| OwnedWrite::delete(assigned.key.clone())).collect()
    }

    pub(super) fn withdraw_all(&self) -> Vec<OwnedWrite> {
        self.0.values().flatten().map(|assigned| OwnedWrite::delete(assigned.key.clone())).collect()
    }

    /// What is left when the outcome of `direction` is written.
    pub(super) fn without(&self, step: StepId, direction: Direction) -> Vec<Assigned> {
        let all = self.0.get(&step).into_iter().flatten();
        all.filter(|assigned| assigned.direction != direction).cloned().collect()
    }
}

impl Pending {
    /// Adds `entry` to the journal, if nobody else has added one in its place.
    pub(super) fn entry(deployment: &DeploymentId, entry: Entry) -> Self {
        let key = keys::journal_entry(deployment, entry.seq);
        Self {
            guards: vec![Guard::absent(&key)],
            writes: vec![OwnedWrite::put_bytes(key, encode(&entry))],
            entry: Some(entry),
            assigned: None,
        }
    }

    /// Changes nothing of the journal.
    pub(super) fn aside(writes: Vec<OwnedWrite>) -> Self {
        Self { entry: None, guards: Vec::new(), writes, assigned: None }
    }

    pub(super) fn with(mut self, writes: impl IntoIterator<Item = OwnedWrite>) -> Self {
        self.writes.extend(writes);
        self
    }
}
