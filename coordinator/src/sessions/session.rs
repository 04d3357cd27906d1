//! One session: sends the assignments of the host from the store, and handles the messages of its agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lockstep_core::access::Identity;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::HostId;
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Action;
use lockstep_core::plan::action::{SecretNames, SecretsUse};
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::{StepFailure, StepKey};
use lockstep_core::run::limits::{CONTAINERS_MAX, TEXT_BYTES_MAX};
use lockstep_core::run::redacted::redacted_outcome;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::shortened::shortened;
use lockstep_proto::limits::{MESSAGE_BYTES_MAX, PROGRESS_BYTES_MAX, message_bytes};
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::to_agent::Message as Order;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::pulse::{ASKED_EVERY, Pulse};
use super::questions::{Answer, PendingQuestion, Questions, Reception};
use super::{Outgoing, SessionPlace, Sessions};
use crate::ports::agents::{Agents, ProgressLine, QueriedStatus};
use crate::record::coordinators;
use crate::record::history;
use crate::record::hosts;
use crate::record::local_rollbacks::{self, REPORTED_MAX, ReportReply};
use crate::store::guarded::ReportAcceptance;
use crate::store::handover::{Assignment, Report, Reported};
use crate::store::{Key, guarded, keys};

/// How often it is written down when a host was seen. At its end a session does so too: this is for hosts whose
/// coordinator dies with them.
const NOTED_EVERY: Duration = Duration::from_secs(300);

/// The name of a user on a host.
const USER_NAME_BYTES_MAX: usize = 256;

/// The environments whose health a host may report.
const ENVIRONMENTS_MAX: usize = 2000;

/// What the audit log calls what a host is refused.
const REFUSED_REPORT: &str = "refuse report";
const REFUSED_PROGRESS: &str = "refuse progress";
const REFUSED_SECRETS: &str = "refuse secrets";
const REFUSED_LOGIN: &str = "refuse registry login";
const REFUSED_LOCAL_ROLLBACK: &str = "refuse local rollback";

/// A session from its hello to its end.
pub(super) struct AgentSession {
    pub(super) sessions: Arc<Sessions>,
    pub(super) host: HostId,
    pub(super) outgoing: Outgoing,
    pub(super) place: SessionPlace,
    pub(super) recheck: Arc<Notify>,
    pub(super) pulse: Pulse,
    /// When the host was written down as seen, or this session began.
    pub(super) noted: Instant,
    /// Cancelled when its certificate is no longer trusted.
    pub(super) revoked: CancellationToken,
    /// The assignments that were sent in this session and are still there.
    pub(super) open: BTreeMap<Key, StepKey>,
}

/// What happened.
enum SessionEvent {
    Said(Box<wire::FromAgent>),
    Ended(Option<Status>),
    StoreChanged,
    /// It is time to ask how the host is.
    PulseDue,
    /// A coordinator may have joined, moved or gone, or other roots are trusted.
    ClusterChanged,
    Closing,
    /// This coordinator counts as dead to the others.
    OutOfReach,
}

impl AgentSession {
    pub(super) async fn run(mut self, mut incoming: Streaming<wire::FromAgent>) {
        let revoked = self.revoked.clone();
        let ended = tokio::select! {
            ended = self.serve(&mut incoming) => ended,
            // Also while it waits for an agent that takes nothing.
            () = revoked.cancelled() => Ok(self.cut()),
        };
        let why = match ended {
            Ok(why) => why,
            Err(error) => {
                // The agent dials again, and everything that matters is said again.
                warn!(host = %self.host, error = format!("{error:#}"), "closed a session after an error");
                "an error"
            }
        };
        // At the end of a coordinator all its hosts go to another, or come back to it.
        if !self.sessions.closing.is_cancelled()
            && let Err(error) = self.record_session().await
        {
            debug!(host = %self.host, error = format!("{error:#}"), "cannot record when the host was last seen");
        }
        self.sessions.leave(&self.host, &self.outgoing);
        Box::pin(self.sessions.leave_place(&self.host, &self.place)).await;
        info!(host = %self.host, why, "agent disconnected");
    }

    async fn serve(&mut self, incoming: &mut Streaming<wire::FromAgent>) -> anyhow::Result<&'static str> {
        let mut wakeups = self.sessions.context.store.watch(&keys::assignments_to(&self.host));
        let mut beats = interval(ASKED_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence = self.sessions.context.presence.clone();
        let mut cluster = self.sessions.context.store.watch(&keys::coordinators());
        let mut authority = self.sessions.context.authority.changes();
        let mut last_welcome = Box::pin(self.welcome(None)).await?;
        Box::pin(self.hand_over()).await?;
        loop {
            let event = tokio::select! {
                said = incoming.message() => match said {
                    Ok(Some(said)) => SessionEvent::Said(Box::new(said)),
                    Ok(None) => SessionEvent::Ended(None),
                    Err(status) => SessionEvent::Ended(Some(status)),
                },
                () = wakeups.changed() => SessionEvent::StoreChanged,
                () = cluster.changed() => SessionEvent::ClusterChanged,
                () = authority.changed() => SessionEvent::ClusterChanged,
                () = self.recheck.notified() => SessionEvent::StoreChanged,
                _ = beats.tick() => SessionEvent::PulseDue,
                () = self.sessions.closing.cancelled() => SessionEvent::Closing,
                () = presence.until_not(self.place.lease) => SessionEvent::OutOfReach,
            };
            // What each of them needs is there while it goes on: most sessions wait most of the time.
            match event {
                SessionEvent::Said(said) => Box::pin(self.handle_message(*said)).await?,
                SessionEvent::PulseDue => {
                    let question = self.pulse.ask(Instant::now());
                    self.send(Order::AskVitals(question)).await?;
                }
                SessionEvent::ClusterChanged => {
                    last_welcome = Box::pin(self.welcome(Some(last_welcome))).await?
                }
                SessionEvent::StoreChanged => Box::pin(self.hand_over()).await?,
                SessionEvent::Closing => return Ok("the coordinator is stopping"),
                SessionEvent::OutOfReach => return Ok("the coordinator could not reach the store"),
                SessionEvent::Ended(None) => return Ok("the agent closed the session"),
                SessionEvent::Ended(Some(status)) => {
                    debug!(host = %self.host, %status, "the connection was lost");
                    return Ok("the connection was lost");
                }
            }
        }
    }

    /// Tells the agent where the coordinators are and which roots are trusted, unless it was told the same before.
    /// Gives what it knows then.
    async fn welcome(&self, last_welcome: Option<wire::Welcome>) -> anyhow::Result<wire::Welcome> {
        let context = &self.sessions.context;
        let welcome = wire::Welcome {
            cluster: context.cluster.to_string(),
            coordinator: context.coordinator.to_string(),
            coordinators: coordinators::addresses(&*context.store).await?,
            authority: context.authority.bundle(),
        };
        if last_welcome.as_ref() != Some(&welcome) {
            self.send(Order::Welcome(welcome.clone())).await?;
        }
        Ok(welcome)
    }

    fn cut(&self) -> &'static str {
        let why = Status::unauthenticated(
            "this host was removed, or the coordinator that signed its certificate was removed, or its root was retired",
        );
        // Who takes nothing more is not told, and is cut off all the same.
        self.outgoing.try_send(Err(Box::new(why))).ok();
        "its certificate is no longer trusted"
    }

    async fn send(&self, order: Order) -> anyhow::Result<()> {
        let message = Box::new(wire::ToAgent { message: Some(order) });
        self.outgoing.send(Ok(message)).await.context("the agent receives no more messages")
    }

    /// Sends every assignment that is in the store and was not sent in this session.
    async fn hand_over(&mut self) -> anyhow::Result<()> {
        let there = self.sessions.context.store.list(&keys::assignments_to(&self.host)).await?;
        self.open.retain(|key, _| there.iter().any(|stored| stored.key == *key));
        for stored in there {
            if self.open.contains_key(&stored.key) {
                continue;
            }
            let Assignment { token, key, environment, action, limit, traceparent } = stored.read()?;
            // What is handed out after something was taken in must find that its host knows.
            for seq in
                local_rollbacks::mark_adopted(&*self.sessions.context.store, &environment, &self.host).await?
            {
                self.send(Order::LocalTakenIn(wire::LocalTakenIn { seq })).await?;
            }
            let object_name = self.sessions.object_name(&environment).await?;
            let assign = wire::Assign {
                token: Some(token.clone().into()),
                key: Some(key.clone().into()),
                environment: environment.to_string(),
                object_name: object_name.to_string(),
                action: action.as_ref().map(wire::Document::of_content),
                limit_ms: limit.0,
                traceparent,
            };
            self.open.insert(stored.key, key.clone());
            match too_large(&assign) {
                None => self.send(Order::Assign(assign)).await?,
                // Its agent would end the session, with all that other environments do on this host.
                Some(failure) => {
                    warn!(host = %self.host, %environment, what = failure.what, "cannot send a step");
                    let report = Report { token, key, environment, outcome: Reported::Failed(failure) };
                    guarded::report(&*self.sessions.context.store, &self.host, &report).await?;
                }
            }
        }
        Ok(())
    }

    async fn handle_message(&mut self, said: wire::FromAgent) -> anyhow::Result<()> {
        match said.message.context("a message without content")? {
            Said::Hello(_) => anyhow::bail!("the agent sent a second hello"),
            Said::Report(wire::Report { token, key, environment, outcome }) => {
                let redactor = self.redactor(key.as_ref()).await?;
                let outcome = outcome.context("a report without an outcome")?.read()?;
                let outcome = match redacted_outcome(outcome, &redactor) {
                    Ok(finding) => Reported::Done(finding),
                    Err(failure) => Reported::Failed(failure),
                };
                self.report(token, key, &environment, outcome).await
            }
            Said::Refused(wire::Refused { token, key, environment, why }) => {
                let why = shortened(self.redactor(key.as_ref()).await?.redact_cut(&why), TEXT_BYTES_MAX);
                warn!(host = %self.host, environment, why, "the agent refused an assignment");
                self.report(token, key, &environment, Reported::Refused { why }).await
            }
            Said::Progress(wire::Progress { key, environment, line }) => {
                let redactor = self.redactor(key.as_ref()).await?;
                let key: StepKey = key.context("progress without a key")?.try_into()?;
                if !self.open.values().any(|open| *open == key) {
                    return self.refuse_about_step(&key, REFUSED_PROGRESS).await;
                }
                let line = shortened(redactor.redact_cut(&line), PROGRESS_BYTES_MAX);
                // Nobody may be watching: progress is for those who do.
                self.sessions
                    .progress
                    .send(ProgressLine { environment: environment.parse()?, key, line })
                    .map_or_else(|_| (), |_| ());
                Ok(())
            }
            Said::Observed(wire::Observed { request, observation }) => {
                let observation: Observation =
                    lockstep_proto::convert::required(observation.as_ref(), "observed.observation")?;
                let answer = Answer::Observed(Box::new(observation.bounded()));
                self.answer(&PendingQuestion::Request(request), answer);
                Ok(())
            }
            Said::SecretsWanted(wanted) => self.give_secrets(wanted).await,
            Said::LoginWanted(wanted) => self.give_login(wanted).await,
            Said::ErrandDone(wire::ErrandDone { request, why_not }) => {
                let why_not = shortened(why_not, TEXT_BYTES_MAX);
                let done = if why_not.is_empty() { Ok(()) } else { Err(why_not) };
                self.answer(&PendingQuestion::Request(request), Answer::Done(done));
                Ok(())
            }
            Said::Local(wire::LocalChanged { rollback }) => self.local(rollback.as_ref()).await,
            Said::Health(wire::HealthReport { environment, instances }) => {
                self.health(&environment, &instances)
            }
            Said::Vitals(vitals) => self.vitals(vitals).await,
            Said::Standing(reply) => self.standings(reply).await,
            Said::Log(reply) => {
                self.receive(|questions| questions.add_lines(reply));
                Ok(())
            }
        }
    }

    async fn report(
        &mut self,
        token: Option<wire::Token>,
        key: Option<wire::StepKey>,
        environment: &str,
        outcome: Reported,
    ) -> anyhow::Result<()> {
        let report = Report {
            token: token.context("a report without a token")?.try_into()?,
            key: key.context("a report without a key")?.try_into()?,
            environment: environment.parse()?,
            outcome,
        };
        match guarded::report(&*self.sessions.context.store, &self.host, &report).await? {
            ReportAcceptance::Written | ReportAcceptance::NotNeeded => Ok(()),
            ReportAcceptance::NotAssigned => self.refuse_about_step(&report.key, REFUSED_REPORT).await,
        }
    }

    /// What comes late of a step is nothing unusual: the step is assigned anew where its outcome is still wanted. What is
    /// said of a step of another host is written down.
    async fn refuse_about_step(&self, key: &StepKey, verb: &'static str) -> anyhow::Result<()> {
        let plan = history::plan(&*self.sessions.context.store, &key.deployment).await?;
        let planned = plan.as_ref().and_then(|plan| plan.step(key.step)).map(|step| &step.host);
        if planned == Some(&self.host) {
            debug!(host = %self.host, step = %key.step, "a report came when nobody waited for it");
            return Ok(());
        }
        let said = format!("{} of {}, which is not a step of this host", key.step, key.deployment);
        self.note_refusal(verb, &said).await;
        Ok(())
    }

    /// Writes to the audit log what this host was refused; `what` says it of a host that is named before.
    async fn note_refusal(&self, verb: &'static str, what: &str) {
        warn!(host = %self.host, verb, what, "refused a message of a host");
        let said = format!("{verb} of {}: {what}", self.host);
        self.sessions.context.refusals.note(&Identity::Agent(self.host.clone()), verb, verb, said).await;
    }

    /// What was done on the host without a coordinator: it is said again until the record knows of it.
    async fn local(&self, rollback: Option<&wire::Document>) -> anyhow::Result<()> {
        let rollback: LocalRollback = lockstep_proto::convert::required(rollback, "local.rollback")?;
        let rollback = LocalRollback { by: shortened(rollback.by, USER_NAME_BYTES_MAX), ..rollback };
        let seq = rollback.seq;
        let environment = &rollback.environment;
        if !local_rollbacks::may_report(&*self.sessions.context.store, environment, &self.host).await? {
            let what = format!("{environment} has nothing on this host");
            self.note_refusal(REFUSED_LOCAL_ROLLBACK, &what).await;
            return Ok(());
        }
        let environment = environment.clone();
        match local_rollbacks::report(&*self.sessions.context.store, &self.host, rollback).await? {
            ReportReply::Adopted => self.send(Order::LocalTakenIn(wire::LocalTakenIn { seq })).await?,
            ReportReply::Waits => {}
            ReportReply::OneTooMany => {
                let what = format!("it has reported {REPORTED_MAX} of {environment}, and no more are kept");
                self.note_refusal(REFUSED_LOCAL_ROLLBACK, &what).await;
            }
        }
        Ok(())
    }

    async fn give_secrets(&self, wanted: wire::SecretsWanted) -> anyhow::Result<()> {
        let wire::SecretsWanted { request, environment, version, names } = wanted;
        let environment: EnvironmentKey = environment.parse()?;
        let names =
            if names.is_empty() { SecretNames::All } else { SecretNames::Only(names.into_iter().collect()) };
        let wanted = SecretsUse { version, names };
        let is_asked = self.is_asked(|questions| questions.use_secrets(&environment, &wanted));
        let uses = |assignment: &Assignment| {
            let uses = assignment.action.as_ref().and_then(Action::secrets);
            assignment.environment == environment && uses.is_some_and(|uses| uses.covers(&wanted))
        };
        let result = if is_asked || self.is_assigned(uses).await? {
            self.secrets(&environment, &wanted).await
        } else {
            let what = format!("nothing that is open there uses these secrets of {environment}");
            self.note_refusal(REFUSED_SECRETS, &what).await;
            wire::secrets::Result::Refused(format!(
                "no step or question that is open on this host uses these secrets of {environment}; an agent that is \
                 older than its coordinator asks for too many"
            ))
        };
        self.send(Order::Secrets(wire::Secrets { request, result: Some(result) })).await
    }

    async fn give_login(&self, wanted: wire::LoginWanted) -> anyhow::Result<()> {
        let wire::LoginWanted { request, registry } = wanted;
        let registry: RegistryName = registry.parse()?;
        let is_asked = self.is_asked(|questions| questions.use_login(&registry));
        let uses = |assignment: &Assignment| {
            assignment.action.as_ref().and_then(Action::registry).as_ref() == Some(&registry)
        };
        let result = if is_asked || self.is_assigned(uses).await? {
            self.login(&registry).await
        } else {
            let what = format!("nothing that is open there uses an image of {registry}");
            self.note_refusal(REFUSED_LOGIN, &what).await;
            wire::registry_login::Result::Refused(format!(
                "no step or question that is open on this host uses an image of {registry}"
            ))
        };
        self.send(Order::Login(wire::RegistryLogin { request, result: Some(result) })).await
    }

    async fn login(&self, registry: &RegistryName) -> wire::registry_login::Result {
        match self.sessions.context.vault.login(registry).await {
            Ok(None) => wire::registry_login::Result::None(true),
            Ok(Some(Login { registry: _, username, password })) => {
                let password = password.expose().to_owned();
                wire::registry_login::Result::Login(wire::UsernamePassword { username, password })
            }
            Err(error) => {
                warn!(host = %self.host, %registry, error = format!("{error:#}"), "cannot read the login of a registry");
                wire::registry_login::Result::Refused(format!("{error:#}"))
            }
        }
    }

    /// Whether a question that is open on this host is so.
    fn is_asked(&self, is_so: impl FnOnce(&Questions) -> bool) -> bool {
        self.sessions.lock().get(&self.host).is_some_and(|session| is_so(&session.waiting))
    }

    /// Whether a step that is assigned to this host, and has not ended, is so.
    async fn is_assigned(&self, is_so: impl Fn(&Assignment) -> bool) -> anyhow::Result<bool> {
        let there = self.sessions.context.store.list(&keys::assignments_to(&self.host)).await?;
        for stored in there {
            if is_so(&stored.read()?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn secrets(&self, environment: &EnvironmentKey, wanted: &SecretsUse) -> wire::secrets::Result {
        match self.sessions.context.vault.values(environment, wanted.version).await {
            Ok(values) => {
                let public = self.sessions.context.vault.public(environment).await;
                let values = values.iter().filter(|(name, _)| wanted.names.contains(name));
                wire::secrets::Result::Variables(wire::Variables {
                    values: values.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
                    public: public.into_iter().filter(|name| wanted.names.contains(name)).collect(),
                })
            }
            Err(error) => {
                warn!(host = %self.host, %environment, version = wanted.version, error = format!("{error:#}"), "cannot read secrets");
                wire::secrets::Result::Refused(format!("{error:#}"))
            }
        }
    }

    /// Masks the secrets of the deployment whose step it is.
    async fn redactor(&self, key: Option<&wire::StepKey>) -> anyhow::Result<Redactor> {
        let key: StepKey = key.cloned().context("a message about a step without a key")?.try_into()?;
        Ok(self.sessions.redactors.of_deployment(&key.deployment).await)
    }

    fn health(&self, environment: &str, instances: &[Vec<u8>]) -> anyhow::Result<()> {
        let environment: EnvironmentKey = environment.parse()?;
        let instances = instances.iter().take(CONTAINERS_MAX).map(|instance| {
            let instance: InstanceHealth = serde_json::from_slice(instance)?;
            Ok(instance.bounded())
        });
        let instances: Vec<InstanceHealth> = instances.collect::<Result<_, serde_json::Error>>()?;
        if let Some(session) = self.sessions.lock().get_mut(&self.host)
            && (session.health.len() < ENVIRONMENTS_MAX || session.health.contains_key(&environment))
        {
            session.health.insert(environment, instances);
        }
        self.sessions.changed();
        Ok(())
    }

    async fn vitals(&mut self, said: wire::Vitals) -> anyhow::Result<()> {
        let moment = (Instant::now(), self.sessions.context.clock.now());
        let Some(vitals) = self.pulse.answered(said, moment) else { return Ok(()) };
        let is_first = self.sessions.lock().get_mut(&self.host).is_some_and(|session| {
            session.sighting.at = vitals.heard_at;
            session.sighting.vitals.replace(vitals).is_none()
        });
        if is_first {
            self.sessions.changed();
        }
        if self.noted.elapsed() >= NOTED_EVERY {
            self.record_session().await?;
        }
        Ok(())
    }

    /// Writes down when the host was seen, for when nobody has its session.
    async fn record_session(&mut self) -> anyhow::Result<()> {
        self.noted = Instant::now();
        if let Some(sighting) = self.sessions.session_of(&self.host) {
            hosts::note(&*self.sessions.context.store, &self.host, &sighting).await?;
        }
        Ok(())
    }

    async fn standings(&self, reply: wire::StandingReply) -> anyhow::Result<()> {
        let wire::StandingReply { token, environment, standings: said } = reply;
        let token = token.context("step states without a token")?.try_into()?;
        let mut standings = Vec::new();
        for one in said {
            let redactor = self.redactor(one.key.as_ref()).await?;
            standings.push(standing(one, &redactor)?);
        }
        self.answer(&PendingQuestion::for_token(&environment.parse()?, &token), Answer::Standings(standings));
        Ok(())
    }

    fn answer(&self, waiting: &PendingQuestion, answer: Answer) {
        self.receive(|questions| questions.answer(waiting, answer));
    }

    fn receive(&self, receive: impl FnOnce(&mut Questions) -> Reception) {
        let received = self.sessions.lock().get_mut(&self.host).map(|session| receive(&mut session.waiting));
        if received != Some(Reception::Awaited) {
            debug!(host = %self.host, "an answer came too late");
        }
    }
}

/// Why an assignment cannot be sent: an agent accepts no larger message than a coordinator does.
fn too_large(assign: &wire::Assign) -> Option<StepFailure> {
    // What else is in a message takes some bytes.
    let bytes = message_bytes(assign) + 100;
    if bytes <= MESSAGE_BYTES_MAX {
        return None;
    }
    let what = "the step is too large to be sent to its host";
    let why = format!("it has {} KiB, and the limit is {} KiB", bytes / 1024, MESSAGE_BYTES_MAX / 1024);
    Some(
        StepFailure::new(what).why(why).next(
            "declare less in deployment.yml: most of it are the variables in `env`, once for each process",
        ),
    )
}

fn standing(standing: wire::StepStanding, redactor: &Redactor) -> anyhow::Result<(StepKey, QueriedStatus)> {
    let wire::StepStanding { key, standing } = standing;
    let standing = match standing.context("a step without a state")? {
        wire::step_standing::Standing::Ended(outcome) => {
            QueriedStatus::Ended(redacted_outcome(outcome.read()?, redactor))
        }
        wire::step_standing::Standing::Running(_) => QueriedStatus::Running,
        wire::step_standing::Standing::Unheard(_) => QueriedStatus::NeverReceived,
    };
    Ok((key.context("a step state without a key")?.try_into()?, standing))
}

#[cfg(test)]
mod tests;
