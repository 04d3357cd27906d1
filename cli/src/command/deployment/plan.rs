//! The screen of a plan: its steps, what a failure reverts, and the command that runs it.

use lockstep_core::plan::operation::{AnyBranch, ChangedSite, Deploy, Operation, Rollback};
use lockstep_core::plan::{OnFailure, Plan, PlanHash, Step, Undo};
use lockstep_core::record::grant::Widening;
use lockstep_core::time::Millis;

use lockstep_proto::wire;
use serde::Serialize;

use crate::args::DeployArgs;
use crate::command::reply::read;
use crate::context::Context;
use crate::failure::Result;
use crate::output::Tone;

/// A plan for other programs, with what it needs beyond its grant, and the hash that accepts that.
#[derive(Serialize)]
struct PlanJson<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    widening: Option<WideningJson<'a>>,
}

#[derive(Serialize)]
struct WideningJson<'a> {
    #[serde(flatten)]
    widening: &'a Widening,
    hash: String,
}

impl<'a> PlanJson<'a> {
    fn of(plan: &'a Plan, widening: Option<&'a Widening>) -> Self {
        let with_hash =
            |widening: &'a Widening| WideningJson { widening, hash: widening.hash(&plan.key).to_string() };
        Self { plan, widening: widening.map(with_hash) }
    }
}

/// The plan as an operator reads it before it runs. `first` is what has to be done before it can run.
pub(super) fn show_plan(
    context: &Context,
    reply: &wire::PlanReply,
    typed: Option<&DeployArgs>,
    first: Option<&str>,
) -> Result<()> {
    let plan: Plan = read(reply.plan.as_ref())?;
    let widening: Option<Widening> =
        reply.widening.as_ref().map(|widening| read(Some(widening))).transpose()?;
    let output = context.output;
    output.json(&PlanJson::of(&plan, widening.as_ref()))?;
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
    let mut run = first.map_or_else(|| run_command(&plan, typed), ToOwned::to_owned);
    if let Some(widening) = &widening {
        output.line(&output.toned(Tone::Bad, "needs a grant of an administrator of all environments:"))?;
        for resource in &widening.resources {
            output.lines(&output.wrap(&format!("  {resource}"), 4))?;
        }
        if first.is_none() {
            run = format!("{run} --grant {}", widening.hash(&plan.key));
        }
    }
    output.next(&run)
}

/// The command that runs the plan, with every flag that it was made with. `typed` is what was typed for a deployment.
fn run_command(plan: &Plan, typed: Option<&DeployArgs>) -> String {
    let key = &plan.key;
    let overwriting = |site| match site {
        ChangedSite::Overwritten => " --overwrite-site",
        ChangedSite::Refused => "",
    };
    match &plan.operation {
        Operation::Deploy(Deploy { any_branch, changed_site, .. }) => {
            let value = |flag: &str, of: fn(&DeployArgs) -> &Option<String>| {
                typed
                    .and_then(|typed| of(typed).as_ref())
                    .map_or_else(String::new, |value| format!(" {flag} {value}"))
            };
            let commit = value("--commit", |typed| &typed.commit);
            let branch = value("--branch", |typed| &typed.branch);
            let any_branch = match any_branch {
                AnyBranch::Allowed => " --allow-branch",
                AnyBranch::Refused => "",
            };
            let (image, hash, site) = (&plan.release.image, &plan.hash, overwriting(*changed_site));
            format!("lockstep deploy {key} --image {image}{commit}{branch}{any_branch}{site} --plan {hash}")
        }
        Operation::Rollback(Rollback { to, changed_site }) => {
            let to = to.as_ref().map(|to| format!(" --to {to}")).unwrap_or_default();
            format!("lockstep rollback {key}{to}{}", overwriting(*changed_site))
        }
        Operation::AddHost(host) => format!("lockstep host add {key} {host}"),
        Operation::DrainHost(host) => format!("lockstep host drain {key} {host}"),
        Operation::RemoveHost(host) => format!("lockstep host remove {key} {host}"),
        Operation::Decommission => format!("lockstep env decommission {key} --plan {}", plan.hash),
    }
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

#[cfg(test)]
mod tests {
    use lockstep_core::plan::operation::OperationKind;

    use super::*;
    use crate::command::deployment::failed::tests::rolled_back;

    fn plan(operation: Operation, kind: OperationKind) -> Plan {
        let summary = rolled_back("health", None);
        Plan {
            key: summary.key,
            operation,
            kind,
            release: summary.release,
            slot: summary.slot,
            live_slot: None,
            spec: summary.spec,
            serving: Vec::new(),
            excluded: Vec::new(),
            secrets_version: None,
            schema_before: None,
            waves: Vec::new(),
            hash: "111111-222222-333333-444444".parse().unwrap(),
            omitted: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_dry_run_of_a_rollback_ends_with_the_same_target() {
        let to = "dep_01JBQR2KXYZ987654321012345";
        let rollback = |to: Option<&str>, changed_site| {
            let to = to.map(|to| to.parse().unwrap());
            plan(Operation::Rollback(Rollback { to, changed_site }), OperationKind::Rollback)
        };
        assert_eq!(
            run_command(&rollback(Some(to), ChangedSite::Overwritten), None),
            format!("lockstep rollback notes/production --to {to} --overwrite-site")
        );
        assert_eq!(
            run_command(&rollback(None, ChangedSite::Refused), None),
            "lockstep rollback notes/production"
        );
    }

    #[test]
    fn the_command_that_runs_a_plan_has_the_flags_that_it_was_made_with() {
        let release = rolled_back("health", None).release;
        let (any_branch, changed_site) = (AnyBranch::Allowed, ChangedSite::Overwritten);
        let deploy = Deploy { release, branch: None, any_branch, changed_site };
        let typed = DeployArgs {
            commit: Some("3fa9c1d".to_owned()),
            branch: Some("main".to_owned()),
            ..DeployArgs::of("production")
        };
        assert_eq!(
            run_command(&plan(Operation::Deploy(deploy), OperationKind::Deploy), Some(&typed)),
            "lockstep deploy notes/production --image notes:2 --commit 3fa9c1d --branch main --allow-branch \
             --overwrite-site --plan 111111-222222-333333-444444"
        );
    }
}
