//! The deployments of an environment, and one of them with its journal.

use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Entry;
use serde_json::json;

use super::receipt::receipt;
use super::reference::reference;
use super::watch::entry_line;
use crate::command::reply::{read, read_all};
use crate::context::{Context, environment_ref};
use crate::failure::Result;
use crate::output::{Tone, ago};

/// What continues an entry of the journal begins here.
const ENTRY_INDENT: usize = 6;

pub async fn history(context: &Context, env: &str, limit: u32) -> Result<()> {
    let request = environment_ref(&context.key(env)?, limit);
    let reply = context.control().await?.history(request).await?.into_inner();
    let summaries: Vec<DeploymentSummary> = read_all(&reply.deployments)?;
    context.output.json(&summaries)?;
    let mut rows = vec![
        ["deployment", "release", "by", "started", "at", "took", "result"].map(ToOwned::to_owned).to_vec(),
    ];
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
    context.output.table(&rows)
}

pub async fn show(context: &Context, deployment: String, env: Option<&str>) -> Result<()> {
    let request = reference(context, deployment, env)?;
    let reply = context.control().await?.show(request).await?.into_inner();
    let summary: Option<DeploymentSummary> =
        reply.summary.as_ref().map(|summary| read(Some(summary))).transpose()?;
    // A local rollback has no plan.
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
        receipt(context, summary, None)?;
    }
    let Some(plan) = plan else {
        return context
            .output
            .line("  There is no plan: the change was made on the host, without a coordinator.");
    };
    entries
        .iter()
        .flat_map(|entry| {
            context.output.wrap(&format!("  {} {}", entry.at, entry_line(&plan, entry)), ENTRY_INDENT)
        })
        .try_for_each(|line| context.output.verbatim(&line))
}
