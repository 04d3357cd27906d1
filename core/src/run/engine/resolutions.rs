//! The resolutions of a stuck run: the cost of each, when it is refused, and which entry it becomes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::id::StepId;
use crate::plan::{Action, Plan, Step, Undo, check};
use crate::record::claim::{OperatorRequest, Resolution};
use crate::run::engine::{Phase, Run, UNDO_ATTEMPTS_MAX};
use crate::run::journal::{Deferral, Event, StepStatus};
use crate::view::environment::ResolutionOption;

/// The resolutions of a stuck run, with their costs; empty if the run is not stuck.
pub fn resolutions(run: &Run) -> Vec<ResolutionOption> {
    let Phase::Stuck { step, .. } = run.phase() else {
        return Vec::new();
    };
    [Resolution::Retry, Resolution::Unwind, Resolution::Skip { step: *step }]
        .into_iter()
        .map(|resolution| ResolutionOption {
            resolution,
            cost: describe_cost(run, *step, resolution),
            refused: refuse_resolution(run, resolution),
        })
        .collect()
}

/// Why `resolution` is refused; `None` if it is not.
pub fn refuse_resolution(run: &Run, resolution: Resolution) -> Option<String> {
    let Phase::Stuck { step: stuck, .. } = run.phase() else {
        return Some("the deployment is not stuck".to_string());
    };
    match resolution {
        Resolution::Retry => None,
        Resolution::Unwind => refuse_without(run.plan(), *stuck),
        Resolution::Skip { step } if !matches!(run.step_status(step), StepStatus::UndoFailed { .. }) => {
            Some(format!("the undo of {step} has not failed; the deployment is stuck at {stuck}"))
        }
        Resolution::Skip { step } => refuse_without(run.plan(), step),
    }
}

/// Why the effect of `step` cannot be left as it is, in words.
fn refuse_without(plan: &Plan, step: StepId) -> Option<String> {
    let rule = rule_against_deferring(plan, step)?;
    Some(format!("without {step}, a safety rule is broken: {rule}"))
}

/// The entry that `request` becomes for `stuck`, whose undo has failed for good.
pub(super) fn apply_request(run: &Run, stuck: StepId, request: &OperatorRequest) -> Option<Event> {
    match request {
        OperatorRequest::None | OperatorRequest::Cancel { .. } => None,
        OperatorRequest::Retry { by } => Some(Event::Resumed { by: by.clone() }),
        OperatorRequest::Unwind { by } => {
            let because = run
                .failure(stuck)
                .map_or_else(|| "the undo failed".to_string(), |failure| failure.what.clone());
            let how = Deferral::Pending { because, by: Some(by.clone()) };
            rule_against_deferring(run.plan(), stuck)
                .is_none()
                .then_some(Event::UndoDeferred { step: stuck, how })
        }
        OperatorRequest::Skip { by, step } => refuse_resolution(run, Resolution::Skip { step: *step })
            .is_none()
            .then(|| Event::UndoDeferred { step: *step, how: Deferral::Skipped { by: by.clone() } }),
    }
}

/// The safety rule that the plan breaks without `step`: then its undo cannot be deferred. A step without an undo can
/// always be left.
pub(super) fn rule_against_deferring(plan: &Plan, step: StepId) -> Option<String> {
    match &plan.step(step)?.undo {
        Undo::Nothing { .. } => None,
        Undo::By { .. } => {
            let broken = check::violations_without(plan, step);
            // What the plan as a whole comes to says more than which other step counted on this one.
            let worst = broken.iter().find(|violation| violation.step.is_none()).or(broken.first());
            worst.map(ToString::to_string)
        }
    }
}

fn describe_cost(run: &Run, stuck: StepId, resolution: Resolution) -> String {
    let Some(step) = run.plan().step(stuck) else {
        return String::new();
    };
    let undo = match &step.undo {
        Undo::By { change, .. } => change.clone(),
        Undo::Nothing { .. } => format!("{} has ended on {}", step.action.name(), step.host_name),
    };
    match resolution {
        Resolution::Retry => {
            format!(
                "tries this undo up to {UNDO_ATTEMPTS_MAX} more times on {}: {undo}; then {}",
                step.host_name,
                describe_rest(run, stuck)
            )
        }
        Resolution::Unwind => format!(
            "{}; this undo stays pending on {}, and no deployment uses the host before it is done: {undo}",
            describe_rest(run, stuck),
            step.host_name
        ),
        Resolution::Skip { .. } => {
            format!(
                "{}; this undo is never done on {}, and you clean up by hand: {undo}",
                describe_rest(run, stuck),
                step.host_name
            )
        }
    }
}

/// What is undone beside `stuck`.
fn describe_rest(run: &Run, stuck: StepId) -> String {
    let left: Vec<&Step> =
        run.plan().steps().filter(|step| step.id != stuck && run.needs_undo(step)).collect();
    let moves_traffic = left.iter().any(|step| matches!(step.action, Action::SwitchTraffic(_)));
    let traffic = if moves_traffic { ", and the traffic goes back to the previous release" } else { "" };
    let mut words = vec![match left.len() {
        0 => "nothing else is left to undo".to_string(),
        1 => "one more step is undone".to_string(),
        more => format!("{more} more steps are undone"),
    }];
    words.push(traffic.to_string());
    words.concat()
}
