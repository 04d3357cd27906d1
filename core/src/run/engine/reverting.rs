//! Backward: undoes the newest wave first, until nothing of the deployment is left.

use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::plan::{Step, Wave};
use crate::record::claim::OperatorRequest;
use crate::run::engine::{Command, Run, UNDO_ATTEMPTS_MAX, UNDO_RETRY_AFTER, await_outcome, resolutions};
use crate::run::journal::Verdict;
use crate::run::journal::{Direction, Event, StepFailure, StepStatus};
use crate::time::Timestamp;

pub(super) fn decide(run: &Run, request: &OperatorRequest, now: Timestamp) -> Vec<Command> {
    match newest_wave_to_undo(run) {
        None => vec![Command::Append(Event::Ended { verdict: Verdict::RolledBack })],
        Some(wave) => wave.steps.iter().filter_map(|step| undo(run, step, request, now)).collect(),
    }
}

/// The wave that is undone before any other.
pub(super) fn newest_wave_to_undo(run: &Run) -> Option<&Wave> {
    let is_left = |wave: &&Wave| wave.steps.iter().any(|step| run.needs_undo(step));
    if is_on(Mutant::OldestUndoneFirst) {
        return run.plan().waves.iter().find(is_left);
    }
    run.plan().waves.iter().rev().find(is_left)
}

fn undo(run: &Run, step: &Step, request: &OperatorRequest, now: Timestamp) -> Option<Command> {
    if !run.needs_undo(step) {
        return None;
    }
    let begin = Command::Append(Event::Begun { step: step.id, direction: Direction::Undo });
    match run.step_status(step.id) {
        StepStatus::Begun { .. } | StepStatus::Done | StepStatus::Failed { .. } => Some(begin),
        StepStatus::Undoing { at, .. } => Some(await_outcome(step, Direction::Undo, *at, now)),
        StepStatus::UndoFailed { attempt, .. } if *attempt >= UNDO_ATTEMPTS_MAX => {
            let failure =
                run.failure(step.id).cloned().unwrap_or_else(|| StepFailure::new("the undo failed"));
            let owed = resolutions::apply_request(run, step.id, request)
                .filter(|_| matches!(request, OperatorRequest::Unwind { .. }));
            Some(Command::Append(owed.unwrap_or(Event::Stuck { step: step.id, failure })))
        }
        StepStatus::UndoFailed { attempt: 0, .. } => Some(begin),
        StepStatus::UndoFailed { at, .. } => {
            let due = *at + UNDO_RETRY_AFTER;
            Some(if now < due { Command::WakeAt(due) } else { begin })
        }
        StepStatus::Waiting | StepStatus::Undone | StepStatus::UndoDeferred => None,
    }
}
