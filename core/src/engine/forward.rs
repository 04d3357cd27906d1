//! Forward: wave by wave, until all is done or something says otherwise.

use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::engine::{Command, Run, await_outcome, backward, passing};
use crate::journal::{Because, Direction, Event, Standing};
use crate::plan::{OnFailure, Step};
use crate::record::{Verdict, Wish};
use crate::time::Timestamp;

pub(super) fn decide(run: &Run, wish: &Wish, now: Timestamp) -> Vec<Command> {
    let left = passing::leave(run);
    if !left.is_empty() {
        return left;
    }
    let is_committed = run.is_committed();
    if !is_committed && let Some(event) = passing::pass_by(run) {
        return vec![Command::Append(event)];
    }
    if !is_committed && let Some(because) = reason_to_turn(run, wish, now) {
        if is_on(Mutant::TurnNotRecorded) {
            return backward::decide(run, wish, now);
        }
        return vec![Command::Append(Event::Turned { because })];
    }
    let Some(wave) =
        run.going().waves.iter().find(|wave| wave.steps.iter().any(|step| !is_settled(run, step)))
    else {
        return vec![Command::Append(Event::Ended { verdict: Verdict::Succeeded })];
    };
    let mut commands: Vec<Command> = wave.steps.iter().filter_map(|step| advance(run, step, now)).collect();
    if !is_committed {
        commands.push(Command::WakeAt(run.lock_until()));
    }
    commands
}

fn reason_to_turn(run: &Run, wish: &Wish, now: Timestamp) -> Option<Because> {
    if let Some((_, step)) = passing::ill(run).next() {
        return Some(Because::StepFailed { step });
    }
    if let Wish::Cancel { by } = wish {
        return Some(Because::Cancelled { by: by.clone() });
    }
    (now >= run.lock_until()).then_some(Because::LockTimeout)
}

/// Whether the next wave need not wait for this step.
fn is_settled(run: &Run, step: &Step) -> bool {
    match run.standing(step.id) {
        Standing::Done => true,
        Standing::Failed { .. } => step.on_failure == OnFailure::Note,
        Standing::Begun { .. } => is_on(Mutant::NextWaveEarly),
        Standing::Waiting
        | Standing::Undoing { .. }
        | Standing::UndoFailed { .. }
        | Standing::Undone
        | Standing::Left => false,
    }
}

fn advance(run: &Run, step: &Step, now: Timestamp) -> Option<Command> {
    match run.standing(step.id) {
        Standing::Waiting => Some(Command::Append(Event::Begun { step: step.id, direction: Direction::Do })),
        Standing::Begun { at } => Some(await_outcome(step, Direction::Do, *at, now)),
        Standing::Done
        | Standing::Failed { .. }
        | Standing::Undoing { .. }
        | Standing::UndoFailed { .. }
        | Standing::Undone
        | Standing::Left => None,
    }
}
