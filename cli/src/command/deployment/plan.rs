//! The screen of a plan: its steps, what a failure reverts, and the command that runs it.

use lockstep_core::plan::operation::Operation;
use lockstep_core::plan::{OnFailure, Plan, PlanHash, Step, Undo};
use lockstep_core::time::Millis;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Tone, table};

/// The plan as an operator reads it before it runs.
pub(super) fn show_plan(context: &Context, plan: &Plan) -> Result<()> {
    let output = context.output;
    output.json(plan)?;
    output.line(&format!("{}  {}", output.toned(Tone::Strong, &plan.operation.to_string()), plan.key))?;
    output.line(&format!("plan {}{}", plan.hash, estimate(plan)))?;
    let PlanHash { configuration, release, live_state, hosts } = &plan.hash;
    output.line(&output.toned(
        Tone::Quiet,
        &format!(
            "     configuration {configuration} · release {release} · live state {live_state} · hosts {hosts}"
        ),
    ))?;
    let mut rows = vec![["wave", "step", "", "host", "usually", "changes"].map(ToOwned::to_owned).to_vec()];
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
    table(&rows).iter().try_for_each(|row| output.line(row))?;
    output.line("on failure, newest first:")?;
    for step in
        plan.steps().filter(|step| step.on_failure == OnFailure::Unwind).collect::<Vec<_>>().iter().rev()
    {
        if let Undo::By { change, .. } = &step.undo {
            output.line(&format!("  {}  {change}", step.id))?;
        }
    }
    for omission in &plan.omitted {
        output.line(&format!("no {}: {}", omission.what, omission.because))?;
    }
    plan.warnings
        .iter()
        .try_for_each(|warning| output.line(&format!("{} {warning}", output.toned(Tone::Bad, "note:"))))?;
    let key = &plan.key;
    let run = match &plan.operation {
        Operation::Deploy(_) => {
            format!("lockstep deploy {key} --image {} --plan {}", plan.release.image, plan.hash)
        }
        Operation::Rollback(_) => format!("lockstep rollback {key}"),
        Operation::AddHost(host) => format!("lockstep host add {key} {host}"),
        Operation::DrainHost(host) => format!("lockstep host drain {key} {host}"),
        Operation::RemoveHost(host) => format!("lockstep host remove {key} {host}"),
    };
    output.line(&format!("next: {run}"))
}

/// How long it takes by what its steps took of late; nothing where that is known of none.
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
