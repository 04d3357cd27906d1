//! A client of the Docker Engine in the terms of this project. Every call first inspects what exists, and returns what
//! it did. A second call with the same arguments changes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::errors::Error as Bollard;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::image::{InvalidImage, RegistryName};
use tokio::sync::OnceCell;

mod archive;
mod container;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod registry;
mod restarts;

pub use container::{ContainerState, CreateContext, ManagedContainer, container_name};
pub use image::{Image, Removed};

/// The label of containers that exist only to read a folder of an image.
const LABEL_TEMPORARY: &str = "lockstep.temporary";

/// Long enough to pull an image. All other calls are short.
const CALL_LIMIT_SECONDS: u64 = 600;

/// The API of Docker 19.03. Older versions lack calls that the agent needs.
const API_OLDEST: (usize, usize) = (1, 40);

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("Docker does not answer at {socket}")]
    Absent {
        socket: PathBuf,
        #[source]
        source: Bollard,
    },
    #[error("Docker refused {what}")]
    Refused {
        what: String,
        #[source]
        source: Bollard,
    },
    #[error("the request to the registry {registry} failed ({login_name})")]
    Registry { registry: RegistryName, login_name: String, said: String },
    #[error("Docker at {socket} is too old: its API is {found}")]
    Old { socket: PathBuf, found: String },
    #[error("the folder {path} of the image {image} is larger than 64 MiB, the limit for migrations")]
    Large { path: String, image: Digest },
    #[error("the received image is not {id}")]
    Other { id: Digest },
    #[error("a container {name} exists already, and it is not the one of the plan")]
    Foreign { name: String },
    #[error(transparent)]
    ImageName(#[from] InvalidImage),
}

impl DockerError {
    /// The detail of the error, mostly Docker's own message. Empty if there is none.
    pub fn detail(&self) -> String {
        let source = match self {
            Self::Absent { source, .. } | Self::Refused { source, .. } => source,
            Self::Old { .. } => return "API 1.40 is the oldest that works: Docker 19.03".to_owned(),
            Self::Registry { said, .. } => return said.clone(),
            Self::Other { .. } => {
                return "it changed on the way, or the two Docker Engines store images differently"
                    .to_owned();
            }
            Self::Large { .. } | Self::Foreign { .. } | Self::ImageName(_) => return String::new(),
        };
        if let Bollard::DockerResponseServerError { message, .. } = source {
            return message.clone();
        }
        crate::program::telemetry::chain(source)
    }
}

/// The engine of this host.
pub struct Docker {
    socket: PathBuf,
    /// The owner in the label of temporary containers.
    host: HostId,
    client: OnceCell<bollard::Docker>,
}

impl Docker {
    pub fn new(socket: &Path, host: HostId) -> Self {
        Self { socket: socket.to_owned(), host, client: OnceCell::new() }
    }

    /// Connects when it is first needed: an engine that is down must not keep the agent from starting.
    async fn client(&self) -> Result<&bollard::Docker, DockerError> {
        let dial = || async {
            let socket = self.socket.to_string_lossy();
            // Debian's engine speaks an older version than the client's newest.
            bollard::Docker::connect_with_unix(&socket, CALL_LIMIT_SECONDS, bollard::API_DEFAULT_VERSION)?
                .with_request_modifier(registry::in_url_alphabet)
                .negotiate_version()
                .await
        };
        let client = self.client.get_or_try_init(dial).await.map_err(|source| self.absent(source))?;
        let version = client.client_version();
        if (version.major_version, version.minor_version) < API_OLDEST {
            let found = format!("{}.{}", version.major_version, version.minor_version);
            return Err(DockerError::Old { socket: self.socket.clone(), found });
        }
        Ok(client)
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

    /// Whether a network of this name is there.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn has_network(&self, name: &str) -> Result<Option<()>, DockerError> {
        match self.client().await?.inspect_network(name, None).await {
            Ok(_) => Ok(Some(())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused(format!("to inspect the network {name}"))(error)),
        }
    }
}

/// A filter for containers: by label, by image, or by published port.
#[derive(Debug, Clone, Copy)]
enum Filter<'a> {
    Label(&'a str),
    Ancestor(&'a str),
    Publish(&'a str),
}

impl Docker {
    async fn list(&self, filter: Filter<'_>) -> Result<Vec<ContainerSummary>, DockerError> {
        let (name, value) = match filter {
            Filter::Label(value) => ("label", value),
            Filter::Ancestor(value) => ("ancestor", value),
            Filter::Publish(value) => ("publish", value),
        };
        let filters = HashMap::from([(name.to_owned(), vec![value.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.client().await?.list_containers(Some(options)).await.map_err(|source| self.absent(source))
    }

    /// The names of all running containers, managed or not, that publish a port.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn publishers(&self, port: u16) -> Result<Vec<String>, DockerError> {
        let found = self.list(Filter::Publish(&format!("{port}/tcp"))).await?;
        let is_up = |found: &&ContainerSummary| found.ports.as_ref().is_some_and(|ports| !ports.is_empty());
        let name = |found: &ContainerSummary| {
            Some(found.names.as_ref()?.first()?.trim_start_matches('/').to_owned())
        };
        Ok(found.iter().filter(is_up).filter_map(name).collect())
    }
}

fn is_missing(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 404, .. })
}
