//! The data directory of the two services of this machine, and their programs.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::args::DIRECTORY;
use crate::failure::{Failure, Kind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Coordinator,
    Agent,
}

/// In the order in which they are started.
pub(super) const SERVICES: [Service; 2] = [Service::Coordinator, Service::Agent];

impl Service {
    /// The name of its program, its unit and its files.
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

/// The data directory of both services.
#[derive(Debug, Clone)]
pub(super) struct Place {
    directory: PathBuf,
}

/// Whether something had to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Changed,
    Unchanged,
}

impl Place {
    /// The place in `directory`, which need not exist yet.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let absolute = match directory.canonicalize() {
            Ok(canonical) => canonical,
            Err(_) => std::path::absolute(directory).map_err(|error| {
                Failure::new(Kind::Usage, format!("{} is not a directory", directory.display()))
                    .why(error.to_string())
            })?,
        };
        Ok(Self { directory: absolute })
    }

    /// `command` with the directory, unless it is the usual one.
    pub(super) fn command(&self, command: &str) -> String {
        match self.directory.to_str() {
            Some(DIRECTORY) => command.to_owned(),
            _ => format!("{command} --directory {}", self.directory.display()),
        }
    }

    /// Creates what is missing. Only root can read the coordinator's folder. Everybody may pass through the others,
    /// because nginx's workers look for the agent's switch files.
    pub(super) fn create(&self) -> Result<Outcome> {
        let folders = [
            (self.directory.clone(), 0o755),
            (self.own(Service::Coordinator), 0o700),
            (self.own(Service::Agent), 0o711),
        ];
        let mut outcome = Outcome::Unchanged;
        for (folder, mode) in folders {
            if folder.is_dir() {
                continue;
            }
            let failed = |error: std::io::Error| {
                Failure::new(Kind::Refused, format!("{} cannot be created", folder.display()))
                    .why(error.to_string())
            };
            DirBuilder::new().recursive(true).mode(mode).create(&folder).map_err(failed)?;
            // The umask may have removed bits that nginx needs.
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).map_err(failed)?;
            outcome = Outcome::Changed;
        }
        Ok(outcome)
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

    /// The file with the address on which the coordinator listens at every start.
    pub(super) fn listen(&self) -> PathBuf {
        self.directory.join("listen")
    }

    /// The file that the coordinator writes while it runs.
    pub(super) fn address(&self) -> PathBuf {
        self.own(Service::Coordinator).join("address")
    }

    /// The file that the coordinator writes while it has no administrator.
    pub(super) fn first_token(&self) -> PathBuf {
        self.own(Service::Coordinator).join("operator.token")
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.own(Service::Coordinator).join("authority/root.pem")
    }

    pub(super) fn coordinator_settings(&self) -> PathBuf {
        self.own(Service::Coordinator).join("coordinator.toml")
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
            Failure::new(Kind::Refused, format!("the program {} is missing", service.name()))
                .why(format!("it is neither in {beside}, beside this command, nor in PATH"))
                .next(
                    "apt-get install lockstep-coordinator lockstep-agent, or put the three programs into one directory",
                )
        },
    )
}

/// The text of a file; `None` if there is no file.
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
