//! `deployment.yml` key by key, as it may be written. Nothing has a default here.
//!
//! The comments are the descriptions in the JSON Schema that `lockstep schema` prints, and in the reference that is
//! made from it ([`reference`](super::reference)). The schema's own keywords `default` and `examples` stand beside
//! them; what those cannot say is in three of ours:
//!
//! - `x-type`: the form of a text, such as `duration`;
//! - `x-default`: a default that is no value, such as the number of app hosts;
//! - `x-refused`: the key or value is known, and refused with a message.
//!
//! A test in `reference.rs` compares each `default` with what is used, and reads each example.

use std::collections::BTreeMap;
use std::fmt;

use lockstep_core::name::{ApplicationName, EnvironmentName, HostName, ProcessName};
use lockstep_core::spec;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Expected, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Keys that may stand at the top and in every environment; maps are merged, the rest is replaced.
macro_rules! overridable {
    ($($(#[$attribute:meta])* $key:ident: $type:ty),* $(,)?) => {
        /// What Lockstep deploys, and where: deployment.yml, next to the application's source.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[schemars(rename = "deployment.yml")]
        #[serde(deny_unknown_fields)]
        pub(super) struct FileTyped {
            /// The name of the application: lower-case letters, digits and hyphens.
            #[schemars(with = "String", extend("examples" = ["notes"]))]
            app: ApplicationName,
            /// The environments of the application, by name. An environment may set every key of this file except `app` and
            /// `environments`. Its value replaces the one at the top level; the maps `processes` and `env` are merged.
            #[schemars(
                with = "BTreeMap<String, Option<Keys>>",
                extend("examples" = [{ "production": { "url": "https://notes.example" } }])
            )]
            environments: BTreeMap<EnvironmentName, Option<Keys>>,
            /// The processes of the application, by name. Exactly one has the role `web`.
            #[schemars(with = "BTreeMap<String, Process>", extend("examples" = [{ "web": { "port": 8080 } }]))]
            #[serde(default)]
            processes: BTreeMap<ProcessName, Process>,
            /// Environment variables of every process. Secrets belong in `env_file`; a secret of the same name takes precedence.
            #[schemars(extend("examples" = [{ "LOG_LEVEL": "info" }]))]
            #[serde(default)]
            env: BTreeMap<String, Scalar>,
            $($(#[$attribute])* $key: Option<$type>,)*
        }

        /// The keys of one environment.
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Keys {
            /// The processes of the application, by name. Exactly one has the role `web`.
            #[schemars(with = "BTreeMap<String, Process>", extend("examples" = [{ "web": { "port": 8080 } }]))]
            pub(super) processes: BTreeMap<ProcessName, Process>,
            /// Environment variables of every process. Secrets belong in `env_file`; a secret of the same name takes precedence.
            #[schemars(extend("examples" = [{ "LOG_LEVEL": "info" }]))]
            pub(super) env: BTreeMap<String, Scalar>,
            $($(#[$attribute])* pub(super) $key: Option<$type>,)*
        }

        impl Keys {
            /// These keys where they are given, else `below`.
            pub(super) fn over(self, below: Keys) -> Keys {
                let mut processes = below.processes;
                for (name, own) in self.processes {
                    let there = processes.remove(&name).unwrap_or_default();
                    processes.insert(name, own.over(there));
                }
                let mut env = below.env;
                env.extend(self.env);
                Keys { processes, env, $($key: self.$key.or(below.$key),)* }
            }
        }

        impl From<FileTyped> for File {
            fn from(typed: FileTyped) -> File {
                let FileTyped { app, environments, processes, env, $($key,)* } = typed;
                let environments =
                    environments.into_iter().map(|(name, keys)| (name, keys.unwrap_or_default())).collect();
                File { app, environments, keys: Keys { processes, env, $($key,)* } }
            }
        }
    };
}

overridable! {
    /// A description of the environment, for people.
    #[schemars(extend("examples" = ["notes, for everybody"]))]
    description: String,
    /// The URL at which users reach the environment: `http://` or `https://`, a host name, and optionally a port.
    /// nginx takes its `server_name` and port from it.
    #[schemars(extend("x-default" = "`http://localhost` if the file declares one environment; otherwise required", "examples" = ["https://notes.example"]))]
    url: String,
    /// The branch that may be deployed. With `mode: production` a commit of another branch is refused unless
    /// `--allow-branch` is given.
    #[schemars(extend("x-default" = "any branch", "examples" = ["main"]))]
    branch: String,
    /// `development` shortens the defaults: one healthy answer, no bake, a drain of 5s. `production` enforces
    /// `branch`. `staging` has the defaults of `production` and does not enforce `branch`.
    #[schemars(extend("default" = "production", "examples" = ["staging"]))]
    mode: TypedMode,
    /// The file with the secrets of the environment, beside deployment.yml. Its mode must be 0600.
    #[schemars(extend("x-default" = ".env.ENVIRONMENT", "examples" = [".env.production"]))]
    env_file: String,
    /// The repository of the image, without a tag. The tag is that of the commit at HEAD, or the one that `--image`
    /// names. Either `image` or `build` is required.
    #[schemars(extend("examples" = ["ghcr.io/acme/notes"]))]
    image: Image,
    /// Build the image from the commit at HEAD on the machine that runs `lockstep deploy`. Excludes `image`.
    #[schemars(extend("examples" = [{ "context": ".", "dockerfile": "Dockerfile" }]))]
    build: Build,
    /// The short form of a process `web` with this port.
    #[schemars(extend("examples" = [8080]))]
    port: u16,
    /// Scheduled processes.
    #[schemars(extend("x-refused" = true))]
    cron: Vec<Cron>,
    /// The PostgreSQL database of the application.
    #[schemars(extend("x-default" = "no database", "examples" = [{ "postgres": { "url_from": "DATABASE_URL" } }]))]
    database: Database,
    /// The nginx site of the environment.
    #[schemars(extend("examples" = [{ "body_limit": "20m" }]))]
    traffic: Traffic,
    /// Existing Docker networks that every container joins.
    #[schemars(extend("examples" = [["notes_default"]]))]
    networks: Vec<String>,
    /// Durations and limits of a deployment.
    #[schemars(extend("examples" = [{ "bake": "30s" }]))]
    deploy: Deploy,
    /// Variables that must have a value in `env_file` or in `env`. Without one, nothing is deployed.
    #[schemars(extend("examples" = [["DATABASE_URL"]]))]
    required: Vec<String>,
    /// Variables of `env_file` whose values are not secret. They are not redacted.
    #[schemars(extend("examples" = [["GREETING"]]))]
    public: Vec<String>,
    /// The hosts of each role. Without this key, the only host that has joined has every role.
    #[schemars(extend("examples" = [{ "app": ["app-1", "app-2"], "lb": ["edge-1"], "db": ["db-1"] }]))]
    hosts: Hosts,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(from = "FileTyped")]
pub(super) struct File {
    pub(super) app: ApplicationName,
    pub(super) environments: BTreeMap<EnvironmentName, Keys>,
    pub(super) keys: Keys,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedMode {
    Development,
    Staging,
    Production,
}

impl From<TypedMode> for spec::Mode {
    fn from(mode: TypedMode) -> Self {
        match mode {
            TypedMode::Development => Self::Development,
            TypedMode::Staging => Self::Staging,
            TypedMode::Production => Self::Production,
        }
    }
}

/// A value of `env`. A number, `true` and `false` are text to the process.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(with = "ScalarTyped")]
pub(super) struct Scalar(pub(super) String);

/// The form of [`Scalar`] in the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is made from it")]
enum ScalarTyped {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Scalar, A::Error> {
        no_list(list, &self)
    }
}

/// Reads the list to its end, so that a bracket that is not closed is reported as such.
fn no_list<'de, A: SeqAccess<'de>, T>(mut list: A, wanted: &dyn Expected) -> Result<T, A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Err(de::Error::invalid_type(Unexpected::Seq, wanted))
}

// `Image` and `Scalar` are read by visitors, because serde's untagged enums report an error without reason and
// position.
/// The repository, by itself or as `{ repository: … }`.
#[derive(Debug, Clone, JsonSchema)]
#[serde(untagged)]
pub(super) enum Image {
    Name(String),
    Full(Repository),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    /// The repository, without a tag.
    #[schemars(extend("examples" = ["ghcr.io/acme/notes"]))]
    pub(super) repository: String,
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageVisitor)
    }
}

struct ImageVisitor;

impl<'de> Visitor<'de> for ImageVisitor {
    type Value = Image;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the repository of an image, as in `notes` or { repository: notes }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Image, E> {
        Ok(Image::Name(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Image, A::Error> {
        no_list(list, &self)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Image, A::Error> {
        Repository::deserialize(MapAccessDeserializer::new(map)).map(Image::Full)
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    /// The build context, relative to deployment.yml.
    #[schemars(extend("default" = ".", "examples" = ["app"]))]
    pub(super) context: Option<String>,
    /// The Dockerfile, relative to the context.
    #[schemars(extend("default" = "Dockerfile", "examples" = ["Dockerfile.production"]))]
    pub(super) dockerfile: Option<String>,
}

/// A scheduled process. Refused with a message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is typed so that a mistake in it is seen, and refused as a whole")]
pub(super) struct Cron {
    schedule: String,
    command: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Process {
    /// `web` receives requests and runs in both slots. `worker` runs in the live slot only: at a switch the old
    /// worker ends before the new one starts.
    #[schemars(extend("x-default" = "`web` with a port, `worker` without", "examples" = ["worker"]))]
    pub(super) role: Option<TypedRole>,
    /// The command and its arguments.
    #[schemars(extend("x-default" = "the command of the image", "examples" = [["notes","work"]]))]
    pub(super) command: Option<Vec<String>>,
    /// The port on which the process listens in its container. A web process must have one.
    #[schemars(extend("examples" = [8080]))]
    pub(super) port: Option<u16>,
    /// When an instance is healthy.
    #[schemars(extend("examples" = [{ "path": "/health" }]))]
    pub(super) health: Option<Health>,
    /// Volumes as `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`. SOURCE is the name of a volume or a path on the host,
    /// TARGET a path in the container. OPTIONS are, with commas between them, `ro`, `rw`, `shared` (all app hosts
    /// see the same files, by your own means) and `per_host` (each app host has its own files). With several app
    /// hosts `shared` or `per_host` is required.
    #[schemars(extend("examples" = [["uploads:/data:shared"]]))]
    pub(super) volumes: Option<Vec<String>>,
    /// The memory limit of a container: a number of bytes, or one with Ki, Mi, Gi, K, M or G. At least 6Mi.
    #[schemars(extend("x-default" = "no limit", "examples" = ["512Mi"], "x-type" = "size"))]
    pub(super) memory: Option<String>,
    /// How many processors a container may use.
    #[schemars(extend("x-default" = "no limit", "examples" = [0.5]))]
    pub(super) cpus: Option<f64>,
    /// The user in the container, as Docker takes it.
    #[schemars(extend("x-default" = "the user of the image", "examples" = ["1000"]))]
    pub(super) user: Option<String>,
    /// The signal that asks the process to end.
    #[schemars(extend("x-default" = "the signal of the image, otherwise SIGTERM", "examples" = ["SIGINT"]))]
    pub(super) stop_signal: Option<String>,
    /// How long the process may take to end before it is killed.
    #[schemars(extend("default" = "30s", "examples" = ["10s"], "x-type" = "duration"))]
    pub(super) stop_grace: Option<String>,
    /// What the process does in the slot without traffic: `run` keeps it running, so that a rollback is a switch.
    #[schemars(extend("default" = "run", "examples" = ["run"]))]
    pub(super) standby: Option<TypedStandby>,
}

impl Process {
    fn over(self, below: Process) -> Process {
        Process {
            role: self.role.or(below.role),
            command: self.command.or(below.command),
            port: self.port.or(below.port),
            health: self.health.or(below.health),
            volumes: self.volumes.or(below.volumes),
            memory: self.memory.or(below.memory),
            cpus: self.cpus.or(below.cpus),
            user: self.user.or(below.user),
            stop_signal: self.stop_signal.or(below.stop_signal),
            stop_grace: self.stop_grace.or(below.stop_grace),
            standby: self.standby.or(below.standby),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedRole {
    Web,
    Worker,
    /// Refused: there are no scheduled processes.
    #[schemars(extend("x-refused" = true))]
    Cron,
    /// Refused: there are no processes with one instance in the environment.
    #[schemars(extend("x-refused" = true))]
    Singleton,
}

impl From<TypedRole> for spec::Role {
    fn from(role: TypedRole) -> Self {
        match role {
            TypedRole::Web => Self::Web,
            TypedRole::Worker => Self::Worker,
            TypedRole::Cron => Self::Cron,
            TypedRole::Singleton => Self::Singleton,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedStandby {
    Run,
    /// Refused: a process in standby runs.
    #[schemars(extend("x-refused" = true))]
    Pause,
    /// Refused: a process in standby runs.
    #[schemars(extend("x-refused" = true))]
    Stop,
}

impl From<TypedStandby> for spec::Standby {
    fn from(standby: TypedStandby) -> Self {
        match standby {
            TypedStandby::Run => Self::Run,
            TypedStandby::Pause => Self::Pause,
            TypedStandby::Stop => Self::Stop,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Health {
    /// The path that is requested with GET. An answer of 200 to 299 is healthy, unless its body declares something
    /// else: as JSON with a `status`, or as nothing but one word. `healthy`, `ok`, `pass` and `up` are healthy, `degraded` and
    /// `warn` are degraded, any other `status` is unhealthy. So are the words `unhealthy`, `fail`, `failed`, `down`, `error` and
    /// `critical`; other text declares nothing. Letters may be large or small.
    #[schemars(extend("default" = "/health", "examples" = ["/healthz"]))]
    pub(super) path: Option<String>,
    /// How long an instance may take to become healthy.
    #[schemars(extend("default" = "60s", "examples" = ["90s"], "x-type" = "duration"))]
    pub(super) timeout: Option<String>,
    /// The time between two requests; at least 10ms.
    #[schemars(extend("default" = "100ms", "examples" = ["500ms"], "x-type" = "duration"))]
    pub(super) interval: Option<String>,
    /// How many healthy answers in a row make an instance healthy. With `mode: development` the default is 1.
    #[schemars(extend("default" = 3, "examples" = [2]))]
    pub(super) consecutive: Option<u16>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    /// The connection to the database.
    #[schemars(extend("examples" = [{ "url_from": "DATABASE_URL" }]))]
    pub(super) postgres: Postgres,
    /// The migrations of a release.
    #[schemars(extend("x-default" = "no migrations", "examples" = [{ "path": "/migrations" }]))]
    pub(super) migrations: Option<Migrations>,
    /// The snapshot that is taken and verified before migrations run.
    #[schemars(extend("x-default" = "no snapshot", "examples" = [{ "directory": "/var/backups/notes", "keep": 14 }]))]
    pub(super) snapshot: Option<Snapshot>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Postgres {
    /// The secret that contains the connection URL.
    #[schemars(extend("default" = "DATABASE_URL", "examples" = ["DATABASE_URL"]))]
    pub(super) url_from: Option<String>,
    /// `managed`: where PostgreSQL runs on the host with the role `db`, an app host that no line of pg_hba.conf
    /// lets in gets a line. `by_hand`: Lockstep does not touch pg_hba.conf.
    #[schemars(extend("default" = "managed", "examples" = ["by_hand"]))]
    pub(super) pg_hba: Option<TypedPgHba>,
    /// The database to create.
    #[schemars(extend("x-refused" = true))]
    pub(super) name: Option<String>,
    /// The extensions to create.
    #[schemars(extend("x-refused" = true))]
    pub(super) extensions: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedPgHba {
    Managed,
    ByHand,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Migrations {
    /// A folder in the image with migrations in the layout of golang-migrate: `1_NAME.up.sql`.
    #[schemars(extend("examples" = ["/migrations"]))]
    pub(super) path: Option<String>,
    /// A command that migrates.
    #[schemars(extend("x-refused" = true))]
    pub(super) command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    /// The folder for snapshots: an absolute path on the host with the role `db`, otherwise on the first app host.
    #[schemars(extend("examples" = ["/var/backups/notes"]))]
    pub(super) directory: String,
    /// How many snapshots are kept.
    #[schemars(extend("default" = 14, "examples" = [7]))]
    pub(super) keep: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Traffic {
    /// `site`: Lockstep generates the nginx site. No other value is accepted.
    #[schemars(extend("default" = "site", "examples" = ["site"]))]
    pub(super) manage: Option<String>,
    /// The largest request body, as nginx writes it.
    #[schemars(extend("default" = "10m", "examples" = ["20m"], "x-type" = "size"))]
    pub(super) body_limit: Option<String>,
    /// `off`: TLS ends in front of nginx, or there is none. `existing`: nginx terminates TLS with `certificate` and
    /// `key`; `url` must begin with `https://`.
    #[schemars(extend("default" = "off", "examples" = ["existing"]))]
    pub(super) tls: Option<TypedTls>,
    /// The certificate with its chain, in PEM form, on the load balancer. Required with `tls: existing`.
    #[schemars(extend("examples" = ["/etc/letsencrypt/live/notes.example/fullchain.pem"]))]
    pub(super) certificate: Option<String>,
    /// The key of the certificate, in PEM form, on the load balancer. Required with `tls: existing`.
    #[schemars(extend("examples" = ["/etc/letsencrypt/live/notes.example/privkey.pem"]))]
    pub(super) key: Option<String>,
    /// How long an app host may take to accept a connection before nginx tries another. At most 75s.
    #[schemars(extend("default" = "2s", "examples" = ["1s"], "x-type" = "duration"))]
    pub(super) connect_timeout: Option<String>,
    /// How long the application may pause while it reads a request (`proxy_send_timeout`).
    #[schemars(extend("default" = "60s", "examples" = ["30s"], "x-type" = "duration"))]
    pub(super) send_timeout: Option<String>,
    /// How long nginx waits for the application to answer (`proxy_read_timeout`).
    #[schemars(extend("default" = "60s", "examples" = ["120s"], "x-type" = "duration"))]
    pub(super) read_timeout: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedTls {
    Off,
    Existing,
    /// Refused: Lockstep does not obtain certificates.
    #[schemars(extend("x-refused" = true))]
    Acme,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Deploy {
    /// `blue-green`. No other value is accepted.
    #[schemars(extend("default" = "blue-green", "examples" = ["blue-green"]))]
    pub(super) strategy: Option<String>,
    /// How long a deployment may take. One that takes longer is rolled back. At most 30m.
    #[schemars(extend("default" = "30m", "examples" = ["15m"], "x-type" = "duration"))]
    pub(super) lock_timeout: Option<String>,
    /// How long the connections of the old slot may continue after the switch. With `mode: development` the default
    /// is 5s.
    #[schemars(extend("default" = "30s", "examples" = ["10s"], "x-type" = "duration"))]
    pub(super) drain: Option<String>,
    /// How long the new slot is watched under traffic before the deployment counts as good. With `mode:
    /// development` the default is 0s.
    #[schemars(extend("default" = "20s", "examples" = ["60s"], "x-type" = "duration"))]
    pub(super) bake: Option<String>,
    /// The number of app hosts on which the new slot is started and checked at a time.
    #[schemars(extend("x-default" = "all app hosts", "examples" = [1]))]
    pub(super) parallel: Option<u16>,
    /// The number of app hosts that a deployment needs. An app host that does not answer, or fails before nginx gets the
    /// new slot, is excluded. It is re-admitted when it is well.
    #[schemars(extend("x-default" = "all app hosts", "examples" = [2]))]
    pub(super) quorum: Option<u16>,
    /// `automatic`. No other value is accepted.
    #[schemars(extend("default" = "automatic", "examples" = ["automatic"]))]
    pub(super) rollback: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Hosts {
    /// The hosts that run the containers.
    #[schemars(with = "Vec<String>", extend("examples" = [["app-1", "app-2"]]))]
    pub(super) app: Vec<HostName>,
    /// The host whose nginx serves the site. Exactly one.
    #[schemars(with = "Vec<String>", extend("examples" = [["edge-1"]]))]
    pub(super) lb: Vec<HostName>,
    /// The host that takes snapshots and runs migrations. At most one.
    #[schemars(with = "Vec<String>", extend("x-default" = "the first app host", "examples" = [["db-1"]]))]
    pub(super) db: Vec<HostName>,
}
