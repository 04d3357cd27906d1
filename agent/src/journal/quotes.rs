//! What applications said in the outcomes of steps. It may have any of their secrets, so that it is in memory and not on
//! the disk, from the end of a step until a coordinator has the outcome. A restart of the agent loses it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_core::run::journal::StepKey;

use super::Outcome;

/// Far more steps than have ended and are not reported.
const OUTCOMES_MAX: usize = 256;

/// Outcomes with what applications said.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    // Held for a look-up or a change, never across an await.
    outcomes: Mutex<BTreeMap<StepKey, Outcome>>,
}

impl Quotes {
    pub(super) fn keep(&self, key: &StepKey, outcome: Outcome) {
        let mut outcomes = self.lock();
        outcomes.insert(key.clone(), outcome);
        while outcomes.len() > OUTCOMES_MAX {
            outcomes.pop_first();
        }
    }

    pub(super) fn forget(&self, key: &StepKey) {
        self.lock().remove(key);
    }

    /// The outcome of which `written` is on the disk.
    pub(super) fn whole(&self, key: &StepKey, written: Outcome) -> Outcome {
        self.lock().get(key).cloned().unwrap_or(written)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StepKey, Outcome>> {
        // Every change is one insertion or removal.
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
