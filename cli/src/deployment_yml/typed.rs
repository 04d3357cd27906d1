//! `deployment.yml` key by key, as it may be typed. Nothing has a default here.
//!
//! The comments are the descriptions of the JSON Schema that `lockstep schema` prints.

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
    ($($(#[doc = $doc:literal])* $key:ident: $type:ty),* $(,)?) => {
        /// What Lockstep deploys, and where: deployment.yml, next to the application's source.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[schemars(rename = "deployment.yml")]
        #[serde(deny_unknown_fields)]
        pub(super) struct FileTyped {
            /// The application's name: small letters, digits and hyphens.
            #[schemars(with = "String")]
            app: ApplicationName,
            /// The installations of the application. Each may override any key above it; maps are merged.
            #[schemars(with = "BTreeMap<String, Option<Keys>>")]
            environments: BTreeMap<EnvironmentName, Option<Keys>>,
            /// What runs, by name.
            #[schemars(with = "BTreeMap<String, Process>")]
            #[serde(default)]
            processes: BTreeMap<ProcessName, Process>,
            /// Plain values for every process; secrets belong into the env_file.
            #[serde(default)]
            env: BTreeMap<String, Scalar>,
            $($(#[doc = $doc])* $key: Option<$type>,)*
        }

        /// What an environment may say.
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Keys {
            /// What runs, by name.
            #[schemars(with = "BTreeMap<String, Process>")]
            pub(super) processes: BTreeMap<ProcessName, Process>,
            /// Plain values for every process; secrets belong into the env_file.
            pub(super) env: BTreeMap<String, Scalar>,
            $($(#[doc = $doc])* pub(super) $key: Option<$type>,)*
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
    /// For people.
    description: String,
    /// Where the environment answers, as in https://notes.example; nginx gets host and port from it.
    url: String,
    /// In production mode, a commit of another branch is refused.
    branch: String,
    /// How careful the defaults are; production where it is not said.
    mode: TypedMode,
    /// The file of secrets, mode 0600; .env.<environment> where it is not said.
    env_file: String,
    /// The image's repository; its tag is that of the commit, or comes with --image.
    image: Image,
    /// The image is built where the command line runs, instead of `image`.
    build: Build,
    /// Short for a process `web` with this port.
    port: u16,
    /// Comes with a later release: refused in words.
    cron: Vec<Cron>,
    /// The application's PostgreSQL database.
    database: Database,
    /// What nginx does.
    traffic: Traffic,
    /// Docker networks that are there, to join.
    networks: Vec<String>,
    /// How a deployment goes.
    deploy: Deploy,
    /// Variables that must be in the env_file or in env.
    required: Vec<String>,
    /// Names in the env_file whose values are no secrets.
    public: Vec<String>,
    /// Which host does what; every host does everything where it is not said.
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

/// A value of `env`: what YAML takes for a number or a truth is text to a process.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(with = "ScalarTyped")]
pub(super) struct Scalar(pub(super) String);

/// What the schema says of it.
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
        f.write_str("a value for a variable: a text, a number, true or false")
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

/// Read to its end, so that a bracket that is not closed is told as what it is.
fn no_list<'de, A: SeqAccess<'de>, T>(mut list: A, wanted: &dyn Expected) -> Result<T, A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Err(de::Error::invalid_type(Unexpected::Seq, wanted))
}

// It and `Scalar` are read by visitors, because serde's untagged enums say of a mistake neither what it is nor where.
/// By its name alone, or as a map.
#[derive(Debug, Clone, JsonSchema)]
#[serde(untagged)]
pub(super) enum Image {
    Name(String),
    Full(Repository),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Repository {
    /// As Docker names it, without a tag.
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
        f.write_str("an image's repository, as in `notes` or { repository: notes }")
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
    /// Docker's build context; `.` where it is not said.
    pub(super) context: Option<String>,
    /// Dockerfile where it is not said.
    pub(super) dockerfile: Option<String>,
}

/// Known by its keys and refused in words.
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
    /// web with a port, worker without, where it is not said.
    pub(super) role: Option<TypedRole>,
    /// The image's own where it is not said.
    pub(super) command: Option<Vec<String>>,
    /// The port in the container.
    pub(super) port: Option<u16>,
    /// When an instance counts as healthy.
    pub(super) health: Option<Health>,
    /// As in uploads:/data, /srv/data:/data:ro or uploads:/data:shared; several app hosts want shared or per_host.
    pub(super) volumes: Option<Vec<String>>,
    /// As in 512Mi.
    pub(super) memory: Option<String>,
    /// As in 0.5.
    pub(super) cpus: Option<f64>,
    /// As Docker takes it.
    pub(super) user: Option<String>,
    /// SIGTERM, or the image's own, where it is not said.
    pub(super) stop_signal: Option<String>,
    /// How long it may take to end before it is killed; 30s.
    pub(super) stop_grace: Option<String>,
    /// What becomes of it in the slot that has no traffic; run.
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
    Cron,
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
    Pause,
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
    /// What is asked; /health.
    pub(super) path: Option<String>,
    /// How long a slot may take until it is healthy; 60s.
    pub(super) timeout: Option<String>,
    /// Between two probes; 100ms.
    pub(super) interval: Option<String>,
    /// Good answers in a row; 3.
    pub(super) consecutive: Option<u16>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    /// How it is reached.
    pub(super) postgres: Postgres,
    /// How its schema comes to be what the release needs.
    pub(super) migrations: Option<Migrations>,
    /// Taken and verified before migrations run.
    pub(super) snapshot: Option<Snapshot>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Postgres {
    /// The variable with its URL; DATABASE_URL.
    pub(super) url_from: Option<String>,
    /// managed: an app host that no line lets in gets one, where PostgreSQL is the db host's. by_hand: yours. managed.
    pub(super) pg_hba: Option<TypedPgHba>,
    /// Comes with a later release: refused in words.
    pub(super) name: Option<String>,
    /// Comes with a later release: refused in words.
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
    /// A folder in the image, in golang-migrate's layout.
    pub(super) path: Option<String>,
    /// Comes with a later release: refused in words.
    pub(super) command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    /// On the host that takes them.
    pub(super) directory: String,
    /// How many are kept; 14.
    pub(super) keep: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Traffic {
    /// site, which is the only one yet.
    pub(super) manage: Option<String>,
    /// The largest request body; 10m.
    pub(super) body_limit: Option<String>,
    /// off: TLS ends before nginx, or nowhere. existing: at nginx, with the certificate and the key that are named.
    pub(super) tls: Option<TypedTls>,
    /// The certificate with its chain, in PEM form, on the load balancer's host.
    pub(super) certificate: Option<String>,
    /// Its key, in PEM form, on the same host.
    pub(super) key: Option<String>,
    /// How long a host may take to accept a connection; 2s.
    pub(super) connect_timeout: Option<String>,
    /// How long the application may take nothing of a request; 60s.
    pub(super) send_timeout: Option<String>,
    /// How long nginx waits for an answer; 60s.
    pub(super) read_timeout: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypedTls {
    Off,
    Existing,
    /// Comes with a later release: refused in words.
    Acme,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Deploy {
    /// blue-green, which is the only one yet.
    pub(super) strategy: Option<String>,
    /// A deployment that takes longer is unwound; 30m.
    pub(super) lock_timeout: Option<String>,
    /// How long connections of the old slot may go on; 30s.
    pub(super) drain: Option<String>,
    /// How long the new slot is watched under traffic; 20s.
    pub(super) bake: Option<String>,
    /// On how many app hosts at a time the new slot is started and checked; on all where it is not said.
    pub(super) parallel: Option<u16>,
    /// With how many app hosts a release is content: those that do not answer, or fall ill before the switch, are passed by and come back later. Where it is not said, each must be well.
    pub(super) quorum: Option<u16>,
    /// automatic, which is the only one yet.
    pub(super) rollback: Option<String>,
    /// Where the coordinator writes a log for each deployment.
    pub(super) log_directory: Option<String>,
    /// Where the coordinator keeps a current deployment-state.json.
    pub(super) state_file: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Hosts {
    /// Where the processes run.
    #[schemars(with = "Vec<String>")]
    pub(super) app: Vec<HostName>,
    /// Where nginx is.
    #[schemars(with = "Vec<String>")]
    pub(super) lb: Vec<HostName>,
    /// Where snapshots are taken.
    #[schemars(with = "Vec<String>")]
    pub(super) db: Vec<HostName>,
}
