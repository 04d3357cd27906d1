//! The status of each step of a plan, indexed by its number, because a decision reads all of them several times.

use alloc::vec::Vec;

use crate::id::StepId;
use crate::plan::Plan;
use crate::run::journal::StepStatus;

/// In the order of the numbers.
#[derive(Debug, Clone)]
pub(super) struct StepStatuses(Vec<(StepId, StepStatus)>);

impl StepStatuses {
    /// Everything waits.
    pub(super) fn all_waiting(plan: &Plan) -> Self {
        let mut all: Vec<_> = plan.steps().map(|step| (step.id, StepStatus::Waiting)).collect();
        all.sort_by_key(|(id, _)| *id);
        Self(all)
    }

    pub(super) fn get(&self, step: StepId) -> Option<&StepStatus> {
        self.0.get(self.place(step)?).map(|(_, status)| status)
    }

    pub(super) fn get_mut(&mut self, step: StepId) -> Option<&mut StepStatus> {
        let place = self.place(step)?;
        self.0.get_mut(place).map(|(_, status)| status)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut StepStatus> {
        self.0.iter_mut().map(|(_, status)| status)
    }

    /// Steps are numbered from 1 on, and as a rule none is left out.
    fn place(&self, step: StepId) -> Option<usize> {
        let usual = usize::from(step.0).checked_sub(1)?;
        if self.0.get(usual).is_some_and(|(id, _)| *id == step) {
            return Some(usual);
        }
        self.0.binary_search_by_key(&step, |(id, _)| *id).ok()
    }
}
