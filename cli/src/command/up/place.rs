//! Where the two services of this machine keep what is theirs, and the programs that they are.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Coordinator,
    Agent,
}

/// In the order in which they are started.
pub(super) const SERVICES: [Service; 2] = [Service::Coordinator, Service::Agent];

impl Service {
    /// Of its program, its unit and its files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "lockstep-coordinator",
            Self::Agent => "lockstep-agent",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
        }
    }
}

/// The directory of both.
#[derive(Debug, Clone)]
pub(super) struct Place {
    directory: PathBuf,
}

/// Whether something had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Yes,
    WasThere,
}

impl Place {
    /// The place that `directory` is or will be.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let absolute = match directory.canonicalize() {
            Ok(there) => there,
            Err(_) => std::path::absolute(directory).map_err(|error| {
                Failure::new(Kind::Usage, format!("{} is no directory", directory.display()))
                    .why(error.to_string())
            })?,
        };
        Ok(Self { directory: absolute })
    }

    /// Makes what is missing: only root looks into the coordinator's folder, and everybody may pass
    /// through the others, because nginx's workers look for the agent's switch files.
    pub(super) fn make(&self) -> Result<Made> {
        let folders = [
            (self.directory.clone(), 0o755),
            (self.own(Service::Coordinator), 0o700),
            (self.own(Service::Agent), 0o711),
        ];
        let mut made = Made::WasThere;
        for (folder, mode) in folders {
            if folder.is_dir() {
                continue;
            }
            let failed = |error: std::io::Error| {
                Failure::new(Kind::Refused, format!("{} cannot be made", folder.display()))
                    .why(error.to_string())
            };
            DirBuilder::new().recursive(true).mode(mode).create(&folder).map_err(failed)?;
            // The mask of the shell may have taken bits that nginx needs.
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).map_err(failed)?;
            made = Made::Yes;
        }
        Ok(made)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The service's own folder.
    pub(super) fn own(&self, service: Service) -> PathBuf {
        self.directory.join(service.folder())
    }

    pub(super) fn pid_file(&self, service: Service) -> PathBuf {
        self.directory.join(service.folder()).with_extension("pid")
    }

    pub(super) fn log(&self, service: Service) -> PathBuf {
        self.directory.join(service.folder()).with_extension("log")
    }

    /// Where the coordinator listens, from start to start: agent and operator know it by that.
    pub(super) fn listen(&self) -> PathBuf {
        self.directory.join("listen")
    }

    /// Written by the coordinator while it serves.
    pub(super) fn address(&self) -> PathBuf {
        self.own(Service::Coordinator).join("address")
    }

    /// Written by the coordinator while it has no administrator.
    pub(super) fn first_token(&self) -> PathBuf {
        self.own(Service::Coordinator).join("operator.token")
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.own(Service::Coordinator).join("authority/root.pem")
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.own(Service::Agent).join("identity.toml")
    }

    pub(super) fn agent_settings(&self) -> PathBuf {
        self.own(Service::Agent).join("agent.toml")
    }

    /// The folder of the switch files, which nginx's sites name.
    pub(super) fn traffic(&self) -> PathBuf {
        self.own(Service::Agent).join("traffic")
    }
}

/// The program of a service: beside this one, else in `PATH`.
///
/// # Errors
/// When it is in neither.
pub(super) fn program(service: Service) -> Result<PathBuf> {
    let this = std::env::current_exe().ok();
    let beside = this.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = beside.iter().cloned().chain(std::env::split_paths(&path)).collect();
    folders.iter().map(|folder| folder.join(service.name())).find(|program| program.is_file()).ok_or_else(
        || {
            let beside =
                beside.map_or_else(|| "this program".to_owned(), |beside| beside.display().to_string());
            Failure::new(Kind::Refused, format!("{} is not found", service.name()))
                .why(format!("it is neither in {beside}, where this command is, nor in a folder of PATH"))
                .next(
                    "put the three programs into one folder; from source: cargo build --release --workspace",
                )
        },
    )
}

/// The text of a file that may not be there.
pub(super) fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::new(Kind::Refused, format!("{} cannot be read", path.display()))
                .why(error.to_string()))
        }
    }
}

/// The last lines of a log.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
