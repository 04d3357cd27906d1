//! Exclusion of hosts. If the declaration has a quorum, an app host whose instances do not become healthy is excluded,
//! and the deployment continues without it.
//!
//! What must stay true: a host is excluded before nginx learns of the slot, and never after. A quorum is left. The
//! undo of everything that the host has begun is pending, and runs before that host serves the environment again.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::id::{HostId, StepId};
use crate::plan::action::Endpoint;
use crate::plan::{Action, OnFailure, Plan, Step, exclusion};
use crate::run::engine::{Command, Run};
use crate::run::journal::{Deferral, Event, StepStatus};

impl Run {
    /// The plan that is left without `host`.
    ///
    /// # Errors
    /// Why it cannot be excluded.
    pub(super) fn plan_without(&self, host: &HostId) -> Result<Plan, String> {
        let is_forward = matches!(self.phase, super::Phase::Forward);
        if !is_forward {
            return Err("the deployment is being reverted".into());
        }
        let tells_nginx =
            |step: &&Step| matches!(step.action, Action::InstallSite { .. } | Action::SwitchTraffic(_));
        let begun = self.effective_plan.steps().filter(tells_nginx).find(|step| self.has_begun(step));
        if let Some(step) = begun {
            return Err(format!("{} has already begun", step.id));
        }
        exclusion::without_host(&self.effective_plan, host)
    }

    fn has_begun(&self, step: &Step) -> bool {
        *self.step_status(step.id) != StepStatus::Waiting
    }

    /// Whether the host of `step` was excluded.
    pub(super) fn is_excluded(&self, step: StepId) -> bool {
        self.plan.step(step).is_some_and(|step| self.excluded.contains(&step.host))
    }

    /// The host of an endpoint.
    fn host_of(&self, endpoint: &Endpoint) -> Option<&HostId> {
        self.plan.steps().find(|step| step.action.starts().contains(endpoint)).map(|step| &step.host)
    }
}

/// The hosts on which a step has failed that decides, and those that a check of health has missed, as far as they have a
/// part in it; each with the step.
pub(super) fn failed_hosts(run: &Run) -> impl Iterator<Item = (&HostId, StepId)> {
    let has_failed = |step: &&Step| {
        step.on_failure == OnFailure::Unwind && matches!(run.step_status(step.id), StepStatus::Failed { .. })
    };
    let failed = run.effective_plan.steps().filter(has_failed).map(|step| (&step.host, step.id));
    let missed =
        run.unhealthy.keys().flat_map(|check| unhealthy_hosts(run, *check).map(|host| (host, *check)));
    failed.chain(missed)
}

/// Excludes the next failed host; `None` if there is none, or if too few would be left.
pub(super) fn exclude_host(run: &Run) -> Option<Event> {
    let (first, because) = failed_hosts(run).next()?;
    // All that have failed at this moment, or none: a release that is bad everywhere is not tried to the quorum's end.
    let hosts: BTreeSet<&HostId> = failed_hosts(run).map(|(host, _)| host).collect();
    let mut rest = run.clone();
    for host in hosts {
        rest.effective_plan = rest.plan_without(host).ok()?.into();
    }
    Some(Event::Excluded { host: first.clone(), because })
}

/// The hosts that a check of health has missed, as far as they have a part in it.
fn unhealthy_hosts(run: &Run, check: StepId) -> impl Iterator<Item = &HostId> {
    let is_check =
        run.effective_plan.step(check).is_some_and(|step| matches!(step.action, Action::CheckHealth(_)));
    let unhealthy = run.unhealthy.get(&check).filter(|_| is_check);
    let hosts = unhealthy.into_iter().flatten().filter_map(|endpoint| run.host_of(endpoint));
    hosts.filter(|host| !run.excluded.contains(*host))
}

/// Makes the undos of excluded hosts pending.
pub(super) fn defer_undos_of_excluded(run: &Run) -> Vec<Command> {
    if run.excluded.is_empty() || is_on(Mutant::PassedByNotOwed) {
        return Vec::new();
    }
    let begun = run.plan.steps().filter(|step| run.excluded.contains(&step.host));
    let left = begun.filter(|step| run.needs_undo(step)).map(|step| {
        let because = format!("{} was excluded", step.host_name);
        Event::UndoDeferred { step: step.id, how: Deferral::Pending { because, by: None } }
    });
    left.map(Command::Append).collect()
}
