//! One process of an agent: its journal on the simulated disk, by the real rules of admission and acceptance, and how
//! it dies.

use std::sync::Arc;

use lockstep_coordinator::ports::agents::{QueriedStatus, StepQuery};
use lockstep_coordinator::store::handover::Assignment;
use lockstep_core::agent::accept;
use lockstep_core::agent::accept::{
    AcceptDecision, BeginDecision, NextAction, OfferedStep, Outcome, StepRecord, StepState, TokenUpdate,
};
use lockstep_core::agent::fence;
use lockstep_core::agent::fence::{FenceState, Token};
use lockstep_core::id::Digest;
use lockstep_core::plan::Action;
use lockstep_core::run::journal::StepKey;
use lockstep_mutant::{Mutant, is_on};

use crate::disk::{Row, Sync, Tables};
use crate::fault::{Fault, Point};
use crate::world::World;

/// One process of an agent.
#[derive(Clone)]
pub struct AgentProcess {
    pub world: Arc<World>,
    pub host: usize,
    pub incarnation: u32,
}

impl AgentProcess {
    /// For ever, when this process is dead.
    pub async fn gate(&self) {
        if self.world.lock().hosts[self.host].process.incarnation != self.incarnation {
            std::future::pending::<()>().await;
        }
    }

    pub async fn die(&self, fault: Fault) -> ! {
        // Another of its tasks may have been faster.
        if self.world.lock().hosts[self.host].process.incarnation == self.incarnation {
            self.world.crash_agent(self.host, fault);
        }
        std::future::pending().await
    }

    /// One transaction of the journal, before or after which the process may die.
    async fn transaction<T>(&self, change: impl FnOnce(&Self) -> T) -> T {
        self.gate().await;
        let fault = self.world.strike(Point::Journal);
        let is_before = self.world.chance(fastrand::Rng::bool);
        if let Some(fault) = fault
            && is_before
        {
            self.die(fault).await;
        }
        let changed = change(self);
        if let Some(fault) = fault {
            self.die(fault).await;
        }
        changed
    }

    pub(super) fn write(&self, sync: Sync, change: impl Fn(&mut Tables)) {
        self.world.lock().hosts[self.host].disk.write(sync, change);
    }

    fn known(&self, key: &StepKey) -> (Option<FenceState>, Option<StepRecord>, Option<StepRecord>) {
        let state = self.world.lock();
        let tables = state.hosts[self.host].disk.read();
        (tables.mark.clone(), tables.known(key).cloned(), tables.undo_of(key).cloned())
    }

    /// Raises the mark to `offered`, or says why not.
    fn raise(&self, offered: &FenceState) -> Result<(), String> {
        let seen = self.world.lock().hosts[self.host].disk.read().mark.clone();
        let raised = fence::advance_fence(seen.as_ref(), offered).map_err(|unfit| unfit.to_string())?;
        self.world.fenced(self.host, &offered.token);
        if let Some(mark) = raised {
            let sync = if is_on(Mutant::FenceNotSynced) { Sync::No } else { Sync::Yes };
            self.write(sync, |tables| tables.mark = Some(mark.clone()));
        }
        Ok(())
    }

    pub(super) async fn accept(&self, assignment: &Assignment) -> Accepted {
        self.transaction(|me| me.take_on(assignment)).await
    }

    fn take_on(&self, assignment: &Assignment) -> Accepted {
        let said = digest(assignment);
        let Assignment { token, key, .. } = assignment;
        if let Err(why) =
            self.raise(&FenceState { token: token.clone(), assignment_digest: Some(said.clone()) })
        {
            return Accepted::Refused(why);
        }
        let (_, known, undo) = self.known(key);
        let offered = OfferedStep { token, assignment_digest: &said, direction: key.direction };
        let then = match accept::decide_accept(known.as_ref(), undo.as_ref(), &offered) {
            AcceptDecision::UndoAccepted => return Accepted::Refused("it has been undone".to_owned()),
            AcceptDecision::DifferentContent => {
                return Accepted::Refused("it came before, with other work".to_owned());
            }
            AcceptDecision::New => {
                let known = StepRecord {
                    token: token.clone(),
                    assignment_digest: said.clone(),
                    state: StepState::Accepted,
                };
                self.write(Sync::Yes, |tables| {
                    tables.rows.insert(key.clone(), Row { known: known.clone(), settled: false });
                });
                return Accepted::Begin;
            }
            AcceptDecision::AlreadyKnown(retoken, then) => {
                if retoken == TokenUpdate::Yes {
                    self.write(Sync::Yes, |tables| tables.retoken(key, token));
                }
                then
            }
        };
        match then {
            NextAction::Begin | NextAction::Attach => Accepted::Begin,
            NextAction::BeginAgain => {
                self.write(Sync::Yes, |tables| tables.set(key, StepState::Accepted));
                Accepted::Begin
            }
            NextAction::Answer(outcome) => Accepted::Ended(*outcome),
        }
    }

    pub(super) async fn ask(&self, question: &StepQuery) -> Result<Vec<(StepKey, QueriedStatus)>, String> {
        self.transaction(|me| {
            me.raise(&FenceState { token: question.token.clone(), assignment_digest: None })?;
            Ok(question.keys.iter().map(|key| (key.clone(), me.standing(key, &question.token))).collect())
        })
        .await
    }

    fn standing(&self, key: &StepKey, token: &Token) -> QueriedStatus {
        match self.known(key).1.map(|known| known.state) {
            None | Some(StepState::Accepted | StepState::Interrupted) => QueriedStatus::NeverReceived,
            Some(StepState::Running) => {
                self.write(Sync::Yes, |tables| tables.retoken(key, token));
                QueriedStatus::Running
            }
            Some(StepState::Ended(outcome)) => QueriedStatus::Ended(outcome),
        }
    }

    /// Writes down that a step runs, unless something newer has come.
    pub async fn begin(&self, key: &StepKey) -> BeginDecision {
        self.transaction(|me| {
            let (mark, known, undo) = me.known(key);
            let Some(known) = known else { return BeginDecision::Withdrawn };
            let beginning = accept::decide_begin(mark.as_ref(), &known, undo.as_ref(), key.direction);
            if beginning == BeginDecision::Begun {
                me.world.begins(me.host, key, &known.token);
                me.write(Sync::Yes, |tables| tables.set(key, StepState::Running));
            }
            beginning
        })
        .await
    }

    /// Writes down what became of a step, and reports it.
    pub async fn finish(&self, key: &StepKey, outcome: Outcome) {
        if is_on(Mutant::OutcomeNotSynced) {
            self.world.report(self.host, key, &outcome);
        }
        self.transaction(|me| {
            let sync = if is_on(Mutant::OutcomeNotSynced) { Sync::No } else { Sync::Yes };
            me.write(sync, |tables| tables.set(key, StepState::Ended(outcome.clone())));
        })
        .await;
    }
}

/// What an assignment gets at once.
pub(super) enum Accepted {
    Begin,
    Ended(Outcome),
    Refused(String),
}

/// The digest by which the same work is recognised.
fn digest(assignment: &Assignment) -> Digest {
    let action = assignment.action.as_ref().map(Action::digest);
    let action = action.as_ref().map_or("nothing", Digest::as_str);
    Digest::of_content(format!("{}\n{}\n{action}", assignment.environment, assignment.key).as_bytes())
}
