//! Containers: create one from a specification, find it again by its labels, stop it, read its log.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, HostConfig, NetworkConnectRequest,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures::StreamExt;
use lockstep_core::health::Health;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::ContainerSpec;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState};
use lockstep_core::slot::Slot;
use lockstep_core::spec::VolumeAccess;

use super::{Docker, DockerError, Filter, is_missing};
use crate::printed::{LastLines, LineLimit, LineSplitter};

const LABEL_ENVIRONMENT: &str = "lockstep.environment";
const LABEL_SLOT: &str = "lockstep.slot";
const LABEL_PROCESS: &str = "lockstep.process";
const LABEL_DEPLOYMENT: &str = "lockstep.deployment";
const LABEL_STEP: &str = "lockstep.step";
const LABEL_SPEC: &str = "lockstep.spec";
const LABEL_HEALTH_PATH: &str = "lockstep.health";
/// The address and port of the instance. The engine reports them only for running containers.
const LABEL_ENDPOINT: &str = "lockstep.endpoint";

/// The engine's default, if neither image nor specification has one.
const DEFAULT_STOP_GRACE_SECONDS: i32 = 10;

/// What a container needs beyond its specification.
#[derive(Debug, Clone)]
pub struct CreateContext<'a> {
    pub environment: &'a EnvironmentKey,
    /// What the environment's objects are called.
    pub objects: &'a ObjectName,
    pub deployment: &'a DeploymentId,
    pub step: StepId,
    /// All environment variables of the process, secrets included.
    pub variables: BTreeMap<String, String>,
    /// Mounted read-only at `/run/lockstep`.
    pub state_directory: &'a Path,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    pub running: ContainerRunState,
    /// How often the engine has restarted it after it exited.
    pub restarts: i64,
    /// The stop grace with which it was created.
    pub stop_grace_seconds: i32,
}

/// A container that Lockstep manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedContainer {
    pub id: String,
    pub environment: EnvironmentKey,
    pub seen: ContainerObservation,
    /// Or is being restarted.
    pub started_within_an_hour: bool,
    pub health_path: Option<String>,
    /// Its address and published port; `None` if it publishes none.
    pub endpoint: Option<(String, u16)>,
}

impl Docker {
    /// The managed containers of one environment, or of all.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn containers(
        &self,
        environment: Option<&EnvironmentKey>,
    ) -> Result<Vec<ManagedContainer>, DockerError> {
        let label = environment
            .map_or_else(|| LABEL_ENVIRONMENT.to_owned(), |key| format!("{LABEL_ENVIRONMENT}={key}"));
        let found = self.list(Filter::Label(&label)).await?;
        let mut ours: Vec<ManagedContainer> = found.iter().filter_map(managed_container).collect();
        ours.sort_by(|one, other| one.seen.name.cmp(&other.seen.name));
        Ok(ours)
    }

    /// Creates the container, or adopts an existing one that the same deployment created from the same specification.
    ///
    /// # Errors
    /// When the name is taken by something else, or the engine refuses.
    pub async fn create(
        &self,
        spec: &ContainerSpec,
        context: &CreateContext<'_>,
    ) -> Result<String, DockerError> {
        let name = container_name(context.objects, context.deployment, spec);
        let client = self.client().await?;
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        match client.create_container(Some(options), body(spec, context)).await {
            Ok(made) => {
                for network in &spec.networks {
                    self.connect_to_network(network, &made.id).await?;
                }
                Ok(made.id)
            }
            Err(Bollard::DockerResponseServerError { status_code: 409, .. }) => {
                self.adopt(&name, spec, context.deployment).await
            }
            Err(error) => Err(self.refused(format!("to create {name}"))(error)),
        }
    }

    async fn adopt(
        &self,
        name: &str,
        spec: &ContainerSpec,
        deployment: &DeploymentId,
    ) -> Result<String, DockerError> {
        let there = self
            .client()
            .await?
            .inspect_container(name, None)
            .await
            .map_err(self.refused(format!("to inspect {name}")))?;
        let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
        let is = |label: &str, wanted: &str| labels.get(label).is_some_and(|value| value == wanted);
        let ours = is(LABEL_SPEC, spec.digest().as_str()) && is(LABEL_DEPLOYMENT, deployment.as_str());
        let Some(id) = there.id.filter(|_| ours) else {
            return Err(DockerError::Foreign { name: name.to_owned() });
        };
        // Whoever made it may have been killed before it had joined them all.
        let joined = there.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        for network in spec.networks.iter().filter(|network| !joined.contains_key(*network)) {
            self.connect_to_network(network, &id).await?;
        }
        Ok(id)
    }

    async fn connect_to_network(&self, network: &str, container: &str) -> Result<(), DockerError> {
        let request =
            NetworkConnectRequest { container: container.to_owned(), ..NetworkConnectRequest::default() };
        self.client()
            .await?
            .connect_network(network, request)
            .await
            .map_err(self.refused(format!("to connect {container} to the network {network}")))
    }

    /// # Errors
    /// When the engine refuses: a port is taken, a program is not there.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        // A container that runs already is answered with 304, which is no error.
        self.client().await?.start_container(id, None).await.map_err(self.refused(format!("to start {id}")))
    }

    /// Stops it with its own stop signal, and kills it after `grace_seconds`.
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

    /// Removes it with its anonymous volumes. It may be gone already.
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

    /// The state of a container; `None` if it does not exist.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerState>, DockerError> {
        match self.client().await?.inspect_container(id, None).await {
            Ok(found) => Ok(Some(container_state(&found))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused(format!("to inspect {id}"))(error)),
        }
    }

    /// The last lines of its log, which are not redacted.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn log(&self, id: &str, limit: LineLimit) -> Result<LastLines, DockerError> {
        let tail = limit.lines.to_string();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let mut parts = self.client().await?.logs(id, Some(options));
        let mut splitter = LineSplitter::default();
        let mut last = LastLines::new(limit);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => splitter.add(&part.into_bytes()).into_iter().for_each(|line| last.push(line)),
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(self.refused(format!("to show the log of {id}"))(error)),
            }
        }
        if let Some(line) = splitter.end() {
            last.push(line);
        }
        Ok(last)
    }
}

/// `ls-<objects>-<process>-<slot>-<the deployment's last eight>`.
pub fn container_name(objects: &ObjectName, deployment: &DeploymentId, spec: &ContainerSpec) -> String {
    let ulid = deployment.ulid().to_ascii_lowercase();
    format!("ls-{objects}-{}-{}-{}", spec.process, spec.slot, &ulid[ulid.len() - 8..])
}

fn body(spec: &ContainerSpec, context: &CreateContext<'_>) -> ContainerCreateBody {
    let mut labels = HashMap::from([
        (LABEL_ENVIRONMENT.to_owned(), context.environment.to_string()),
        (LABEL_SLOT.to_owned(), spec.slot.to_string()),
        (LABEL_PROCESS.to_owned(), spec.process.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), context.deployment.to_string()),
        (LABEL_STEP.to_owned(), context.step.to_string()),
        (LABEL_SPEC.to_owned(), spec.digest().to_string()),
    ]);
    // Also where there is none: a container has the labels of its image too, which whoever built that wrote.
    let endpoint = spec.publish.as_ref().map(|publish| format!("{}:{}", publish.address, publish.host_port));
    labels.insert(LABEL_HEALTH_PATH.to_owned(), spec.health_path.clone().unwrap_or_default());
    labels.insert(LABEL_ENDPOINT.to_owned(), endpoint.unwrap_or_default());
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
            let source = if volume.is_host_path() {
                volume.source.clone()
            } else {
                context.objects.volume(&volume.source)
            };
            let access = match volume.access {
                VolumeAccess::ReadWrite => "rw",
                VolumeAccess::ReadOnly => "ro",
            };
            format!("{source}:{}:{access}", volume.target)
        })
        .collect();
    binds.push(format!("{}:/run/lockstep:ro", context.state_directory.display()));
    ContainerCreateBody {
        image: Some(spec.image_id.to_string()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(context.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()),
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

fn managed_container(found: &ContainerSummary) -> Option<ManagedContainer> {
    let labels = found.labels.as_ref()?;
    let label = |name: &str| labels.get(name).filter(|value| !value.is_empty());
    let state = found.state.as_ref().map(ToString::to_string).unwrap_or_default();
    let running = if state == "running" {
        ContainerRunState::Yes
    } else {
        ContainerRunState::Exited(exit_code(found.status.as_deref()))
    };
    let endpoint = label(LABEL_ENDPOINT).and_then(|endpoint| {
        let (address, port) = endpoint.rsplit_once(':')?;
        Some((address.to_owned(), port.parse().ok()?))
    });
    let slot = match label(LABEL_SLOT)?.as_str() {
        "blue" => Slot::Blue,
        "green" => Slot::Green,
        _ => return None,
    };
    let process: ProcessName = label(LABEL_PROCESS)?.parse().ok()?;
    Some(ManagedContainer {
        id: found.id.clone()?,
        environment: label(LABEL_ENVIRONMENT)?.parse().ok()?,
        seen: ContainerObservation {
            name: found.names.as_ref()?.first()?.trim_start_matches('/').to_owned(),
            slot,
            process,
            deployment: label(LABEL_DEPLOYMENT)?.parse().ok()?,
            spec: label(LABEL_SPEC)?.parse().ok()?,
            image_id: found.image_id.as_deref()?.parse().ok()?,
            running,
            health: Health::Unknown,
            restarts: None,
        },
        started_within_an_hour: started_within_an_hour(found.status.as_deref().unwrap_or_default()),
        health_path: label(LABEL_HEALTH_PATH).cloned(),
        endpoint,
    })
}

/// Whether a container runs for less than an hour, or is being restarted: `Up 5 seconds`, `Up About a minute`,
/// `Restarting (1) 2 seconds ago`. <https://pkg.go.dev/github.com/docker/go-units#HumanDuration>
fn started_within_an_hour(status: &str) -> bool {
    status.starts_with("Restarting")
        || (status.starts_with("Up ") && (status.contains(" second") || status.contains(" minute")))
}

/// `Exited (137) 2 minutes ago` → 137.
fn exit_code(status: Option<&str>) -> i64 {
    status
        .and_then(|status| status.split_once('(')?.1.split_once(')'))
        .and_then(|(code, _)| code.parse().ok())
        .unwrap_or(-1)
}

fn container_state(found: &ContainerInspectResponse) -> ContainerState {
    let running = match &found.state {
        Some(state) if state.running == Some(true) && state.restarting != Some(true) => {
            ContainerRunState::Yes
        }
        Some(state) => ContainerRunState::Exited(state.exit_code.unwrap_or(-1)),
        None => ContainerRunState::Exited(-1),
    };
    let grace = found.config.as_ref().and_then(|config| config.stop_timeout);
    ContainerState {
        running,
        restarts: found.restart_count.unwrap_or_default(),
        stop_grace_seconds: grace
            .and_then(|seconds| i32::try_from(seconds).ok())
            .unwrap_or(DEFAULT_STOP_GRACE_SECONDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_containers_are_told_from_old_ones() {
        for young in [
            "Up Less than a second",
            "Up 1 second",
            "Up About a minute",
            "Up 59 minutes",
            "Restarting (1) 3 days ago",
        ] {
            assert!(started_within_an_hour(young), "{young}");
        }
        for old in
            ["Up About an hour", "Up 47 hours", "Up 3 weeks", "Exited (0) 2 seconds ago", "Created", ""]
        {
            assert!(!started_within_an_hour(old), "{old}");
        }
    }

    #[test]
    fn an_exit_code_stands_in_brackets() {
        assert_eq!(exit_code(Some("Exited (137) 2 minutes ago")), 137);
        assert_eq!(exit_code(Some("Restarting (1) 5 seconds ago")), 1);
        assert_eq!(exit_code(Some("Created")), -1);
        assert_eq!(exit_code(None), -1);
    }

    fn environment() -> EnvironmentKey {
        "notes/production".parse().unwrap()
    }

    fn deployment() -> DeploymentId {
        "dep_01JBQR2KXYZ987654321012345".parse().unwrap()
    }

    /// What a container of `spec` is made with.
    fn labels_of(spec: &ContainerSpec) -> HashMap<String, String> {
        let context = CreateContext {
            environment: &environment(),
            objects: &ObjectName::legacy(&environment()),
            deployment: &deployment(),
            step: StepId(3),
            variables: BTreeMap::new(),
            state_directory: Path::new("/state"),
        };
        body(spec, &context).labels.unwrap()
    }

    /// A container outlives the agent that created it: the next one recognises it by its labels.
    #[test]
    fn labels_and_name_of_a_container_are_what_they_were() {
        let spec: ContainerSpec = serde_json::from_str(SPEC).unwrap();
        let labels: BTreeMap<String, String> = labels_of(&spec).into_iter().collect();
        let written: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(written, LABELS);
        assert_eq!(
            container_name(&ObjectName::legacy(&environment()), &deployment(), &spec),
            "ls-notes-production-web-green-21012345"
        );

        let found = ContainerSummary {
            id: Some("c1".to_owned()),
            names: Some(vec!["/ls-notes-production-web-green-21012345".to_owned()]),
            image_id: Some(spec.image_id.to_string()),
            labels: Some(labels.into_iter().collect()),
            ..ContainerSummary::default()
        };
        let ours = managed_container(&found).unwrap();
        assert_eq!(
            (ours.environment, ours.seen.deployment, ours.seen.slot),
            (environment(), deployment(), Slot::Green)
        );
        assert_eq!(ours.seen.spec, spec.digest());
        assert_eq!(
            (ours.health_path.as_deref(), ours.endpoint),
            (Some("/health"), Some(("10.0.0.1".to_owned(), 20555)))
        );
    }

    /// Whoever built the image wrote its labels: they say neither where the agent asks for health nor what a worker is.
    #[test]
    fn the_labels_of_an_image_do_not_count() {
        let web: ContainerSpec = serde_json::from_str(SPEC).unwrap();
        let worker = ContainerSpec { publish: None, health_path: None, ..web };
        // Docker gives a container the labels of its image, under those that it is made with.
        let mut labels = HashMap::from(
            [LABEL_ENDPOINT, LABEL_HEALTH_PATH].map(|name| (name.to_owned(), "127.0.0.1:1".to_owned())),
        );
        labels.extend(labels_of(&worker));
        let found = ContainerSummary {
            id: Some("c1".to_owned()),
            names: Some(vec!["/worker".to_owned()]),
            image_id: Some(worker.image_id.to_string()),
            labels: Some(labels),
            ..ContainerSummary::default()
        };
        let ours = managed_container(&found).unwrap();
        assert_eq!((ours.health_path, ours.endpoint), (None, None));
    }

    const SPEC: &str = r#"{"process":"web","slot":"green","image_id":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","command":[],"env":{},"secrets_version":null,"publish":{"address":"10.0.0.1","host_port":20555,"container_port":8080},"health_path":"/health","volumes":[],"networks":[],"memory_bytes":null,"cpu_milli":null,"user":null,"stop_signal":null,"stop_grace":10000}"#;

    const LABELS: [&str; 8] = [
        "lockstep.deployment=dep_01JBQR2KXYZ987654321012345",
        "lockstep.endpoint=10.0.0.1:20555",
        "lockstep.environment=notes/production",
        "lockstep.health=/health",
        "lockstep.process=web",
        "lockstep.slot=green",
        "lockstep.spec=sha256:80f9a466d2cb1deffcd5b051e1e344583ebc70cd0035af6f36277a40a67c206b",
        "lockstep.step=s3",
    ];
}
