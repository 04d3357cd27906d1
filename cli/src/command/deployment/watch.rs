//! A deployment while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_core::id::StepId;
use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Deferral, Direction, Entry, Event};
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::environment::{EnvironmentStatus, RollbackReady};
use lockstep_proto::wire;
use lockstep_proto::wire::watch_event::Event as Watched;
use tokio::time::Instant;

use super::failed;
use super::receipt::{receipt, subject, write_step_summary};
use super::reference::{Typed, reference};
use crate::command::reply::read;
use crate::context::{Context, environment_ref};
use crate::failure::{Failure, Kind, Result};
use crate::output::Tone;
use crate::progress::{Head, Progress};

/// How long the command tries to reconnect before it gives up. The deployment continues.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);

const RECONNECT_EVERY: Duration = Duration::from_millis(500);

/// What continues an entry of the journal begins here.
const ENTRY_INDENT: usize = 9;

/// Follows the deployment that was typed.
///
/// # Errors
/// As [`follow`].
pub async fn watch(context: &Context, deployment: &str, env: Option<&str>) -> Result<()> {
    let typed = Typed { text: deployment, env, of_environment: "@last", command: ("watch", "") };
    follow(context, reference(context, &typed)?).await
}

/// Follows a deployment until it ends. A broken connection continues where it broke. An interrupt ends the watching, not
/// the deployment.
///
/// # Errors
/// When it was rolled back or is stuck, or the coordinator stays unreachable.
pub async fn follow(context: &Context, reference: wire::DeploymentRef) -> Result<()> {
    let mut seen = WatchState {
        plan: None,
        begun: BTreeMap::new(),
        last_seq: 0,
        broken_since: None,
        failed: None,
        progress: Progress::new(context.output),
    };
    let name = reference.deployment.clone();
    tokio::select! {
        ended = seen.until_end(context, reference) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            seen.progress.clear();
            interrupted.map_err(|error| Failure::new(Kind::Usage, "signals cannot be received").why(error.to_string()))?;
            let key = seen.plan.as_ref().map_or_else(|| "ENV".to_owned(), |plan| plan.key.to_string());
            Err(Failure::new(Kind::Interrupted, "this command was interrupted; the deployment continues")
                .next(format!("lockstep watch {name}"))
                .or(format!("lockstep cancel {key}")))
        }
    }
}

struct WatchState {
    plan: Option<Plan>,
    /// When each step that runs began.
    begun: BTreeMap<StepId, Timestamp>,
    last_seq: u32,
    broken_since: Option<Instant>,
    /// The step whose failure made it revert.
    failed: Option<StepId>,
    progress: Progress,
}

impl WatchState {
    async fn until_end(&mut self, context: &Context, reference: wire::DeploymentRef) -> Result<()> {
        loop {
            match self.once(context, &reference).await {
                Ok(Some(summary)) => {
                    let ready = find_rollback(context, &summary).await;
                    return end(context, &summary, ready.as_ref(), self.failed);
                }
                Ok(None) => {}
                Err(failure) if failure.kind != Kind::Unreachable => return Err(failure),
                Err(failure) => {
                    let since = *self.broken_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > RECONNECT_LIMIT {
                        return Err(failure.next(format!(
                            "lockstep watch {}    # the deployment continues",
                            reference.deployment
                        )));
                    }
                }
            }
            tokio::time::sleep(RECONNECT_EVERY).await;
        }
    }

    async fn once(
        &mut self,
        context: &Context,
        reference: &wire::DeploymentRef,
    ) -> Result<Option<DeploymentSummary>> {
        let request = wire::WatchRequest { deployment: Some(reference.clone()), after_seq: self.last_seq };
        let mut events = context.control().await?.watch(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            self.broken_since = None;
            match event.event {
                Some(Watched::Plan(plan)) => {
                    self.plan = Some(read(Some(&plan))?);
                    if context.output.is_live() {
                        self.head(context, reference).await;
                    }
                }
                Some(Watched::Entry(entry)) => {
                    let entry: Entry = read(Some(&entry))?;
                    self.last_seq = entry.seq;
                    self.show_entry(context, &entry)?;
                }
                Some(Watched::Summary(summary)) => return Ok(Some(read(Some(&summary))?)),
                Some(Watched::Progress(wire::WatchProgress { step, line })) => {
                    if let Ok(step) = u16::try_from(step) {
                        self.progress.tail(StepId(step), &line);
                    }
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// Shows whose deployment it is. If that cannot be read, the watching continues.
    async fn head(&mut self, context: &Context, reference: &wire::DeploymentRef) {
        let Ok(mut control) = context.control().await else { return };
        let Ok(shown) = control.show(reference.clone()).await else { return };
        let Ok(summary) = read::<DeploymentSummary>(shown.into_inner().summary.as_ref()) else { return };
        self.progress.head(Head { id: summary.id, by: summary.operator, since: summary.opened_at });
    }

    fn show_entry(&mut self, context: &Context, entry: &Entry) -> Result<()> {
        context.output.json(entry)?;
        self.failed = self.failed.or(failed::failed_step(entry));
        let Some(plan) = &self.plan else { return Ok(()) };
        let took = took(&mut self.begun, entry).map(|took| format!(" · {took}")).unwrap_or_default();
        let line = format!("{}{took}", entry_line(plan, entry));
        let tone = match &entry.event {
            Event::Done { .. } | Event::Ended { verdict: Verdict::Succeeded } => Tone::Good,
            Event::Failed { .. }
            | Event::Excluded { .. }
            | Event::Stuck { .. }
            | Event::RevertStarted { .. }
            | Event::UndoDeferred { .. } => Tone::Bad,
            Event::LockTaken { .. } | Event::Begun { .. } | Event::Resumed { .. } | Event::Ended { .. } => {
                Tone::Quiet
            }
        };
        let lines = context.output.wrap(&format!("  {line}"), ENTRY_INDENT);
        let lines: Vec<String> = lines.iter().map(|line| context.output.toned(tone, line)).collect();
        self.progress.entry(plan, entry, &lines)
    }
}

/// How long the step took; `None` if the entry does not end a step.
fn took(begun: &mut BTreeMap<StepId, Timestamp>, entry: &Entry) -> Option<Millis> {
    match &entry.event {
        Event::Begun { step, .. } => {
            begun.insert(*step, entry.at);
            None
        }
        Event::Done { step, .. } | Event::Failed { step, .. } => {
            begun.remove(step).map(|begun| entry.at.since(begun))
        }
        Event::LockTaken { .. }
        | Event::Excluded { .. }
        | Event::RevertStarted { .. }
        | Event::Stuck { .. }
        | Event::Resumed { .. }
        | Event::UndoDeferred { .. }
        | Event::Ended { .. } => None,
    }
}

/// An entry of the journal as a line.
pub(super) fn entry_line(plan: &Plan, entry: &Entry) -> String {
    let step = |step: &StepId, direction: &Direction| {
        let found = plan.step(*step);
        let name = found.map_or("step", |step| step.action.name());
        let host = found.map(|step| step.host_name.to_string()).unwrap_or_default();
        let way = match direction {
            Direction::Do => "",
            Direction::Undo => "undo ",
        };
        format!("{step:4} {way}{name:10} {host}")
    };
    match &entry.event {
        Event::LockTaken { by } => format!("· driven by {by}"),
        Event::Begun { step: id, direction } => format!("▸ {}", step(id, direction)),
        Event::Done { step: id, direction, finding } => {
            format!("✓ {}  {}", step(id, direction), finding.said)
        }
        Event::Failed { step: id, direction, failure } => {
            format!("✗ {}  {}", step(id, direction), failure.what)
        }
        Event::Excluded { host, because } => {
            let named = plan.host_name(host).map_or_else(|| host.to_string(), ToString::to_string);
            format!("· {named} excluded after {because}: it gets no requests, and the other hosts continue")
        }
        Event::RevertStarted { .. } => "· reverting, newest step first".to_owned(),
        Event::Stuck { step: id, failure } => {
            let host = plan.step(*id).map(|step| format!(" on {}", step.host_name)).unwrap_or_default();
            let why = failure.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("✗ stuck at {id}{host}: {}{why}", failure.what)
        }
        Event::Resumed { by } => format!("· {by} retries the failed undo"),
        Event::UndoDeferred { step: id, how: Deferral::Pending { because, by } } => {
            let by = by.as_ref().map(|by| format!(", by decision of {by}")).unwrap_or_default();
            format!("· {}  pending{by}: {because}", step(id, &Direction::Undo))
        }
        Event::UndoDeferred { step: id, how: Deferral::Skipped { by } } => {
            format!("· {}  skipped by {by}: what the step changed stays", step(id, &Direction::Undo))
        }
        Event::Ended { verdict } => format!("· {verdict}"),
    }
}

/// The release that a rollback would go to. If it cannot be read, the deployment has ended all the same.
async fn find_rollback(context: &Context, summary: &DeploymentSummary) -> Option<RollbackReady> {
    if summary.verdict.is_none() || context.output.is_json() {
        return None;
    }
    let request = environment_ref(&summary.key, 0);
    let reply = context.control().await.ok()?.status(request).await.ok()?.into_inner();
    let status: EnvironmentStatus = read(reply.environments.first()).ok()?;
    status.rollback
}

fn end(
    context: &Context,
    summary: &DeploymentSummary,
    ready: Option<&RollbackReady>,
    step: Option<StepId>,
) -> Result<()> {
    receipt(context, summary, ready)?;
    write_step_summary(context, summary, ready);
    context.output.json(summary)?;
    match summary.verdict {
        Some(Verdict::Succeeded) => Ok(()),
        Some(Verdict::RolledBack) => Err(rolled_back(summary, step)),
        None => Err(Failure::new(Kind::Stuck, format!("{} is stuck", summary.id))
            .why("an undo failed, so not all that was changed is reverted; the environment stays locked")
            .next(format!("lockstep resolve {} --retry    # after fixing the cause", summary.id))
            .or(format!("lockstep status {}    # every resolution and its cost", summary.key))),
    }
}

fn rolled_back(summary: &DeploymentSummary, step: Option<StepId>) -> Failure {
    let failure = Failure::new(
        Kind::Failed,
        match failed::cancelled_by(summary) {
            Some(by) => format!("{} was cancelled by {by} and rolled back", subject(summary)),
            None => format!("{} failed and was rolled back", subject(summary)),
        },
    );
    let failure = failure.next(failed::next(summary, step));
    match failed::explanation(summary) {
        Some(why) => failure.why(why),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::deployment::failed::tests::rolled_back as summary;

    #[test]
    fn what_was_cancelled_is_not_said_to_have_failed() {
        let cancelled = rolled_back(&summary("cancelled by ben", None), None);
        assert_eq!(cancelled.what, "notes:2 was cancelled by ben and rolled back");
        assert_eq!(cancelled.why, None);
        let failed = rolled_back(&summary("health", Some("app-1")), Some(StepId(4)));
        assert_eq!(failed.what, "notes:2 failed and was rolled back");
        assert!(failed.next.unwrap().contains("--step s4"));
    }
}
