//! Backward: newest first, until nothing of the deployment is left.

use alloc::vec;
use alloc::vec::Vec;

use crate::engine::{Command, Run, UNDO_ATTEMPTS_MAX, UNDO_RETRY_AFTER, await_outcome};
use crate::journal::{Certainty, Direction, Event, Standing, StepFailure};
use crate::plan::{Step, Undo};
use crate::record::Verdict;
use crate::time::Timestamp;

pub(super) fn decide(run: &Run, now: Timestamp) -> Vec<Command> {
    let newest =
        run.plan().waves.iter().rev().find(|wave| wave.steps.iter().any(|step| is_to_be_undone(run, step)));
    match newest {
        None => vec![Command::Append(Event::Ended { verdict: Verdict::RolledBack })],
        Some(wave) => wave.steps.iter().filter_map(|step| undo(run, step, now)).collect(),
    }
}

fn is_to_be_undone(run: &Run, step: &Step) -> bool {
    match run.standing(step.id) {
        Standing::Waiting | Standing::Undone => false,
        // Begun and nothing more is "perhaps done", and perhaps still running: its host is told to end it.
        Standing::Begun { .. } | Standing::Failed { certainty: Certainty::Unknown } => true,
        Standing::Done | Standing::Failed { certainty: Certainty::Failed } => match step.undo {
            Undo::By { .. } => true,
            Undo::Nothing { .. } => false,
        },
        Standing::Undoing { .. } | Standing::UndoFailed { .. } => true,
    }
}

fn undo(run: &Run, step: &Step, now: Timestamp) -> Option<Command> {
    if !is_to_be_undone(run, step) {
        return None;
    }
    let begin = Command::Append(Event::Begun { step: step.id, direction: Direction::Undo });
    match run.standing(step.id) {
        Standing::Begun { .. } | Standing::Done | Standing::Failed { .. } => Some(begin),
        Standing::Undoing { at, .. } => Some(await_outcome(step, Direction::Undo, *at, now)),
        Standing::UndoFailed { attempt, .. } if *attempt >= UNDO_ATTEMPTS_MAX => {
            let failure =
                run.failure(step.id).cloned().unwrap_or_else(|| StepFailure::new("its undo failed"));
            Some(Command::Append(Event::Stuck { step: step.id, failure }))
        }
        Standing::UndoFailed { attempt: 0, .. } => Some(begin),
        Standing::UndoFailed { at, .. } => {
            let due = *at + UNDO_RETRY_AFTER;
            Some(if now < due { Command::WakeAt(due) } else { begin })
        }
        Standing::Waiting | Standing::Undone => None,
    }
}
