//! What a host does with a message about a step: the rules of its journal, without the journal.
//!
//! What must stay true: a recorded outcome is the answer from then on. A "do" whose undo was accepted never begins
//! again. A step begins only under the newest token that its environment has seen. A failed undo is retried when a
//! newer token asks for it.

use alloc::boxed::Box;

use lockstep_mutant::{Mutant, is_on};

use crate::agent::fence::{FenceState, Token};
use crate::id::Digest;
use crate::run::journal::{Direction, Finding, StepFailure};

/// What became of a step.
pub type Outcome = Result<Finding, StepFailure>;

/// One step as a host remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// The newest token that spoke of it.
    pub token: Token,
    /// The digest of its assignment.
    pub assignment_digest: Digest,
    pub state: StepState,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    Accepted,
    /// In the process that wrote it down.
    Running,
    /// It was running when an earlier process ended: perhaps done.
    Interrupted,
    Ended(Outcome),
}

/// A step that is handed to a host whose fence lets it pass.
#[derive(Debug, Clone, Copy)]
pub struct OfferedStep<'a> {
    pub token: &'a Token,
    pub assignment_digest: &'a Digest,
    pub direction: Direction,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum AcceptDecision {
    /// Its undo was accepted: it must not begin.
    UndoAccepted,
    /// It came before, as other work.
    DifferentContent,
    /// It is written down as accepted, and begins.
    New,
    /// It is there already; with [`TokenUpdate::Yes`] its newest token is this one.
    AlreadyKnown(TokenUpdate, NextAction),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUpdate {
    Yes,
    No,
}

/// What is done about a step that is there already.
#[derive(Debug, Clone, PartialEq)]
pub enum NextAction {
    /// It never began, or it was interrupted.
    Begin,
    /// It failed, and is written down as accepted once more.
    BeginAgain,
    /// It runs; its report will come.
    Attach,
    /// It has ended; this is the answer, once more.
    Answer(Box<Outcome>),
}

/// What a host does with `offered`, given what it remembers of that step and of that step's undo.
pub fn decide_accept(
    known: Option<&StepRecord>,
    undo: Option<&StepRecord>,
    offered: &OfferedStep<'_>,
) -> AcceptDecision {
    if has_tombstone(undo, offered.direction) {
        return AcceptDecision::UndoAccepted;
    }
    let Some(known) = known else {
        return AcceptDecision::New;
    };
    if known.assignment_digest != *offered.assignment_digest {
        return AcceptDecision::DifferentContent;
    }
    let retoken = if known.token == *offered.token { TokenUpdate::No } else { TokenUpdate::Yes };
    let is_retry = retoken == TokenUpdate::Yes && offered.direction == Direction::Undo;
    let then = match &known.state {
        StepState::Ended(_) if is_on(Mutant::EndedBeginsAgain) => NextAction::BeginAgain,
        StepState::Ended(Err(_)) if is_retry && !is_on(Mutant::FailedUndoNotRetried) => {
            NextAction::BeginAgain
        }
        StepState::Ended(outcome) => NextAction::Answer(Box::new(outcome.clone())),
        StepState::Running => NextAction::Attach,
        StepState::Accepted | StepState::Interrupted => NextAction::Begin,
    };
    AcceptDecision::AlreadyKnown(retoken, then)
}

/// Whether a step that was accepted may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginDecision {
    Begun,
    /// A newer message came for its environment, or its undo did: it must not.
    Withdrawn,
}

/// Whether `known`, of this direction, begins under its environment's mark.
pub fn decide_begin(
    mark: Option<&FenceState>,
    known: &StepRecord,
    undo: Option<&StepRecord>,
    direction: Direction,
) -> BeginDecision {
    let is_newest = mark.is_some_and(|mark| mark.token == known.token) || is_on(Mutant::BeginsThoughNewer);
    if is_newest && !has_tombstone(undo, direction) { BeginDecision::Begun } else { BeginDecision::Withdrawn }
}

/// The row of an undo is the tombstone of its "do".
fn has_tombstone(undo: Option<&StepRecord>, direction: Direction) -> bool {
    match direction {
        Direction::Undo => false,
        Direction::Do => undo.is_some() && !is_on(Mutant::OrderAndTombstoneSkipped),
    }
}
