//! What a coordinator sends to an agent, and what an agent hears.

use std::sync::{Arc, Mutex};

use lockstep_coordinator::ports::agents::{QueriedStatus, StepQuery};
use lockstep_coordinator::store::handover::Assignment;
use lockstep_core::run::journal::StepKey;
use tokio::sync::oneshot;

/// The answer to a question, for whoever still waits; a question that comes twice is answered once.
pub type Reply = Arc<Mutex<Option<oneshot::Sender<Vec<(StepKey, QueriedStatus)>>>>>;

/// What a coordinator sends.
#[derive(Clone)]
pub enum ToAgent {
    Assign(Box<Assignment>),
    Ask(StepQuery, Reply),
}

/// What comes to an agent.
pub enum Incoming {
    Message {
        /// `None` if the message comes whatever became of its session.
        session: Option<u64>,
        message: ToAgent,
    },
    Broken {
        session: u64,
    },
}
