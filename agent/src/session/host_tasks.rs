//! Host tasks: what a coordinator requests from this host outside of a plan, as an observation, a log or an image.
//!
//! What must stay true: a host task changes nothing that serves and has no token. It ends with the session that
//! requested it.

use lockstep_core::agent::host_task::HostTask;
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::ProcessName;
use lockstep_core::record::observed::Observation;
use lockstep_core::secret::redact::Redactor;
use lockstep_proto::limits::{LOG_BYTES_MAX, LOG_LINES_MAX};
use lockstep_proto::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use super::message::{self, LogRequest, LogSource};
use crate::executor::observe::ObservationRequest;
use crate::printed::LastLines;
use crate::program::telemetry;
use crate::session::secrets::SecretSet;
use crate::worker;

/// Messages of host tasks that the session has not sent yet.
const OUTGOING_MAX: usize = 8;

/// The room for the line that says what is left out of a log.
const MARK_BYTES_MAX: usize = 100;

/// The running host tasks.
pub struct HostTasks {
    context: TaskContext,
    tasks: JoinSet<()>,
    messages: mpsc::Receiver<wire::FromAgent>,
}

#[derive(Clone)]
struct TaskContext {
    worker: worker::WorkerContext,
    outgoing: mpsc::Sender<wire::FromAgent>,
}

impl HostTasks {
    pub fn new(worker: worker::WorkerContext) -> Self {
        let (outgoing, received) = mpsc::channel(OUTGOING_MAX);
        Self { context: TaskContext { worker, outgoing }, tasks: JoinSet::new(), messages: received }
    }

    /// The next message of a host task. May be dropped at any moment and called again.
    pub async fn next(&mut self) -> wire::FromAgent {
        loop {
            tokio::select! {
                Some(message) = self.messages.recv() => return message,
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        error!("bug: a host task panicked; its request gets no answer");
                    }
                }
                else => return std::future::pending().await,
            }
        }
    }

    /// Whether no task runs, and no message waits.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.messages.is_empty()
    }

    /// Ends all tasks and drops their messages.
    pub fn drop_all(&mut self) {
        self.tasks.abort_all();
        while self.messages.try_recv().is_ok() {}
    }

    pub fn observe(&mut self, request: ObservationRequest) {
        let context = self.context.clone();
        self.tasks.spawn(async move {
            let number = request.request;
            let observation = context.observe(request).await;
            context.send(message::observed(number, &observation)).await;
        });
    }

    pub fn run(&mut self, request: u64, task: HostTask) {
        let context = self.context.clone();
        self.tasks.spawn(async move {
            let done = context.run(&task).await;
            context.send(message::task_done(request, done)).await;
        });
    }

    pub fn fetch_log(&mut self, wanted: LogRequest) {
        let context = self.context.clone();
        self.tasks.spawn(async move {
            let request = wanted.request;
            let lines = context.log(wanted).await.unwrap_or_else(|why| vec![why]);
            for part in message::log(request, within_limits(lines)) {
                context.send(part).await;
            }
        });
    }
}

impl TaskContext {
    async fn run(&self, task: &HostTask) -> Result<(), String> {
        let executors = &self.worker.executors;
        match task {
            HostTask::LogIn { registry } => {
                executors.log_in(registry, self.login(registry.clone()).await?.as_ref()).await
            }
            HostTask::Fetch { image, manifest } => {
                let login = self.login(RegistryName::of_image(image)).await?;
                executors.fetch(image, manifest, login.as_ref()).await
            }
            HostTask::Give { image_id, transfer, to } => {
                executors.send_image(image_id, (transfer, to), &self.worker.transfer_client).await
            }
            HostTask::Take { image, image_id, transfer, from } => {
                executors
                    .receive_sent_image((image_id, image), (transfer, from), &self.worker.transfer_client)
                    .await
            }
        }
    }

    async fn observe(&self, request: ObservationRequest) -> Observation {
        // Without it the registry says for itself that it wanted one.
        let login = match &request.image {
            None => None,
            Some(_) if !request.lookup.is_registry() => None,
            Some(image) => self.login(RegistryName::of_image(image)).await.unwrap_or_default(),
        };
        let secrets = match &request.database {
            None => Ok(SecretSet::none()),
            Some(database) => {
                let given = self.worker.request_secrets(&request.environment, database.secrets()).await;
                given.map_err(|error| error.to_string())
            }
        };
        match secrets {
            Ok(secrets) => self.worker.executors.observe(&request, &secrets, login.as_ref()).await,
            Err(why) => {
                // What needs no secret can be seen all the same.
                let request = ObservationRequest { database: None, ..request };
                let mut observation =
                    self.worker.executors.observe(&request, &SecretSet::none(), login.as_ref()).await;
                observation.problems.push(format!("cannot inspect the database: {why}"));
                observation
            }
        }
    }

    /// The requested lines, or why there are none.
    async fn log(&self, wanted: LogRequest) -> Result<Vec<String>, String> {
        let LogRequest { request: _, environment, of, tail } = wanted;
        match of {
            LogSource::Step { deployment, step } => {
                let logs = self.worker.logs.clone();
                let tail = tail.map_or(0, |tail| usize::try_from(tail).unwrap_or(usize::MAX));
                tokio::task::spawn_blocking(move || logs.read(&deployment, step, tail))
                    .await
                    .map_err(|error| error.to_string())?
                    .map_err(|error| format!("cannot read the log of the step: {error}"))
            }
            LogSource::Live { process } => {
                let logs = self.worker.executors.logs(&environment, process.as_ref(), tail).await;
                let logs = logs.map_err(|error| telemetry::chain(&error))?;
                // Some megabytes, while the session and the steps share the threads that wait. The coordinator redacts
                // them.
                tokio::task::spawn_blocking(move || texts(&logs)).await.map_err(|error| error.to_string())
            }
        }
    }

    async fn login(&self, registry: RegistryName) -> Result<Option<Login>, String> {
        self.worker.request_login(registry).await.map_err(|error| error.to_string())
    }

    async fn send(&self, message: wire::FromAgent) {
        // Nobody receives it when the agent is stopping.
        self.outgoing.send(message).await.ok();
    }
}

/// The lines of all processes, each with its process.
fn texts(logs: &[(ProcessName, LastLines)]) -> Vec<String> {
    let redactor = Redactor::none();
    let lines = logs
        .iter()
        .flat_map(|(process, last)| last.redacted(&redactor).into_iter().map(move |line| (process, line)));
    lines.map(|(process, line)| format!("{process}  {line}")).collect()
}

/// The last of the lines that have room in one answer. The first says how many are left out.
fn within_limits(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    let fits = |line: &&String| {
        bytes += line.len();
        bytes <= LOG_BYTES_MAX - MARK_BYTES_MAX
    };
    let kept = lines.iter().rev().take(LOG_LINES_MAX - 1).take_while(fits).count();
    let left_out = lines.len() - kept;
    if left_out > 0 {
        lines.splice(..left_out, [format!("[{left_out} earlier lines are left out here]")]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_last_lines_that_have_room() {
        let few = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(within_limits(few.clone()), few);
        let long: Vec<String> = (0..1000).map(|number| format!("{number} {}", "x".repeat(16_000))).collect();
        let answer = within_limits(long.clone());
        assert!(answer.iter().map(String::len).sum::<usize>() <= LOG_BYTES_MAX);
        assert_eq!(answer[0], format!("[{} earlier lines are left out here]", 1001 - answer.len()));
        assert_eq!(answer.last(), long.last());
        let many = within_limits(vec![String::new(); 3 * LOG_LINES_MAX]);
        assert_eq!(many.len(), LOG_LINES_MAX);
        assert_eq!(many[0], format!("[{} earlier lines are left out here]", 2 * LOG_LINES_MAX + 1));
    }
}
