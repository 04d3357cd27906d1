//! What a driver knows of its deployment, from when it has loaded it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_core::engine::{ANSWER_GRACE, OpenIntent, Phase, Run, debt};
use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::journal::{Direction, Entry, Event, Standing, StepKey};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::check;
use lockstep_core::record::{Debts, Open, OpenKind, Summary};
use lockstep_core::time::{Millis, Timestamp};
use lockstep_mutant::{Mutant, is_on};
use tracing::Span;

use super::Parts;
use super::deployment::DriverError;
use super::transaction::{Assigned, Handed};
use crate::deployment_log::DeploymentLog;
use crate::store::guarded::OwnedWrite;
use crate::store::handover::Assignment;
use crate::store::{Owned, Store, StoreError, keys};
use crate::{debts, environments, history};

pub(super) struct Course {
    pub(super) run: Run,
    pub(super) entries: Vec<Entry>,
    pub(super) opened: Summary,
    pub(super) log: DeploymentLog,
    pub(super) handed: Handed,
    /// The last sequence number of a token of this epoch.
    pub(super) token_seq: u64,
    pub(super) taken: Taken,
    /// What hosts answered to the questions after the take-over.
    pub(super) heard: VecDeque<Event>,
    /// What is to be sent again under this epoch.
    pub(super) unheard: VecDeque<OpenIntent>,
    /// What its hosts owe to the environment.
    debts: BTreeMap<HostId, Debts>,
    open: Open,
}

/// Whether the journal says that this driver has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    ToBeSaid,
    Said,
}

impl Course {
    pub(super) async fn load(
        parts: &Parts,
        environment: &EnvironmentKey,
        id: &DeploymentId,
    ) -> Result<Self, DriverError> {
        let store = &*parts.store;
        let missing = |what| DriverError::Missing(id.clone(), what);
        let plan = history::plan(store, id).await?.ok_or_else(|| missing("plan"))?;
        let is_unchecked = is_on(Mutant::MigratesBeforeSnapshot) || is_on(Mutant::SwitchesUnchecked);
        if let Some(broken) = check::check(&plan).first()
            && !is_unchecked
        {
            return Err(DriverError::Plan(broken.to_string()));
        }
        let opened = history::summary(store, id).await?.ok_or_else(|| missing("summary"))?;
        let open = environments::open(store, environment).await?.ok_or_else(|| missing("claim"))?.content;
        let entries = history::journal(store, id).await?;
        let run = Run::replay(plan, open.until, &entries)?;
        let log = DeploymentLog::of(parts, &opened).await;
        let mut debts = BTreeMap::new();
        for step in run.plan().steps() {
            debts.insert(step.host.clone(), debts::of(store, &step.host, environment).await?);
        }
        if !entries.is_empty() {
            log.rewrite(&run, &entries).await;
        }
        Ok(Self {
            handed: handed(store, environment, &run).await?,
            log,
            run,
            entries,
            opened,
            token_seq: 0,
            taken: Taken::ToBeSaid,
            heard: VecDeque::new(),
            unheard: VecDeque::new(),
            debts,
            open,
        })
    }

    /// When the outcome of a step that runs is unknown.
    pub(super) fn deadline(&self, step: StepId) -> Option<Timestamp> {
        let limit = self.run.plan().step(step).map_or(Millis(0), |step| step.limit);
        match self.run.standing(step) {
            Standing::Begun { at } | Standing::Undoing { at, .. } => Some(*at + limit + ANSWER_GRACE),
            Standing::Waiting
            | Standing::Done
            | Standing::Failed { .. }
            | Standing::UndoFailed { .. }
            | Standing::Undone
            | Standing::Left => None,
        }
    }

    /// What is still to be sent again: not what is being unwound.
    pub(super) fn next_unheard(&mut self) -> Option<OpenIntent> {
        while let Some(intent) = self.unheard.pop_front() {
            let is_wanted = match (self.run.phase(), intent.direction) {
                (Phase::Forward, Direction::Do) | (Phase::Backward { .. }, Direction::Undo) => true,
                (Phase::Forward | Phase::Backward { .. }, Direction::Do | Direction::Undo)
                | (Phase::Stuck { .. } | Phase::Ended { .. }, _) => false,
            };
            if is_wanted && self.run.open_intents().contains(&intent) {
                return Some(intent);
            }
        }
        None
    }

    /// The hosts of the plan.
    pub(super) fn hosts(&self) -> BTreeSet<HostId> {
        self.run.plan().steps().map(|step| step.host.clone()).collect()
    }

    /// What `entry` makes a host owe, with what it owes already.
    pub(super) fn owed(&self, entry: &Entry) -> Option<(HostId, Debts)> {
        let debt = debt(&self.run, &self.opened.id, entry)?;
        let host = debt.host.clone();
        let mut debts = self.debts.get(&host).cloned().unwrap_or_default();
        debts.owed.push(debt);
        Some((host, debts))
    }

    /// What was written of it.
    pub(super) fn note_debts(&mut self, entry: &Entry) {
        if let Some((host, debts)) = self.owed(entry) {
            self.debts.insert(host, debts);
        }
    }

    /// The claim, as another kind of it.
    pub(super) fn open_as(&self, kind: OpenKind) -> OwnedWrite {
        let open = Open { kind, ..self.open.clone() };
        OwnedWrite::put(keys::open(&self.opened.key), &open)
    }
}

/// What is handed to the plan's hosts, by whatever epoch.
async fn handed(store: &dyn Store, environment: &EnvironmentKey, run: &Run) -> Result<Handed, StoreError> {
    let mut handed = Handed::default();
    let hosts: BTreeSet<_> = run.plan().steps().map(|step| step.host.clone()).collect();
    if is_on(Mutant::PredecessorsHandoutsForgotten) {
        return Ok(handed);
    }
    for host in hosts {
        for stored in store.list(&keys::assignments(&host, environment)).await? {
            let assignment: Assignment = stored.read()?;
            if let Some(key) = Owned::of_stored(&stored.key) {
                let StepKey { step, direction, .. } = assignment.key;
                handed.add(step, Assigned { key, token: assignment.token, direction, span: Span::none() });
            }
        }
    }
    Ok(handed)
}
