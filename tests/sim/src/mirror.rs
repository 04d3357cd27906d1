//! One deployment as its journal tells it, and what may follow: an account of the engine's rules that is
//! not the engine's own.

use std::collections::BTreeSet;

use lockstep_core::id::{HostId, StepId};
use lockstep_core::plan::{Action, OnFailure, Plan, Step, Undo, Wave};
use lockstep_core::run::engine::{ANSWER_GRACE, Phase, Run};
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Certainty, Direction, Entry, Event, StepStatus};
use lockstep_core::time::Timestamp;

use crate::invariant::{Broken, ENDS, NOTHING_LOST, ONE_HAND, TRAFFIC};

/// What the driver was about to begin when the wish came: one transaction.
const BEGUN_AFTER_CANCEL: usize = 1;

pub struct Mirror {
    pub run: Run,
    hosts: Vec<HostId>,
    pub is_taken: bool,
    /// When something was begun since it was cancelled, before its release served. What is begun at one moment is
    /// begun by one transaction.
    since_cancelled: Option<BTreeSet<Timestamp>>,
    /// Checks of health that can do without some of what they asked.
    ill: BTreeSet<StepId>,
    last: u32,
}

impl Mirror {
    pub fn of(plan: Plan, hosts: Vec<HostId>) -> Self {
        let run = Run::open(plan, Timestamp(u64::MAX));
        Self { run, hosts, is_taken: false, since_cancelled: None, ill: BTreeSet::new(), last: 0 }
    }

    pub fn host_number(&self, id: &HostId) -> usize {
        self.hosts.iter().position(|host| host == id).unwrap_or(usize::MAX)
    }

    /// Phase and last entry, with the step that it is about.
    pub fn fingerprint(&self) -> u32 {
        let phase = match self.run.phase() {
            Phase::Forward => 0,
            Phase::Reverting { .. } => 1,
            Phase::Stuck { .. } => 2,
            Phase::Ended { .. } => 3,
        };
        phase << 20 | self.last
    }

    pub fn cancelled(&mut self) {
        if !self.run.is_committed() {
            self.since_cancelled.get_or_insert_default();
        }
    }

    pub fn is_past_deadline(&self, step: StepId, at: Timestamp) -> bool {
        let Some(planned) = self.run.plan().step(step) else { return true };
        match self.run.step_status(step).begun_at() {
            Some(begun) => at >= begun + planned.limit + ANSWER_GRACE,
            None => true,
        }
    }

    pub fn apply(&mut self, entry: &Entry) -> Result<(), Broken> {
        self.run.apply(entry).map_err(|illegal| Broken(NOTHING_LOST, illegal.to_string()))?;
        if let Event::Done { step, finding, .. } = &entry.event
            && !finding.unhealthy.is_empty()
        {
            self.ill.insert(*step);
        }
        let (kind, step) = match &entry.event {
            Event::LockTaken { .. } => (1, 0),
            Event::Begun { step, direction: Direction::Do } => (2, step.0),
            Event::Begun { step, direction: Direction::Undo } => (3, step.0),
            Event::Done { step, direction: Direction::Do, .. } => (4, step.0),
            Event::Done { step, direction: Direction::Undo, .. } => (5, step.0),
            Event::Failed { step, direction: Direction::Do, .. } => (6, step.0),
            Event::Failed { step, direction: Direction::Undo, .. } => (7, step.0),
            Event::RevertStarted { .. } => (8, 0),
            Event::Stuck { .. } => (9, 0),
            Event::Resumed { .. } => (10, 0),
            Event::UndoDeferred { step, .. } => (11, step.0),
            Event::Ended { .. } => (12, 0),
            Event::Excluded { because, .. } => (13, because.0),
        };
        self.last = kind << 8 | u32::from(step);
        Ok(())
    }

    /// Whether `entry` may be the next.
    pub fn may_follow(&mut self, entry: &Entry) -> Result<(), Broken> {
        if let Some(since) = &mut self.since_cancelled
            && *self.run.phase() == Phase::Forward
            // What was begun before ends as it does, and that is written down.
            && matches!(entry.event, Event::Begun { direction: Direction::Do, .. })
            && !self.run.is_committed()
        {
            since.insert(entry.at);
            if since.len() > BEGUN_AFTER_CANCEL {
                return Err(Broken(NOTHING_LOST, "it was cancelled, and goes on".to_owned()));
            }
        }
        match &entry.event {
            Event::Begun { step, direction: Direction::Do } => self.may_begin(*step),
            Event::Begun { step, direction: Direction::Undo } => self.may_undo(*step),
            Event::Excluded { host, because } => self.may_pass_by(host, *because),
            Event::Ended { verdict: Verdict::Succeeded } => {
                match self.run.effective_plan().steps().find(|step| !self.is_settled(step)) {
                    Some(step) => Err(Broken(ENDS, format!("it succeeded without {}", step.id))),
                    None => Ok(()),
                }
            }
            Event::Ended { verdict: Verdict::RolledBack } => {
                if *self.run.phase() == Phase::Forward {
                    return Err(Broken(NOTHING_LOST, "it is rolled back and was never turned".to_owned()));
                }
                match self.run.plan().steps().find(|step| self.is_left(step)) {
                    Some(step) => Err(Broken(NOTHING_LOST, format!("{} was not undone", step.id))),
                    None => Ok(()),
                }
            }
            Event::LockTaken { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::RevertStarted { .. }
            | Event::Stuck { .. }
            | Event::Resumed { .. }
            | Event::UndoDeferred { .. } => Ok(()),
        }
    }

    /// A step begins when every wave before its own has been settled, and nothing is unwound.
    fn may_begin(&self, step: StepId) -> Result<(), Broken> {
        if *self.run.phase() != Phase::Forward {
            return Err(Broken(ONE_HAND, format!("{step} begins while it is unwound")));
        }
        let plan = self.run.effective_plan();
        let waves = plan.waves.iter().take(wave_of(plan, step));
        match waves.flat_map(|wave| &wave.steps).find(|before| !self.is_settled(before)) {
            Some(before) => Err(Broken(TRAFFIC, format!("{step} begins before {} has ended", before.id))),
            None => Ok(()),
        }
    }

    /// A host is passed by for something that went wrong, while nginx knows nothing of the slot and others are left.
    fn may_pass_by(&self, host: &HostId, because: StepId) -> Result<(), Broken> {
        let is_told = self.run.plan().steps().any(|step| {
            matches!(step.action, Action::InstallSite { .. } | Action::SwitchTraffic(_))
                && *self.run.step_status(step.id) != StepStatus::Waiting
        });
        let is_reason = match self.run.step_status(because) {
            StepStatus::Failed { .. } => self.run.plan().step(because).is_some_and(|step| step.host == *host),
            StepStatus::Done => self.ill.contains(&because),
            StepStatus::Waiting
            | StepStatus::Begun { .. }
            | StepStatus::Undoing { .. }
            | StepStatus::UndoFailed { .. }
            | StepStatus::Undone
            | StepStatus::UndoDeferred => false,
        };
        let left = self.run.effective_plan().serving.len().saturating_sub(1);
        let is_enough = self.run.plan().spec.deploy.quorum.is_some_and(|quorum| left >= usize::from(quorum));
        let number = self.host_number(host) + 1;
        if is_told {
            return Err(Broken(
                TRAFFIC,
                format!("host {number} is passed by, and nginx knows of its instances"),
            ));
        }
        if !is_reason {
            return Err(Broken(
                NOTHING_LOST,
                format!("host {number} is passed by because of {because}, which went well"),
            ));
        }
        if !is_enough {
            return Err(Broken(TRAFFIC, format!("host {number} is passed by, and {left} are left")));
        }
        Ok(())
    }

    /// A step is undone after everything that came after it.
    fn may_undo(&self, step: StepId) -> Result<(), Broken> {
        if *self.run.phase() == Phase::Forward {
            return Err(Broken(NOTHING_LOST, format!("{step} is undone, and no entry says why")));
        }
        let plan = self.run.plan();
        let waves = plan.waves.iter().skip(wave_of(plan, step) + 1);
        match waves.flat_map(|wave| &wave.steps).find(|after| self.is_left(after)) {
            Some(after) => Err(Broken(TRAFFIC, format!("{step} is undone before {}", after.id))),
            None => Ok(()),
        }
    }

    fn is_settled(&self, step: &Step) -> bool {
        match self.run.step_status(step.id) {
            StepStatus::Done => true,
            StepStatus::Failed { .. } => step.on_failure == OnFailure::Note,
            StepStatus::Waiting
            | StepStatus::Begun { .. }
            | StepStatus::Undoing { .. }
            | StepStatus::UndoFailed { .. }
            | StepStatus::Undone
            | StepStatus::UndoDeferred => false,
        }
    }

    /// Whether something of the step is perhaps there.
    fn is_left(&self, step: &Step) -> bool {
        match self.run.step_status(step.id) {
            StepStatus::Waiting | StepStatus::Undone | StepStatus::UndoDeferred => false,
            StepStatus::Begun { .. } | StepStatus::Failed { certainty: Certainty::Unknown } => true,
            StepStatus::Done | StepStatus::Failed { certainty: Certainty::Failed } => has_undo(&step.undo),
            StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. } => true,
        }
    }
}

fn wave_of(plan: &Plan, step: StepId) -> usize {
    let has = |wave: &Wave| wave.steps.iter().any(|there| there.id == step);
    plan.waves.iter().position(has).unwrap_or(0)
}

/// Whether the undo of a step is to be carried out when it was done.
fn has_undo(undo: &Undo) -> bool {
    match undo {
        Undo::By { .. } => true,
        Undo::Nothing { .. } => false,
    }
}
