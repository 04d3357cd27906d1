//! Runs assignments: fence and journal, then the executor, then the journal again, then the report.
//!
//! What must stay true: on this host one step of an environment runs at a time, and steps of different environments run
//! side by side. An undo stops the "do" of its step, and begins when that has ended. Whatever an executor does, a panic
//! included, the journal gets an outcome, unless the agent stops first: then the step stays open for the next agent
//! process. Work continues while no coordinator is connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::agent::fence::Token;
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::journal::{Direction, StepKey};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::executor::Executors;
use crate::journal::assignment::Assignment;
use crate::journal::step_log::StepLogs;
use crate::journal::{Acceptance, Ended, Journal, JournalError, JournaledStatus, Outcome, Refusal};
use crate::session::images::TransferClient;
use crate::session::requests::Answer as RequestAnswer;
use crate::session::secrets::{SecretSet, SecretsRequest};

mod carry_out;
mod session_request;
pub mod step_policy;

use carry_out::Job;
pub use session_request::RequestError;

/// Events of running steps, for the session.
#[derive(Debug)]
pub enum WorkerEvent {
    Progress { key: StepKey, environment: EnvironmentKey, line: String },
    SecretsWanted { of: SecretsRequest, reply: oneshot::Sender<RequestAnswer<SecretSet>> },
    LoginWanted { registry: RegistryName, reply: oneshot::Sender<RequestAnswer<Option<Login>>> },
    Ended(Box<Ended>),
}

/// The immediate answer to an assignment.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The step runs or will run. Its report follows.
    Later,
    Ended(Outcome),
    /// The step is not accepted, with the reason.
    Refused(String),
}

/// The answer to a status query: the status of each step, or why the query is refused.
pub type QueriedStatuses = Result<Vec<(StepKey, JournaledStatus)>, String>;

/// What the worker and its steps share.
#[derive(Clone)]
pub struct WorkerContext {
    pub journal: Arc<Journal>,
    pub executors: Arc<Executors>,
    pub logs: StepLogs,
    /// Bounded: a step that prints faster than the session reads has to wait.
    pub worker_events: mpsc::Sender<WorkerEvent>,
    pub transfer_client: TransferClient,
}

/// Runs the steps of this host.
pub struct Worker {
    context: WorkerContext,
    tasks: JoinSet<JobExit>,
    keys: BTreeMap<Id, StepKey>,
    active: BTreeMap<StepKey, Active>,
    /// One step of an environment runs at a time.
    environment_locks: BTreeMap<EnvironmentKey, Arc<Mutex<()>>>,
}

struct Active {
    cancel: CancellationToken,
    /// The same step, assigned again when this task may have been withdrawn already.
    reassigned: Option<Assignment>,
}

/// How the task of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobExit {
    /// With an outcome in the journal.
    Ended,
    /// The step never began.
    Withdrawn,
    /// The agent is stopping. The journal still has the step as running, and the next agent process takes it up.
    AgentStopping,
}

impl Worker {
    pub fn new(context: WorkerContext) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            keys: BTreeMap::new(),
            active: BTreeMap::new(),
            environment_locks: BTreeMap::new(),
        }
    }

    /// Accepts an assignment, refuses it, or returns the outcome that it already has.
    pub async fn assign(&mut self, assignment: Assignment) -> Answer {
        match self.context.journal.accept(&assignment).await {
            Ok(Acceptance::Begin | Acceptance::Attached) => {
                self.start(assignment);
                Answer::Later
            }
            Ok(Acceptance::Ended(outcome)) => Answer::Ended(outcome),
            Ok(Acceptance::Refused(refusal)) => Answer::Refused(refusal.to_string()),
            Err(error) => Answer::Refused(journal_failed(&error)),
        }
    }

    /// Advances the fence to `token`, then returns the statuses of `keys`.
    pub async fn query_statuses(
        &self,
        token: &Token,
        environment: &EnvironmentKey,
        keys: &[StepKey],
    ) -> QueriedStatuses {
        match self.context.journal.query_statuses(token, environment, keys).await {
            Ok(statuses) => statuses.map_err(|refusal: Refusal| refusal.to_string()),
            Err(error) => Err(journal_failed(&error)),
        }
    }

    /// Waits until the task of a step has ended. Never returns while there is none.
    pub async fn next_exit(&mut self) {
        let Some(joined) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, exit) = match joined {
            Ok((id, exit)) => (id, exit),
            Err(error) if error.is_panic() => {
                error!(%error, "bug: the task of a step panicked; the journal still has its step as running");
                (error.id(), JobExit::Ended)
            }
            // Only a runtime that ends cancels it.
            Err(error) => (error.id(), JobExit::AgentStopping),
        };
        let reassigned = self
            .keys
            .remove(&id)
            .and_then(|key| self.active.remove(&key))
            .and_then(|active| active.reassigned);
        if let (JobExit::Withdrawn, Some(assignment)) = (exit, reassigned) {
            self.start(assignment);
        }
        let tasks = &self.active;
        self.environment_locks.retain(|_, lock| Arc::strong_count(lock) > 1 || !tasks.is_empty());
    }

    fn start(&mut self, assignment: Assignment) {
        let key = assignment.key.clone();
        if let Some(active) = self.active.get_mut(&key) {
            active.reassigned = Some(assignment);
            return;
        }
        if key.direction == Direction::Undo {
            let do_key = StepKey { direction: Direction::Do, ..key.clone() };
            if let Some(active) = self.active.get(&do_key) {
                active.cancel.cancel();
            }
        }
        let cancel = CancellationToken::new();
        let environment_lock =
            Arc::clone(self.environment_locks.entry(assignment.environment.clone()).or_default());
        let job = Job { context: self.context.clone(), assignment, cancel: cancel.clone() };
        let task = self.tasks.spawn(async move {
            // A "do" that was stopped for this undo gives its turn up when it has ended.
            let _locked = environment_lock.lock().await;
            job.carry_out().await
        });
        self.keys.insert(task.id(), key.clone());
        self.active.insert(key, Active { cancel, reassigned: None });
    }
}

fn journal_failed(error: &JournalError) -> String {
    warn!(error = error as &dyn std::error::Error, "the journal failed, so a message about steps is refused");
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
