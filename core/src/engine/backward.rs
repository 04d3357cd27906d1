//! Backward: newest first, until nothing of the deployment is left.

use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::engine::{Command, Run, UNDO_ATTEMPTS_MAX, UNDO_RETRY_AFTER, await_outcome, ways};
use crate::journal::{Certainty, Direction, Event, Standing, StepFailure};
use crate::plan::{Step, Undo, Wave};
use crate::record::{Verdict, Wish};
use crate::time::Timestamp;

pub(super) fn decide(run: &Run, wish: &Wish, now: Timestamp) -> Vec<Command> {
    match newest(run) {
        None => vec![Command::Append(Event::Ended { verdict: Verdict::RolledBack })],
        Some(wave) => wave.steps.iter().filter_map(|step| undo(run, step, wish, now)).collect(),
    }
}

/// The wave that is taken back before any other.
pub(super) fn newest(run: &Run) -> Option<&Wave> {
    let is_left = |wave: &&Wave| wave.steps.iter().any(|step| is_to_be_undone(run, step));
    if is_on(Mutant::OldestUndoneFirst) {
        return run.plan().waves.iter().find(is_left);
    }
    run.plan().waves.iter().rev().find(is_left)
}

pub(super) fn is_to_be_undone(run: &Run, step: &Step) -> bool {
    match run.standing(step.id) {
        Standing::Waiting | Standing::Undone | Standing::Left => false,
        // Begun and nothing more is "perhaps done", and perhaps still running: its host is told to end it.
        Standing::Begun { .. } | Standing::Failed { certainty: Certainty::Unknown } => {
            !is_on(Mutant::UnknownNotUndone)
        }
        Standing::Done | Standing::Failed { certainty: Certainty::Failed } => match step.undo {
            Undo::By { .. } => true,
            Undo::Nothing { .. } => false,
        },
        Standing::Undoing { .. } | Standing::UndoFailed { .. } => true,
    }
}

fn undo(run: &Run, step: &Step, wish: &Wish, now: Timestamp) -> Option<Command> {
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
            let owed = ways::take(run, step.id, wish).filter(|_| matches!(wish, Wish::Unwind { .. }));
            Some(Command::Append(owed.unwrap_or(Event::Stuck { step: step.id, failure })))
        }
        Standing::UndoFailed { attempt: 0, .. } => Some(begin),
        Standing::UndoFailed { at, .. } => {
            let due = *at + UNDO_RETRY_AFTER;
            Some(if now < due { Command::WakeAt(due) } else { begin })
        }
        Standing::Waiting | Standing::Undone | Standing::Left => None,
    }
}
