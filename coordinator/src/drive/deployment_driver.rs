//! Drives one open deployment in a loop: receive an event, apply it, decide, perform.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::driver_phase::{DriverPhase, Input, Output, WriteOutcome};
use lockstep_core::run::engine::{Command, OpenIntent, Phase, decide_with_unreachable};
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Event, StepKey};
use lockstep_core::stored::encode;
use lockstep_core::time::Timestamp;
use lockstep_crashpoint::reach;
use lockstep_mutant::{Mutant, is_on};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::drive_state::{DriveState, TakeoverEntry};
use super::entry_log::{crash_point, log_entry};
use super::entry_metrics::record_metrics;
use super::exit::{DriverError, DriverExit};
use super::intent_query::{IntentAnswer, IntentQuery};
use super::pending_transaction::{JournaledEntry, PendingTransaction};
use super::transaction::{PriorState, fits};
use crate::context::Context;
use crate::drive::lock::{LEASE_RENEWED_EVERY, Lock};
use crate::export::state_file;
use crate::ports::agents::{QueriedStatus, StepQuery};
use crate::record::{environments, history, tails};
use crate::store::guarded::Held;
use crate::store::{Committed, LeaseStanding, OPERATIONS_MAX, StoreError, Wakeups, keys};

pub(super) struct Driver {
    context: Context,
    environment: EnvironmentKey,
    id: DeploymentId,
    drive: DriverPhase,
    lock: Lock,
    /// Something of the environment has changed while this driver waited for the lock.
    may_have_ended: bool,
    drive_state: Option<DriveState>,
    pending: Option<PendingTransaction>,
    asks: JoinSet<IntentAnswer>,
    /// When the wait that the drive wants is over, and when the engine wants to be asked again.
    wait_until: Option<Timestamp>,
    wake_at: Option<Timestamp>,
    renew_at: Timestamp,
    /// Hosts without a session, each since when.
    unreachable: BTreeMap<HostId, Timestamp>,
}

impl Driver {
    pub(super) fn new(context: Context, environment: EnvironmentKey, id: DeploymentId) -> Self {
        let lock = Lock::new(environment.clone(), context.coordinator.clone());
        Self {
            renew_at: context.clock.now() + LEASE_RENEWED_EVERY,
            context,
            environment,
            id,
            drive: DriverPhase::new(),
            lock,
            may_have_ended: false,
            drive_state: None,
            pending: None,
            asks: JoinSet::new(),
            wait_until: None,
            wake_at: None,
            unreachable: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) -> Result<DriverExit, DriverError> {
        let mut wakeups = (
            self.context.store.watch(&keys::reports(&self.environment)),
            self.context.store.watch(&keys::environment(&self.environment)),
        );
        let left = self.drive_on(&mut wakeups).await;
        if !matches!(left, Ok(DriverExit::Deposed)) {
            self.lock.release(&*self.context.store).await;
        }
        left
    }

    async fn drive_on(&mut self, wakeups: &mut (Wakeups, Wakeups)) -> Result<DriverExit, DriverError> {
        let mut inputs = VecDeque::from([Input::Start]);
        loop {
            while let Some(input) = inputs.pop_front() {
                for output in self.drive.on(input) {
                    if output == Output::Decide {
                        // Its own last transaction has changed something too.
                        wakeups.0.mark_seen();
                        wakeups.1.mark_seen();
                    }
                    match self.perform(output).await? {
                        ControlFlow::Continue(input) => inputs.extend(input),
                        ControlFlow::Break(left) => return Ok(left),
                    }
                }
            }
            match self.drive {
                DriverPhase::Finished => return Ok(DriverExit::Ended),
                DriverPhase::Deposed => return Ok(DriverExit::Deposed),
                DriverPhase::Acquiring
                | DriverPhase::Loading { .. }
                | DriverPhase::Asking { .. }
                | DriverPhase::Driving { .. }
                | DriverPhase::Writing { .. }
                | DriverPhase::Releasing { .. } => inputs.extend(self.next(wakeups).await),
            }
        }
    }

    /// Whether the deployment has come to its end, as far as the store says.
    async fn has_ended(&self) -> bool {
        let open = environments::open_of(&*self.context.store, &self.environment, &self.id).await;
        open.is_ok_and(|open| open.is_none())
    }

    async fn perform(
        &mut self,
        output: Output,
    ) -> Result<ControlFlow<DriverExit, Option<Input>>, DriverError> {
        Ok(ControlFlow::Continue(match output {
            Output::Acquire => {
                // Whoever had the lock may have brought the deployment to its end.
                if mem::take(&mut self.may_have_ended) && self.has_ended().await {
                    return Ok(ControlFlow::Break(DriverExit::NotOpen));
                }
                Some(Input::Acquire(self.lock.acquire(&*self.context.store).await))
            }
            Output::Wait(length) => {
                self.wait_until = Some(self.context.clock.now() + length);
                None
            }
            Output::Load { epoch } => {
                let loading = DriveState::load(&self.context, &self.environment, &self.id, epoch);
                let kept = keep_during(&self.lock, &self.context, &mut self.renew_at, loading).await;
                let Some(drive_state) = kept else {
                    return Ok(ControlFlow::Continue(Some(Input::LeaseLost)));
                };
                let Some(drive_state) = drive_state? else {
                    return Ok(ControlFlow::Break(DriverExit::NotOpen));
                };
                info!(epoch, entries = drive_state.entries.len(), "this coordinator drives the deployment");
                let open_intents = drive_state.run.open_intents();
                self.drive_state = Some(drive_state);
                Some(Input::Loaded { open_intents })
            }
            Output::Ask(intent) => {
                self.query_intent(intent)?;
                None
            }
            Output::Decide => {
                self.wake_at = None;
                if matches!(self.drive_state()?.run.phase(), Phase::Ended { .. }) {
                    return Ok(ControlFlow::Continue(Some(Input::Over)));
                }
                self.pending = self.next_transaction().await?;
                self.pending.is_some().then_some(Input::WriteWanted)
            }
            Output::Send => Some(Input::Wrote(self.commit_pending().await?)),
            Output::Release => {
                self.lock.release(&*self.context.store).await;
                Some(Input::Released)
            }
            Output::StandDown => None,
        }))
    }

    /// Waits for the next thing that matters where the drive stands.
    async fn next(&mut self, wakeups: &mut (Wakeups, Wakeups)) -> Option<Input> {
        let clock = self.context.clock.clone();
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
            DriverPhase::Acquiring => {
                tokio::select! {
                    biased;
                    () = wakeups.1.changed() => self.may_have_ended = true,
                    () = sleep(self.wait_until) => {}
                }
                return Some(Input::Elapsed);
            }
            DriverPhase::Writing { .. } => {
                sleep(self.wait_until).await;
                return Some(Input::Elapsed);
            }
            DriverPhase::Loading { .. }
            | DriverPhase::Releasing { .. }
            | DriverPhase::Deposed
            | DriverPhase::Finished => {
                return None;
            }
            DriverPhase::Asking { .. } | DriverPhase::Driving { .. } => {}
        }
        tokio::select! {
            // In this order, so that a simulation can be repeated. What comes first comes seldom.
            biased;
            () = sleep(Some(self.renew_at)) => {
                self.renew_at = clock.now() + LEASE_RENEWED_EVERY;
                match self.lock.keep(&*self.context.store).await {
                    LeaseStanding::Gone => Some(Input::LeaseLost),
                    LeaseStanding::Alive if is_on(Mutant::WatchTrusted) => None,
                    // Polling decides, watches only hasten it.
                    LeaseStanding::Alive => Some(Input::Elapsed),
                }
            }
            Some(asked) = self.asks.join_next() => self.handle_answer(asked.ok()?),
            () = sleep(self.wake_at) => {
                // Once: the engine says anew when it wants to be woken.
                self.wake_at = None;
                Some(Input::Elapsed)
            }
            () = wakeups.0.changed() => Some(Input::Elapsed),
            () = wakeups.1.changed() => Some(Input::Elapsed),
        }
    }

    fn query_intent(&mut self, intent: OpenIntent) -> Result<(), DriverError> {
        let token = self.drive_state_mut()?.next_token();
        let until = self
            .drive_state()?
            .deadline(intent.step)
            .ok_or(DriverError::Bug("a settled step is asked about"))?;
        let key = self.key(&intent);
        let asking = IntentQuery {
            agents: self.context.agents.clone(),
            clock: self.context.clock.clone(),
            question: StepQuery { token, environment: self.environment.clone(), keys: vec![key.clone()] },
            intent,
            key,
            until,
        };
        self.asks.spawn(asking.ask());
        Ok(())
    }

    fn handle_answer(&mut self, asked: IntentAnswer) -> Option<Input> {
        let drive_state = self.drive_state.as_mut()?;
        let IntentAnswer { intent, standing } = asked;
        let OpenIntent { step, direction, .. } = intent;
        match standing {
            Some(QueriedStatus::Ended(Ok(finding))) => {
                drive_state.answers.push_back(Event::Done { step, direction, finding });
            }
            Some(QueriedStatus::Ended(Err(failure))) => {
                drive_state.answers.push_back(Event::Failed { step, direction, failure });
            }
            // What runs gets the token of this epoch too: an agent that restarts then goes on with it.
            Some(QueriedStatus::NeverReceived) if is_on(Mutant::UnheardForgotten) => {}
            Some(QueriedStatus::Running | QueriedStatus::NeverReceived) => {
                drive_state.to_resend.push_back(intent.clone())
            }
            None => {}
        }
        Some(Input::Answered { intent })
    }

    /// What is to be written next, if anything is: what is known of steps, and what follows from that.
    async fn next_transaction(&mut self) -> Result<Option<PendingTransaction>, DriverError> {
        let now = self.context.clock.now();
        let mut pending = PendingTransaction::default();
        if self.drive_state()?.takeover_entry == TakeoverEntry::Missing {
            let by = self.context.coordinator.clone();
            self.drive_state_mut()?.append_entry(&mut pending, Event::LockTaken { by }, now)?;
            return Ok(Some(pending));
        }
        self.drive_state_mut()?.add_answers(&mut pending, now)?;
        let store = &*self.context.store;
        let (reports, open) = (keys::reports(&self.environment), keys::open(&self.environment));
        // What does not fit into this transaction is seen at the next one.
        let first = reports.first();
        let (reports, open) =
            tokio::try_join!(store.page(&reports, &first, OPERATIONS_MAX), store.get(open.key()))?;
        let open = open.ok_or_else(|| DriverError::Missing(self.id.clone(), "claim"))?;
        self.note_unreachable(now).await?;
        self.drive_state_mut()?.update_claim(open)?;
        self.drive_state_mut()?.add_reports(&mut pending, &reports, now)?;
        let drive_state = self.drive_state()?;
        let commands =
            decide_with_unreachable(&drive_state.run, drive_state.request(), &self.unreachable, now);
        self.append_commands(&mut pending, commands, now).await?;
        Ok((!pending.is_empty()).then_some(pending))
    }

    /// A host is gone from when it was first seen without a session.
    async fn note_unreachable(&mut self, now: Timestamp) -> Result<(), DriverError> {
        let absent = self.context.agents.unreachable_of(&self.drive_state()?.hosts);
        let mut unreachable = BTreeMap::new();
        for host in absent {
            // Another coordinator may have its session and be out of this one's reach.
            if self.context.store.get(keys::host_presence(&host).key()).await?.is_none() {
                let since = self.unreachable.get(&host).copied().unwrap_or(now);
                unreachable.insert(host, since);
            }
        }
        self.unreachable = unreachable;
        Ok(())
    }

    /// Adds what the engine wants written to what is written anyway.
    async fn append_commands(
        &mut self,
        pending: &mut PendingTransaction,
        commands: Vec<Command>,
        now: Timestamp,
    ) -> Result<(), DriverError> {
        // What is to be reverted is not begun again first, nor what is not waited for.
        let leaves = |event: &Event| {
            matches!(event, Event::RevertStarted { .. } | Event::Excluded { .. } | Event::UndoDeferred { .. })
        };
        if !matches!(commands.first(), Some(Command::Append(event)) if leaves(event))
            && let Some(intent) = self.drive_state_mut()?.next_to_resend()
        {
            let (_, writes) = self.drive_state_mut()?.assign(intent.step, intent.direction)?;
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
                    self.drive_state_mut()?.append_entry(pending, event, now)?;
                    has_begun = true;
                }
                Command::Append(_) if has_begun => break,
                Command::Append(Event::Ended { verdict }) => {
                    let store = &*self.context.store;
                    let before = match verdict {
                        Verdict::Succeeded => PriorState {
                            live: environments::live(store, &self.environment).await?,
                            past: history::ended(store, &self.environment, history::HISTORY_FOR_PLANS)
                                .await?,
                        },
                        // What is live stays what it was.
                        Verdict::RolledBack => PriorState::default(),
                    };
                    return self.drive_state_mut()?.end_deployment(pending, verdict, &before, now);
                }
                Command::Append(event) => return self.drive_state_mut()?.append_entry(pending, event, now),
            }
        }
        Ok(())
    }

    /// Sends what is pending; the same again when nobody knows what became of it.
    async fn commit_pending(&mut self) -> Result<WriteOutcome, DriverError> {
        let pending = self.pending.clone().ok_or(DriverError::Bug("nothing is to be written"))?;
        let store = &*self.context.store;
        let committed = self.held()?.commit(store, pending.guards.clone(), pending.writes.clone()).await;
        let is_written = match committed {
            Ok(Committed::Yes { .. }) => true,
            Ok(Committed::No) => match self.is_own_write(&pending).await {
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
        self.after_commit(pending).await?;
        Ok(WriteOutcome::Committed)
    }

    /// Whether the journal has this very entry: then an earlier sending of unknown outcome wrote it all.
    async fn is_own_write(&self, pending: &PendingTransaction) -> Result<bool, StoreError> {
        let Some(JournaledEntry { entry, .. }) = pending.entries.first() else {
            return Ok(false);
        };
        let there = self.context.store.get(keys::journal_entry(&self.id, entry.seq).key()).await?;
        Ok(there.is_some_and(|there| there.value == encode(entry)))
    }

    /// What is in the store is told.
    async fn after_commit(&mut self, pending: PendingTransaction) -> Result<(), DriverError> {
        let drive_state = self.drive_state.as_mut().ok_or(DriverError::Bug("nothing is loaded"))?;
        for journaled in &pending.entries {
            if let Event::LockTaken { .. } = journaled.entry.event {
                drive_state.takeover_entry = TakeoverEntry::Written;
            }
            journaled.span.in_scope(|| log_entry(&drive_state.run, &journaled.entry));
            record_metrics(drive_state, journaled);
        }
        let Some(JournaledEntry { entry: last, .. }) = pending.entries.last() else {
            return Ok(());
        };
        reach(|| crash_point(last));
        let entries = pending.entries.iter().map(|journaled| &journaled.entry);
        let writing = drive_state.log.write(&drive_state.run, entries);
        // Whether the lock is lost, the next renewal says too.
        keep_during(&self.lock, &self.context, &mut self.renew_at, writing).await;
        if let Event::Ended { .. } = last.event
            && let Err(error) = tails::forget(&*self.context.store, &self.id).await
        {
            debug!(error = &error as &dyn std::error::Error, "cannot delete lines of progress");
        }
        let is_milestone =
            matches!(last.event, Event::LockTaken { .. } | Event::Stuck { .. } | Event::Ended { .. });
        if is_milestone {
            state_file::keep_current(&self.context, &self.environment).await;
        }
        Ok(())
    }

    fn key(&self, intent: &OpenIntent) -> StepKey {
        StepKey { deployment: self.id.clone(), step: intent.step, direction: intent.direction }
    }

    fn held(&self) -> Result<&Held, DriverError> {
        self.lock.held().ok_or(DriverError::Bug("nothing is written without the lock"))
    }

    fn drive_state(&self) -> Result<&DriveState, DriverError> {
        self.drive_state.as_ref().ok_or(DriverError::Bug("nothing is decided before it is loaded"))
    }

    fn drive_state_mut(&mut self) -> Result<&mut DriveState, DriverError> {
        self.drive_state.as_mut().ok_or(DriverError::Bug("nothing is decided before it is loaded"))
    }
}

/// Waits for `work`, which may take longer than a lease lives: a slow disk, or secrets that are decrypted. `None` if
/// the lock was lost.
async fn keep_during<T>(
    lock: &Lock,
    context: &Context,
    renew_at: &mut Timestamp,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = Box::pin(work);
    loop {
        let wait = Duration::from_millis(renew_at.since(context.clock.now()).0);
        tokio::select! {
            // In this order, so that a simulation can be repeated.
            biased;
            done = &mut work => return Some(done),
            () = tokio::time::sleep(wait) => {}
        }
        *renew_at = context.clock.now() + LEASE_RENEWED_EVERY;
        let renewed = tokio::select! {
            biased;
            done = &mut work => return Some(done),
            renewed = lock.keep(&*context.store) => renewed,
        };
        if renewed == LeaseStanding::Gone && !is_on(Mutant::LostLeaseIgnored) {
            return None;
        }
    }
}
