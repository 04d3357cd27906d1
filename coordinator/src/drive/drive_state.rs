//! The state of a deployment in its driver: the loaded record and the journal, folded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lockstep_core::agent::fence::Token;
use lockstep_core::id::{ClusterId, DeploymentId, HostId, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::check;
use lockstep_core::record::claim::{Claim, ClaimKind, OperatorRequest};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::pending_undo::PendingUndos;
use lockstep_core::run::engine::{ANSWER_GRACE, OpenIntent, Phase, Run, pending_undo};
use lockstep_core::run::journal::{Direction, Entry, Event, StepKey};
use lockstep_core::time::{Millis, Timestamp};
use lockstep_mutant::{Mutant, is_on};
use tracing::Span;

use super::exit::DriverError;
use super::pending_transaction::{Assigned, AssignedSteps};
use crate::context::Context;
use crate::export::deployment_log::DeploymentLog;
use crate::record::environments::Versioned;
use crate::record::{environments, history, pending_undos};
use crate::store::guarded::OwnedWrite;
use crate::store::handover::Assignment;
use crate::store::{Owned, Store, StoreError, Stored, keys};

pub(super) struct DriveState {
    pub(super) run: Run,
    /// Of the plan.
    pub(super) hosts: Arc<BTreeSet<HostId>>,
    pub(super) entries: Vec<Entry>,
    pub(super) opened: DeploymentSummary,
    pub(super) log: DeploymentLog,
    pub(super) assigned: AssignedSteps,
    cluster: ClusterId,
    /// Of this driver's lock.
    epoch: u64,
    /// The last sequence number of a token of this epoch.
    token_seq: u64,
    pub(super) takeover_entry: TakeoverEntry,
    /// What hosts answered to the questions after the take-over.
    pub(super) answers: VecDeque<Event>,
    /// What is to be sent again under this epoch.
    pub(super) to_resend: VecDeque<OpenIntent>,
    /// What its hosts owe to the environment.
    pending_undos: BTreeMap<HostId, PendingUndos>,
    /// The claim, as it was seen last.
    pub(super) open: Versioned<Claim>,
}

/// Whether the journal says that this driver has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeoverEntry {
    Missing,
    Written,
}

impl DriveState {
    /// `None` if the deployment is not open.
    pub(super) async fn load(
        context: &Context,
        environment: &EnvironmentKey,
        id: &DeploymentId,
        epoch: u64,
    ) -> Result<Option<Self>, DriverError> {
        let store = &*context.store;
        let missing = |what| DriverError::Missing(id.clone(), what);
        // A read of etcd takes a millisecond or two, and others wait for this driver.
        let (plan, opened, open, entries, undos) = tokio::try_join!(
            history::plan(store, id),
            history::summary(store, id),
            environments::open_of(store, environment, id),
            history::journal(store, id),
            pending_undos::list(store),
        )?;
        let Some(open) = open else {
            return Ok(None);
        };
        let plan = plan.ok_or_else(|| missing("plan"))?;
        let is_unchecked = is_on(Mutant::MigratesBeforeSnapshot) || is_on(Mutant::SwitchesUnchecked);
        if let Some(broken) = check::check(&plan).first()
            && !is_unchecked
        {
            return Err(DriverError::Plan(broken.to_string()));
        }
        let opened = opened.ok_or_else(|| missing("summary"))?;
        let run = Run::replay(plan, open.content.until, &entries)?;
        let log = DeploymentLog::open_for(context, &opened).await;
        let mut pending: BTreeMap<HostId, PendingUndos> = BTreeMap::new();
        for undo in undos.into_iter().filter(|undo| undo.environment == opened.key) {
            pending.entry(undo.host.clone()).or_default().undos.push(undo);
        }
        if !entries.is_empty() {
            log.rewrite(&run, &entries).await;
        }
        let hosts: BTreeSet<HostId> = run.plan().steps().map(|step| step.host.clone()).collect();
        Ok(Some(Self {
            assigned: load_assigned(store, &opened.key, &hosts).await?,
            log,
            run,
            hosts: Arc::new(hosts),
            entries,
            opened,
            cluster: context.cluster.clone(),
            epoch,
            token_seq: 0,
            takeover_entry: TakeoverEntry::Missing,
            answers: VecDeque::new(),
            to_resend: VecDeque::new(),
            pending_undos: pending,
            open,
        }))
    }

    /// When the outcome of a step that runs is unknown.
    pub(super) fn deadline(&self, step: StepId) -> Option<Timestamp> {
        let limit = self.run.plan().step(step).map_or(Millis(0), |step| step.limit);
        Some(self.run.step_status(step).begun_at()? + limit + ANSWER_GRACE)
    }

    /// What is still to be sent again: not what is being reverted.
    pub(super) fn next_to_resend(&mut self) -> Option<OpenIntent> {
        while let Some(intent) = self.to_resend.pop_front() {
            let is_wanted = match (self.run.phase(), intent.direction) {
                (Phase::Forward, Direction::Do) | (Phase::Reverting { .. }, Direction::Undo) => true,
                (Phase::Forward | Phase::Reverting { .. }, Direction::Do | Direction::Undo)
                | (Phase::Stuck { .. } | Phase::Ended { .. }, _) => false,
            };
            if is_wanted && self.run.open_intents().contains(&intent) {
                return Some(intent);
            }
        }
        None
    }

    pub(super) fn next_token(&mut self) -> Token {
        self.token_seq += 1;
        Token { cluster: self.cluster.clone(), epoch: self.epoch, seq: self.token_seq }
    }

    /// The next entry of the journal.
    pub(super) fn entry(&self, event: Event, at: Timestamp) -> Entry {
        Entry { seq: self.run.next_seq(), at, epoch: self.epoch, event }
    }

    /// Whether `token` is that of what this driver itself has handed out for the step.
    pub(super) fn is_own(&self, step: StepId, token: &Token) -> bool {
        let is_current = token.epoch == self.epoch && self.assigned.is_current(step, token);
        is_current || is_on(Mutant::AnyRefusalCounts)
    }

    /// The pending undos of a host with that of `entry`; `None` if `entry` makes no undo pending.
    pub(super) fn add_pending_undo(&mut self, entry: &Entry) -> Option<OwnedWrite> {
        let undo = pending_undo(&self.run, &self.opened.id, entry)?;
        let host = undo.host.clone();
        let pending = self.pending_undos.entry(host.clone()).or_default();
        pending.undos.push(undo);
        Some(pending_undos::write(&host, &self.opened.key, pending))
    }

    /// The claim as it stands now. It is read again only when it has changed.
    pub(super) fn update_claim(&mut self, open: Stored) -> Result<(), StoreError> {
        if self.open.stored.modified != open.modified {
            self.open = Versioned { content: open.read()?, stored: open };
        }
        Ok(())
    }

    /// What an operator requests.
    pub(super) fn request(&self) -> &OperatorRequest {
        match &self.open.content.kind {
            ClaimKind::Running { request, .. } => request,
            ClaimKind::Stuck { .. } | ClaimKind::Building { .. } | ClaimKind::Freeze { .. } => {
                &OperatorRequest::None
            }
        }
    }

    /// The claim, as another kind of it.
    pub(super) fn claim_with(&self, kind: ClaimKind) -> OwnedWrite {
        let open = Claim { kind, ..self.open.content.clone() };
        OwnedWrite::put(keys::open(&self.opened.key), &open)
    }
}

/// What is handed to the plan's hosts, by whatever epoch.
async fn load_assigned(
    store: &dyn Store,
    environment: &EnvironmentKey,
    hosts: &BTreeSet<HostId>,
) -> Result<AssignedSteps, StoreError> {
    let mut handed = AssignedSteps::default();
    if is_on(Mutant::PredecessorsHandoutsForgotten) {
        return Ok(handed);
    }
    // There are no more than steps that run, and others wait for this driver: one look, and not one for each host.
    for stored in store.list(&keys::all_assignments()).await? {
        if !keys::assigned_host(&stored.key).is_some_and(|host| hosts.contains(&host)) {
            continue;
        }
        let assignment: Assignment = stored.read()?;
        if assignment.environment != *environment {
            continue;
        }
        if let Some(key) = Owned::of_stored(&stored.key) {
            let StepKey { step, .. } = assignment.key;
            handed.add(step, Assigned { key, token: assignment.token, span: Span::none() });
        }
    }
    Ok(handed)
}
