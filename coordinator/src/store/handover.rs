//! The documents that a driver exchanges, through the store, with the coordinator that has the session of a host: a
//! step to carry out, and its outcome.
//!
//! The holder of the session watches [`super::keys::assignments_to`] its host and sends what is there. It writes each
//! answer once with [`super::guarded::report`]. Only the driver deletes either.

use lockstep_core::agent::fence::Token;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Action;
use lockstep_core::run::journal::{Finding, StepFailure, StepKey};
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Millis;
use serde::{Deserialize, Serialize};

/// A step handed to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    pub token: Token,
    pub key: StepKey,
    pub environment: EnvironmentKey,
    /// `None`: only make sure that the "do" of the step has ended and never begins.
    pub action: Option<Action>,
    pub limit: Millis,
    /// W3C Trace Context of the step's span; empty where there is none.
    pub traceparent: String,
}

/// What an agent says of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Of the assignment that it answers.
    pub token: Token,
    pub key: StepKey,
    pub environment: EnvironmentKey,
    pub outcome: Reported,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reported {
    Done(Finding),
    Failed(StepFailure),
    /// The agent refused the token or the content, and did nothing.
    Refused {
        why: String,
    },
}

impl StoredDocument for Assignment {
    const KIND: &'static str = "assignment";
}

impl StoredDocument for Report {
    const KIND: &'static str = "report";
}
