//! One executor for each kind of action. An executor compares the host with the step and makes the difference. It can
//! run again after it was killed at any point.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_core::health::Probe;
use lockstep_core::image::Login;
use lockstep_core::name::{EnvironmentKey, HostName, ProcessName};
use lockstep_core::plan::Action;
use lockstep_core::plan::action::DatabaseRef;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::run::limits::TAIL_LINES_MAX;
use lockstep_core::secret::set_command;
use lockstep_core::slot::Slot;
use lockstep_proto::limits::LOG_BYTES_MAX;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::docker::{Docker, DockerError};
use crate::executor::output::Output;
use crate::executor::shared_lookup::SharedLookup;
use crate::journal::object_names::ObjectNames;
use crate::nginx::{Nginx, SiteRevert};
use crate::postgres::{Database, Keeper, PostgresError};
use crate::printed::{LastLines, LineLimit};
use crate::probe::{self, ProbeRequest, Reads, Scheme};
use crate::program::directory::Directory;
use crate::program::identity::Identity;
use crate::program::settings::Settings;
use crate::session::images::TransferClient;
use crate::session::secrets::SecretSet;

mod clean_up;
mod health;
mod image;
mod local;
mod migration;
pub mod observe;
pub mod output;
mod preflight;
pub mod shared_lookup;
mod slot;
mod snapshot;
mod traffic;

pub use local::Instance;

use observe::Tools;

/// The lines of a container's log in a failure.
const TAIL: LineLimit = LineLimit { lines: TAIL_LINES_MAX, bytes: 64 * 1024 };

/// The most lines that are read of a container's log.
const CONTAINER_LINES_MAX: u32 = 10_000;

/// The limit of one probe by the health watch.
const WATCH_LIMIT: Duration = Duration::from_secs(2);

/// One step to run, with everything that its executor may use.
pub struct Work {
    pub key: StepKey,
    pub environment: EnvironmentKey,
    pub action: Action,
    pub secrets: SecretSet,
    /// The login for the registry of the action's image, if one is stored.
    pub login: Option<Login>,
    /// Receives an image from another host.
    pub transfer_client: TransferClient,
    /// The output of the step. It is redacted.
    pub output: Output,
    /// Cancelled when the executor has to stop. It leaves nothing half done, and returns.
    pub cancel: CancellationToken,
}

/// How long the start of the agent waits for Docker.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);

/// The executors of this host, and what they share.
pub struct Executors {
    docker: Docker,
    nginx: Nginx,
    /// The folder of the server's tools, if it is not Debian's.
    postgres_programs: Option<PathBuf>,
    keeper: Keeper,
    slots: PathBuf,
    object_names: ObjectNames,
    host: HostName,
    /// At which other hosts reach this one.
    address: String,
    containers_changed: Notify,
    /// Shared by the observations of all environments.
    tools: SharedLookup<Tools>,
}

/// An instance that the health watch probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub container: String,
    pub environment: EnvironmentKey,
    address: String,
    port: u16,
    path: String,
}

impl Executors {
    pub fn new(
        directory: &Directory,
        settings: &Settings,
        identity: &Identity,
        object_names: ObjectNames,
    ) -> Self {
        Self {
            docker: Docker::new(&settings.docker.socket, identity.host.clone()),
            nginx: Nginx::new(&settings.nginx, directory.traffic(), object_names.clone()),
            postgres_programs: settings.postgres.binaries.clone(),
            keeper: Keeper::new(settings.postgres.sockets.clone()),
            slots: directory.slots(),
            object_names,
            host: identity.name.clone(),
            address: identity.address.clone(),
            containers_changed: Notify::new(),
            tools: SharedLookup::default(),
        }
    }

    /// Waits until a step has started or stopped containers.
    pub async fn containers_changed(&self) {
        self.containers_changed.notified().await;
    }

    /// Removes temporary containers of an agent that was killed. No step would find them again.
    pub async fn sweep(&self) {
        match timeout(SWEEP_LIMIT, self.docker.sweep_temporary()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, why = error.detail(), "cannot remove temporary containers");
            }
            Err(_) => warn!("cannot remove temporary containers: Docker did not answer in time"),
        }
    }

    /// Runs the executor of the step.
    ///
    /// # Errors
    /// When the step fails, with what, why and the next command for the operator.
    pub async fn converge(&self, work: Work) -> Result<Finding, StepFailure> {
        let done = self.carry_out(&work).await;
        if let Action::StartSlot { .. } | Action::StopSlot { .. } = work.action {
            self.containers_changed.notify_one();
        }
        let mut finding = done?;
        if finding.traffic.is_none() {
            // The receipt is the difference between the first count of a deployment and its last.
            finding.traffic = self.nginx.traffic(&work.environment, &work.key.deployment).await;
        }
        Ok(finding)
    }

    async fn carry_out(&self, work: &Work) -> Result<Finding, StepFailure> {
        match &work.action {
            Action::Preflight(preflight) => self.preflight(work, preflight).await,
            Action::PresentImage(present) => self.present_image(work, present).await,
            Action::AdmitHosts(wanted) => {
                Ok(finding(self.keeper.apply_lines(&work.environment, wanted).await?))
            }
            Action::TakeSnapshot(snapshot) => self.take_snapshot(work, snapshot).await,
            Action::Migrate(migrate) => self.migrate(work, migrate).await,
            Action::StartSlot { slot, containers } => self.start_slot(work, *slot, containers).await,
            Action::StopSlot { slot } => self.stop_slot(work, *slot).await,
            Action::CheckHealth(check) => self.check_health(work, check).await,
            Action::InstallSite { site, overwrites } => {
                self.install_site(work, site, overwrites.as_ref()).await
            }
            Action::RemoveSite if work.key.direction == Direction::Do => self.take_site_down(work).await,
            Action::RemoveSite => {
                Ok(site_reverted(self.nginx.remove(&work.environment).await?, "site removed"))
            }
            Action::RestoreSite => {
                let restored = self.nginx.restore(&work.environment, &work.key.deployment).await?;
                Ok(site_reverted(restored, "site restored"))
            }
            Action::SwitchTraffic(switch) => self.switch_traffic(work, switch).await,
            Action::MoveWorkers { stop, start, containers } => {
                self.move_workers(work, *stop, *start, containers).await
            }
            Action::Bake { duration, check } => self.bake(work, *duration, check).await,
            Action::DrainSlot { slot, ports, deadline } => self.drain(work, *slot, ports, *deadline).await,
            Action::CleanUp(clean_up) => self.clean_up(work, clean_up).await,
        }
    }

    /// The running instances that have a health endpoint.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn targets(&self) -> Result<Vec<Target>, DockerError> {
        let containers = self.docker.containers(None).await?;
        Ok(containers
            .into_iter()
            .filter_map(|found| {
                let (address, port) = found.endpoint?;
                let (container, environment) = (found.seen.name, found.environment);
                Some(Target { container, environment, address, port, path: found.health_path? })
            })
            .collect())
    }

    /// Probes an instance once.
    pub async fn probe(&self, target: &Target) -> Probe {
        let request = ProbeRequest {
            address: &target.address,
            port: target.port,
            host: &target.address,
            path: &target.path,
            header: None,
            scheme: Scheme::Http,
            reads: Reads::Body,
            limit: WATCH_LIMIT,
        };
        probe::send_probe(&request).await.probe
    }

    /// What the live slot's containers printed, with their processes. It is not redacted.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn logs(
        &self,
        environment: &EnvironmentKey,
        process: Option<&ProcessName>,
        tail: Option<u32>,
    ) -> Result<Vec<(ProcessName, LastLines)>, DockerError> {
        let live = self.live_slot(environment);
        let mut containers = self.docker.containers(Some(environment)).await?;
        containers.retain(|container| {
            let is_wanted = process.is_none_or(|wanted| *wanted == container.seen.process);
            container.seen.slot == live && is_wanted
        });
        let lines =
            usize::try_from(tail.unwrap_or(CONTAINER_LINES_MAX).min(CONTAINER_LINES_MAX)).unwrap_or_default();
        // All of them have room in one answer.
        let limit = LineLimit { lines, bytes: LOG_BYTES_MAX / containers.len().max(1) };
        let mut logs = Vec::new();
        for container in containers {
            logs.push((container.seen.process, self.docker.log(&container.id, limit).await?));
        }
        Ok(logs)
    }

    /// The live slot as this host knows it. If nginx is on another host, the state files of the processes decide.
    fn live_slot(&self, environment: &EnvironmentKey) -> Slot {
        let is_live = |slot: &Slot| {
            let state = std::fs::read_to_string(self.state_directory(environment, *slot).join("state"));
            state.is_ok_and(|state| state == "live")
        };
        [Slot::Blue, Slot::Green].into_iter().find(is_live).unwrap_or_else(|| self.nginx.slot(environment))
    }

    /// The folder of the state file of a slot. It is mounted as a folder, so that the file in it can be replaced.
    fn state_directory(&self, environment: &EnvironmentKey, slot: Slot) -> PathBuf {
        self.slots.join(self.object_names.of(environment).as_str()).join(slot.as_str())
    }

    async fn last_lines(&self, work: &Work, container: &str) -> Vec<String> {
        match self.docker.log(container, TAIL).await {
            Ok(last) => work.output.redacted(&last),
            // A log that cannot be read must not hide why it was wanted.
            Err(_) => Vec::new(),
        }
    }
}

impl Work {
    /// The database that the step names, with its URL.
    fn database<'a>(&'a self, reference: &'a DatabaseRef) -> Result<Database<'a>, StepFailure> {
        database(&self.environment, &self.secrets, reference)
    }

    fn refuse_cancelled(&self) -> Result<(), StepFailure> {
        if self.cancel.is_cancelled() {
            Err(StepFailure::new("it stopped before it was done"))
        } else {
            Ok(())
        }
    }
}

fn database<'a>(
    environment: &'a EnvironmentKey,
    secrets: &'a SecretSet,
    reference: &'a DatabaseRef,
) -> Result<Database<'a>, StepFailure> {
    let url = secrets.variables.get(&reference.url_from).ok_or_else(|| {
        StepFailure::new(format!("the secret {} is not set", reference.url_from))
            .next(set_command(environment, &reference.url_from))
    })?;
    Ok(Database { environment, url, url_from: &reference.url_from })
}

/// The next command when the plan does not fit any more: a new deployment makes a new plan.
fn deploy_again(environment: &EnvironmentKey) -> String {
    format!("lockstep deploy {environment} --image IMAGE    # makes a new plan")
}

fn site_reverted(reverted: SiteRevert, done: &str) -> Finding {
    let said = match reverted {
        SiteRevert::Yes => done,
        SiteRevert::Unchanged => "the site is as it was before",
        SiteRevert::LeftAsChanged => "site not touched: it was changed by hand",
    };
    Finding { reloaded: reverted == SiteRevert::Yes, ..finding(said) }
}

fn finding(said: impl Into<String>) -> Finding {
    Finding { said: said.into(), ..Finding::default() }
}

/// The step failure of a Docker error.
fn docker_failed(error: DockerError) -> StepFailure {
    let detail = error.detail();
    let failure = StepFailure::new(error.to_string());
    let failure = if detail.is_empty() { failure } else { failure.why(detail) };
    match error {
        DockerError::Absent { .. } => failure.next("systemctl start docker"),
        DockerError::Old { .. } => failure.next("apt-get install docker.io"),
        DockerError::Registry { registry, .. } => failure
            .next(format!(
                "lockstep registry login {registry} --username NAME < token    # then: lockstep registry check {registry}"
            )),
        DockerError::Refused { .. }
        | DockerError::Large { .. }
        | DockerError::Other { .. }
        | DockerError::ImageName(_) => failure,
        DockerError::Foreign { name } => failure.next(format!("docker inspect {name}")),
    }
}

/// The step failure of a PostgreSQL error.
fn database_failed(what: &str, error: &PostgresError) -> StepFailure {
    let why = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    StepFailure::new(what.to_owned()).why(why)
}

/// The environment variables of a container: plain ones, then secrets, which take precedence.
fn variables(spec: &lockstep_core::plan::ContainerSpec, secrets: &SecretSet) -> BTreeMap<String, String> {
    let mut variables = spec.env.clone();
    if spec.secrets_version.is_some() {
        variables
            .extend(secrets.variables.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
    }
    variables.insert("LOCKSTEP_SLOT".to_owned(), spec.slot.to_string());
    variables
}
