//! The settings of the coordinator: its flags, and `coordinator.toml`. They are checked once, here; no other module
//! reads them or the environment.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use http::Uri;
use lockstep_core::name::CoordinatorName;
use lockstep_runtime::telemetry::Otlp;
use serde::Deserialize;

/// Store plans and locks, and drive deployments
#[derive(Debug, Parser)]
#[command(name = "lockstep-coordinator", version)]
pub struct Arguments {
    #[command(flatten)]
    pub settings: Settings,

    /// Serve, unless a command is given
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a cluster whose record is in etcd; read the token from standard input
    Join {
        /// The coordinator with the root key; `lockstep coordinator list` shows it
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// The name of this coordinator, unless the token sets it [default: the host name of the machine]
        #[arg(long)]
        name: Option<CoordinatorName>,
    },
    /// Restore a backup into an empty store; read the passphrase from standard input
    Restore {
        /// The file that `lockstep backup` wrote
        file: PathBuf,
    },
    /// Encrypt all secrets with another key, while no coordinator runs
    Rekey,
}

#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The directory of the store, the authority, the keys and the logs; only the user of the coordinator has access
    #[arg(long, global = true, default_value = "/var/lib/lockstep/coordinator")]
    pub directory: PathBuf,

    /// Listen on this address [default: `listen` in coordinator.toml, else 127.0.0.1:7443]
    ///
    /// With port 0 the system chooses a port; the coordinator writes the address to DIRECTORY/address.
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Advertise this address to hosts and coordinators, if it differs from the address to listen on (0.0.0.0, NAT)
    /// [default: `address` in coordinator.toml]
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub address: Option<SocketAddr>,

    /// Log at this level, as in `info` or `lockstep_coordinator=debug`
    #[arg(long, global = true, env = "LOCKSTEP_LOG", default_value = "info")]
    pub log: String,
}

/// The name of the file in the coordinator's directory.
const FILE: &str = "coordinator.toml";

/// The default address to listen on, which no other machine can reach.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// The flags and the file combined; a flag wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSettings {
    pub listen: SocketAddr,
    pub address: Option<SocketAddr>,
    pub store: StoreSettings,
    pub export: ExportSettings,
}

/// Where files for people and other programs are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSettings {
    /// The folder of the logs of deployments; `None`: `logs` in the coordinator's directory.
    pub logs: Option<PathBuf>,
    /// The folder of the state files, `<app>/<env>/deployment-state.json`; `None`: none are written.
    pub state_files: Option<PathBuf>,
}

/// Where the record is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// In the coordinator's own directory.
    Sqlite,
    Etcd(EtcdSettings),
}

/// The members of etcd, and the certificate to use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdSettings {
    /// Of every member, as in `https://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// The authority of etcd's certificates.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What stands before every key, where etcd has other tenants: as in `/lockstep-production`.
    #[serde(default)]
    pub prefix: String,
}

/// `coordinator.toml` as typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsFile {
    listen: Option<SocketAddr>,
    address: Option<SocketAddr>,
    store: StoreSection,
    export: ExportSettings,
    telemetry: lockstep_runtime::telemetry::settings::Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StoreSection {
    etcd: Option<EtcdSettings>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot parse {}", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{} has invalid settings: {}", path.display(), problems.join("; "))]
    Wrong { path: PathBuf, problems: Vec<String> },
}

impl EffectiveSettings {
    /// The address to advertise for a coordinator that listens at `listening`; `None` if it is not known.
    pub fn advertised(&self, listening: SocketAddr) -> Option<SocketAddr> {
        self.address.or((!listening.ip().is_unspecified()).then_some(listening))
    }
}

impl Settings {
    /// These flags with what stands in `coordinator.toml`; where there is none, the record is in SQLite.
    ///
    /// # Errors
    /// When the file cannot be read, has a key that is not known, or a value that cannot be.
    pub fn choose(&self) -> Result<EffectiveSettings, SettingsError> {
        let SettingsFile { listen, address, store, export, telemetry: _ } = self.typed()?;
        let mut problems = store.etcd.as_ref().map(problems).unwrap_or_default();
        for (name, path) in [("logs", &export.logs), ("state_files", &export.state_files)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                problems.push(format!("export.{name} must be an absolute path"));
            }
        }
        if !problems.is_empty() {
            return Err(self.wrong(problems));
        }
        Ok(EffectiveSettings {
            listen: self.listen.or(listen).unwrap_or(LISTEN),
            address: self.address.or(address),
            store: store.etcd.map_or(StoreSettings::Sqlite, StoreSettings::Etcd),
            export,
        })
    }

    /// Where traces and metrics go; `None` if `coordinator.toml` does not set it.
    ///
    /// # Errors
    /// As [`Settings::choose`].
    pub fn otlp(&self) -> Result<Option<Otlp>, SettingsError> {
        self.typed()?.telemetry.checked().map_err(|problems| self.wrong(problems))
    }

    fn typed(&self) -> Result<SettingsFile, SettingsError> {
        let path = self.directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|source| SettingsError::Parse { path, source })
    }

    fn wrong(&self, problems: Vec<String>) -> SettingsError {
        SettingsError::Wrong { path: self.directory.join(FILE), problems }
    }
}

/// Everything that is wrong with it.
fn problems(etcd: &EtcdSettings) -> Vec<String> {
    let EtcdSettings { endpoints, ca, certificate, key, prefix } = etcd;
    let mut problems = Vec::new();
    if endpoints.is_empty() {
        problems.push("store.etcd.endpoints is empty, but must name every member of etcd".to_owned());
    }
    let mut seen = BTreeSet::new();
    for endpoint in endpoints {
        if !is_endpoint(endpoint) {
            problems.push(format!(
                "store.etcd.endpoints has {endpoint:?}, but must be like \"https://10.0.0.1:2379\""
            ));
        } else if !seen.insert(endpoint) {
            problems.push(format!("store.etcd.endpoints has {endpoint:?} twice"));
        }
    }
    for (name, path) in [("ca", ca), ("certificate", certificate), ("key", key)] {
        if !path.is_absolute() {
            problems.push(format!("store.etcd.{name} is {path:?}, but must be an absolute path"));
        }
    }
    if !is_prefix(prefix) {
        problems.push(format!(
            "store.etcd.prefix is {prefix:?}, but must be like \"/lockstep-production\": \
             a slash, then letters, digits, dots, dashes and slashes, and no slash at the end"
        ));
    }
    problems
}

/// Only over TLS: the record decides what runs on every host.
fn is_endpoint(endpoint: &str) -> bool {
    let authority = endpoint.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
    authority.is_some_and(|authority| {
        let has_host = !authority.as_str().contains('@') && !authority.host().is_empty();
        let has_port = authority.port_u16().is_some_and(|port| port != 0);
        has_host && has_port && endpoint == format!("https://{authority}")
    })
}

fn is_prefix(prefix: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    prefix.is_empty() || prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    fn written(text: &str) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), text).unwrap();
        directory
    }

    fn read(text: &str) -> Result<StoreSettings, SettingsError> {
        Ok(at(written(text).path()).choose()?.store)
    }

    fn at(directory: &Path) -> Settings {
        Settings { directory: directory.to_owned(), listen: None, address: None, log: "info".to_owned() }
    }

    const GOOD: &str = r#"[store]
etcd = { endpoints = ["https://10.0.0.1:2379", "https://[::1]:2379"], ca = "/ca.pem", certificate = "/c.pem", key = "/k.pem", prefix = "/a/b-1" }"#;

    #[test]
    fn without_a_word_about_it_the_record_is_in_sqlite() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(at(directory.path()).choose().unwrap().store, StoreSettings::Sqlite);
        assert_eq!(read("[store]").unwrap(), StoreSettings::Sqlite);
    }

    #[test]
    fn a_flag_says_where_it_listens_before_the_file_and_the_file_before_the_default() {
        let directory = written("listen = \"10.0.0.1:7443\"\naddress = \"192.0.2.1:443\"\n");
        let mut settings = at(directory.path());
        let chosen = settings.choose().unwrap();
        assert_eq!(chosen.listen.to_string(), "10.0.0.1:7443");
        assert_eq!(chosen.advertised(chosen.listen).unwrap().to_string(), "192.0.2.1:443");
        settings.listen = Some("127.0.0.1:0".parse().unwrap());
        assert_eq!(settings.choose().unwrap().listen.to_string(), "127.0.0.1:0");
        assert_eq!(at(written("").path()).choose().unwrap().listen, LISTEN);
        assert!(matches!(read("listen = \"10.0.0.1\""), Err(SettingsError::Parse { .. })));
    }

    #[test]
    fn etcd_is_where_the_file_says() {
        let StoreSettings::Etcd(etcd) = read(GOOD).unwrap() else {
            panic!("it is not etcd");
        };
        assert_eq!(etcd.endpoints.len(), 2);
        assert_eq!(etcd.prefix, "/a/b-1");
        let StoreSettings::Etcd(etcd) = read(&GOOD.replace(", prefix = \"/a/b-1\"", "")).unwrap() else {
            panic!("it is not etcd");
        };
        assert_eq!(etcd.prefix, "");
    }

    #[test]
    fn an_endpoint_that_no_client_can_dial_is_refused() {
        let said = read(&GOOD.replace("https://[::1]:2379", "https://[::1:2379")).unwrap_err().to_string();
        assert!(said.contains("\"https://[::1:2379\", but must be like"), "{said}");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wrong = GOOD
            .replace("https://10.0.0.1:2379", "http://10.0.0.1:2379")
            .replace("/ca.pem", "ca.pem")
            .replace("/a/b-1", "/a/");
        let said = read(&wrong).unwrap_err().to_string();
        for word in
            ["\"http://10.0.0.1:2379\"", "store.etcd.ca is \"ca.pem\"", "store.etcd.prefix is \"/a/\""]
        {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        for (from, to, word) in [
            ("https://[::1]:2379", "https://10.0.0.1:2379", "twice"),
            ("https://[::1]:2379", "https://u:p@h/x:1", "must be like"),
            ("https://[::1]:2379", "https://h:0", "must be like"),
            (":2379", "", "must be like"),
            ("/a/b-1", "a", "store.etcd.prefix"),
            ("/a/b-1", "/a//b", "store.etcd.prefix"),
        ] {
            let said = read(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(said.contains(word), "{from} -> {to}: {said}");
        }
        let empty = GOOD.replace(r#""https://10.0.0.1:2379", "https://[::1]:2379""#, "");
        assert!(read(&empty).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_collector_is_where_the_file_says() {
        let otlp = |text: &str| at(written(text).path()).otlp();
        assert_eq!(otlp(GOOD).unwrap(), None);
        assert!(otlp("[telemetry]\notlp = \"http://127.0.0.1:4317\"").unwrap().is_some());
        let wrong = otlp("[telemetry]\notlp = \"127.0.0.1\"").unwrap_err().to_string();
        assert!(wrong.contains("coordinator.toml") && wrong.contains("telemetry.otlp"), "{wrong}");
    }

    #[test]
    fn a_word_that_is_not_known_is_refused() {
        for text in
            ["[stor]", "[store]\nredis = 1", "[telemetry]\noltp = \"\"", &GOOD.replace("prefix", "prefx")]
        {
            assert!(matches!(read(text), Err(SettingsError::Parse { .. })), "{text}");
        }
    }
}
