//! What a host does with a message about a step: the rules of its journal, without the journal.
//!
//! What must stay true: an outcome that was written down once is the answer from then on; a "do" whose
//! undo was ever accepted does not begin again; a step begins only under the newest token that its
//! environment has seen; a failed undo is tried again when a newer token asks for it.

use alloc::boxed::Box;

use lockstep_mutant::{Mutant, is_on};

use crate::fence::{Mark, Token};
use crate::id::Digest;
use crate::journal::{Direction, Finding, StepFailure};

/// What became of a step.
pub type Outcome = Result<Finding, StepFailure>;

/// One step as a host remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The newest token that spoke of it.
    pub token: Token,
    /// The digest of its assignment.
    pub said: Digest,
    pub state: State,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Accepted,
    /// In the process that wrote it down.
    Running,
    /// It was running when an earlier process ended: perhaps done.
    Interrupted,
    Ended(Outcome),
}

/// A step that is handed to a host whose fence lets it pass.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    pub token: &'a Token,
    pub said: &'a Digest,
    pub direction: Direction,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Intake {
    /// Its undo was accepted: it must not begin.
    Undone,
    /// It came before, as other work.
    OtherWork,
    /// It is written down as accepted, and begins.
    New,
    /// It is there already; with [`Retoken::Yes`] its newest token is this one.
    Again(Retoken, Then),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retoken {
    Yes,
    No,
}

/// What is done about a step that is there already.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// It never began, or it was interrupted.
    Begin,
    /// It failed, and is written down as accepted once more.
    BeginAnew,
    /// It runs; its report will come.
    Attach,
    /// It has ended; this is the answer, once more.
    Answer(Box<Outcome>),
}

/// What a host does with `offered`, given what it remembers of that step and of that step's undo.
pub fn take_on(known: Option<&Known>, undo: Option<&Known>, offered: &Offered<'_>) -> Intake {
    if has_tombstone(undo, offered.direction) {
        return Intake::Undone;
    }
    let Some(known) = known else {
        return Intake::New;
    };
    if known.said != *offered.said {
        return Intake::OtherWork;
    }
    let retoken = if known.token == *offered.token { Retoken::No } else { Retoken::Yes };
    let is_retry = retoken == Retoken::Yes && offered.direction == Direction::Undo;
    let then = match &known.state {
        State::Ended(_) if is_on(Mutant::EndedBeginsAgain) => Then::BeginAnew,
        State::Ended(Err(_)) if is_retry && !is_on(Mutant::FailedUndoNotRetried) => Then::BeginAnew,
        State::Ended(outcome) => Then::Answer(Box::new(outcome.clone())),
        State::Running => Then::Attach,
        State::Accepted | State::Interrupted => Then::Begin,
    };
    Intake::Again(retoken, then)
}

/// Whether a step that was accepted may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    Begun,
    /// A newer message came for its environment, or its undo did: it must not.
    Withdrawn,
}

/// Whether `known`, of this direction, begins under its environment's mark.
pub fn begin(mark: Option<&Mark>, known: &Known, undo: Option<&Known>, direction: Direction) -> Beginning {
    let is_newest = mark.is_some_and(|mark| mark.token == known.token) || is_on(Mutant::BeginsThoughNewer);
    if is_newest && !has_tombstone(undo, direction) { Beginning::Begun } else { Beginning::Withdrawn }
}

/// The row of an undo is the tombstone of its "do".
fn has_tombstone(undo: Option<&Known>, direction: Direction) -> bool {
    match direction {
        Direction::Undo => false,
        Direction::Do => undo.is_some() && !is_on(Mutant::OrderAndTombstoneSkipped),
    }
}
