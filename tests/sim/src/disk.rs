//! A host's journal on its disk: what was written, and what of it would survive a loss of power.

use std::collections::BTreeMap;

use lockstep_core::agent::accept::{Outcome, StepRecord, StepState};
use lockstep_core::agent::fence::{FenceState, Token};
use lockstep_core::run::journal::{Direction, StepKey};

/// What the journal has of one step.
#[derive(Debug, Clone)]
pub struct Row {
    pub known: StepRecord,
    pub settled: bool,
}

/// The tables of the journal of one environment.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub mark: Option<FenceState>,
    pub rows: BTreeMap<StepKey, Row>,
}

/// Whether a write is on the disk before anything else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Yes,
    No,
}

#[derive(Debug, Clone, Default)]
pub struct Disk {
    written: Tables,
    synced: Tables,
}

impl Disk {
    pub fn read(&self) -> &Tables {
        &self.written
    }

    pub fn write(&mut self, sync: Sync, change: impl Fn(&mut Tables)) {
        change(&mut self.written);
        if sync == Sync::Yes {
            change(&mut self.synced);
        }
    }

    /// Whether the outcome of a step would survive a loss of power.
    pub fn keeps_outcome(&self, key: &StepKey) -> bool {
        self.synced.known(key).is_some_and(|known| matches!(known.state, StepState::Ended(_)))
    }

    /// Every outcome was seen by a coordinator long ago.
    pub fn settle(&mut self) {
        self.write(Sync::Yes, |tables| tables.rows.values_mut().for_each(|row| row.settled = true));
    }

    /// What was not synced is lost.
    pub fn lose(&mut self) {
        self.written = self.synced.clone();
    }
}

impl Tables {
    pub fn known(&self, key: &StepKey) -> Option<&StepRecord> {
        self.rows.get(key).map(|row| &row.known)
    }

    /// The undo of a "do": its tombstone.
    pub fn undo_of(&self, key: &StepKey) -> Option<&StepRecord> {
        match key.direction {
            Direction::Undo => None,
            Direction::Do => self.known(&StepKey { direction: Direction::Undo, ..key.clone() }),
        }
    }

    pub fn set(&mut self, key: &StepKey, state: StepState) {
        if let Some(row) = self.rows.get_mut(key) {
            row.known.state = state;
            row.settled = false;
        }
    }

    pub fn retoken(&mut self, key: &StepKey, token: &Token) {
        if let Some(row) = self.rows.get_mut(key) {
            row.known.token = token.clone();
        }
    }

    /// Outcomes that a coordinator has perhaps not seen.
    pub fn unsettled(&self) -> Vec<(StepKey, Token, Outcome)> {
        let ended = self.rows.iter().filter(|(_, row)| !row.settled);
        ended
            .filter_map(|(key, row)| match &row.known.state {
                StepState::Ended(outcome) => Some((key.clone(), row.known.token.clone(), outcome.clone())),
                StepState::Accepted | StepState::Running | StepState::Interrupted => None,
            })
            .collect()
    }
}
