//! The screen of a plan: its steps, what a failure reverts, and the command that runs it.

use lockstep_core::plan::operation::Operation;
use lockstep_core::plan::{OnFailure, Plan, PlanHash, Step, Undo};
use lockstep_core::record::grant::Widening;
use lockstep_core::time::Millis;

use lockstep_proto::wire;

use crate::command::reply::read;
use crate::context::Context;
use crate::failure::Result;
use crate::output::Tone;

/// The plan as an operator reads it before it runs.
pub(super) fn show_plan(context: &Context, reply: &wire::PlanReply) -> Result<()> {
    let plan: Plan = read(reply.plan.as_ref())?;
    let widening: Option<Widening> =
        reply.widening.as_ref().map(|widening| read(Some(widening))).transpose()?;
    let output = context.output;
    output.json(&plan)?;
    output.line(&format!("{}  {}", output.toned(Tone::Strong, &plan.operation.to_string()), plan.key))?;
    output.line(&format!("plan {}{}", plan.hash, estimate(&plan)))?;
    let PlanHash { configuration, release, live_state, hosts } = &plan.hash;
    output.line(&output.toned(
        Tone::Quiet,
        &format!(
            "     configuration {configuration} · release {release} · live state {live_state} · hosts {hosts}"
        ),
    ))?;
    let mut rows =
        vec![["wave", "step", "action", "host", "usually", "changes"].map(ToOwned::to_owned).to_vec()];
    for (number, wave) in plan.waves.iter().enumerate() {
        for step in &wave.steps {
            let usual = step.usual.map(|usual| format!("~{usual}")).unwrap_or_default();
            rows.push(vec![
                (number + 1).to_string(),
                step.id.to_string(),
                step.action.name().to_owned(),
                step.host_name.to_string(),
                usual,
                step.change.clone(),
            ]);
        }
    }
    output.table(&rows)?;
    output.line("on failure, newest first:")?;
    for step in
        plan.steps().filter(|step| step.on_failure == OnFailure::Unwind).collect::<Vec<_>>().iter().rev()
    {
        if let Undo::By { change, .. } = &step.undo {
            output.lines(&output.wrap(&format!("  {}  {change}", step.id), 6))?;
        }
    }
    for omission in &plan.omitted {
        output.lines(&output.wrap(&format!("no {}: {}", omission.what, omission.because), 2))?;
    }
    for warning in &plan.warnings {
        output.lines(&output.wrap(&format!("{} {warning}", output.toned(Tone::Bad, "note:")), 6))?;
    }
    let key = &plan.key;
    let mut grant = String::new();
    if let Some(widening) = &widening {
        output.line(&output.toned(Tone::Bad, "needs a grant of an administrator of all environments:"))?;
        for resource in &widening.resources {
            output.lines(&output.wrap(&format!("  {resource}"), 4))?;
        }
        grant = format!(" --grant {}", widening.hash(key));
    }
    let run = match &plan.operation {
        Operation::Deploy(_) => {
            format!("lockstep deploy {key} --image {} --plan {}", plan.release.image, plan.hash)
        }
        Operation::Rollback(_) => format!("lockstep rollback {key}"),
        Operation::AddHost(host) => format!("lockstep host add {key} {host}"),
        Operation::DrainHost(host) => format!("lockstep host drain {key} {host}"),
        Operation::RemoveHost(host) => format!("lockstep host remove {key} {host}"),
    };
    output.verbatim(&format!("next: {run}{grant}"))
}

/// How long the plan takes, from how long its steps took lately; empty if that is known of no step.
fn estimate(plan: &Plan) -> String {
    let known = plan.steps().filter(|step| step.usual.is_some()).count();
    let wave = |steps: &[Step]| steps.iter().filter_map(|step| step.usual).max().unwrap_or_default().0;
    let about = Millis(plan.waves.iter().map(|wave_of| wave(&wave_of.steps)).sum());
    match known {
        0 => String::new(),
        known if known == plan.steps().count() => format!(" · about {about}"),
        _ => format!(" · at least {about}"),
    }
}
