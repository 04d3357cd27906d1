//! The receipt of a deployment: its verdict and its figures, on the screen and in GitHub Actions.

use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::{DeploymentSummary, FailedStep};
use lockstep_core::run::journal::Verdict;
use lockstep_core::view::environment::RollbackReady;

use super::failed::cancelled_by;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Tone, thousands};

/// Shows the verdict and the figures of a deployment.
pub(super) fn receipt(
    context: &Context,
    summary: &DeploymentSummary,
    ready: Option<&RollbackReady>,
) -> Result<()> {
    let text: Vec<String> = [verdict(summary)].into_iter().chain(figures(summary, ready)).collect();
    let tone = if summary.verdict == Some(Verdict::Succeeded) { Tone::Good } else { Tone::Bad };
    let lines = context.output.wrap_items(&text, 2);
    lines.iter().try_for_each(|line| context.output.verbatim(&context.output.toned(tone, line)))
}

/// `notes:2 succeeded in 12.0 s`, `add host succeeded in 1.1 s`
pub(crate) fn verdict(summary: &DeploymentSummary) -> String {
    let took =
        summary.ended_at.map(|ended| format!(" in {}", ended.since(summary.opened_at))).unwrap_or_default();
    let verdict = match (summary.verdict, cancelled_by(summary)) {
        (Some(Verdict::RolledBack), Some(by)) => format!("was cancelled by {by} and rolled back"),
        (Some(verdict), _) => verdict.to_string(),
        (None, _) => "open".to_owned(),
    };
    format!("{} {verdict}{took}", subject(summary))
}

/// What the deployment is about: `notes:2`, `rollback to notes:1`, `add host`.
pub(super) fn subject(summary: &DeploymentSummary) -> String {
    let image = &summary.release.image;
    match summary.kind {
        OperationKind::Deploy => image.clone(),
        OperationKind::Rollback => format!("rollback to {image}"),
        kind @ (OperationKind::AddHost | OperationKind::DrainHost | OperationKind::RemoveHost) => {
            kind.as_str().replace('_', " ")
        }
        kind @ OperationKind::Decommission => kind.as_str().to_owned(),
    }
}

fn figures(summary: &DeploymentSummary, ready: Option<&RollbackReady>) -> Vec<String> {
    let mut figures = Vec::new();
    if let (Some(requests), Some(lost)) = (summary.receipt.requests, summary.receipt.requests_lost) {
        figures.push(format!("{} of {} requests lost", thousands(lost), thousands(requests)));
    }
    // A step that failed does not say whether it had reloaded nginx.
    let at_least = if summary.failure.is_some() { "at least " } else { "" };
    match summary.receipt.reloads {
        0 => {}
        1 => figures.push(format!("{at_least}1 reload: idle keep-alive clients may have lost a request")),
        reloads => figures.push(format!(
            "{at_least}{reloads} reloads: idle keep-alive clients may have lost a request each time"
        )),
    }
    match (summary.schema_before, summary.schema_after) {
        (Some(before), Some(after)) if before == after => figures.push(format!("schema {after}")),
        (Some(before), Some(after)) => figures.push(format!("schema {before} → {after}")),
        // A migration failed, and the database could not be asked afterwards.
        (Some(before), None) if summary.ended_at.is_some() => {
            figures.push(format!("schema {before} → unknown"))
        }
        (Some(_), None) | (None, _) => {}
    }
    if !summary.excluded.is_empty() {
        let hosts: Vec<&str> = summary.excluded.iter().map(|host| host.as_str()).collect();
        figures.push(format!("without {}", hosts.join(", ")));
    }
    if summary.receipt.snapshot.is_some() {
        figures.push("snapshot verified".to_owned());
    }
    if let Some(took) = summary.receipt.switch_took {
        figures.push(format!("switched in {took}"));
    }
    figures.extend(ready.map(|RollbackReady { release, takes, .. }| match takes {
        Some(takes) => format!("rollback ready, {takes}"),
        // As after a deployment that failed: its slot was the warm one.
        None => format!("a rollback must start {} first", release.image),
    }));
    figures
}

/// The receipt as Markdown.
fn markdown(summary: &DeploymentSummary, ready: Option<&RollbackReady>) -> String {
    let mut text = format!("### {}: {}\n\n", summary.key, verdict(summary));
    for figure in figures(summary, ready) {
        text.push_str(&format!("- {figure}\n"));
    }
    if let Some(FailedStep { step, failure, .. }) = &summary.failure {
        text.push_str(&format!("- failed at {step}: {}\n", failure.what));
    }
    text.push_str(&format!("\n`{}` by {}\n", summary.id, summary.operator));
    text
}

/// Writes the receipt to where GitHub Actions shows it. If that fails, the deployment has ended all the same.
pub(super) fn write_step_summary(
    context: &Context,
    summary: &DeploymentSummary,
    ready: Option<&RollbackReady>,
) {
    use std::io::Write;
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY") else { return };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{}", markdown(summary, ready)));
    if let Err(error) = written {
        context.output.remark(&format!("cannot write the step summary of GitHub Actions: {error}"));
    }
}
