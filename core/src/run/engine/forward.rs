//! Forward: runs wave after wave, until all is done or there is a reason to revert.

use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::plan::{OnFailure, Step};
use crate::record::claim::OperatorRequest;
use crate::run::engine::{Command, Run, await_outcome, exclusion, reverting};
use crate::run::journal::Verdict;
use crate::run::journal::{Direction, Event, RevertReason, StepStatus};
use crate::time::Timestamp;

pub(super) fn decide(run: &Run, request: &OperatorRequest, now: Timestamp) -> Vec<Command> {
    let left = exclusion::defer_undos_of_excluded(run);
    if !left.is_empty() {
        return left;
    }
    let is_committed = run.is_committed();
    if !is_committed && let Some(event) = exclusion::exclude_host(run) {
        return vec![Command::Append(event)];
    }
    if !is_committed && let Some(because) = reason_to_revert(run, request, now) {
        if is_on(Mutant::TurnNotRecorded) {
            return reverting::decide(run, request, now);
        }
        return vec![Command::Append(Event::RevertStarted { because })];
    }
    let Some(wave) =
        run.effective_plan().waves.iter().find(|wave| wave.steps.iter().any(|step| !is_settled(run, step)))
    else {
        return vec![Command::Append(Event::Ended { verdict: Verdict::Succeeded })];
    };
    let mut commands: Vec<Command> = wave.steps.iter().filter_map(|step| advance(run, step, now)).collect();
    if !is_committed {
        commands.push(Command::WakeAt(run.lock_until()));
    }
    commands
}

fn reason_to_revert(run: &Run, request: &OperatorRequest, now: Timestamp) -> Option<RevertReason> {
    if let Some((_, step)) = exclusion::failed_hosts(run).next() {
        return Some(RevertReason::StepFailed { step });
    }
    if let OperatorRequest::Cancel { by } = request {
        return Some(RevertReason::Cancelled { by: by.clone() });
    }
    (now >= run.lock_until()).then_some(RevertReason::LockTimeout)
}

/// Whether the next wave need not wait for this step.
fn is_settled(run: &Run, step: &Step) -> bool {
    match run.step_status(step.id) {
        StepStatus::Done => true,
        StepStatus::Failed { .. } => step.on_failure == OnFailure::Note,
        StepStatus::Begun { .. } => is_on(Mutant::NextWaveEarly),
        StepStatus::Waiting
        | StepStatus::Undoing { .. }
        | StepStatus::UndoFailed { .. }
        | StepStatus::Undone
        | StepStatus::UndoDeferred => false,
    }
}

fn advance(run: &Run, step: &Step, now: Timestamp) -> Option<Command> {
    match run.step_status(step.id) {
        StepStatus::Waiting => {
            Some(Command::Append(Event::Begun { step: step.id, direction: Direction::Do }))
        }
        StepStatus::Begun { at } => Some(await_outcome(step, Direction::Do, *at, now)),
        StepStatus::Done
        | StepStatus::Failed { .. }
        | StepStatus::Undoing { .. }
        | StepStatus::UndoFailed { .. }
        | StepStatus::Undone
        | StepStatus::UndoDeferred => None,
    }
}
