//! The deployments of an environment, and one of them with its journal.

use std::collections::BTreeSet;

use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::{Entry, Verdict};
use serde_json::json;

use super::failed::{self, cancelled_by};
use super::receipt::{receipt, subject};
use super::reference::{Typed, reference};
use super::watch::entry_line;
use crate::command::reply::{read, read_all};
use crate::context::{Context, environment_ref};
use crate::failure::Result;
use crate::output::{Output, Tone, ago};

/// What continues an entry of the journal begins here.
const ENTRY_INDENT: usize = 6;

pub async fn history(context: &Context, env: &str, limit: u32) -> Result<()> {
    let key = context.key(env)?;
    let reply = context.control().await?.history(environment_ref(&key, limit)).await?.into_inner();
    let summaries: Vec<DeploymentSummary> = read_all(&reply.deployments)?;
    context.output.json(&summaries)?;
    if summaries.is_empty() {
        return context.output.line(&format!("nothing has been deployed to {key}"));
    }
    context.output.table(&rows(context.output, &summaries))
}

/// A row for each deployment. On a terminal an id is cut to a prefix that is its own, so that a row is a line.
fn rows(output: Output, summaries: &[DeploymentSummary]) -> Vec<Vec<String>> {
    let ids: Vec<&str> = summaries.iter().map(|summary| summary.id.as_str()).collect();
    let length = if output.is_live() { own_prefix(&ids) } else { usize::MAX };
    let header = ["deployment", "what", "by", "started", "took", "result"].map(ToOwned::to_owned).to_vec();
    let row = |summary: &DeploymentSummary| {
        let what = match output.is_live() {
            // Without the registry: the application is known.
            true => subject(summary).rsplit('/').next().unwrap_or_default().to_owned(),
            false => subject(summary),
        };
        vec![
            summary.id.as_str().chars().take(length).collect(),
            what,
            summary.operator.to_string(),
            ago(summary.opened_at),
            summary.ended_at.map(|ended| ended.since(summary.opened_at).to_string()).unwrap_or_default(),
            match (summary.verdict, cancelled_by(summary)) {
                (Some(_), Some(by)) => format!("cancelled by {by}"),
                (Some(verdict), None) => verdict.to_string(),
                (None, _) => "open".to_owned(),
            },
        ]
    };
    std::iter::once(header).chain(summaries.iter().map(row)).collect()
}

/// How many characters tell the ids apart; at least those of the time that an id begins with.
fn own_prefix(ids: &[&str]) -> usize {
    const TIME: usize = "dep_01JBQR2KXY".len();
    let are_apart = |length: &usize| {
        let all: BTreeSet<&str> = ids.iter().filter_map(|id| id.get(..*length)).collect();
        all.len() == ids.len()
    };
    let longest = ids.iter().map(|id| id.len()).max().unwrap_or(TIME);
    (TIME..longest).find(are_apart).unwrap_or(longest)
}

pub async fn show(context: &Context, deployment: &str, env: Option<&str>) -> Result<()> {
    let typed = Typed { text: deployment, env, of_environment: "@last", command: ("show", "") };
    let request = reference(context, &typed)?;
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
        show_failure(context.output, summary, &entries)?;
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

/// All that the command that followed it has said of the failure.
fn show_failure(output: Output, summary: &DeploymentSummary, entries: &[Entry]) -> Result<()> {
    if summary.verdict != Some(Verdict::RolledBack) {
        return Ok(());
    }
    if let Some(why) = failed::explanation(summary) {
        output.lines(&output.why_lines(&why))?;
        output.next(&failed::next(summary, entries.iter().find_map(failed::failed_step)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::deployment::failed::tests::rolled_back;

    #[test]
    fn a_row_names_the_kind_of_operation_and_who_cancelled_it() {
        let mut rollback = rolled_back("health", None);
        rollback.kind = lockstep_core::plan::operation::OperationKind::Rollback;
        let mut host = rolled_back("cancelled by ben", None);
        host.kind = lockstep_core::plan::operation::OperationKind::AddHost;
        let rows = rows(Output::in_pipe(), &[rollback, host]);
        assert_eq!((rows[1][1].as_str(), rows[1][5].as_str()), ("rollback to notes:2", "rolled back"));
        assert_eq!((rows[2][1].as_str(), rows[2][5].as_str()), ("add host", "cancelled by ben"));
        assert_eq!(rows[1][0], "dep_01JBQR2KXYZ987654321012345", "a pipe gets whole ids");
    }

    #[test]
    fn a_row_is_one_line_of_a_terminal() {
        let mut summary = rolled_back("cancelled by anna", None);
        summary.release.image = "registry.example/acme/notes:1.10.0".to_owned();
        let output = Output::on_terminal();
        let mut other = rolled_back("health", None);
        other.id = "dep_01JBQR9KXYZ987654321012345".parse().unwrap();
        let lines = output.table_lines(&rows(output, &[summary, other]), 0);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }

    #[test]
    fn an_id_is_cut_where_it_is_still_its_own() {
        let alike = ["dep_01JBQR2KXYZ987654321012345", "dep_01JBQR2KXYZ987654321012346"];
        assert_eq!(own_prefix(&alike), alike[0].len());
        assert_eq!(own_prefix(&["dep_01JBQR2KXYZ987654321012345", "dep_01JBQR2KXZZ987654321012345"]), 14);
    }
}
