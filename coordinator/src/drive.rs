//! Drives open deployments, with one task for each.
//!
//! Open deployments are found by environment and not by owner. So a deployment that a dead coordinator left open is
//! found like any other. A driver decides nothing itself: [`lockstep_core::run::driver_phase`] decides about the lock
//! and unknown outcomes, and [`lockstep_core::run::engine`] decides what comes next. The driver performs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::trace;
use lockstep_runtime::systemd::Watchdog;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::context::Context;
use crate::export::{deployment_log, state_file};
use crate::record::{environments, hosts, local_rollbacks, pending_undos};
use crate::store::guarded::disclaim;
use crate::store::{StoreError, keys};

mod adopt_local_rollback;
mod deployment_driver;
mod drive_state;
pub(crate) mod ending;
pub(crate) mod entry_log;
mod entry_metrics;
mod exit;
mod intent_query;
pub mod lock;
mod pending_transaction;
mod pending_undo_runner;
mod readmission;
pub mod removal;
mod transaction;

use adopt_local_rollback::LocalRollbackAdoption;
use deployment_driver::Driver;
use exit::{DriverError, DriverExit};
use pending_undo_runner::PendingUndoRunner;
use readmission::Readmission;

/// How often the claims are read without a wake-up: a watch is only a hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a deployment that a driver had to leave waits for the next one.
const RETRY_AFTER: Millis = Millis::from_secs(1);

/// How long a pending undo that was assigned waits until it is assigned again.
const UNDO_RETRY_AFTER: Millis = Millis::from_secs(10);

/// Runs a driver for every open deployment, until it is stopped.
pub struct Drivers {
    context: Context,
    tasks: JoinSet<Result<DriverExit, DriverError>>,
    /// The environment of each task.
    driven: BTreeMap<Id, EnvironmentKey>,
    /// When an environment that a driver left may have its next one.
    not_before: BTreeMap<EnvironmentKey, Timestamp>,
    /// When the pending undos of a host may be assigned again.
    undo_not_before: BTreeMap<(HostId, EnvironmentKey), Timestamp>,
    readmission: Readmission,
}

impl Drivers {
    pub fn new(context: Context) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            driven: BTreeMap::new(),
            not_before: BTreeMap::new(),
            undo_not_before: BTreeMap::new(),
            readmission: Readmission::default(),
        }
    }

    /// Returns when `stop` is cancelled. Another driver continues what is open then.
    pub async fn run(mut self, stop: CancellationToken) {
        let store = self.context.store.clone();
        let mut wakeups = store.watch(&keys::environments());
        self.catch_up().await;
        let mut watchdog = Watchdog::asked_for();
        loop {
            watchdog.turned();
            if let Err(error) = self.start_open_deployments().await {
                warn!(error = &error as &dyn std::error::Error, "cannot look for open deployments");
            }
            tokio::select! {
                // In this order, so that a simulation can be repeated.
                biased;
                () = stop.cancelled() => break,
                Some(left) = self.tasks.join_next_with_id() => self.note_exit(left),
                () = wakeups.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.tasks.shutdown().await;
    }

    /// Starts drivers for open deployments without one, and ends expired claims.
    async fn start_open_deployments(&mut self) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let mut driven: BTreeSet<EnvironmentKey> = self.driven.values().cloned().collect();
        // The claims alone: this happens every two seconds, and all that is recorded of many environments is much.
        for stored in self.context.store.list_named(&keys::environments(), keys::OPEN).await? {
            // What is driven is looked at by its driver.
            let Some(environment) =
                keys::environment_of(&stored.key).filter(|environment| !driven.contains(environment))
            else {
                continue;
            };
            let open: Claim = stored.read()?;
            match &open.kind {
                ClaimKind::Running { deployment, .. } | ClaimKind::Stuck { deployment } => {
                    let may_start = self.not_before.get(&environment).is_none_or(|at| now >= *at);
                    if may_start {
                        self.start(environment.clone(), deployment.clone(), &open.traceparent);
                    }
                    driven.insert(environment);
                }
                ClaimKind::Building { .. } | ClaimKind::Freeze { .. } if now >= open.until => {
                    info!(%environment, by = %open.by, "a claim or a freeze expired");
                    // Not committed means that it changed meanwhile: the next look sees what it is.
                    disclaim(&*self.context.store, &environment, &stored).await?;
                }
                ClaimKind::Building { .. } => {
                    driven.insert(environment);
                }
                ClaimKind::Freeze { .. } => {}
            }
        }
        self.adopt_local_rollbacks(&mut driven, now).await?;
        self.run_pending_undos(&mut driven, now).await?;
        self.readmit_hosts(&driven, now).await
    }

    /// Adopts local rollbacks in environments where nothing is open.
    async fn adopt_local_rollbacks(
        &mut self,
        busy: &mut BTreeSet<EnvironmentKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (stored, change) in local_rollbacks::not_adopted(&*self.context.store).await? {
            let environment = change.rollback.environment.clone();
            let may_start = self.not_before.get(&environment).is_none_or(|at| now >= *at);
            if may_start && busy.insert(environment.clone()) {
                let span = info_span!("local change", %environment, host = %change.host_name);
                let adoption = LocalRollbackAdoption { context: self.context.clone(), stored, change };
                let task = self.tasks.spawn(adoption.run().instrument(span));
                self.driven.insert(task.id(), environment);
            }
        }
        Ok(())
    }

    /// Runs the pending undos of hosts that are connected again or were removed, in environments where nothing is open.
    async fn run_pending_undos(
        &mut self,
        busy: &mut BTreeSet<EnvironmentKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for undo in pending_undos::list(&*self.context.store).await? {
            let whose = (undo.host.clone(), undo.environment.clone());
            let is_due = self.undo_not_before.get(&whose).is_none_or(|at| now >= *at);
            if !is_due || busy.contains(&undo.environment) {
                continue;
            }
            let is_back = self.context.agents.session_of(&undo.host).is_some();
            if is_back || hosts::find(&*self.context.store, &undo.host).await?.is_none() {
                busy.insert(undo.environment.clone());
                self.undo_not_before.insert(whose, now + UNDO_RETRY_AFTER);
                self.run_pending_undos_of(undo.host, undo.environment);
            }
        }
        Ok(())
    }

    /// Re-admits an excluded host.
    async fn readmit_hosts(
        &mut self,
        busy: &BTreeSet<EnvironmentKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let is_busy = |environment: &EnvironmentKey| busy.contains(environment);
        if let Some(back) = self.readmission.next(&self.context, is_busy, now).await? {
            let environment = back.environment.clone();
            let span = info_span!("return", %environment, host = %back.host);
            let task = self.tasks.spawn(Box::pin(back.open()).instrument(span));
            self.driven.insert(task.id(), environment);
        }
        Ok(())
    }

    fn run_pending_undos_of(&mut self, host: HostId, environment: EnvironmentKey) {
        let span = info_span!("debt", %host, %environment);
        let payer =
            PendingUndoRunner { context: self.context.clone(), environment: environment.clone(), host };
        let task = self.tasks.spawn(payer.run().instrument(span));
        self.driven.insert(task.id(), environment);
    }

    /// Continues the trace of the call that opened the deployment, as the previous driver did.
    fn start(&mut self, environment: EnvironmentKey, deployment: DeploymentId, traceparent: &str) {
        self.not_before.remove(&environment);
        let span = info_span!("deployment", %deployment, %environment);
        trace::follow(&span, traceparent);
        // It is large, and would be moved several times.
        let driving = Box::pin(Driver::new(self.context.clone(), environment.clone(), deployment).run());
        let task = self.tasks.spawn(driving.instrument(span));
        self.driven.insert(task.id(), environment);
    }

    fn note_exit(&mut self, left: Result<(Id, Result<DriverExit, DriverError>), tokio::task::JoinError>) {
        let (id, left) = match left {
            Ok((id, left)) => (id, Some(left)),
            Err(broken) => {
                error!(error = %broken, "bug: a driver panicked; another one resumes from the journal");
                (broken.id(), None)
            }
        };
        let Some(environment) = self.driven.remove(&id) else {
            return;
        };
        match left {
            Some(Ok(DriverExit::Ended)) => return,
            Some(Ok(DriverExit::NotOpen)) => debug!(%environment, "nothing is open in the environment"),
            Some(Ok(DriverExit::Deposed)) => {
                warn!(%environment, "another driver has taken over the environment")
            }
            Some(Err(error)) => {
                error!(%environment, error = &error as &dyn std::error::Error, "a driver cannot continue");
            }
            None => {}
        }
        self.not_before.insert(environment, self.context.clock.now() + RETRY_AFTER);
    }

    /// Refreshes state files and logs: a coordinator may have died between the end of a deployment and its files.
    async fn catch_up(&self) {
        match environments::declared_keys(&*self.context.store).await {
            Ok(environments) => {
                for environment in environments {
                    state_file::keep_current(&self.context, &environment).await;
                    deployment_log::catch_up(&self.context, &environment).await;
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot refresh state files and logs");
            }
        }
    }
}
