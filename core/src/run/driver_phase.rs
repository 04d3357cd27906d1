//! The driver of an open deployment as a state machine: how it takes the lock, what it does about unknown outcomes,
//! how it notices that another driver has taken over, and what it asks after a take-over. The shell performs
//! [`Output`]s and answers with [`Input`]s.
//!
//! What must stay true: a driver that is not sure never continues. An unknown outcome is settled by sending the same
//! transaction again. After a take-over, the hosts are asked about every open intent with the new token before
//! anything is decided.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::run::engine::OpenIntent;
use crate::time::Millis;

/// How long a driver waits before it tries for a lock that another holds.
pub const LOCK_RETRY_AFTER: Millis = Millis::from_secs(1);

/// How long a driver waits before it sends a transaction of unknown outcome again.
pub const RESEND_AFTER: Millis = Millis(200);

/// The phase of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverPhase {
    /// The acquiring transaction is in progress, or will be after a wait.
    Acquiring,
    /// It has the lock; the journal is being read.
    Loading {
        epoch: u64,
    },
    /// It asks the hosts about the steps that the previous driver left open.
    Asking {
        epoch: u64,
        unanswered: BTreeSet<OpenIntent>,
    },
    /// It decides, and no write is in progress.
    Driving {
        epoch: u64,
    },
    /// A guarded write is in progress; nothing else happens until its outcome is known.
    Writing {
        epoch: u64,
    },
    /// The deployment has ended: the lock is released.
    Releasing {
        epoch: u64,
    },
    /// Another driver has the environment. This one changes nothing from here on.
    Deposed,
    Finished,
}

/// What the shell learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Start,
    /// The acquiring transaction.
    Acquire(AcquireOutcome),
    /// The journal is read; these intents are open. Empty for a run that has not begun.
    Loaded {
        open_intents: Vec<OpenIntent>,
    },
    /// A host answered about this intent.
    Answered {
        intent: OpenIntent,
    },
    /// A guarded write of the journal.
    Wrote(WriteOutcome),
    /// The engine wants this written.
    WriteWanted,
    /// The engine says that it is over.
    Over,
    Released,
    /// A requested wait is over.
    Elapsed,
    /// The lease cannot be renewed, or the lock's key is gone.
    LeaseLost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcquireOutcome {
    Held { epoch: u64 },
    HeldByAnother,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    Committed,
    /// The guards did not hold: the lock or the epoch is another's.
    Refused,
    Unknown,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send the acquiring transaction; always with the same nonce, so that it is idempotent.
    Acquire,
    Wait(Millis),
    /// Read plan and journal.
    Load {
        epoch: u64,
    },
    /// Ask the host; the question carries the token, so it fences.
    Ask(OpenIntent),
    /// Ask the engine what comes next.
    Decide,
    /// Send the write that is under way; the same one when asked again.
    Send,
    /// Release the lock.
    Release,
    /// Stop everything: no write, no message.
    StandDown,
}

impl DriverPhase {
    pub fn new() -> Self {
        Self::Acquiring
    }

    /// The epoch under which this driver speaks, if it has one.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Self::Loading { epoch }
            | Self::Asking { epoch, .. }
            | Self::Driving { epoch }
            | Self::Writing { epoch }
            | Self::Releasing { epoch } => Some(*epoch),
            Self::Acquiring | Self::Deposed | Self::Finished => None,
        }
    }

    /// Takes `input` in and says what to do. What does not fit the state is without effect: it is late.
    pub fn on(&mut self, input: Input) -> Vec<Output> {
        let state = core::mem::replace(self, Self::Deposed);
        let (next, outputs) = state.step(input);
        *self = next;
        outputs
    }

    fn step(self, input: Input) -> (Self, Vec<Output>) {
        match (self, input) {
            (Self::Deposed, _) => (Self::Deposed, Vec::new()),
            (Self::Finished, _) => (Self::Finished, Vec::new()),

            (Self::Acquiring, Input::Start | Input::Elapsed) => (Self::Acquiring, vec![Output::Acquire]),
            (Self::Acquiring, Input::Acquire(AcquireOutcome::Held { epoch })) => {
                (Self::Loading { epoch }, vec![Output::Load { epoch }])
            }
            (Self::Acquiring, Input::Acquire(AcquireOutcome::HeldByAnother)) => {
                (Self::Acquiring, vec![Output::Wait(LOCK_RETRY_AFTER)])
            }
            (Self::Acquiring, Input::Acquire(AcquireOutcome::Unknown)) => {
                (Self::Acquiring, vec![Output::Wait(RESEND_AFTER)])
            }

            (state, Input::LeaseLost) if is_on(Mutant::LostLeaseIgnored) => (state, Vec::new()),
            (Self::Writing { epoch }, Input::Wrote(WriteOutcome::Refused))
                if is_on(Mutant::DepositionIgnored) =>
            {
                (Self::Driving { epoch }, vec![Output::Decide])
            }

            (
                Self::Loading { .. }
                | Self::Asking { .. }
                | Self::Driving { .. }
                | Self::Writing { .. }
                | Self::Releasing { .. },
                Input::LeaseLost,
            )
            | (Self::Writing { .. }, Input::Wrote(WriteOutcome::Refused)) => {
                (Self::Deposed, vec![Output::StandDown])
            }

            (Self::Loading { epoch }, Input::Loaded { open_intents }) => {
                if open_intents.is_empty() || is_on(Mutant::NobodyAsked) {
                    return (Self::Driving { epoch }, vec![Output::Decide]);
                }
                let asks = open_intents.iter().cloned().map(Output::Ask).collect();
                (Self::Asking { epoch, unanswered: open_intents.into_iter().collect() }, asks)
            }
            (Self::Asking { epoch, mut unanswered }, Input::Answered { intent }) => {
                unanswered.remove(&intent);
                if unanswered.is_empty() {
                    (Self::Driving { epoch }, vec![Output::Decide])
                } else {
                    (Self::Asking { epoch, unanswered }, Vec::new())
                }
            }

            (Self::Driving { epoch }, Input::WriteWanted) => (Self::Writing { epoch }, vec![Output::Send]),
            (Self::Driving { epoch }, Input::Elapsed | Input::Answered { .. }) => {
                (Self::Driving { epoch }, vec![Output::Decide])
            }
            (Self::Driving { epoch }, Input::Over) => (Self::Releasing { epoch }, vec![Output::Release]),

            (Self::Writing { epoch }, Input::Wrote(WriteOutcome::Committed)) => {
                (Self::Driving { epoch }, vec![Output::Decide])
            }
            (Self::Writing { epoch }, Input::Wrote(WriteOutcome::Unknown)) => {
                (Self::Writing { epoch }, vec![Output::Wait(RESEND_AFTER)])
            }
            (Self::Writing { epoch }, Input::Elapsed) => (Self::Writing { epoch }, vec![Output::Send]),

            (Self::Releasing { .. }, Input::Released) => (Self::Finished, Vec::new()),

            (state, _) => (state, Vec::new()),
        }
    }
}

impl Default for DriverPhase {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StepId;
    use crate::run::journal::Direction;

    fn intent(step: u16) -> OpenIntent {
        OpenIntent {
            step: StepId(step),
            direction: Direction::Do,
            host: "host_01JBQR2KXYZ987654321012345".parse().expect("an id"),
        }
    }

    fn driving() -> DriverPhase {
        let mut drive = DriverPhase::new();
        drive.on(Input::Start);
        drive.on(Input::Acquire(AcquireOutcome::Held { epoch: 3 }));
        drive.on(Input::Loaded { open_intents: Vec::new() });
        drive
    }

    #[test]
    fn an_unknown_acquisition_is_asked_again_and_not_taken_for_a_refusal() {
        let mut drive = DriverPhase::new();
        assert_eq!(drive.on(Input::Start), [Output::Acquire]);
        assert_eq!(drive.on(Input::Acquire(AcquireOutcome::Unknown)), [Output::Wait(RESEND_AFTER)]);
        assert_eq!(drive.on(Input::Elapsed), [Output::Acquire]);
        assert_eq!(drive.on(Input::Acquire(AcquireOutcome::Held { epoch: 3 })), [Output::Load { epoch: 3 }]);
    }

    #[test]
    fn a_successor_decides_nothing_before_every_open_intent_is_answered() {
        let mut drive = DriverPhase::new();
        drive.on(Input::Start);
        drive.on(Input::Acquire(AcquireOutcome::Held { epoch: 4 }));
        let asked = drive.on(Input::Loaded { open_intents: vec![intent(2), intent(3)] });
        assert_eq!(asked, [Output::Ask(intent(2)), Output::Ask(intent(3))]);
        assert_eq!(drive.on(Input::WriteWanted), []);
        assert_eq!(drive.on(Input::Answered { intent: intent(3) }), []);
        assert_eq!(drive.on(Input::Answered { intent: intent(2) }), [Output::Decide]);
    }

    #[test]
    fn a_write_of_unknown_outcome_is_sent_again_before_anything_else() {
        let mut drive = driving();
        assert_eq!(drive.on(Input::WriteWanted), [Output::Send]);
        assert_eq!(drive.on(Input::Wrote(WriteOutcome::Unknown)), [Output::Wait(RESEND_AFTER)]);
        assert_eq!(drive.on(Input::WriteWanted), []);
        assert_eq!(drive.on(Input::Elapsed), [Output::Send]);
        assert_eq!(drive.on(Input::Wrote(WriteOutcome::Committed)), [Output::Decide]);
    }

    #[test]
    fn a_deposed_driver_does_nothing_whatever_comes() {
        let mut drive = driving();
        drive.on(Input::WriteWanted);
        assert_eq!(drive.on(Input::Wrote(WriteOutcome::Refused)), [Output::StandDown]);
        for late in [
            Input::Start,
            Input::Elapsed,
            Input::WriteWanted,
            Input::Wrote(WriteOutcome::Committed),
            Input::Over,
        ] {
            assert_eq!(drive.on(late), []);
        }
        assert_eq!(drive.epoch(), None);
    }
}
