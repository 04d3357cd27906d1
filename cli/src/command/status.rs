//! How things stand, and how they stood.

use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Entry;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;
use serde_json::json;

use super::reference::reference;
use super::{read, read_all};
use crate::clock::now;
use crate::context::{Context, environment_ref};
use crate::failure::Result;
use crate::output::{Tone, ago, table};

mod overview;

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
    let drawn = environments.iter().flat_map(|one| overview::render(context.output, one, now()));
    drawn.into_iter().try_for_each(|line| context.output.line(&line))
}

pub async fn history(context: &Context, env: &str, limit: u32) -> Result<()> {
    let request = environment_ref(&context.key(env)?, limit);
    let reply = context.control().await?.history(request).await?.into_inner();
    let summaries: Vec<DeploymentSummary> = read_all(&reply.deployments)?;
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
    let summary: Option<DeploymentSummary> =
        reply.summary.as_ref().map(|summary| read(Some(summary))).transpose()?;
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
        context.output.line(&format!("  {} {}", entry.at, super::watch::entry_line(&plan, entry)))
    })
}
