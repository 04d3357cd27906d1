//! Runs pending undos. When the host is connected again, it gets the undo as an assignment with a token of its own,
//! under the lock of the environment. The pending undo is deleted when the host reports it done.
//!
//! What must stay true: nothing is assigned while a deployment is open, because then its driver speaks to the hosts. A
//! pending undo whose outcome is unknown stays pending.

use std::time::Duration;

use lockstep_core::agent::fence::Token;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::run::engine::ANSWER_GRACE;
use lockstep_core::run::journal::StepFailure;
use lockstep_crashpoint::reach;
use lockstep_proto::trace::traceparent;
use tracing::{Span, info, warn};

use super::exit::{DriverError, DriverExit};
use crate::context::Context;
use crate::drive::lock::{LEASE_RENEWED_EVERY, Lock};
use crate::record::audit;
use crate::record::audit::Change;
use crate::record::{environments, hosts, pending_undos};
use crate::store::guarded::{Held, OwnedWrite};
use crate::store::handover::{Assignment, Report, Reported};
use crate::store::{Committed, Guard, LeaseStanding, Owned, Stored, keys};

/// Runs the pending undos of one host for one environment, one after another.
pub(super) struct PendingUndoRunner {
    pub(super) context: Context,
    pub(super) environment: EnvironmentKey,
    pub(super) host: HostId,
}

/// Whether the next undo may be assigned.
enum UndoProgress {
    Yes,
    No,
}

impl PendingUndoRunner {
    pub(super) async fn run(self) -> Result<DriverExit, DriverError> {
        let store = &*self.context.store;
        let mut lock = Lock::new(self.environment.clone(), self.context.coordinator.clone());
        lock.acquire(store).await;
        let progress = match lock.held() {
            Some(held) => self.run_all(&lock, held).await,
            // Somebody works on the environment: the next look tries again.
            None => return Ok(DriverExit::NotOpen),
        };
        lock.release(store).await;
        progress.map(|()| DriverExit::Ended)
    }

    async fn run_all(&self, lock: &Lock, held: &Held) -> Result<(), DriverError> {
        let store = &*self.context.store;
        let seen = environments::open(store, &self.environment).await?;
        if seen.as_ref().is_some_and(|seen| is_deployment(&seen.content)) {
            return Ok(());
        }
        let open = seen.map(|seen| seen.stored);
        let is_there = hosts::find(store, &self.host).await?.is_some();
        let pending = pending_undos::of_host(store, &self.host, &self.environment).await?.undos;
        for (seq, undo) in (1..).zip(pending) {
            let token = Token { cluster: self.context.cluster.clone(), epoch: held.epoch(), seq };
            let attempt = Attempt { runner: self, lock, held, open: open.as_ref(), token, undo };
            let progress = if is_there { attempt.run().await? } else { attempt.forget().await? };
            match progress {
                UndoProgress::Yes => {}
                UndoProgress::No => break,
            }
        }
        Ok(())
    }
}

fn is_deployment(open: &Claim) -> bool {
    open.deployment().is_some()
}

/// One attempt at a pending undo.
struct Attempt<'a> {
    runner: &'a PendingUndoRunner,
    lock: &'a Lock,
    held: &'a Held,
    open: Option<&'a Stored>,
    token: Token,
    undo: PendingUndo,
}

impl Attempt<'_> {
    /// Assigns the undo and waits for its outcome.
    async fn run(self) -> Result<UndoProgress, DriverError> {
        let PendingUndoRunner { context, environment, host } = self.runner;
        let assignment = Assignment {
            token: self.token.clone(),
            key: self.undo.key.clone(),
            environment: environment.clone(),
            action: self.undo.action.clone(),
            limit: self.undo.limit,
            traceparent: traceparent(&Span::current()),
        };
        let mut writes = self.leftover_assignments().await?;
        let key = keys::assignment(host, environment, self.token.epoch, self.token.seq);
        writes.push(OwnedWrite::put(key, &assignment));
        info!(step = %self.undo.key.step, %host, change = self.undo.change, "assigned a pending undo");
        if self.commit(writes).await? == Committed::No {
            return Ok(UndoProgress::No);
        }
        reach(|| format!("coordinator: debt {} handed out", self.undo.key.step));
        let until = context.clock.now() + self.undo.limit + ANSWER_GRACE;
        let outcome = loop {
            if let Some(outcome) = self.reported().await? {
                break Some(outcome);
            }
            let is_here = context.agents.session_of(host).is_some();
            if !is_here
                || context.clock.now() >= until
                || self.lock.keep(&*context.store).await == LeaseStanding::Gone
            {
                break None;
            }
            self.wait().await;
        };
        match outcome {
            Some(Reported::Done(_)) => self.settle(None).await,
            Some(Reported::Failed(failure)) => self.settle(Some(failure)).await,
            Some(Reported::Refused { why }) => {
                self.settle(Some(StepFailure::new("the agent refused the undo").why(why))).await
            }
            None => {
                let failure = StepFailure::new(format!("{} reported no result in time", self.undo.host_name));
                self.settle(Some(failure)).await
            }
        }
    }

    /// Deletes the undo of a host that was removed: it never serves again.
    async fn forget(self) -> Result<UndoProgress, DriverError> {
        info!(step = %self.undo.key.step, host = %self.runner.host, "dropped a pending undo: its host was removed");
        self.settle(None).await
    }

    async fn wait(&self) {
        let mut reports = self.runner.context.store.watch(&keys::reports(&self.runner.environment));
        tokio::select! {
            biased;
            () = reports.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(LEASE_RENEWED_EVERY.0)) => {}
        }
    }

    async fn reported(&self) -> Result<Option<Reported>, DriverError> {
        let key = keys::report(&self.runner.environment, self.token.epoch, self.token.seq);
        let stored = self.runner.context.store.get(key.key()).await?;
        let report: Option<Report> = stored.map(|stored| stored.read()).transpose()?;
        Ok(report.map(|report| report.outcome))
    }

    /// Deletes the assignments of the host and the reports for the environment.
    async fn leftover_assignments(&self) -> Result<Vec<OwnedWrite>, DriverError> {
        let PendingUndoRunner { context, environment, host } = self.runner;
        let mut left = context.store.list(&keys::assignments(host, environment)).await?;
        left.extend(context.store.list(&keys::reports(environment)).await?);
        Ok(left.iter().filter_map(|stored| Owned::of_stored(&stored.key)).map(OwnedWrite::delete).collect())
    }

    /// Deletes the pending undo, or records how the attempt failed.
    async fn settle(&self, failure: Option<StepFailure>) -> Result<UndoProgress, DriverError> {
        let PendingUndoRunner { context, environment, host } = self.runner;
        let mut pending = pending_undos::of_host(&*context.store, host, environment).await?;
        let is_it = |undo: &PendingUndo| undo.key == self.undo.key;
        match &failure {
            None => pending.undos.retain(|undo| !is_it(undo)),
            Some(failure) => {
                warn!(step = %self.undo.key.step, %host, what = failure.what, why = failure.why, "a pending undo failed");
                for undo in pending.undos.iter_mut().filter(|undo| is_it(undo)) {
                    undo.failure = Some(failure.clone());
                }
            }
        }
        let mut writes = self.leftover_assignments().await?;
        writes.push(pending_undos::write(host, environment, &pending));
        if self.commit(writes).await? == Committed::No || failure.is_some() {
            return Ok(UndoProgress::No);
        }
        reach(|| format!("coordinator: debt {} paid", self.undo.key.step));
        info!(step = %self.undo.key.step, %host, change = self.undo.change, "a pending undo is done");
        self.write_down().await?;
        Ok(UndoProgress::Yes)
    }

    async fn write_down(&self) -> Result<(), DriverError> {
        let PendingUndoRunner { context, environment, .. } = self.runner;
        let PendingUndo { host_name, key, change, .. } = &self.undo;
        let operator = audit::lockstep();
        let said = format!("{host_name} has done the pending undo of {}: {change}", key.deployment);
        let change = Change { operator, verb: "pending undo", environment: Some(environment.clone()), said };
        Ok(audit::append(&*context.store, context.clock.now(), change).await?)
    }

    /// Only while no deployment was opened: sent until its outcome is known, or left to the next attempt.
    async fn commit(&self, writes: Vec<OwnedWrite>) -> Result<Committed, DriverError> {
        let guards = vec![Guard::as_seen(keys::open(&self.runner.environment), self.open)];
        Ok(self.held.commit(&*self.runner.context.store, guards, writes).await?)
    }
}
