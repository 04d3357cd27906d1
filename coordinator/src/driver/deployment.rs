//! One open deployment: event, apply, decide, perform.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_core::drive::{Drive, Input, Output, WriteOutcome};
use lockstep_core::engine::{Command, OpenIntent, Phase, assignment, decide_knowing};
use lockstep_core::fence::Token;
use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::journal::{Direction, Entry, Event, IllegalEntry, Leaving, StepFailure, StepKey};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::{Open, OpenKind, Verdict, Wish};
use lockstep_core::time::Timestamp;
use lockstep_crashpoint::reach;
use lockstep_mutant::{Mutant, is_on};
use lockstep_proto::trace::traceparent;
use tokio::task::JoinSet;
use tracing::{Span, debug, info, info_span};

use super::Parts;
use super::asking::{Asked, Asking};
use super::course::{Course, Taken};
use super::ending;
use super::telling::{brief, direction_name, moment, tell};
use super::transaction::{Assigned, Pending};
use crate::agents::{AskedStanding, Question};
use crate::lock::{LEASE_RENEWED_EVERY, Lock};
use crate::store::guarded::{Held, OwnedWrite};
use crate::store::handover::{Assignment, Report, Reported};
use crate::store::{Committed, LeaseStanding, Owned, StoreError, Wakeups, keys};
use crate::{debts, environments, history, state_file, tails};

/// How a driver left its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Ended,
    /// Another has the environment.
    Deposed,
    /// It had ended before.
    NotOpen,
}

/// Why a driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    #[error("cannot read or write the record")]
    Store(#[from] StoreError),
    #[error("the record of {0} has no {1}")]
    Missing(DeploymentId, &'static str),
    #[error("the journal is damaged")]
    Journal(#[from] IllegalEntry),
    #[error("the plan breaks a rule: {0}")]
    Plan(String),
    #[error("bug: {0}")]
    Bug(&'static str),
}

pub(super) struct Driver {
    parts: Parts,
    environment: EnvironmentKey,
    id: DeploymentId,
    drive: Drive,
    lock: Lock,
    course: Option<Course>,
    pending: Option<Pending>,
    asks: JoinSet<Asked>,
    /// When the wait that the drive wants is over, and when the engine wants to be asked again.
    wait_until: Option<Timestamp>,
    wake_at: Option<Timestamp>,
    renew_at: Timestamp,
    /// Hosts without a session, each since when.
    gone: BTreeMap<HostId, Timestamp>,
}

impl Driver {
    pub(super) fn new(parts: Parts, environment: EnvironmentKey, id: DeploymentId) -> Self {
        let lock = Lock::of(environment.clone(), parts.coordinator.clone());
        Self {
            renew_at: parts.clock.now() + LEASE_RENEWED_EVERY,
            parts,
            environment,
            id,
            drive: Drive::new(),
            lock,
            course: None,
            pending: None,
            asks: JoinSet::new(),
            wait_until: None,
            wake_at: None,
            gone: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Left, DriverError> {
        let mut wakeups = (
            self.parts.store.watch(&keys::reports(&self.environment)),
            self.parts.store.watch(&keys::environment(&self.environment)),
        );
        let left = self.drive_on(&mut wakeups).await;
        if !matches!(left, Ok(Left::Deposed)) {
            self.lock.release(&*self.parts.store).await;
        }
        left
    }

    async fn drive_on(&mut self, wakeups: &mut (Wakeups, Wakeups)) -> Result<Left, DriverError> {
        let mut inputs = VecDeque::from([Input::Start]);
        loop {
            while let Some(input) = inputs.pop_front() {
                for output in self.drive.on(input) {
                    if output == (Output::Load { epoch: self.drive.epoch().unwrap_or_default() })
                        && !self.is_open().await?
                    {
                        return Ok(Left::NotOpen);
                    }
                    inputs.extend(self.perform(output).await?);
                }
            }
            match self.drive {
                Drive::Finished => return Ok(Left::Ended),
                Drive::Deposed => return Ok(Left::Deposed),
                Drive::Acquiring
                | Drive::Loading { .. }
                | Drive::Asking { .. }
                | Drive::Driving { .. }
                | Drive::Writing { .. }
                | Drive::Releasing { .. } => inputs.extend(self.next(wakeups).await),
            }
        }
    }

    async fn is_open(&self) -> Result<bool, StoreError> {
        let open = environments::open(&*self.parts.store, &self.environment).await?;
        Ok(open.is_some_and(|open| open.content.deployment() == Some(&self.id)))
    }

    async fn perform(&mut self, output: Output) -> Result<Option<Input>, DriverError> {
        Ok(match output {
            Output::Acquire => Some(Input::Acquire(self.lock.acquire(&*self.parts.store).await)),
            Output::Wait(length) => {
                self.wait_until = Some(self.parts.clock.now() + length);
                None
            }
            Output::Load { epoch } => {
                let course = Course::load(&self.parts, &self.environment, &self.id).await?;
                info!(epoch, entries = course.entries.len(), "the deployment is driven from here");
                let open_intents = course.run.open_intents();
                self.course = Some(course);
                Some(Input::Loaded { open_intents })
            }
            Output::Ask(intent) => {
                self.ask(intent)?;
                None
            }
            Output::Decide => {
                self.wake_at = None;
                if matches!(self.course()?.run.phase(), Phase::Ended { .. }) {
                    return Ok(Some(Input::Over));
                }
                self.pending = self.next_transaction().await?;
                self.pending.is_some().then_some(Input::WriteWanted)
            }
            Output::Send => Some(Input::Wrote(self.send().await?)),
            Output::Release => {
                self.lock.release(&*self.parts.store).await;
                Some(Input::Released)
            }
            Output::StandDown => None,
        })
    }

    /// Waits for the next thing that matters where the drive stands.
    async fn next(&mut self, wakeups: &mut (Wakeups, Wakeups)) -> Option<Input> {
        let clock = self.parts.clock.clone();
        let now = clock.now();
        let sleep = |until: Option<Timestamp>| {
            let length = until.map(|until| Duration::from_millis(until.since(now).0));
            async move {
                match length {
                    Some(length) => tokio::time::sleep(length).await,
                    None => std::future::pending().await,
                }
            }
        };
        match self.drive {
            Drive::Acquiring | Drive::Writing { .. } => {
                sleep(self.wait_until).await;
                return Some(Input::Elapsed);
            }
            Drive::Loading { .. } | Drive::Releasing { .. } | Drive::Deposed | Drive::Finished => {
                return None;
            }
            Drive::Asking { .. } | Drive::Driving { .. } => {}
        }
        tokio::select! {
            // In this order, so that a simulation can be repeated. What comes first comes seldom.
            biased;
            () = sleep(Some(self.renew_at)) => {
                self.renew_at = clock.now() + LEASE_RENEWED_EVERY;
                match self.lock.keep(&*self.parts.store).await {
                    LeaseStanding::Gone => Some(Input::LeaseLost),
                    LeaseStanding::Alive if is_on(Mutant::WatchTrusted) => None,
                    // Polling decides, watches only hasten it.
                    LeaseStanding::Alive => Some(Input::Elapsed),
                }
            }
            Some(asked) = self.asks.join_next() => self.hear(asked.ok()?),
            () = sleep(self.wake_at) => {
                // Once: the engine says anew when it wants to be woken.
                self.wake_at = None;
                Some(Input::Elapsed)
            }
            () = wakeups.0.changed() => Some(Input::Elapsed),
            () = wakeups.1.changed() => Some(Input::Elapsed),
        }
    }

    async fn open(&self) -> Result<Open, DriverError> {
        let open = environments::open(&*self.parts.store, &self.environment).await?;
        Ok(open.ok_or_else(|| DriverError::Missing(self.id.clone(), "claim"))?.content)
    }

    fn ask(&mut self, intent: OpenIntent) -> Result<(), DriverError> {
        let token = self.next_token()?;
        let course = self.course()?;
        let until = course.deadline(intent.step).ok_or(DriverError::Bug("a settled step is asked about"))?;
        let key = self.key(&intent);
        let asking = Asking {
            agents: self.parts.agents.clone(),
            clock: self.parts.clock.clone(),
            question: Question { token, environment: self.environment.clone(), keys: vec![key.clone()] },
            intent,
            key,
            until,
        };
        self.asks.spawn(asking.ask());
        Ok(())
    }

    fn hear(&mut self, asked: Asked) -> Option<Input> {
        let course = self.course.as_mut()?;
        let Asked { intent, standing } = asked;
        let OpenIntent { step, direction, .. } = intent;
        match standing {
            Some(AskedStanding::Ended(Ok(finding))) => {
                course.heard.push_back(Event::Done { step, direction, finding });
            }
            Some(AskedStanding::Ended(Err(failure))) => {
                course.heard.push_back(Event::Failed { step, direction, failure });
            }
            // What runs gets the token of this epoch too: an agent that restarts then goes on with it.
            Some(AskedStanding::Unheard) if is_on(Mutant::UnheardForgotten) => {}
            Some(AskedStanding::Running | AskedStanding::Unheard) => course.unheard.push_back(intent.clone()),
            None => {}
        }
        Some(Input::Answered { intent })
    }

    /// What is to be written next, if anything is.
    async fn next_transaction(&mut self) -> Result<Option<Pending>, DriverError> {
        if self.course()?.taken == Taken::ToBeSaid {
            let by = self.parts.coordinator.clone();
            return self.record(Event::Taken { by }).map(Some);
        }
        if let Some(pending) = self.heard()? {
            return Ok(Some(pending));
        }
        if let Some(pending) = self.reported().await? {
            return Ok(Some(pending));
        }
        let open = self.open().await?;
        let wish = match open.kind {
            OpenKind::Running { wish, .. } => wish,
            OpenKind::Stuck { .. } | OpenKind::Building { .. } | OpenKind::Hold { .. } => Wish::None,
        };
        let now = self.parts.clock.now();
        self.note_presence(now).await?;
        let commands = decide_knowing(&self.course()?.run, &wish, &self.gone, now);
        self.perform_commands(commands).await
    }

    /// A host is gone from when it was first seen without a session.
    async fn note_presence(&mut self, now: Timestamp) -> Result<(), DriverError> {
        for host in self.course()?.hosts() {
            // Another coordinator may have its session and be out of this one's reach.
            let is_here = self.parts.agents.connected(&host).is_some()
                || self.parts.store.get(keys::host_presence(&host).key()).await?.is_some();
            if is_here {
                self.gone.remove(&host);
            } else {
                self.gone.entry(host).or_insert(now);
            }
        }
        Ok(())
    }

    async fn perform_commands(&mut self, commands: Vec<Command>) -> Result<Option<Pending>, DriverError> {
        // What is to be unwound is not begun again first, nor what is not waited for.
        if !matches!(commands.first(), Some(Command::Append(Event::Turned { .. } | Event::Left { .. })))
            && let Some(intent) = self.course_mut()?.next_unheard()
        {
            return self.hand_out(Pending::aside(Vec::new()), intent.step, intent.direction).map(Some);
        }
        let mut wake_at: Option<Timestamp> = None;
        for command in commands {
            match command {
                Command::Append(Event::Ended { verdict }) => return self.end(verdict).await.map(Some),
                Command::Append(event) => return self.record(event).map(Some),
                Command::WakeAt(at) => wake_at = Some(wake_at.map_or(at, |there| there.min(at))),
            }
        }
        self.wake_at = wake_at;
        Ok(None)
    }

    /// The transaction that adds `event` to the journal, with all that belongs to it.
    fn record(&mut self, event: Event) -> Result<Pending, DriverError> {
        let entry = self.entry(event)?;
        let event = entry.event.clone();
        let pending = Pending::entry(&self.id, entry);
        let course = self.course()?;
        Ok(match &event {
            Event::Begun { step, direction } => self.hand_out(pending, *step, *direction)?,
            Event::Done { step, direction, .. } | Event::Failed { step, direction, .. } => Pending {
                assigned: Some((*step, course.handed.without(*step, *direction))),
                ..pending.with(withdrawn(course.handed.withdraw(*step)))
            },
            Event::Stuck { .. } => {
                pending.with([course.open_as(OpenKind::Stuck { deployment: self.id.clone() })])
            }
            Event::Resumed { .. } => {
                let kind = OpenKind::Running { deployment: self.id.clone(), wish: Wish::None };
                pending.with([course.open_as(kind)])
            }
            Event::Left { step, how } => {
                let entry = pending.entry.clone();
                let owed = entry.and_then(|entry| course.owed(&entry));
                let resumed = matches!(how, Leaving::Skipped { .. }).then(|| {
                    course.open_as(OpenKind::Running { deployment: self.id.clone(), wish: Wish::None })
                });
                Pending {
                    assigned: Some((*step, Vec::new())),
                    ..pending
                        .with(course.handed.withdraw(*step))
                        .with(owed.map(|(host, debts)| debts::write(&host, &self.environment, &debts)))
                        .with(resumed)
                }
            }
            Event::Taken { .. } | Event::Turned { .. } | Event::Ended { .. } => pending,
        })
    }

    fn entry(&self, event: Event) -> Result<Entry, DriverError> {
        let seq = self.course()?.run.next_seq();
        Ok(Entry { seq, at: self.parts.clock.now(), epoch: self.held()?.epoch(), event })
    }

    /// Adds the assignment of a step to the transaction of its intent; what the step had before goes.
    fn hand_out(
        &mut self,
        pending: Pending,
        step: StepId,
        direction: Direction,
    ) -> Result<Pending, DriverError> {
        let token = self.next_token()?;
        let course = self.course()?;
        let work = assignment(course.run.plan(), step, direction)
            .ok_or(DriverError::Bug("a step begins that the plan does not have"))?;
        let key = keys::assignment(&work.host, &self.environment, token.epoch, token.seq);
        let span = info_span!("step", host = %work.host, %step, direction = direction_name(direction));
        let put = OwnedWrite::put(
            key.clone(),
            &Assignment {
                token: token.clone(),
                key: StepKey { deployment: self.id.clone(), step, direction },
                environment: self.environment.clone(),
                action: work.action,
                limit: work.limit,
                traceparent: traceparent(&span),
            },
        );
        let pending = pending.with(course.handed.withdraw(step)).with([put]);
        Ok(Pending { assigned: Some((step, vec![Assigned { key, token, direction, span }])), ..pending })
    }

    fn heard(&mut self) -> Result<Option<Pending>, DriverError> {
        let now = self.parts.clock.now();
        while let Some(event) = self.course_mut()?.heard.pop_front() {
            if self.course()?.run.admits(&event, now) {
                return self.record(event).map(Some);
            }
        }
        Ok(None)
    }

    /// The first report, as an entry; or what removes it where it comes too late or is not for this deployment.
    async fn reported(&mut self) -> Result<Option<Pending>, DriverError> {
        let reports = self.parts.store.list(&keys::reports(&self.environment)).await?;
        let Some(stored) = reports.into_iter().next() else {
            return Ok(None);
        };
        let delete = Owned::of_stored(&stored.key)
            .map(OwnedWrite::delete)
            .ok_or(DriverError::Bug("a report is not owned"))?;
        let report: Report = stored.read()?;
        let now = self.parts.clock.now();
        let course = self.course()?;
        let StepKey { deployment, step, direction } = report.key;
        let event = match report.outcome {
            Reported::Done(finding) => Some(Event::Done { step, direction, finding }),
            Reported::Failed(failure) => Some(Event::Failed { step, direction, failure: brief(failure) }),
            // An assignment of a deposed driver is refused as it should be: the question of its successor has fenced it.
            Reported::Refused { why } => {
                is_own(course, self.held()?.epoch(), step, &report.token).then(|| {
                    let failure = StepFailure::new("the agent refused the step").why(why);
                    Event::Failed { step, direction, failure }
                })
            }
        };
        match event {
            Some(event) if is_of(&deployment, &self.id) && course.run.admits(&event, now) => {
                if is_on(Mutant::ReportDropped) {
                    return Ok(Some(Pending::aside(vec![delete])));
                }
                Ok(Some(self.record(event)?.with([delete])))
            }
            Some(_) | None => Ok(Some(Pending::aside(vec![delete]))),
        }
    }

    /// The last transaction: the journal, the history, what is live, and the claim go together.
    async fn end(&mut self, verdict: Verdict) -> Result<Pending, DriverError> {
        let store = &*self.parts.store;
        let past = history::ended(store, &self.environment, history::HISTORY_FOR_PLANS).await?;
        let entry = self.entry(Event::Ended { verdict })?;
        let at = entry.at;
        let course = self.course()?;
        let mut entries = course.entries.clone();
        entries.push(entry.clone());
        let summary = ending::summary(&course.opened, &course.run, &entries, at, verdict);
        let mut writes = vec![OwnedWrite::delete(keys::open(&self.environment))];
        writes.extend(history::summary_writes(&summary));
        match verdict {
            Verdict::Succeeded if is_on(Mutant::LiveForgotten) => {}
            Verdict::Succeeded => {
                let live = ending::live(&summary, &past, at);
                writes.push(OwnedWrite::put(keys::live(&self.environment), &live));
            }
            Verdict::RolledBack => {}
        }
        writes.extend(withdrawn(course.handed.withdraw_all()));
        Ok(Pending::entry(&self.id, entry).with(writes))
    }

    /// Sends what is pending; the same again when nobody knows what became of it.
    async fn send(&mut self) -> Result<WriteOutcome, DriverError> {
        let pending = self.pending.clone().ok_or(DriverError::Bug("nothing is to be written"))?;
        let store = &*self.parts.store;
        let committed = self.held()?.commit(store, pending.guards.clone(), pending.writes.clone()).await;
        let is_written = match committed {
            Ok(Committed::Yes { .. }) => true,
            Ok(Committed::No) => match self.is_mine(&pending).await {
                Ok(is_mine) => is_mine,
                Err(_) => return Ok(WriteOutcome::Unknown),
            },
            Err(StoreError::Unknown(_)) if is_on(Mutant::UnknownIsRefused) => {
                return Ok(WriteOutcome::Refused);
            }
            Err(StoreError::Unknown(_)) if is_on(Mutant::UnknownIsCommitted) => true,
            Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => return Ok(WriteOutcome::Unknown),
            Err(error) => return Err(error.into()),
        };
        if !is_written {
            return Ok(WriteOutcome::Refused);
        }
        self.pending = None;
        self.written(pending).await?;
        Ok(WriteOutcome::Committed)
    }

    /// Whether the journal has this very entry: then an earlier sending of unknown outcome wrote it.
    async fn is_mine(&self, pending: &Pending) -> Result<bool, StoreError> {
        let (Some(entry), Some(write)) = (&pending.entry, pending.writes.first()) else {
            return Ok(false);
        };
        let there = self.parts.store.get(keys::journal_entry(&self.id, entry.seq).key()).await?;
        Ok(there.is_some_and(|there| Some(&there.value) == write.value()))
    }

    /// What is in the store is taken in, and told.
    async fn written(&mut self, pending: Pending) -> Result<(), DriverError> {
        let course = self.course.as_mut().ok_or(DriverError::Bug("nothing is loaded"))?;
        let mut span = Span::current();
        if let Some((step, assigned)) = pending.assigned {
            let fresh = assigned.last().map(|assigned| assigned.span.clone());
            span = fresh.or_else(|| course.handed.span(step)).unwrap_or(span);
            course.handed.set(step, assigned);
        }
        let Some(entry) = pending.entry else {
            return Ok(());
        };
        course.run.apply(&entry)?;
        course.note_debts(&entry);
        course.entries.push(entry.clone());
        if let Event::Taken { .. } = entry.event {
            course.taken = Taken::Said;
        }
        span.in_scope(|| tell(&course.run, &entry));
        reach(|| moment(&entry));
        course.log.write(&course.run, &entry).await;
        if let Event::Ended { .. } = entry.event
            && let Err(error) = tails::forget(&*self.parts.store, &self.id).await
        {
            debug!(error = &error as &dyn std::error::Error, "lines of progress stay");
        }
        match entry.event {
            Event::Taken { .. } | Event::Stuck { .. } | Event::Ended { .. } => {
                state_file::keep_current(&self.parts, &self.environment).await;
            }
            Event::Begun { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::Turned { .. }
            | Event::Resumed { .. }
            | Event::Left { .. } => {}
        }
        Ok(())
    }

    fn next_token(&mut self) -> Result<Token, DriverError> {
        let epoch = self.held()?.epoch();
        let cluster = self.parts.cluster.clone();
        let course = self.course_mut()?;
        course.token_seq += 1;
        Ok(Token { cluster, epoch, seq: course.token_seq })
    }

    fn key(&self, intent: &OpenIntent) -> StepKey {
        StepKey { deployment: self.id.clone(), step: intent.step, direction: intent.direction }
    }

    fn held(&self) -> Result<&Held, DriverError> {
        self.lock.held().ok_or(DriverError::Bug("nothing is written without the lock"))
    }

    fn course(&self) -> Result<&Course, DriverError> {
        self.course.as_ref().ok_or(DriverError::Bug("nothing is decided before it is loaded"))
    }

    fn course_mut(&mut self) -> Result<&mut Course, DriverError> {
        self.course.as_mut().ok_or(DriverError::Bug("nothing is decided before it is loaded"))
    }
}

/// The deletions of assignments that belong to a transaction.
fn withdrawn(deletions: Vec<OwnedWrite>) -> Vec<OwnedWrite> {
    if is_on(Mutant::NothingWithdrawn) { Vec::new() } else { deletions }
}

/// Whether `token` is that of what this driver itself has handed out for the step.
fn is_own(course: &Course, epoch: u64, step: StepId, token: &Token) -> bool {
    (token.epoch == epoch && course.handed.is_current(step, token)) || is_on(Mutant::AnyRefusalCounts)
}

fn is_of(reported: &DeploymentId, driven: &DeploymentId) -> bool {
    reported == driven || is_on(Mutant::ReportOfOthers)
}
