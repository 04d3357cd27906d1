//! Runs one step, from its turn to its outcome.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::image::Login;
use lockstep_core::plan::Action;
use lockstep_core::plan::action::SwitchTraffic;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::{Certainty, Direction, Finding, StepFailure, StepKey};
use lockstep_core::time::Millis;
use lockstep_proto::trace;
use lockstep_runtime::telemetry::span;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, info_span, warn};

use super::{JobExit, RequestError, WorkerContext, WorkerEvent};
use crate::executor::Work;
use crate::executor::output::Output;
use crate::journal::assignment::Assignment;
use crate::journal::step_log::StepLog;
use crate::journal::{BeginOutcome, Ended, GivenTraffic, Outcome};
use crate::program::telemetry;
use crate::session::secrets::SecretSet;
use crate::worker::step_policy;
use crate::worker::step_policy::{StepPolicy, step_policy};

/// How long an executor may take to stop; then it is aborted.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The output of a step is shown at most twice a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// How long until the agent tries again to write an outcome.
const JOURNAL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The agent is stopping, so the step has no outcome: the next agent process takes it up.
#[derive(Debug)]
struct AgentStopping;

/// One step that was accepted, in its own task.
pub(super) struct Job {
    pub(super) context: WorkerContext,
    pub(super) assignment: Assignment,
    /// Cancelled when the undo of the step is accepted.
    pub(super) cancel: CancellationToken,
}

/// Why an executor has to stop.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Undone,
    Limit(Millis),
}

impl Job {
    /// Begins the step unless it was withdrawn, records its outcome and reports it. When the agent stops, the step
    /// stays running in the journal, and the next agent process marks it as interrupted.
    pub(super) async fn carry_out(self) -> JobExit {
        let span = self.span();
        async {
            let key = &self.assignment.key;
            let began = Instant::now();
            let ended = match self.context.journal.begin(key).await {
                Ok(BeginOutcome::Withdrawn) => return JobExit::Withdrawn,
                Ok(BeginOutcome::Begun) => self.run_action().await,
                Ok(BeginOutcome::Held(by)) => self.run_held_action(&by).await,
                Err(error) => {
                    let what = "the journal of this host cannot be written, so nothing was done";
                    Ok(Err(StepFailure::new(what).why(telemetry::chain(&error))))
                }
            };
            let outcome = match ended {
                Ok(outcome) => outcome,
                Err(AgentStopping) => {
                    info!(
                        "step interrupted: the agent is stopping, and the step resumes after the next start"
                    );
                    return JobExit::AgentStopping;
                }
            };
            self.log_outcome(&outcome, began.elapsed());
            let ended = self.record_outcome(outcome).await;
            if self.context.worker_events.send(WorkerEvent::Ended(Box::new(ended))).await.is_err() {
                // The agent is ending; its successor reports what the journal has.
                info!("the outcome will be reported after the next start");
            }
            JobExit::Ended
        }
        .instrument(span)
        .await
    }

    fn span(&self) -> Span {
        let Assignment { key, environment, .. } = &self.assignment;
        let StepKey { deployment, step, direction } = key;
        let span = info_span!("step", %deployment, %environment, %step, %direction);
        trace::follow(&span, &self.assignment.traceparent);
        span::kind(&span, self.kind());
        span
    }

    fn kind(&self) -> &'static str {
        self.assignment.action.as_ref().map_or("nothing", Action::name)
    }

    fn log_outcome(&self, outcome: &Outcome, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let outcome_name = match outcome {
            Ok(finding) => {
                info!(took_ms, said = finding.said, "step done");
                "done"
            }
            Err(failure) => {
                // What an application answered is redacted by the coordinator.
                let quotes = self.assignment.action.as_ref().is_some_and(Action::asks_application);
                let why = failure.why.as_ref().filter(|_| !quotes);
                warn!(took_ms, what = failure.what, why, "step failed");
                span::fail(&Span::current());
                "failed"
            }
        };
        span::outcome(&Span::current(), outcome_name);
        telemetry::step_ended(self.kind(), self.assignment.key.direction.as_str(), outcome_name, took);
    }

    /// Runs the action if it leaves the traffic where a local rollback put it.
    async fn run_held_action(&self, held: &LocalRollback) -> Result<Outcome, AgentStopping> {
        let Some(action) = &self.assignment.action else { return self.run_action().await };
        let traffic = self.context.executors.traffic_of(&self.assignment.environment).unwrap_or(held.to);
        match step_policy(action, traffic) {
            StepPolicy::Goes => self.run_action().await,
            StepPolicy::IsNothing => {
                let said = format!("skipped: a local rollback moved the traffic to {traffic}");
                Ok(Ok(Finding { said, ..Finding::default() }))
            }
            StepPolicy::Refused => Ok(Err(step_policy::refusal(held, traffic))),
        }
    }

    /// Records which deployment gave its slot the traffic, for a local rollback.
    async fn record_traffic(&self, switch: &SwitchTraffic) {
        let Assignment { key, environment, .. } = &self.assignment;
        let written = match key.direction {
            Direction::Do => {
                let given = GivenTraffic {
                    environment: environment.clone(),
                    deployment: key.deployment.clone(),
                    switch: switch.clone(),
                    containers: self.context.executors.instances_of(environment, switch.to).await,
                };
                self.context.journal.record_traffic(&given).await
            }
            Direction::Undo => self.context.journal.withdraw_traffic(environment, switch.to.other()).await,
        };
        if let Err(error) = written {
            // A local rollback is refused where this is not known; the switch itself is done.
            warn!(
                why = telemetry::chain(&error),
                "cannot record which deployment has the traffic, so a local rollback will be refused"
            );
        }
    }

    /// Requests what the action needs, runs its executor, and redacts the outcome.
    async fn run_action(&self) -> Result<Outcome, AgentStopping> {
        let Some(action) = &self.assignment.action else {
            return Ok(Ok(Finding { said: "nothing to undo".to_owned(), ..Finding::default() }));
        };
        info!(action = action.name(), "step begins");
        let deadline = Instant::now() + Duration::from_millis(self.assignment.limit.0);
        let inputs = tokio::select! {
            inputs = async { tokio::try_join!(self.secrets(action), self.login(action)) } => inputs,
            stop = self.stop_requested(deadline) => {
                let what = "it was still waiting for its secrets or its registry login, so nothing was done";
                return Ok(Err(stop.failure(what)));
            }
        };
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(MissingInput::AgentStopping) => return Err(AgentStopping),
            Err(MissingInput::Refused(failure)) => return Ok(Err(failure)),
        };
        let redactor = action.secrets().map(|_| inputs.0.redactor.clone());
        let output = Output::new(redactor, self.log());
        let outcome = self.converge(action.clone(), inputs, &output, deadline).await?;
        if let (Action::SwitchTraffic(switch), Ok(_)) = (action, &outcome) {
            self.record_traffic(switch).await;
        }
        Ok(output.clean(outcome))
    }

    /// The values that the action needs, from the coordinator.
    async fn secrets(&self, action: &Action) -> Result<SecretSet, MissingInput> {
        let Some(uses) = action.secrets() else { return Ok(SecretSet::none()) };
        let environment = &self.assignment.environment;
        let version = uses.version;
        let what = || format!("version {version} of the secrets of {environment} is not available");
        let given = self.context.request_secrets(environment, uses).await;
        given.map_err(|error| MissingInput::because(error, what))
    }

    /// The login for the registry that the action may need, from the coordinator.
    async fn login(&self, action: &Action) -> Result<Option<Login>, MissingInput> {
        let Some(registry) = action.registry() else { return Ok(None) };
        let what = || format!("the login for the registry {registry} is not available");
        let given = self.context.request_login(registry.clone()).await;
        given.map_err(|error| MissingInput::because(error, what))
    }

    /// Where the step's output is kept. Without it the step can still be carried out.
    fn log(&self) -> Option<StepLog> {
        match self.context.logs.open(&self.assignment.key) {
            Ok(log) => Some(log),
            Err(error) => {
                warn!(%error, "cannot open the log of the step; its output is not stored");
                None
            }
        }
    }

    /// Runs the executor in a task of its own, so that a bug in it breaks nothing else.
    async fn converge(
        &self,
        action: Action,
        (secrets, login): (SecretSet, Option<Login>),
        output: &Output,
        deadline: Instant,
    ) -> Result<Outcome, AgentStopping> {
        let cancel = CancellationToken::new();
        let work = Work {
            key: self.assignment.key.clone(),
            environment: self.assignment.environment.clone(),
            action,
            secrets,
            login,
            transfer_client: self.context.transfer_client.clone(),
            output: output.clone(),
            cancel: cancel.clone(),
        };
        let executors = Arc::clone(&self.context.executors);
        let mut task = JoinSet::new();
        task.spawn(async move { executors.converge(work).await }.in_current_span());
        let stop = tokio::select! {
            ended = task.join_next() => return outcome_of(ended),
            stop = self.stop_requested(deadline) => stop,
            never = self.show_progress(output) => match never {},
        };
        cancel.cancel();
        match tokio::time::timeout(STOP_GRACE, task.join_next()).await {
            // It may have been done at the last moment.
            Ok(ended) => Ok(outcome_of(ended)?.map_err(|failure| stop.explained(failure))),
            Err(_) => {
                task.shutdown().await;
                let failure = stop
                    .failure(&format!("it did not stop within {} s and was aborted", STOP_GRACE.as_secs()));
                Ok(Err(StepFailure { certainty: Certainty::Unknown, tail: output.tail(), ..failure }))
            }
        }
    }

    async fn stop_requested(&self, deadline: Instant) -> Stop {
        tokio::select! {
            () = self.cancel.cancelled() => Stop::Undone,
            () = tokio::time::sleep_until(deadline) => Stop::Limit(self.assignment.limit),
        }
    }

    async fn show_progress(&self, output: &Output) -> Infallible {
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(line) = output.take_last() {
                let Assignment { key, environment, .. } = &self.assignment;
                let progress =
                    WorkerEvent::Progress { key: key.clone(), environment: environment.clone(), line };
                if self.context.worker_events.send(progress).await.is_err() {
                    // Nobody watches an agent that is ending.
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Writes the outcome down, however long the disk refuses: an effect without an outcome would be
    /// carried out again.
    async fn record_outcome(&self, outcome: Outcome) -> Ended {
        let Assignment { key, action, .. } = &self.assignment;
        let quotes = action.as_ref().is_some_and(Action::asks_application);
        loop {
            let journal = &self.context.journal;
            let finished = if quotes {
                journal.finish_quoting(key, outcome.clone()).await
            } else {
                journal.finish(key, outcome.clone()).await
            };
            match finished {
                Ok(ended) => return ended,
                Err(error) => {
                    error!(
                        why = telemetry::chain(&error),
                        "cannot write the outcome to the journal; trying again"
                    )
                }
            }
            tokio::time::sleep(JOURNAL_RETRY_AFTER).await;
        }
    }
}

impl Stop {
    fn reason(self) -> String {
        match self {
            Self::Undone => "the step was stopped because it is being undone".to_owned(),
            Self::Limit(limit) => format!("the step was stopped at its limit of {limit}"),
        }
    }

    fn failure(self, what: &str) -> StepFailure {
        StepFailure::new(self.reason()).why(what)
    }

    /// The failure of a stopped executor, with the reason for the stop.
    fn explained(self, failure: StepFailure) -> StepFailure {
        let said = match &failure.why {
            Some(why) => format!("{}: {why}", failure.what),
            None => failure.what.clone(),
        };
        StepFailure { what: self.reason(), why: Some(said), ..failure }
    }
}

/// Why an executor does not get its secrets or its login.
enum MissingInput {
    AgentStopping,
    Refused(StepFailure),
}

impl MissingInput {
    fn because(error: RequestError, what: impl FnOnce() -> String) -> Self {
        match error {
            RequestError::AgentStopping => Self::AgentStopping,
            RequestError::Refused(why) => Self::Refused(StepFailure::new(what()).why(why)),
        }
    }
}

fn outcome_of(ended: Option<Result<Outcome, JoinError>>) -> Result<Outcome, AgentStopping> {
    match ended {
        Some(Ok(outcome)) => Ok(outcome),
        // Nobody but the runtime cancels it here, and the runtime only when the agent stops.
        Some(Err(error)) if error.is_cancelled() => Err(AgentStopping),
        Some(Err(error)) => Ok(Err(bug(error))),
        None => Ok(Err(StepFailure::new("bug: the executor was never started"))),
    }
}

fn bug(error: JoinError) -> StepFailure {
    let said = match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the executor panicked".to_owned()),
        Err(error) => error.to_string(),
    };
    let failure = StepFailure::new(format!("bug: {said}"));
    // Nobody knows how far it came.
    StepFailure { certainty: Certainty::Unknown, ..failure }
}
