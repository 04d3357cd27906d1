//! Docker in our words. Every call looks at what there is first and says what it did; a call that is
//! made twice does nothing the second time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, HostConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
    StopContainerOptionsBuilder,
};
use futures::StreamExt;
use lockstep_core::health::Health;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::plan::ContainerSpec;
use lockstep_core::record::{ContainerSeen, Running, Slot};
use lockstep_core::spec::VolumeAccess;
use tokio::sync::OnceCell;

pub const LABEL_ENVIRONMENT: &str = "lockstep.environment";
const LABEL_SLOT: &str = "lockstep.slot";
const LABEL_PROCESS: &str = "lockstep.process";
const LABEL_DEPLOYMENT: &str = "lockstep.deployment";
const LABEL_SPEC: &str = "lockstep.spec";
const LABEL_HEALTH_PATH: &str = "lockstep.health";
/// On containers that are made only to read a folder of an image.
const LABEL_TEMPORARY: &str = "lockstep.temporary";

/// Pulling an image takes long; everything else does not.
const CALL_LIMIT_SECONDS: u64 = 600;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("Docker does not answer at {socket}")]
    Absent {
        socket: PathBuf,
        #[source]
        source: Bollard,
    },
    #[error("Docker refused: {what}")]
    Refused {
        what: String,
        #[source]
        source: Bollard,
    },
    #[error("{name} was made for something else: it is not what the plan wants")]
    Foreign { name: String },
}

impl DockerError {
    /// What Docker itself says.
    pub fn words(&self) -> String {
        let source = match self {
            Self::Absent { source, .. } | Self::Refused { source, .. } => source,
            Self::Foreign { .. } => return String::new(),
        };
        if let Bollard::DockerResponseServerError { message, .. } = source {
            return message.clone();
        }
        source.to_string()
    }
}

/// The engine of this host.
pub struct Docker {
    socket: PathBuf,
    client: OnceCell<bollard::Docker>,
}

/// Where a container's file of its slot's state and its health are found.
#[derive(Debug, Clone)]
pub struct Making<'a> {
    pub environment: &'a EnvironmentKey,
    pub deployment: &'a DeploymentId,
    /// The secrets and everything else, as the process sees them.
    pub variables: BTreeMap<String, String>,
    /// Mounted read-only at `/run/lockstep`.
    pub state_directory: &'a Path,
}

/// A container of ours, with what only this host needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    pub id: String,
    pub environment: EnvironmentKey,
    pub seen: ContainerSeen,
    pub health_path: Option<String>,
    /// The first published port.
    pub endpoint: Option<(String, u16)>,
}

/// An image as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: Digest,
    pub commit: Option<String>,
    pub size_bytes: u64,
}

impl Docker {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), client: OnceCell::new() }
    }

    /// Dialled when it is first needed: an engine that is down must not keep the agent from starting.
    async fn client(&self) -> Result<&bollard::Docker, DockerError> {
        let dial = || async {
            let socket = self.socket.to_string_lossy();
            // Debian's engine speaks an older version than the client's newest.
            bollard::Docker::connect_with_unix(&socket, CALL_LIMIT_SECONDS, bollard::API_DEFAULT_VERSION)?
                .negotiate_version()
                .await
        };
        self.client.get_or_try_init(dial).await.map_err(|source| self.absent(source))
    }

    fn absent(&self, source: Bollard) -> DockerError {
        DockerError::Absent { socket: self.socket.clone(), source }
    }

    fn refused(&self, what: impl Into<String>) -> impl FnOnce(Bollard) -> DockerError {
        let what = what.into();
        let socket = self.socket.clone();
        move |source| {
            if matches!(source, Bollard::DockerResponseServerError { .. }) {
                DockerError::Refused { what, source }
            } else {
                DockerError::Absent { socket, source }
            }
        }
    }

    /// The engine's version.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, DockerError> {
        let version = self.client().await?.version().await.map_err(|source| self.absent(source))?;
        Ok(version.version.unwrap_or_else(|| "unknown".to_owned()))
    }

    /// The image of this name or id; nothing when it is not there.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, DockerError> {
        let found = match self.client().await?.inspect_image(reference).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.refused(format!("to look at {reference}"))(error)),
        };
        let Some(id) = found.id.as_deref().and_then(|id| id.parse().ok()) else { return Ok(None) };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let commit =
            labels.get("org.opencontainers.image.revision").filter(|commit| is_commit(commit)).cloned();
        let size_bytes = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Some(Image { id, commit, size_bytes }))
    }

    /// Pulls `reference`, telling each new state.
    ///
    /// # Errors
    /// When the registry or the engine refuses.
    pub async fn pull(&self, reference: &str, mut tell: impl FnMut(&str)) -> Result<(), DockerError> {
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut states = self.client().await?.create_image(Some(options), None, None);
        while let Some(state) = states.next().await {
            let state = state.map_err(self.refused(format!("to pull {reference}")))?;
            if let Some(status) = state.status {
                tell(&status);
            }
        }
        Ok(())
    }

    /// Whether the image was removed; one that a container uses stays.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn remove_image(&self, id: &Digest) -> Result<Removed, DockerError> {
        match self.client().await?.remove_image(id.as_str(), None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(Removed::Yes),
            Err(error) if is_missing(&error) => Ok(Removed::WasNotThere),
            Err(Bollard::DockerResponseServerError { status_code: 409, .. }) => Ok(Removed::InUse),
            Err(error) => Err(self.refused(format!("to remove {id}"))(error)),
        }
    }

    /// A folder of an image as a tar archive, read from a container that is made and never started.
    /// Nothing when the image has no such folder.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn folder(&self, image: &Digest, path: &str) -> Result<Option<Vec<u8>>, DockerError> {
        let client = self.client().await?;
        let body = ContainerCreateBody {
            image: Some(image.to_string()),
            // An image without a command could not be made into a container.
            cmd: Some(vec!["/never-started".to_owned()]),
            labels: Some(HashMap::from([(LABEL_TEMPORARY.to_owned(), "folder".to_owned())])),
            ..ContainerCreateBody::default()
        };
        let made = client
            .create_container(None::<CreateContainerOptions>, body)
            .await
            .map_err(self.refused(format!("to read {path} of {image}")))?;
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut parts = client.download_from_container(&made.id, Some(options));
        let mut archive = Vec::new();
        let mut outcome = Ok(true);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => archive.extend_from_slice(&part),
                Err(error) if is_missing(&error) => outcome = Ok(false),
                Err(error) => outcome = Err(self.refused(format!("to read {path} of {image}"))(error)),
            }
        }
        self.remove(&made.id).await?;
        Ok(outcome?.then_some(archive))
    }

    /// Every container of ours, of one environment or of all.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn containers(&self, environment: Option<&EnvironmentKey>) -> Result<Vec<Ours>, DockerError> {
        let label = environment
            .map_or_else(|| LABEL_ENVIRONMENT.to_owned(), |key| format!("{LABEL_ENVIRONMENT}={key}"));
        let found = self.list(&label).await?;
        let mut ours: Vec<Ours> = found.iter().filter_map(ours).collect();
        ours.sort_by(|one, other| one.seen.name.cmp(&other.seen.name));
        Ok(ours)
    }

    /// Removes what an earlier, killed look at a folder left.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn sweep_temporary(&self) -> Result<(), DockerError> {
        for container in self.list(LABEL_TEMPORARY).await? {
            if let Some(id) = &container.id {
                self.remove(id).await?;
            }
        }
        Ok(())
    }

    async fn list(&self, label: &str) -> Result<Vec<ContainerSummary>, DockerError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.client().await?.list_containers(Some(options)).await.map_err(|source| self.absent(source))
    }

    /// Makes the container, or takes the one that is there when it was made from the same specification
    /// for the same deployment.
    ///
    /// # Errors
    /// When the name is taken by something else, or the engine refuses.
    pub async fn make(&self, spec: &ContainerSpec, making: &Making<'_>) -> Result<String, DockerError> {
        let name = container_name(making.environment, making.deployment, spec);
        let client = self.client().await?;
        let options = bollard::query_parameters::CreateContainerOptionsBuilder::default().name(&name).build();
        match client.create_container(Some(options), body(spec, making)).await {
            Ok(made) => {
                for network in &spec.networks {
                    self.join(network, &made.id).await?;
                }
                Ok(made.id)
            }
            Err(Bollard::DockerResponseServerError { status_code: 409, .. }) => {
                let there = client
                    .inspect_container(&name, None)
                    .await
                    .map_err(self.refused(format!("to look at {name}")))?;
                let label = there.config.as_ref().and_then(|config| config.labels.as_ref()?.get(LABEL_SPEC));
                match (label, there.id) {
                    (Some(label), Some(id)) if *label == spec.digest().to_string() => Ok(id),
                    _ => Err(DockerError::Foreign { name }),
                }
            }
            Err(error) => Err(self.refused(format!("to make {name}"))(error)),
        }
    }

    async fn join(&self, network: &str, container: &str) -> Result<(), DockerError> {
        let request = bollard::models::NetworkConnectRequest {
            container: container.to_owned(),
            ..bollard::models::NetworkConnectRequest::default()
        };
        self.client()
            .await?
            .connect_network(network, request)
            .await
            .map_err(self.refused(format!("to let {container} into the network {network}")))
    }

    /// # Errors
    /// When the engine refuses: a port is taken, a program is not there.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        // A container that runs already is answered with 304, which is no error.
        self.client().await?.start_container(id, None).await.map_err(self.refused(format!("to start {id}")))
    }

    /// Asks it to end with its own stop signal, and kills it after `grace_seconds`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn stop(&self, id: &str, grace_seconds: i32) -> Result<(), DockerError> {
        let options = StopContainerOptionsBuilder::default().t(grace_seconds).build();
        match self.client().await?.stop_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.refused(format!("to stop {id}"))(error)),
        }
    }

    /// Removes it with its anonymous volumes; one that is not there is fine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.client().await?.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.refused(format!("to remove {id}"))(error)),
        }
    }

    /// Whether it runs, or how it ended; nothing when it is not there.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn running(&self, id: &str) -> Result<Option<Running>, DockerError> {
        match self.client().await?.inspect_container(id, None).await {
            Ok(found) => Ok(Some(running(&found))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused(format!("to look at {id}"))(error)),
        }
    }

    /// The stop grace that a container was made with, in seconds.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn stop_grace(&self, id: &str) -> Result<i32, DockerError> {
        const ENGINES_OWN: i32 = 10;
        match self.client().await?.inspect_container(id, None).await {
            Ok(found) => {
                let seconds = found.config.and_then(|config| config.stop_timeout);
                Ok(seconds.and_then(|seconds| i32::try_from(seconds).ok()).unwrap_or(ENGINES_OWN))
            }
            Err(error) if is_missing(&error) => Ok(ENGINES_OWN),
            Err(error) => Err(self.refused(format!("to look at {id}"))(error)),
        }
    }

    /// The last lines of what it printed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn log(&self, id: &str, tail: Option<u32>) -> Result<Vec<String>, DockerError> {
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let mut parts = self.client().await?.logs(id, Some(options));
        let mut text = String::new();
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => text.push_str(&String::from_utf8_lossy(&part.into_bytes())),
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(self.refused(format!("to show what {id} printed"))(error)),
            }
        }
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }

    /// Whether a network of this name is there.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn has_network(&self, name: &str) -> Result<Option<()>, DockerError> {
        match self.client().await?.inspect_network(name, None).await {
            Ok(_) => Ok(Some(())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused(format!("to look at the network {name}"))(error)),
        }
    }
}

/// What became of an image that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Yes,
    WasNotThere,
    InUse,
}

/// `ls-<app>-<env>-<process>-<slot>-<the deployment's last eight>`.
pub fn container_name(
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
    spec: &ContainerSpec,
) -> String {
    let ulid = deployment.ulid().to_ascii_lowercase();
    format!("ls-{}-{}-{}-{}", environment.dashed(), spec.process, spec.slot, &ulid[ulid.len() - 8..])
}

fn body(spec: &ContainerSpec, making: &Making<'_>) -> ContainerCreateBody {
    let mut labels = HashMap::from([
        (LABEL_ENVIRONMENT.to_owned(), making.environment.to_string()),
        (LABEL_SLOT.to_owned(), spec.slot.to_string()),
        (LABEL_PROCESS.to_owned(), spec.process.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), making.deployment.to_string()),
        (LABEL_SPEC.to_owned(), spec.digest().to_string()),
    ]);
    if let Some(path) = &spec.health_path {
        labels.insert(LABEL_HEALTH_PATH.to_owned(), path.clone());
    }
    let container_port = spec.publish.as_ref().map(|publish| format!("{}/tcp", publish.container_port));
    let port_bindings = spec.publish.as_ref().map(|publish| {
        let binding = PortBinding {
            host_ip: Some(publish.address.clone()),
            host_port: Some(publish.host_port.to_string()),
        };
        HashMap::from([(format!("{}/tcp", publish.container_port), Some(vec![binding]))])
    });
    let mut binds: Vec<String> = spec
        .volumes
        .iter()
        .map(|volume| {
            let source = if volume.source.starts_with('/') {
                volume.source.clone()
            } else {
                format!("{}-{}", making.environment.dashed(), volume.source)
            };
            let access = match volume.access {
                VolumeAccess::ReadWrite => "rw",
                VolumeAccess::ReadOnly => "ro",
            };
            format!("{source}:{}:{access}", volume.target)
        })
        .collect();
    binds.push(format!("{}:/run/lockstep:ro", making.state_directory.display()));
    ContainerCreateBody {
        image: Some(spec.image_id.to_string()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(making.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        user: spec.user.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: i64::try_from(spec.stop_grace.0.div_ceil(1000)).ok(),
        exposed_ports: container_port.map(|port| vec![port]),
        host_config: Some(HostConfig {
            binds: Some(binds),
            port_bindings,
            memory: spec.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            nano_cpus: spec.cpu_milli.and_then(|milli| i64::try_from(milli.saturating_mul(1_000_000)).ok()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn ours(found: &ContainerSummary) -> Option<Ours> {
    let labels = found.labels.as_ref()?;
    let label = |name: &str| labels.get(name);
    let state = found.state.as_ref().map(ToString::to_string).unwrap_or_default();
    let running =
        if state == "running" { Running::Yes } else { Running::Exited(exit_code(found.status.as_deref())) };
    let endpoint = found
        .ports
        .as_ref()
        .and_then(|ports| ports.iter().find_map(|port| Some((port.ip.clone()?, port.public_port?))));
    let slot = match label(LABEL_SLOT)?.as_str() {
        "blue" => Slot::Blue,
        "green" => Slot::Green,
        _ => return None,
    };
    let process: ProcessName = label(LABEL_PROCESS)?.parse().ok()?;
    Some(Ours {
        id: found.id.clone()?,
        environment: label(LABEL_ENVIRONMENT)?.parse().ok()?,
        seen: ContainerSeen {
            name: found.names.as_ref()?.first()?.trim_start_matches('/').to_owned(),
            slot,
            process,
            deployment: label(LABEL_DEPLOYMENT)?.parse().ok()?,
            spec: label(LABEL_SPEC)?.parse().ok()?,
            image_id: found.image_id.as_deref()?.parse().ok()?,
            running,
            health: Health::Unknown,
        },
        health_path: label(LABEL_HEALTH_PATH).cloned(),
        endpoint,
    })
}

/// `Exited (137) 2 minutes ago` → 137.
fn exit_code(status: Option<&str>) -> i64 {
    status
        .and_then(|status| status.split_once('(')?.1.split_once(')'))
        .and_then(|(code, _)| code.parse().ok())
        .unwrap_or(-1)
}

fn running(found: &ContainerInspectResponse) -> Running {
    match &found.state {
        Some(state) if state.running == Some(true) && state.restarting != Some(true) => Running::Yes,
        Some(state) => Running::Exited(state.exit_code.unwrap_or(-1)),
        None => Running::Exited(-1),
    }
}

fn is_missing(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 404, .. })
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
