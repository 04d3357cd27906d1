//! `agent.toml`, as typed and as checked: one value that is made once at the start. Nothing else in this crate reads a
//! setting from a file or from the environment.

use std::path::{Path, PathBuf};

use lockstep_runtime::telemetry::Otlp;
use serde::Deserialize;

/// The settings in `agent.toml`, with defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub nginx: NginxSettings,
    pub docker: DockerSettings,
    pub postgres: PostgresSettings,
    /// Where traces and metrics go; `None` if no collector is configured.
    pub otlp: Option<Otlp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NginxSettings {
    pub binary: PathBuf,
    /// The main file, as `nginx -c` takes it.
    pub configuration: PathBuf,
    /// The folder for sites, which the main file includes.
    pub sites: PathBuf,
    /// The folder for access logs: `logrotate` rotates what is in Debian's.
    pub logs: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerSettings {
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// The folder of `pg_dump`; `None` for the newest version of Debian's packages.
    pub binaries: Option<PathBuf>,
    /// The folder of the server's socket; `None` for Debian's.
    pub sockets: Option<PathBuf>,
}

/// `agent.toml` as typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsFile {
    nginx: NginxSettings,
    docker: DockerSettings,
    postgres: PostgresSettings,
    telemetry: lockstep_runtime::telemetry::settings::Typed,
}

impl Default for NginxSettings {
    fn default() -> Self {
        Self {
            binary: "/usr/sbin/nginx".into(),
            configuration: "/etc/nginx/nginx.conf".into(),
            sites: "/etc/nginx/conf.d".into(),
            logs: "/var/log/nginx".into(),
        }
    }
}

impl Default for DockerSettings {
    fn default() -> Self {
        Self { socket: "/var/run/docker.sock".into() }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot parse {}", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{} has invalid settings: {}", path.display(), problems.join("; "))]
    Wrong { path: PathBuf, problems: Vec<String> },
}

impl Settings {
    /// Reads `path`. If the file does not exist, every setting has its default.
    ///
    /// # Errors
    /// When the file cannot be read, or has an unknown key or a relative path.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SettingsError::Read { path: path.to_owned(), source }),
        };
        let typed: SettingsFile =
            toml::from_str(&text).map_err(|source| SettingsError::Parse { path: path.to_owned(), source })?;
        typed.checked().map_err(|problems| SettingsError::Wrong { path: path.to_owned(), problems })
    }
}

impl SettingsFile {
    fn checked(self) -> Result<Settings, Vec<String>> {
        let Self { nginx, docker, postgres, telemetry } = self;
        let paths = [
            ("nginx.binary", Some(&nginx.binary)),
            ("nginx.configuration", Some(&nginx.configuration)),
            ("nginx.sites", Some(&nginx.sites)),
            ("nginx.logs", Some(&nginx.logs)),
            ("docker.socket", Some(&docker.socket)),
            ("postgres.binaries", postgres.binaries.as_ref()),
            ("postgres.sockets", postgres.sockets.as_ref()),
        ];
        let mut problems: Vec<String> = paths
            .into_iter()
            .filter_map(|(key, path)| Some((key, path?)))
            .filter(|(_, path)| !path.is_absolute())
            .map(|(key, path)| format!("{key} is {path:?}, and must be an absolute path"))
            .collect();
        let otlp = telemetry.checked().unwrap_or_else(|wrong| {
            problems.extend(wrong);
            None
        });
        if problems.is_empty() { Ok(Settings { nginx, docker, postgres, otlp }) } else { Err(problems) }
    }
}

/// The log filter, from `LOCKSTEP_LOG`; `info` by default.
pub fn log_filter() -> String {
    std::env::var("LOCKSTEP_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "info".to_owned())
}

/// The user who runs the command: the one who became root with sudo, if known.
pub fn calling_user() -> String {
    match std::env::var("SUDO_USER") {
        Ok(user) if !user.is_empty() => format!("{user}, as root"),
        Ok(_) | Err(_) => "root".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("agent.toml"), text).unwrap();
        folder
    }

    fn read(text: &str) -> Result<Settings, String> {
        let folder = folder(text);
        Settings::read(&folder.path().join("agent.toml")).map_err(|error| match error {
            SettingsError::Parse { source, .. } => source.to_string(),
            other @ (SettingsError::Read { .. } | SettingsError::Wrong { .. }) => other.to_string(),
        })
    }

    #[test]
    fn no_file_and_an_empty_file_mean_the_defaults() {
        let defaults = Settings::read(Path::new("/nonexistent/agent.toml")).unwrap();
        assert_eq!(defaults.nginx.configuration, Path::new("/etc/nginx/nginx.conf"));
        assert_eq!(read(""), Ok(defaults));
    }

    #[test]
    fn a_part_may_be_set_alone() {
        let settings = read("[nginx]\nsites = \"/srv/sites\"\n").unwrap();
        assert_eq!(settings.nginx.sites, Path::new("/srv/sites"));
        assert_eq!(settings.nginx.binary, Path::new("/usr/sbin/nginx"));
    }

    #[test]
    fn a_collector_is_where_the_file_says() {
        assert_eq!(read("").unwrap().otlp, None);
        assert!(read("[telemetry]\notlp = \"http://127.0.0.1:4317\"\n").unwrap().otlp.is_some());
        let wrong = read("[telemetry]\notlp = \"127.0.0.1\"\n[docker]\nsocket = \"s\"\n").unwrap_err();
        assert!(wrong.contains("telemetry.otlp") && wrong.contains("docker.socket"), "{wrong}");
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_and_so_is_a_relative_path() {
        assert!(read("[nginx]\nbinery = \"/x\"\n").unwrap_err().contains("binery"));
        assert!(read("[ngnix]\n").unwrap_err().contains("ngnix"));
        assert!(read("[telemetry]\noltp = \"x\"\n").unwrap_err().contains("oltp"));
        let wrong = read("[nginx]\nbinary = \"nginx\"\n[docker]\nsocket = \"s\"\n").unwrap_err();
        assert!(wrong.contains("nginx.binary") && wrong.contains("docker.socket"), "{wrong}");
    }
}
