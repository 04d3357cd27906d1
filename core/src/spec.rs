//! The declaration of one environment, with defaults filled in and overrides merged. The command line parses
//! `deployment.yml`; [`check()`](check::check) finds what is wrong with a declaration.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::name::{EnvironmentKey, HostName, ProcessName};
use crate::time::Millis;

pub mod check;

/// One environment as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    pub key: EnvironmentKey,
    pub description: Option<String>,
    /// Where users reach it: the scheme, host and port decide the server that nginx gets.
    pub url: String,
    /// The branch that may be deployed here; another is refused in production mode.
    pub branch: Option<String>,
    pub mode: Mode,
    pub image: ImageSource,
    pub processes: BTreeMap<ProcessName, ProcessSpec>,
    pub database: Option<DatabaseSpec>,
    pub traffic: TrafficSpec,
    /// Existing Docker networks that every container joins.
    pub networks: Vec<String>,
    pub deploy: DeploySpec,
    /// Plain values; a secret of the same name wins.
    pub env: BTreeMap<String, String>,
    /// Variables without which nothing is started.
    pub required: Vec<String>,
    /// Secret names whose values may be shown in logs.
    pub public: Vec<String>,
    pub hosts: HostRoles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Development,
    Staging,
    Production,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// An image that exists, by repository; the tag or digest comes with the deployment.
    Repository(String),
    /// Built by the command line where it runs; paths are relative to `deployment.yml`.
    Build { context: String, dockerfile: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    pub role: Role,
    /// Empty: the image's own.
    pub command: Vec<String>,
    /// The port inside the container; a `web` process has one.
    pub port: Option<u16>,
    pub health: HealthSpec,
    pub volumes: Vec<Volume>,
    pub memory_bytes: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_milli: Option<u64>,
    /// Empty: the image's own.
    pub user: Option<String>,
    /// Empty: the image's own, else `SIGTERM`.
    pub stop_signal: Option<String>,
    /// How long a process may take to end after its stop signal.
    pub stop_grace: Millis,
    pub standby: Standby,
}

/// How a process behaves at a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs in both slots at once; nginx chooses.
    Web,
    /// The old one drains and ends, then the new one starts, after the switch.
    Worker,
    /// Belongs to one slot; planned for later and refused by the check.
    Cron,
    /// Belongs to one slot; planned for later and refused by the check.
    Singleton,
}

/// What the old slot does until the next deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standby {
    Run,
    /// Planned for later and refused by the check.
    Pause,
    /// Planned for later and refused by the check.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    pub path: String,
    /// How long a started process may take to become healthy.
    pub timeout: Millis,
    /// Between two probes, and the longest that one probe may take is five of these or a second, whichever is more.
    pub interval: Millis,
    /// Good answers in a row that make it healthy.
    pub consecutive: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// A path on the host, or the name of a volume, which Lockstep prefixes with the environment.
    pub source: String,
    pub target: String,
    pub access: VolumeAccess,
    #[serde(default, skip_serializing_if = "VolumeScope::is_not_said")]
    pub scope: VolumeScope,
}

impl Volume {
    /// Whether it is a path on the host, and not a volume of Docker.
    pub fn is_host_path(&self) -> bool {
        self.source.starts_with('/')
    }
}

/// What a volume is on a second app host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeScope {
    /// Not said, which only one app host may leave open.
    #[default]
    NotSaid,
    /// The same files everywhere, by means of the operator's own.
    Shared,
    /// Each host has its own.
    PerHost,
}

impl VolumeScope {
    fn is_not_said(&self) -> bool {
        *self == Self::NotSaid
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeAccess {
    ReadWrite,
    ReadOnly,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSpec {
    /// The secret whose value is the connection URL, `DATABASE_URL` as a rule.
    pub url_from: String,
    #[serde(default, skip_serializing_if = "PgHba::is_managed")]
    pub pg_hba: PgHba,
    /// The folder of migrations *in the image*, in golang-migrate's layout.
    pub migrations: Option<String>,
    pub snapshot: Option<SnapshotSpec>,
}

/// Who sees to it that PostgreSQL lets app hosts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PgHba {
    /// A host that no line lets in gets one, where PostgreSQL runs on the host with the role `db`.
    #[default]
    Managed,
    ByHand,
}

impl PgHba {
    fn is_managed(&self) -> bool {
        *self == Self::Managed
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// On the host with the role `db`, else on the first app host.
    pub directory: String,
    /// How many are kept.
    pub keep: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficSpec {
    /// As nginx writes it: `10m`.
    pub body_limit: String,
    /// How long a host may take to accept a connection before nginx tries another.
    #[serde(default = "TrafficSpec::connect_timeout")]
    pub connect_timeout: Millis,
    /// How long the application may take nothing of a request.
    #[serde(default = "TrafficSpec::send_timeout")]
    pub send_timeout: Millis,
    /// How long nginx waits for an answer of the application.
    pub read_timeout: Millis,
    #[serde(default, skip_serializing_if = "Tls::is_off")]
    pub tls: Tls,
}

impl TrafficSpec {
    /// Where it is not said. A packet that was lost is sent again after a second: one may be.
    pub const fn connect_timeout() -> Millis {
        Millis::from_secs(2)
    }

    /// Where it is not said.
    pub const fn send_timeout() -> Millis {
        Millis::from_secs(60)
    }
}

/// Where TLS ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tls {
    /// Before nginx, or nowhere.
    #[default]
    Off,
    /// At nginx, with files that somebody else keeps current on the load balancer's host.
    Existing { certificate: String, key: String },
}

impl Tls {
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploySpec {
    /// At most 30 minutes; then an open deployment is reverted.
    pub lock_timeout: Millis,
    /// How long the old slot's requests may take to end.
    pub drain: Millis,
    /// How long the new slot is watched under traffic before it counts.
    pub bake: Millis,
    /// On how many app hosts at a time the slot is started and checked; all at once where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u16>,
    /// With how many app hosts a release is content; those that cannot take part are passed by. All of them where it is
    /// not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u16>,
    /// Of a declaration of an earlier version, which named a path on the coordinator's machine. Nothing is written there
    /// any more: `coordinator.toml` says where.
    pub log_directory: Option<String>,
    /// As [`Self::log_directory`].
    pub state_file: Option<String>,
}

impl DeploySpec {
    /// The keys that name a path on the coordinator's machine, which no declaration may.
    pub fn coordinator_paths(&self) -> impl Iterator<Item = &'static str> {
        let keys = [("deploy.log_directory", &self.log_directory), ("deploy.state_file", &self.state_file)];
        keys.into_iter().filter(|(_, path)| path.is_some()).map(|(key, _)| key)
    }
}

/// Who does what. All three empty means: the one host that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRoles {
    pub app: Vec<HostName>,
    pub lb: Vec<HostName>,
    pub db: Vec<HostName>,
}

/// Where browsers look first.
pub const HTTP_PORT: u16 = 80;
pub const HTTPS_PORT: u16 = 443;

/// The parts of `url` that nginx needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteAddress {
    pub server_name: String,
    pub listen_port: u16,
}

impl EnvironmentSpec {
    /// The processes that nginx sends requests to.
    pub fn web_processes(&self) -> impl Iterator<Item = (&ProcessName, &ProcessSpec)> {
        self.processes.iter().filter(|(_, process)| process.role == Role::Web)
    }

    /// The processes that move at the switch.
    pub fn worker_processes(&self) -> impl Iterator<Item = (&ProcessName, &ProcessSpec)> {
        self.processes.iter().filter(|(_, process)| process.role == Role::Worker)
    }

    /// Where nginx listens for this environment; `None` when the URL is not one that it can serve.
    /// Without a port that is 443 where TLS ends at nginx. Where it does not, an `https` URL means that it ends
    /// before nginx, and 80 is.
    pub fn site_address(&self) -> Option<SiteAddress> {
        let (scheme, rest) = self.url.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, if self.traffic.tls.is_off() { HTTP_PORT } else { HTTPS_PORT }),
        };
        let is_host =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        let server_name = normal_site_name(host);
        (is_host && !server_name.is_empty()).then_some(SiteAddress { server_name, listen_port: port })
    }
}

/// A host name in lower case and without a final dot, which says that the name is whole: to a browser it is the same
/// site.
pub fn normal_site_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
