//! One open deployment: event, apply, decide, perform.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use lockstep_core::drive::{Drive, Input, Output, WriteOutcome};
use lockstep_core::engine::{Command, OpenIntent, Phase, decide_knowing};
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::journal::{Event, IllegalEntry, StepKey};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::Verdict;
use lockstep_core::stored::encode;
use lockstep_core::time::Timestamp;
use lockstep_crashpoint::reach;
use lockstep_mutant::{Mutant, is_on};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::Parts;
use super::asking::{Asked, Asking};
use super::counting::count;
use super::course::{Course, Taken};
use super::drafting::{Before, fits};
use super::telling::{moment, tell};
use super::transaction::{Pending, Told};
use crate::agents::{AskedStanding, Question};
use crate::lock::{LEASE_RENEWED_EVERY, Lock};
use crate::store::guarded::Held;
use crate::store::{Committed, LeaseStanding, OPERATIONS_MAX, StoreError, Wakeups, keys};
use crate::{environments, history, state_file, tails};

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
    /// Something of the environment has changed while this driver waited for the lock.
    may_have_ended: bool,
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
            may_have_ended: false,
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
                    if output == Output::Decide {
                        // Its own last transaction has changed something too.
                        wakeups.0.look();
                        wakeups.1.look();
                    }
                    match self.perform(output).await? {
                        ControlFlow::Continue(input) => inputs.extend(input),
                        ControlFlow::Break(left) => return Ok(left),
                    }
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

    /// Whether the deployment has come to its end, as far as the store says.
    async fn has_ended(&self) -> bool {
        let open = environments::open_of(&*self.parts.store, &self.environment, &self.id).await;
        open.is_ok_and(|open| open.is_none())
    }

    async fn perform(&mut self, output: Output) -> Result<ControlFlow<Left, Option<Input>>, DriverError> {
        Ok(ControlFlow::Continue(match output {
            Output::Acquire => {
                // Whoever had the lock may have brought the deployment to its end.
                if mem::take(&mut self.may_have_ended) && self.has_ended().await {
                    return Ok(ControlFlow::Break(Left::NotOpen));
                }
                Some(Input::Acquire(self.lock.acquire(&*self.parts.store).await))
            }
            Output::Wait(length) => {
                self.wait_until = Some(self.parts.clock.now() + length);
                None
            }
            Output::Load { epoch } => {
                let course = Course::load(&self.parts, &self.environment, &self.id, epoch).await?;
                let Some(course) = course else {
                    return Ok(ControlFlow::Break(Left::NotOpen));
                };
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
                    return Ok(ControlFlow::Continue(Some(Input::Over)));
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
        }))
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
            Drive::Acquiring => {
                tokio::select! {
                    biased;
                    () = wakeups.1.changed() => self.may_have_ended = true,
                    () = sleep(self.wait_until) => {}
                }
                return Some(Input::Elapsed);
            }
            Drive::Writing { .. } => {
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

    fn ask(&mut self, intent: OpenIntent) -> Result<(), DriverError> {
        let token = self.course_mut()?.next_token();
        let until =
            self.course()?.deadline(intent.step).ok_or(DriverError::Bug("a settled step is asked about"))?;
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

    /// What is to be written next, if anything is: what is known of steps, and what follows from that.
    async fn next_transaction(&mut self) -> Result<Option<Pending>, DriverError> {
        let now = self.parts.clock.now();
        let mut pending = Pending::default();
        if self.course()?.taken == Taken::ToBeSaid {
            let by = self.parts.coordinator.clone();
            self.course_mut()?.record(&mut pending, Event::Taken { by }, now)?;
            return Ok(Some(pending));
        }
        self.course_mut()?.take_in_answers(&mut pending, now)?;
        let store = &*self.parts.store;
        let (reports, open) = (keys::reports(&self.environment), keys::open(&self.environment));
        // What does not fit into this transaction is seen at the next one.
        let first = reports.first();
        let (reports, open) =
            tokio::try_join!(store.page(&reports, &first, OPERATIONS_MAX), store.get(open.key()))?;
        let open = open.ok_or_else(|| DriverError::Missing(self.id.clone(), "claim"))?;
        self.note_presence(now).await?;
        self.course_mut()?.see(open)?;
        self.course_mut()?.take_in_reports(&mut pending, &reports, now)?;
        let course = self.course()?;
        let commands = decide_knowing(&course.run, course.wish(), &self.gone, now);
        self.follow(&mut pending, commands, now).await?;
        Ok((!pending.is_empty()).then_some(pending))
    }

    /// A host is gone from when it was first seen without a session.
    async fn note_presence(&mut self, now: Timestamp) -> Result<(), DriverError> {
        let absent = self.parts.agents.absent(&self.course()?.hosts);
        let mut gone = BTreeMap::new();
        for host in absent {
            // Another coordinator may have its session and be out of this one's reach.
            if self.parts.store.get(keys::host_presence(&host).key()).await?.is_none() {
                let since = self.gone.get(&host).copied().unwrap_or(now);
                gone.insert(host, since);
            }
        }
        self.gone = gone;
        Ok(())
    }

    /// Adds what the engine wants written to what is written anyway.
    async fn follow(
        &mut self,
        pending: &mut Pending,
        commands: Vec<Command>,
        now: Timestamp,
    ) -> Result<(), DriverError> {
        // What is to be unwound is not begun again first, nor what is not waited for.
        let leaves = |event: &Event| {
            matches!(event, Event::Turned { .. } | Event::PassedBy { .. } | Event::Left { .. })
        };
        if !matches!(commands.first(), Some(Command::Append(event)) if leaves(event))
            && let Some(intent) = self.course_mut()?.next_unheard()
        {
            let (_, writes) = self.course_mut()?.hand_out(intent.step, intent.direction)?;
            pending.writes.extend(writes);
            return Ok(());
        }
        let mut has_begun = false;
        for command in commands {
            match command {
                Command::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |there| there.min(at))),
                // The rest is decided anew when this is written.
                Command::Append(event) if !fits(pending, &event) => break,
                Command::Append(event @ Event::Begun { .. }) => {
                    self.course_mut()?.record(pending, event, now)?;
                    has_begun = true;
                }
                Command::Append(_) if has_begun => break,
                Command::Append(Event::Ended { verdict }) => {
                    let store = &*self.parts.store;
                    let before = match verdict {
                        Verdict::Succeeded => Before {
                            live: environments::live(store, &self.environment).await?,
                            past: history::ended(store, &self.environment, history::HISTORY_FOR_PLANS)
                                .await?,
                        },
                        // What is live stays what it was.
                        Verdict::RolledBack => Before::default(),
                    };
                    return self.course_mut()?.end(pending, verdict, &before, now);
                }
                Command::Append(event) => return self.course_mut()?.record(pending, event, now),
            }
        }
        Ok(())
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

    /// Whether the journal has this very entry: then an earlier sending of unknown outcome wrote it all.
    async fn is_mine(&self, pending: &Pending) -> Result<bool, StoreError> {
        let Some(Told { entry, .. }) = pending.told.first() else {
            return Ok(false);
        };
        let there = self.parts.store.get(keys::journal_entry(&self.id, entry.seq).key()).await?;
        Ok(there.is_some_and(|there| there.value == encode(entry)))
    }

    /// What is in the store is told.
    async fn written(&mut self, pending: Pending) -> Result<(), DriverError> {
        let course = self.course.as_mut().ok_or(DriverError::Bug("nothing is loaded"))?;
        for told in &pending.told {
            if let Event::Taken { .. } = told.entry.event {
                course.taken = Taken::Said;
            }
            told.span.in_scope(|| tell(&course.run, &told.entry));
            count(course, told);
        }
        let Some(Told { entry: last, .. }) = pending.told.last() else {
            return Ok(());
        };
        reach(|| moment(last));
        course.log.write(&course.run, pending.told.iter().map(|told| &told.entry)).await;
        if let Event::Ended { .. } = last.event
            && let Err(error) = tails::forget(&*self.parts.store, &self.id).await
        {
            debug!(error = &error as &dyn std::error::Error, "lines of progress stay");
        }
        let is_milestone =
            matches!(last.event, Event::Taken { .. } | Event::Stuck { .. } | Event::Ended { .. });
        if is_milestone && course.opened.spec.deploy.state_file.is_some() {
            state_file::keep_current(&self.parts, &self.environment).await;
        }
        Ok(())
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
