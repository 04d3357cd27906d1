//! What is done to a good plan, so that a rule is seen to hold.

use anyhow::{Context, Result, bail};
use lockstep_core::id::StepId;
use lockstep_core::name::HostName;
use lockstep_core::plan::operation::Operation;
use lockstep_core::plan::{Action, Plan, Step, Undo};

/// Damages `plan` in one way.
pub(super) fn damage(plan: &mut Plan, words: &[&str]) -> Result<()> {
    match words {
        ["drop", name @ ..] => {
            let name = name.join(" ");
            keep(plan, |step| step.action.name() != name);
        }
        ["drop-last", name] => {
            let last = plan.steps().rfind(|step| step.action.name() == *name);
            let last = last.context("no such step")?.id;
            keep(plan, |step| step.id != last);
        }
        ["swap", one, other] => {
            let (one, other) = (wave(plan, one)?, wave(plan, other)?);
            plan.waves.swap(one, other);
            for (number, step) in (1..).zip(steps(plan)) {
                step.id = StepId(number);
            }
        }
        ["merge", one, other] => {
            let (one, other) = (wave(plan, one)?, wave(plan, other)?);
            let moved = plan.waves.remove(other);
            plan.waves[one].steps.extend(moved.steps);
        }
        ["forget-undo", name @ ..] => {
            let name = name.join(" ");
            for step in steps(plan).filter(|step| step.action.name() == name) {
                step.undo = Undo::Nothing { because: "forgotten".to_owned() };
            }
        }
        ["forget-target", name] => {
            steps(plan).filter(|step| step.action.name() == *name).for_each(forget_target);
        }
        ["move", name, host] => {
            let host: HostName = host.parse()?;
            for step in steps(plan).filter(|step| step.action.name() == *name) {
                step.host_name = host.clone();
            }
        }
        ["touch-operation", "drain", host] => {
            plan.operation = Operation::DrainHost(host.parse()?);
            plan.kind = plan.operation.kind();
        }
        ["touch-live"] => plan.live_slot = Some(plan.slot),
        _ => {
            bail!("break drop|drop-last|swap|merge|forget-undo|forget-target|move|touch-operation|touch-live")
        }
    }
    Ok(())
}

fn steps(plan: &mut Plan) -> impl Iterator<Item = &mut Step> {
    plan.waves.iter_mut().flat_map(|wave| wave.steps.iter_mut())
}

fn keep(plan: &mut Plan, is_kept: impl Fn(&Step) -> bool) {
    plan.waves.iter_mut().for_each(|wave| wave.steps.retain(&is_kept));
    plan.waves.retain(|wave| !wave.steps.is_empty());
}

/// The first wave with such a step.
fn wave(plan: &Plan, name: &str) -> Result<usize> {
    let has_it = |step: &Step| step.action.name() == name;
    plan.waves.iter().position(|wave| wave.steps.iter().any(has_it)).context("no such wave")
}

/// The last instance is left out.
fn forget_target(step: &mut Step) {
    if let Action::CheckHealth(check) = &mut step.action {
        check.targets.pop();
    }
    if let Action::SwitchTraffic(switch) = &mut step.action {
        switch.endpoints.pop();
    }
    if let Action::InstallSite { site, .. } = &mut step.action {
        site.blue.pop();
        site.green.pop();
    }
}
