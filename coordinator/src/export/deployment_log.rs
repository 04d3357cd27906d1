//! The log file of a deployment, `<env>_<deployment>.log`. It has a line for each entry of the journal, and the last
//! lines of output of what failed. It is for people and `tail -f`; only `lockstep logs` reads it.
//!
//! What must stay true: no secret value is written, and a full disk does not stop a deployment. A driver that takes
//! over rewrites the file from the journal, because its predecessor may have died between an entry and its line.

use std::path::{Path, PathBuf};

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::engine::Run;
use lockstep_core::run::journal::{Certainty, Deferral, Direction, Entry, Event, StepFailure};
use lockstep_core::secret::redact::Redactor;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tracing::warn;

use crate::context::Context;
use crate::drive::entry_log::revert_reason_text;
use crate::record::history;

/// How the last line begins, after its time.
const ENDED: &str = "ended:";

/// The log of one deployment.
#[derive(Debug)]
pub struct DeploymentLog {
    /// Nothing is written where this is empty.
    path: PathBuf,
    redactor: Redactor,
}

/// Where the log of a deployment is; empty where none is kept.
pub fn path(logs: &Path, key: &EnvironmentKey, id: &DeploymentId) -> PathBuf {
    if logs.as_os_str().is_empty() {
        return PathBuf::new();
    }
    logs.join(format!("{}_{id}.log", key.environment))
}

/// Writes the log of the newest deployment anew, if that has ended and its log does not say so: the coordinator
/// that ended it may have died between the entry and its line.
pub async fn catch_up(context: &Context, key: &EnvironmentKey) {
    if context.logs.as_os_str().is_empty() {
        return;
    }
    if let Err(error) = rewrite_ended(context, key).await {
        warn!(%key, error = format!("{error:#}"), "cannot complete the log of the latest deployment");
    }
}

async fn rewrite_ended(context: &Context, key: &EnvironmentKey) -> anyhow::Result<()> {
    let store = &*context.store;
    let Some(newest) = history::ended(store, key, 1).await?.into_iter().next() else { return Ok(()) };
    let path = path(&context.logs, key, &newest.id);
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let text = tokio::fs::read_to_string(&path).await.unwrap_or_default();
    if text.lines().last().is_some_and(|last| last.contains(ENDED)) {
        return Ok(());
    }
    let Some(plan) = history::plan(store, &newest.id).await? else { return Ok(()) };
    let entries = history::journal(store, &newest.id).await?;
    let run = Run::replay(plan, newest.opened_at + newest.spec.deploy.lock_timeout, &entries)?;
    DeploymentLog::open_for(context, &newest).await.rewrite(&run, &entries).await;
    Ok(())
}

impl DeploymentLog {
    pub async fn open_for(context: &Context, opened: &DeploymentSummary) -> Self {
        let redactor = match context.secrets.redactor(&opened.key, opened.secrets_version).await {
            Ok(redactor) => redactor,
            Err(error) => {
                // What hosts say is redacted where it enters; here it is done a second time.
                warn!(error = %format!("{error:#}"), "cannot read the secrets to redact the log of a deployment a second time");
                Redactor::none()
            }
        };
        Self { path: path(&context.logs, &opened.key, &opened.id), redactor }
    }

    /// Makes the file what the journal says.
    pub async fn rewrite(&self, run: &Run, entries: &[Entry]) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        let text: String = entries.iter().map(|entry| lines(run, entry)).collect();
        let begun = self.path.with_extension("log.begun");
        let written = async {
            self.put(&begun, OpenOptions::new().write(true).truncate(true), text).await?;
            tokio::fs::rename(&begun, &self.path).await
        };
        if let Err(error) = written.await {
            warn!(path = %self.path.display(), %error, "cannot rewrite the log of the deployment");
        }
    }

    /// Adds what `entries` say.
    pub async fn write(&self, run: &Run, entries: impl Iterator<Item = &Entry>) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        let text: String = entries.map(|entry| lines(run, entry)).collect();
        let written = self.put(&self.path, OpenOptions::new().append(true), text).await;
        if let Err(error) = written {
            warn!(path = %self.path.display(), %error, "cannot write the log of the deployment");
        }
    }

    async fn put(&self, path: &Path, how: &mut OpenOptions, text: String) -> std::io::Result<()> {
        let redactor = self.redactor.clone();
        // A whole journal may be some megabytes, and drivers share the few threads that wait.
        let clean = tokio::task::spawn_blocking(move || redactor.redact(&text)).await?;
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let mut file = how.create(true).mode(0o640).open(path).await?;
        file.write_all(clean.as_bytes()).await?;
        file.flush().await
    }
}

/// What the log has of `entry`, with a line end after each line.
fn lines(run: &Run, entry: &Entry) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        for part in what.lines() {
            text.push_str(&format!("{} {part}\n", entry.at));
        }
    };
    let step = |id, direction: &Direction| {
        let named = run
            .plan()
            .step(id)
            .map_or_else(String::new, |step| format!(" {} on {}", step.action.name(), step.host_name));
        let undo = match direction {
            Direction::Do => "",
            Direction::Undo => "undo of ",
        };
        format!("{undo}{id}{named}")
    };
    match &entry.event {
        Event::LockTaken { by } => line(format!("driven by {by}, epoch {}", entry.epoch)),
        Event::Begun { step: id, direction } => line(format!("{} begins", step(*id, direction))),
        Event::Done { step: id, direction, finding } => {
            line(format!("{} done: {}", step(*id, direction), finding.said));
        }
        Event::Failed { step: id, direction, failure } => {
            let how = match failure.certainty {
                Certainty::Failed => "failed",
                Certainty::Unknown => "has no known outcome",
            };
            line(format!("{} {how}: {}", step(*id, direction), failure.what));
            failure_lines(failure, &mut line);
        }
        Event::Excluded { host, because } => {
            let named = run.plan().host_name(host).map_or_else(|| host.to_string(), ToString::to_string);
            line(format!("{named} is excluded because of {because}: it gets no requests"));
        }
        Event::RevertStarted { because } => line(format!("reverting: {}", revert_reason_text(because))),
        Event::Stuck { step: id, failure } => {
            line(format!("stuck at {id}: {}", failure.what));
            failure_lines(failure, &mut line);
        }
        Event::Resumed { by } => line(format!("{by} requested another attempt at the undo")),
        Event::UndoDeferred { step: id, how: Deferral::Pending { because, by } } => {
            let by = by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
            line(format!("{} is pending{by}: {because}", step(*id, &Direction::Undo)));
        }
        Event::UndoDeferred { step: id, how: Deferral::Skipped { by } } => {
            line(format!("{} is skipped: {by} cleans up by hand", step(*id, &Direction::Undo)));
        }
        Event::Ended { verdict } => line(format!("{ENDED} {verdict}")),
    }
    text
}

fn failure_lines(failure: &StepFailure, line: &mut impl FnMut(String)) {
    if let Some(why) = &failure.why {
        line(format!("  why: {why}"));
    }
    for probe in &failure.probes {
        line(format!("  probe: {probe}"));
    }
    for tail in &failure.tail {
        line(format!("  | {tail}"));
    }
    if let Some(next) = &failure.next {
        line(format!("  next: {next}"));
    }
}
