//! What is asked of this host beside steps: a look, a log, an image to look into. Without effect on what
//! serves, without a token, and of no interest once the session that asked is lost.

use std::sync::Arc;

use lockstep_core::agent::host_task::HostTask;
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::observed::Observation;
use lockstep_proto::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use super::message::{self, LogRequest, LogSource};
use crate::executor::observe::ObservationRequest;
use crate::program::telemetry;
use crate::session::secrets::SecretSet;
use crate::worker;

/// What errands have said and the session has not sent.
const SAID_MAX: usize = 8;

/// The errands that run.
pub struct HostTasks {
    tools: TaskContext,
    tasks: JoinSet<()>,
    said: mpsc::Receiver<wire::FromAgent>,
}

#[derive(Clone)]
struct TaskContext {
    worker: worker::WorkerContext,
    say: mpsc::Sender<wire::FromAgent>,
}

impl HostTasks {
    pub fn new(worker: worker::WorkerContext) -> Self {
        let (say, said) = mpsc::channel(SAID_MAX);
        Self { tools: TaskContext { worker, say }, tasks: JoinSet::new(), said }
    }

    /// What an errand says next. May be dropped at any moment and called again.
    pub async fn next(&mut self) -> wire::FromAgent {
        loop {
            tokio::select! {
                Some(said) = self.said.recv() => return said,
                Some(gone) = self.tasks.join_next() => {
                    if let Err(broken) = gone
                        && broken.is_panic()
                    {
                        error!("bug: a host task panicked; its request gets no answer");
                    }
                }
                else => return std::future::pending().await,
            }
        }
    }

    /// Whether none runs, and none has something to say.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.said.is_empty()
    }

    /// Nobody waits for them any more.
    pub fn drop_all(&mut self) {
        self.tasks.abort_all();
        while self.said.try_recv().is_ok() {}
    }

    pub fn observe(&mut self, look: ObservationRequest) {
        let tools = self.tools.clone();
        self.tasks.spawn(async move {
            let request = look.request;
            let observation = tools.observe(look).await;
            tools.send(message::observed(request, &observation)).await;
        });
    }

    pub fn run(&mut self, request: u64, errand: HostTask) {
        let tools = self.tools.clone();
        self.tasks.spawn(async move {
            let done = tools.run(&errand).await;
            tools.send(message::task_done(request, done)).await;
        });
    }

    pub fn fetch_log(&mut self, wanted: LogRequest) {
        let tools = self.tools.clone();
        self.tasks.spawn(async move {
            let request = wanted.request;
            let lines = tools.log(wanted).await.unwrap_or_else(|why| vec![why]);
            for part in message::log(request, lines) {
                tools.send(part).await;
            }
        });
    }
}

impl TaskContext {
    async fn run(&self, errand: &HostTask) -> Result<(), String> {
        let executors = &self.worker.executors;
        match errand {
            HostTask::LogIn { registry } => {
                executors.log_in(registry, self.login(registry.clone()).await?.as_ref()).await
            }
            HostTask::Fetch { image, manifest } => {
                let login = self.login(RegistryName::of_image(image)).await?;
                executors.fetch(image, manifest, login.as_ref()).await
            }
            HostTask::Give { image_id, transfer, to } => {
                executors.give(image_id, (transfer, to), &self.worker.reach).await
            }
            HostTask::Take { image, image_id, transfer, from } => {
                executors.take_sent((image_id, image), (transfer, from), &self.worker.reach).await
            }
        }
    }

    async fn observe(&self, look: ObservationRequest) -> Observation {
        // Without it the registry says for itself that it wanted one.
        let login = match &look.image {
            None => None,
            Some(image) => self.login(RegistryName::of_image(image)).await.unwrap_or_default(),
        };
        let secrets = match &look.database {
            None => Ok(Arc::new(SecretSet::none())),
            Some(database) => self.secrets(&look.environment, database.secrets_version).await,
        };
        match secrets {
            Ok(secrets) => self.worker.executors.observe(&look, &secrets, login.as_ref()).await,
            Err(why) => {
                // What needs no secret can be seen all the same.
                let look = ObservationRequest { database: None, ..look };
                let mut observation =
                    self.worker.executors.observe(&look, &SecretSet::none(), login.as_ref()).await;
                observation.problems.push(format!("cannot inspect the database: {why}"));
                observation
            }
        }
    }

    /// The lines wanted, or one that says why there are none.
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
            LogSource::Live { process, secrets_version } => {
                let secrets = match secrets_version {
                    None => Arc::new(SecretSet::none()),
                    // Without the values nothing of it may be shown.
                    Some(version) => self.secrets(&environment, version).await?,
                };
                let lines = self.worker.executors.logs(&environment, process.as_ref(), tail).await;
                let lines = lines.map_err(|error| telemetry::chain(&error))?;
                Ok(lines.iter().map(|line| secrets.redactor.redact(line)).collect())
            }
        }
    }

    async fn secrets(&self, environment: &EnvironmentKey, version: u64) -> Result<Arc<SecretSet>, String> {
        self.worker.request_secrets(environment, version).await.map_err(|error| error.to_string())
    }

    async fn login(&self, registry: RegistryName) -> Result<Option<Login>, String> {
        self.worker.request_login(registry).await.map_err(|error| error.to_string())
    }

    async fn send(&self, said: wire::FromAgent) {
        // When the agent is ending nobody hears it.
        self.say.send(said).await.ok();
    }
}
