//! Logs. That of a deployment comes from the file of this coordinator; that of a step or of the live slot from its
//! host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::plan::operation::Refusal;
use lockstep_proto::Invalid;
use lockstep_proto::wire;
use tonic::Status;
use tonic::codegen::BoxStream;
use tracing::warn;

use super::convert::{deployment, environment, non_empty};
use super::failure::{not_found, refused, store_status};
use super::{Caller, ControlApi};
use crate::context::Context;
use crate::export::deployment_log;
use crate::ports::agents::{AgentError, LogRequest, LogSource};
use crate::record::{absent, environments, history, hosts};
use crate::store::{Store, StoreError};

/// How often a log that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

/// How far a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    AsItIs,
    UntilItEnds,
}

pub(super) async fn logs(
    api: &ControlApi,
    caller: &Caller,
    request: wire::LogsRequest,
) -> Result<BoxStream<wire::LogLine>, Status> {
    let wire::LogsRequest { environment: text, deployment: reference, step, process, tail, follow, no_lines } =
        request;
    // How many of the last lines; without a number all of them.
    let tail = if no_lines { Some(0) } else { (tail > 0).then_some(tail) };
    let reach = if follow { Reach::UntilItEnds } else { Reach::AsItIs };
    if reference.as_ref().is_some_and(|reference| !reference.deployment.is_empty()) {
        let (id, environment) = deployment(api, caller, reference).await?;
        return match u16::try_from(step) {
            Ok(0) => of_deployment(&api.context, id, tail, reach).await,
            Ok(step) => lines(of_step(&api.context, &environment, id, StepId(step), tail).await?),
            Err(error) => Err(Invalid::because("step", error).into()),
        };
    }
    let environment = environment(caller, &text)?;
    if reach == Reach::UntilItEnds {
        return Err(Status::unimplemented(
            "the output of containers cannot be followed yet: repeat the command without --follow, or use docker logs -f on the host",
        ));
    }
    let parse = |text: String| text.parse().map_err(|error| Invalid::because("process", error));
    let process = non_empty(process).map(parse).transpose()?;
    of_live(&api.context, &environment, process, tail).await
}

fn lines(lines: Vec<String>) -> Result<BoxStream<wire::LogLine>, Status> {
    Ok(Box::pin(stream::iter(lines).map(|line| Ok(wire::LogLine { line }))))
}

async fn nothing_live(store: &dyn Store, environment: &EnvironmentKey) -> Result<Refusal, StoreError> {
    if environments::spec(store, environment).await?.is_none() {
        let first = format!("lockstep deploy {environment} --image IMAGE");
        return absent::refusal(store, environment, first).await;
    }
    Ok(Refusal {
        what: format!("nothing is live in {environment}"),
        why: "it has no containers whose output could be shown".to_owned(),
        next: format!("lockstep history {environment}    # then: lockstep logs DEPLOYMENT"),
    })
}

async fn of_step(
    context: &Context,
    environment: &EnvironmentKey,
    id: DeploymentId,
    step: StepId,
    tail: Option<u32>,
) -> Result<Vec<String>, Status> {
    let plan = history::plan(&*context.store, &id).await.map_err(|error| store_status(&error))?;
    let host = plan.as_ref().and_then(|plan| plan.step(step)).map(|step| step.host.clone());
    let host = host.ok_or_else(|| Status::not_found(format!("{id} has no step {step}")))?;
    if tail == Some(0) {
        return Ok(Vec::new());
    }
    let of = LogSource::Step { deployment: id, step };
    let wanted = LogRequest { environment: environment.clone(), of, tail };
    context.agents.fetch_log(&host, wanted).await.map_err(|error| unreachable(&error))
}

async fn of_live(
    context: &Context,
    environment: &EnvironmentKey,
    process: Option<ProcessName>,
    tail: Option<u32>,
) -> Result<BoxStream<wire::LogLine>, Status> {
    let store = &*context.store;
    let failed = |error| store_status(&error);
    let live = environments::live(store, environment).await.map_err(failed)?;
    let Some(live) = live else {
        return Err(not_found(&nothing_live(store, environment).await.map_err(failed)?));
    };
    if let Some(process) = &process {
        let declared: Vec<&ProcessName> = live.spec.processes.keys().collect();
        check_process(environment, &declared, process).map_err(|refusal| refused(&refusal))?;
    }
    if tail == Some(0) {
        return lines(Vec::new());
    }
    let mut mine = hosts::list(store).await.map_err(failed)?;
    let named = live.spec.hosts.app;
    mine.retain(|host| named.is_empty() || named.contains(&host.name));
    let of = LogSource::Live { process, secrets_version: live.secrets_version };
    let wanted = LogRequest { environment: environment.clone(), of, tail };
    let agents = Arc::clone(&context.agents);
    // One host after the other, as the lines are read: there may be a thousand.
    let logs = stream::iter(mine).then(move |host| {
        let (agents, wanted) = (Arc::clone(&agents), wanted.clone());
        async move { agents.fetch_log(&host.id, wanted).await }
    });
    let lines = logs.flat_map(|log| {
        stream::iter(match log {
            Ok(lines) => lines.into_iter().map(|line| Ok(wire::LogLine { line })).collect(),
            Err(error) => vec![Err(unreachable(&error))],
        })
    });
    Ok(Box::pin(lines))
}

fn check_process(
    environment: &EnvironmentKey,
    declared: &[&ProcessName],
    process: &ProcessName,
) -> Result<(), Refusal> {
    if declared.contains(&process) {
        return Ok(());
    }
    let names: Vec<&str> = declared.iter().map(|name| name.as_str()).collect();
    let any = names.first().map(|name| format!(" --process {name}")).unwrap_or_default();
    Err(Refusal {
        what: format!("{environment} has no process {process}"),
        why: format!("the live release has: {}", names.join(", ")),
        next: format!("lockstep logs {}{any}", environment.environment),
    })
}

fn unreachable(error: &AgentError) -> Status {
    match error {
        AgentError::Absent { .. } | AgentError::NoAnswer { .. } => Status::unavailable(error.to_string()),
        AgentError::Refused { why, .. } => Status::not_found(why.clone()),
    }
}

async fn of_deployment(
    context: &Context,
    id: DeploymentId,
    tail: Option<u32>,
    reach: Reach,
) -> Result<BoxStream<wire::LogLine>, Status> {
    let summary = history::summary(&*context.store, &id).await.map_err(|error| store_status(&error))?;
    let summary = summary.ok_or_else(|| Status::not_found(format!("{id} has not begun yet")))?;
    let path = deployment_log::path(&context.logs, &summary.key, &id);
    let mut ready = read(&path, 0).await?;
    let at = ready.len();
    let from = tail.and_then(|tail| usize::try_from(tail).ok()).map_or(0, |tail| at.saturating_sub(tail));
    ready.drain(..from);
    let following = FollowedLog { context: context.clone(), id, path, at };
    if reach == Reach::AsItIs {
        return lines(ready);
    }
    let more = stream::unfold(Some(following), |following| async move {
        let (lines, following) = following?.more().await;
        Some((stream::iter(lines), following))
    });
    let first = stream::iter(ready).map(|line| Ok(wire::LogLine { line }));
    Ok(Box::pin(first.chain(more.flatten())))
}

/// A deployment's log that is read while it is written.
struct FollowedLog {
    context: Context,
    id: DeploymentId,
    path: PathBuf,
    /// How many lines were read.
    at: usize,
}

impl FollowedLog {
    /// What was added, and itself while more may come.
    async fn more(mut self) -> (Vec<Result<wire::LogLine, Status>>, Option<Self>) {
        tokio::time::sleep(FOLLOW_EVERY).await;
        // The summary before the file: what has ended has its last line.
        let ended = match history::summary(&*self.context.store, &self.id).await {
            Ok(summary) => summary.is_none_or(|summary| summary.verdict.is_some()),
            Err(error) => return (vec![Err(store_status(&error))], None),
        };
        match read(&self.path, self.at).await {
            Err(status) => (vec![Err(status)], None),
            Ok(lines) => {
                self.at += lines.len();
                let lines = lines.into_iter().map(|line| Ok(wire::LogLine { line })).collect();
                (lines, (!ended).then_some(self))
            }
        }
    }
}

/// The whole lines of a log from line `from` on; none where there is no file yet.
async fn read(path: &std::path::Path, from: usize) -> Result<Vec<String>, Status> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => {
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            Ok(whole.lines().skip(from).map(str::to_owned).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read the log of a deployment");
            Err(Status::internal(format!("cannot read the log {}: {error}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_is_refused_with_those_that_are() {
        let environment: EnvironmentKey = "notes/production".parse().unwrap();
        let (web, worker, other): (ProcessName, ProcessName, ProcessName) =
            ("web".parse().unwrap(), "worker".parse().unwrap(), "nosuch".parse().unwrap());
        let declared = [&web, &worker];
        assert_eq!(check_process(&environment, &declared, &worker), Ok(()));
        let refusal = check_process(&environment, &declared, &other).unwrap_err();
        assert_eq!(refusal.what, "notes/production has no process nosuch");
        assert_eq!(refusal.why, "the live release has: web, worker");
        assert_eq!(refusal.next, "lockstep logs production --process web");
    }
}
