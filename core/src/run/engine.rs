//! The engine: a run is a fold over its journal, and one function decides what comes next.
//!
//! [`decide`] says which entry to append or when to wake. The shell appends it and passes it back through
//! [`Run::apply`]. Recovery is the same fold over the existing entries; there is no second path.
//!
//! What must stay true: an effect has its intent in the journal first. The decision to revert is an entry, so a
//! successor cannot change direction. A step with an unknown outcome is undone too.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::id::{HostId, StepId};
use crate::plan::action::Endpoint;
use crate::plan::{Action, OnFailure, Plan, Step, Undo};
use crate::record::claim::OperatorRequest;
use crate::run::journal::Verdict;
use crate::run::journal::{
    Certainty, Deferral, Direction, Entry, Event, IllegalEntry, RevertReason, StepFailure, StepStatus,
};
use crate::time::{Millis, Timestamp};

mod exclusion;
mod forward;
mod pending_undo;
mod resolutions;
mod reverting;
mod step_statuses;

pub use pending_undo::{UNREACHABLE_AFTER, decide_with_unreachable, pending_undo};
pub use resolutions::{refuse_resolution, resolutions};

use step_statuses::StepStatuses;

/// How often an undo is tried before the deployment is stuck.
pub const UNDO_ATTEMPTS_MAX: u16 = 3;

/// How long after a failed undo the next attempt begins.
pub const UNDO_RETRY_AFTER: Millis = Millis::from_secs(2);

/// One deployment, as far as its journal tells.
#[derive(Debug, Clone)]
pub struct Run {
    /// As it was shown. Shared by the copies that are made to try an entry out.
    plan: Arc<Plan>,
    /// What is left of it without the hosts that were passed by.
    effective_plan: Arc<Plan>,
    excluded: BTreeSet<HostId>,
    /// What checks of health have found without it, and can do without.
    unhealthy: BTreeMap<StepId, Vec<Endpoint>>,
    lock_until: Timestamp,
    phase: Phase,
    step_statuses: StepStatuses,
    failures: BTreeMap<StepId, StepFailure>,
    next_seq: u32,
    epoch: u64,
}

/// Which way it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Forward,
    Reverting { because: RevertReason },
    Stuck { because: RevertReason, step: StepId },
    Ended { verdict: Verdict },
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Append this entry. A `Begun` goes together with its [`Assignment`], in one transaction.
    Append(Event),
    /// Ask again at this time, if nothing has happened by then.
    WakeAt(Timestamp),
}

/// What an agent gets for a `Begun`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub host: HostId,
    /// `None`: only make sure that the "do" of the step has ended and never begins.
    pub action: Option<Action>,
    pub limit: Millis,
}

/// A step that has perhaps happened: what a successor must ask its agent about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenIntent {
    pub step: StepId,
    pub direction: Direction,
    pub host: HostId,
}

impl Run {
    /// A deployment of `plan` whose journal is empty and which is unwound at `lock_until`.
    pub fn open(plan: Plan, lock_until: Timestamp) -> Self {
        let step_statuses = StepStatuses::all_waiting(&plan);
        let plan = Arc::new(plan);
        Self {
            effective_plan: Arc::clone(&plan),
            plan,
            excluded: BTreeSet::new(),
            unhealthy: BTreeMap::new(),
            lock_until,
            phase: Phase::Forward,
            step_statuses,
            failures: BTreeMap::new(),
            next_seq: 1,
            epoch: 0,
        }
    }

    /// The run that `entries` amount to.
    ///
    /// # Errors
    /// When they cannot have been written by this engine for this plan.
    pub fn replay(plan: Plan, lock_until: Timestamp, entries: &[Entry]) -> Result<Self, IllegalEntry> {
        let mut run = Self::open(plan, lock_until);
        for entry in entries {
            run.apply(entry)?;
        }
        Ok(run)
    }

    /// Applies one more entry.
    ///
    /// # Errors
    /// When it cannot follow; the run is then as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), IllegalEntry> {
        let illegal = |what| Err(IllegalEntry { seq: entry.seq, what });
        if entry.seq != self.next_seq {
            return illegal(format!("expected entry {}", self.next_seq));
        }
        if entry.epoch < self.epoch {
            return illegal(format!("its epoch {} is lower than {}", entry.epoch, self.epoch));
        }
        if let Phase::Ended { .. } = self.phase {
            return illegal(format!("{:?} comes after the end", entry.event));
        }
        match &entry.event {
            Event::LockTaken { .. } => {}
            Event::Begun { step, .. } | Event::Done { step, .. } | Event::Failed { step, .. } => {
                let Some(status) = self.step_statuses.get_mut(*step) else {
                    return illegal(format!("the plan has no step {step}"));
                };
                let Some(after) = status.next_status(&entry.event, entry.at) else {
                    return illegal(format!("{:?} cannot follow {status:?}", entry.event));
                };
                *status = after;
                if let Event::Failed { failure, .. } = &entry.event {
                    self.failures.insert(*step, failure.clone());
                }
                if let Event::Done { finding, .. } = &entry.event
                    && !finding.unhealthy.is_empty()
                {
                    self.unhealthy.insert(*step, finding.unhealthy.clone());
                }
            }
            Event::Excluded { host, .. } => match self.plan_without(host) {
                Ok(rest) => {
                    self.effective_plan = Arc::new(rest);
                    self.excluded.insert(host.clone());
                }
                Err(why) => return illegal(format!("{host} cannot be excluded: {why}")),
            },
            Event::RevertStarted { because } => match self.phase {
                Phase::Forward => self.phase = Phase::Reverting { because: because.clone() },
                Phase::Reverting { .. } | Phase::Stuck { .. } | Phase::Ended { .. } => {
                    return illegal(format!("the revert started twice: {because:?}"));
                }
            },
            Event::Stuck { step, .. } => match &self.phase {
                Phase::Reverting { because } => {
                    self.phase = Phase::Stuck { because: because.clone(), step: *step }
                }
                Phase::Forward | Phase::Stuck { .. } | Phase::Ended { .. } => {
                    return illegal(format!("{step} is stuck, but the deployment is not being reverted"));
                }
            },
            Event::Resumed { .. } => match &self.phase {
                Phase::Stuck { because, .. } => {
                    self.phase = Phase::Reverting { because: because.clone() };
                    for status in self.step_statuses.values_mut() {
                        if let Some(after) = status.next_status(&entry.event, entry.at) {
                            *status = after;
                        }
                    }
                }
                Phase::Forward | Phase::Reverting { .. } | Phase::Ended { .. } => {
                    return illegal(format!("{:?}, but the deployment was not stuck", entry.event));
                }
            },
            Event::UndoDeferred { step, how } => self.defer_undo(*step, how, entry)?,
            Event::Ended { verdict } => self.phase = Phase::Ended { verdict: *verdict },
        }
        self.next_seq += 1;
        self.epoch = entry.epoch;
        Ok(())
    }

    fn defer_undo(&mut self, step: StepId, how: &Deferral, entry: &Entry) -> Result<(), IllegalEntry> {
        let illegal = |what| Err(IllegalEntry { seq: entry.seq, what });
        let phase = match (&self.phase, how) {
            (Phase::Reverting { .. }, Deferral::Pending { .. }) => self.phase.clone(),
            (Phase::Forward, Deferral::Pending { .. }) if self.is_excluded(step) => Phase::Forward,
            (
                Phase::Stuck { because, .. },
                Deferral::Pending { by: Some(_), .. } | Deferral::Skipped { .. },
            ) => Phase::Reverting { because: because.clone() },
            (_, _) => return illegal(format!("the undo of {step} is deferred without a reason")),
        };
        if let Some(rule) = resolutions::rule_against_deferring(&self.plan, step) {
            return illegal(format!("the undo of {step} cannot be deferred: {rule}"));
        }
        let status = self.step_statuses.get_mut(step);
        let after = status.as_ref().and_then(|there| there.next_status(&entry.event, entry.at));
        let (Some(status), Some(after)) = (status, after) else {
            return illegal(format!("the undo of {step} is deferred, but the step has nothing to undo"));
        };
        *status = after;
        self.phase = phase;
        Ok(())
    }

    /// The plan as it was shown, with the steps of excluded hosts.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan that is carried out, without the excluded hosts.
    pub fn effective_plan(&self) -> &Plan {
        &self.effective_plan
    }

    /// The plan with the steps of this direction.
    pub fn plan_of(&self, direction: Direction) -> &Plan {
        match direction {
            Direction::Do => &self.effective_plan,
            Direction::Undo => &self.plan,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    pub fn lock_until(&self) -> Timestamp {
        self.lock_until
    }

    /// The sequence number of the entry that comes next.
    pub fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// The status of `step`. A step that the plan does not have is waiting.
    pub fn step_status(&self, step: StepId) -> &StepStatus {
        self.step_statuses.get(step).unwrap_or(&StepStatus::Waiting)
    }

    /// The last failure of `step`.
    pub fn failure(&self, step: StepId) -> Option<&StepFailure> {
        self.failures.get(&step)
    }

    /// Whether `event` may be the next entry: a report that comes late may not.
    pub fn accepts(&self, event: &Event, at: Timestamp) -> bool {
        // What hosts report comes by the thousand: it is a matter of its step alone, as in `apply`.
        if let Event::Begun { step, .. } | Event::Done { step, .. } | Event::Failed { step, .. } = event {
            let has_ended = matches!(self.phase, Phase::Ended { .. });
            let after = self.step_statuses.get(*step).and_then(|status| status.next_status(event, at));
            return !has_ended && after.is_some();
        }
        let entry = Entry { seq: self.next_seq, at, epoch: self.epoch, event: event.clone() };
        self.clone().apply(&entry).is_ok()
    }

    /// What has begun and not ended.
    pub fn open_intents(&self) -> Vec<OpenIntent> {
        self.plan
            .steps()
            .filter_map(|step| {
                let direction = match self.step_status(step.id) {
                    StepStatus::Begun { .. } => Direction::Do,
                    StepStatus::Undoing { .. } => Direction::Undo,
                    StepStatus::Waiting
                    | StepStatus::Done
                    | StepStatus::Failed { .. }
                    | StepStatus::UndoFailed { .. }
                    | StepStatus::Undone
                    | StepStatus::UndoDeferred => return None,
                };
                Some(OpenIntent { step: step.id, direction, host: step.host.clone() })
            })
            .collect()
    }

    /// Whether the release is live and only housekeeping is left: from here on nothing is reverted.
    pub fn is_committed(&self) -> bool {
        self.effective_plan
            .steps()
            .filter(|step| step.on_failure == OnFailure::Unwind)
            .all(|step| *self.step_status(step.id) == StepStatus::Done)
    }

    /// Whether the effect of `step` may be there, and is to be reverted.
    fn needs_undo(&self, step: &Step) -> bool {
        match self.step_status(step.id) {
            StepStatus::Waiting | StepStatus::Undone | StepStatus::UndoDeferred => false,
            // Begun and nothing more is "perhaps done", and perhaps still running: its host is told to end it.
            StepStatus::Begun { .. } | StepStatus::Failed { certainty: Certainty::Unknown } => {
                !is_on(Mutant::UnknownNotUndone)
            }
            StepStatus::Done | StepStatus::Failed { certainty: Certainty::Failed } => match step.undo {
                Undo::By { .. } => true,
                Undo::Nothing { .. } => false,
            },
            StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. } => true,
        }
    }
}

/// What to do at `now`, given the request of an operator. Deterministic. Empty if the run has ended, or if it is stuck
/// and no resolution was requested.
pub fn decide(run: &Run, request: &OperatorRequest, now: Timestamp) -> Vec<Command> {
    let request = if is_on(Mutant::WishIgnored) { &OperatorRequest::None } else { request };
    match &run.phase {
        Phase::Forward => forward::decide(run, request, now),
        Phase::Reverting { .. } => reverting::decide(run, request, now),
        Phase::Stuck { step, .. } => {
            resolutions::apply_request(run, *step, request).into_iter().map(Command::Append).collect()
        }
        Phase::Ended { .. } => Vec::new(),
    }
}

/// What the agent gets when `step` begins in `direction`; `None` when the plan has no such step.
pub fn assignment(plan: &Plan, step: StepId, direction: Direction) -> Option<Assignment> {
    let step = plan.step(step)?;
    let action = match (direction, &step.undo) {
        (Direction::Do, _) => Some(step.action.clone()),
        (Direction::Undo, Undo::By { action, .. }) => Some(action.clone()),
        (Direction::Undo, Undo::Nothing { .. }) => None,
    };
    Some(Assignment { host: step.host.clone(), action, limit: step.limit })
}

/// A step that runs: nothing to do before its deadline, and at its deadline nobody knows.
fn await_outcome(step: &Step, direction: Direction, begun: Timestamp, now: Timestamp) -> Command {
    // The agent keeps the limit too and answers first; the grace is for its answer to arrive.
    let deadline = begun + step.limit + ANSWER_GRACE;
    if now < deadline {
        return Command::WakeAt(deadline);
    }
    let mut failure = StepFailure::new(format!(
        "{} on {} reported no result within {}",
        step.action.name(),
        step.host_name,
        step.limit
    ));
    if !is_on(Mutant::UnknownIsFailed) {
        failure.certainty = crate::run::journal::Certainty::Unknown;
    }
    failure.why = Some("the agent did not report, so the step may have taken effect".into());
    failure.next =
        Some(format!("lockstep host list    # whether the agent of {} is connected", step.host_name));
    Command::Append(Event::Failed { step: step.id, direction, failure })
}

/// How long after a step's limit the coordinator waits for the agent's own report of it.
pub const ANSWER_GRACE: Millis = Millis::from_secs(5);
