//! How things stand, and how they stood.

use lockstep_core::health::Health;
use lockstep_core::journal::{Direction, Entry};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::record::{
    Debt, EnvironmentStatus, LocalChange, LocalRollback, OpenKind, OpenStatus, Summary, TakenIn,
    TrafficMoved, Way,
};
use lockstep_proto::wire;
use serde_json::json;

use super::{read, read_all};
use crate::context::{Context, environment_ref, now};
use crate::failure::Result;
use crate::output::{Tone, ago, length, table};

pub async fn status(context: &Context, env: Option<&str>) -> Result<()> {
    let request = match env {
        Some(env) => environment_ref(&context.key(env)?, 0),
        None => wire::EnvironmentRef::default(),
    };
    let reply = context.control().await?.status(request).await?.into_inner();
    let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
    context.output.json(&environments)?;
    if environments.is_empty() {
        context.output.line("nothing has been deployed yet: lockstep deploy ENV")?;
    }
    environments.iter().try_for_each(|environment| one(context, environment))
}

fn one(context: &Context, status: &EnvironmentStatus) -> Result<()> {
    let output = context.output;
    output.line(&format!("{}  {}", output.toned(Tone::Strong, &status.key.to_string()), status.url))?;
    match &status.live {
        None => output.line("  live      nothing yet")?,
        Some(live) => {
            output.line(&format!(
                "  live      {} ({}) in {}, {}, since {}",
                live.release.image,
                live.release.version(),
                live.slot,
                ago(live.since),
                live.since
            ))?;
        }
    }
    for host in &status.hosts {
        for instance in &host.instances {
            let tone = if instance.health == Health::Healthy { Tone::Good } else { Tone::Bad };
            output.line(&format!(
                "  instance  {}  {}",
                instance.container,
                output.toned(tone, &instance.health.to_string())
            ))?;
        }
    }
    if let Some(open) = &status.open {
        one_open(context, &status.key, open)?;
    } else if let Some(ready) = &status.rollback {
        let takes = ready
            .takes
            .map_or_else(|| "it would be started first".to_owned(), |takes| format!("about {takes}"));
        output.line(&format!(
            "  rollback  to {}, {takes}: lockstep rollback {}",
            ready.release.image, status.key
        ))?;
    }
    status.local.iter().try_for_each(|change| one_local(context, change))?;
    status.debts.iter().try_for_each(|debt| one_debt(context, debt))?;
    if let Some(last) = &status.last {
        let verdict = last.verdict.map_or_else(|| "open".to_owned(), |verdict| verdict.to_string());
        let when = last.ended_at.map(|ended| format!(", {}", ago(ended))).unwrap_or_default();
        output.line(&format!(
            "  last      {} {verdict}{when}, by {}: lockstep show {}",
            last.release.image, last.operator, last.id
        ))?;
    }
    status
        .drift
        .iter()
        .try_for_each(|drift| output.line(&format!("  {}     {drift}", output.toned(Tone::Bad, "drift"))))
}

fn one_local(context: &Context, change: &LocalChange) -> Result<()> {
    let LocalRollback { by, from, to, at, .. } = &change.rollback;
    let recorded = match &change.taken_in {
        Some(TakenIn { deployment: Some(id), .. }) => format!("recorded as {id}"),
        Some(_) | None => "not recorded yet: its host keeps the traffic there until it is".to_owned(),
    };
    context.output.line(&format!(
        "  {}     {by} on {} gave the traffic from {from} to {to} without a coordinator, {} ({at}); {recorded}",
        context.output.toned(Tone::Bad, "local"),
        change.host_name,
        ago(*at)
    ))
}

fn one_debt(context: &Context, debt: &Debt) -> Result<()> {
    let output = context.output;
    let failed =
        debt.failure.as_ref().map(|failure| format!(" · it failed: {}", failure.what)).unwrap_or_default();
    let Debt { host_name, change, key, .. } = debt;
    let owes = output.toned(Tone::Bad, "owes");
    output.line(&format!("  {owes}      {host_name}, {}: {change}{failed}", ago(debt.since)))?;
    output.line(&format!(
        "  next      done by itself as soon as {host_name} can; to answer for it: lockstep resolve {} --skip {}",
        key.deployment, key.step
    ))
}

fn one_open(context: &Context, key: &EnvironmentKey, status: &OpenStatus) -> Result<()> {
    let output = context.output;
    let open = &status.open;
    match (&open.kind, open.deployment()) {
        (OpenKind::Hold { reason }, _) => output.line(&format!(
            "  frozen    {reason} · by {} {}, until {}: lockstep lock thaw {key}",
            open.by,
            ago(open.since),
            open.until
        ))?,
        (_, deployment) => {
            let way = match status.direction {
                Direction::Do => "deploys",
                Direction::Undo => "is being unwound",
            };
            let what = status.release.as_ref().map_or("an image that is built", |release| &release.image);
            let id = deployment.map(ToString::to_string).unwrap_or_default();
            output.line(&format!(
                "  open      {what} {way}: {} of {} steps, by {} for {}, until {} at most · {id}",
                status.steps_done,
                status.steps_all,
                open.by,
                length(now().since(open.since)),
                open.until
            ))?;
        }
    }
    for step in &status.running {
        let usual = step.usual.map(|usual| format!(", usually {usual}")).unwrap_or_default();
        let runs = length(now().since(step.since));
        output.line(&format!("  step      {} on {} for {runs}{usual}", step.name, step.host))?;
        if let Some(tail) = &step.tail {
            output.line(&format!("            {}", output.toned(Tone::Quiet, &format!("| {tail}"))))?;
        }
    }
    if let Some(failure) = &status.failure {
        output.line(&format!("  failed    {}: {}", failure.step, failure.failure.what))?;
    }
    ways_out(key, status).iter().try_for_each(|way| output.line(&format!("  next      {way}")))
}

/// The commands that make sense, each with what it costs.
fn ways_out(key: &EnvironmentKey, status: &OpenStatus) -> Vec<String> {
    let cost = match status.traffic_moved {
        TrafficMoved::NotYet => "traffic untouched",
        TrafficMoved::Moved => "traffic goes back to the release before",
    };
    match (&status.open.kind, status.direction) {
        (OpenKind::Hold { .. }, _) => Vec::new(),
        (OpenKind::Building { .. }, _) => vec![format!("lockstep cancel {key}: the build comes to nothing")],
        (OpenKind::Stuck { deployment }, _) => {
            let show = format!("lockstep show {deployment}: what could not be taken back, and why");
            let possible = status.ways_out.iter().filter(|out| out.refused.is_none());
            let resolve = possible.map(|out| {
                let way = match out.way {
                    Way::Retry => "--retry".to_owned(),
                    Way::Unwind => "--unwind".to_owned(),
                    Way::Skip { step } => format!("--skip {step}"),
                };
                format!("lockstep resolve {deployment} {way}: {}", out.costs)
            });
            [show].into_iter().chain(resolve).collect()
        }
        (OpenKind::Running { deployment, .. }, Direction::Undo) => {
            vec![format!("lockstep watch {deployment}")]
        }
        (OpenKind::Running { deployment, .. }, Direction::Do) => {
            vec![format!("lockstep watch {deployment}"), format!("lockstep cancel {key}: {cost}")]
        }
    }
}

pub async fn history(context: &Context, env: &str, limit: u32) -> Result<()> {
    let request = environment_ref(&context.key(env)?, limit);
    let reply = context.control().await?.history(request).await?.into_inner();
    let summaries: Vec<Summary> = read_all(&reply.deployments)?;
    context.output.json(&summaries)?;
    let mut rows =
        vec![["deployment", "release", "by", "", "at", "took", ""].map(ToOwned::to_owned).to_vec()];
    for summary in summaries {
        rows.push(vec![
            summary.id.to_string(),
            summary.release.image.clone(),
            summary.operator.to_string(),
            ago(summary.opened_at),
            summary.opened_at.to_string(),
            summary.ended_at.map(|ended| ended.since(summary.opened_at).to_string()).unwrap_or_default(),
            summary.verdict.map_or_else(|| "open".to_owned(), |verdict| verdict.to_string()),
        ]);
    }
    table(&rows).iter().try_for_each(|row| context.output.line(row))
}

pub async fn show(context: &Context, deployment: String, env: Option<&str>) -> Result<()> {
    let request = reference(context, deployment, env)?;
    let reply = context.control().await?.show(request).await?.into_inner();
    let summary: Option<Summary> = reply.summary.as_ref().map(|summary| read(Some(summary))).transpose()?;
    // What was done without a coordinator was never planned.
    let plan: Option<Plan> = reply.plan.as_ref().map(|plan| read(Some(plan))).transpose()?;
    let entries: Vec<Entry> = read_all(&reply.entries)?;
    context.output.json(&json!({ "summary": summary, "plan": plan, "journal": entries }))?;
    if let Some(summary) = &summary {
        context.output.line(&format!(
            "{}  {}, by {} {} ({})",
            context.output.toned(Tone::Strong, summary.id.as_str()),
            summary.key,
            summary.operator,
            ago(summary.opened_at),
            summary.opened_at
        ))?;
        super::watch::receipt(context, summary, None)?;
    }
    let Some(plan) = plan else {
        return context.output.line("  it was not planned: it was done on the host, without a coordinator");
    };
    entries.iter().try_for_each(|entry| {
        context.output.line(&format!("  {} {}", entry.at, super::watch::told(&plan, entry)))
    })
}

/// A deployment as typed, with the environment that `@open` and `@last` need.
pub(super) fn reference(
    context: &Context,
    deployment: String,
    env: Option<&str>,
) -> Result<wire::DeploymentRef> {
    let environment = match env {
        Some(env) => context.key(env)?.to_string(),
        // Where the project has one environment, there is nothing to choose.
        None if deployment.starts_with('@') => {
            let project = context.project()?;
            let mut environments = project.environments();
            match (environments.next(), environments.next()) {
                (Some(only), None) => context.key(only.as_str())?.to_string(),
                (Some(_) | None, _) => {
                    return Err(crate::failure::Failure::new(
                        crate::failure::Kind::Usage,
                        format!("{deployment} of which environment?"),
                    )
                    .next("add --env ENV"));
                }
            }
        }
        None => String::new(),
    };
    Ok(wire::DeploymentRef { deployment, environment })
}
