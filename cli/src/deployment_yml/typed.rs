//! `deployment.yml` key by key, as it may be typed. Nothing has a default here.

use std::collections::BTreeMap;

use lockstep_core::name::{ApplicationName, EnvironmentName, HostName, ProcessName};
use lockstep_core::spec;
use serde::Deserialize;

/// Keys that may stand at the top and in every environment; maps are merged, the rest is replaced.
macro_rules! overridable {
    ($($key:ident: $type:ty),* $(,)?) => {
        /// The whole file.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct FileTyped {
            app: ApplicationName,
            environments: BTreeMap<EnvironmentName, Option<Keys>>,
            #[serde(default)]
            processes: BTreeMap<ProcessName, Process>,
            #[serde(default)]
            env: BTreeMap<String, Scalar>,
            $($key: Option<$type>,)*
        }

        /// What may be overridden.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Keys {
            pub(super) processes: BTreeMap<ProcessName, Process>,
            pub(super) env: BTreeMap<String, Scalar>,
            $(pub(super) $key: Option<$type>,)*
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
    description: String,
    url: String,
    branch: String,
    mode: TypedMode,
    env_file: String,
    image: Image,
    build: Build,
    port: u16,
    cron: Vec<Cron>,
    database: Database,
    traffic: Traffic,
    networks: Vec<String>,
    deploy: Deploy,
    required: Vec<String>,
    public: Vec<String>,
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

#[derive(Debug, Clone, Copy, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ScalarTyped")]
pub(super) struct Scalar(pub(super) String);

#[derive(Deserialize)]
#[serde(untagged)]
enum ScalarTyped {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl From<ScalarTyped> for Scalar {
    fn from(typed: ScalarTyped) -> Self {
        Self(match typed {
            ScalarTyped::Bool(value) => value.to_string(),
            ScalarTyped::Integer(value) => value.to_string(),
            ScalarTyped::Float(value) => value.to_string(),
            ScalarTyped::Text(value) => value,
        })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Image {
    Name(String),
    Full { repository: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub(super) context: Option<String>,
    pub(super) dockerfile: Option<String>,
}

/// Known by its keys and refused in words.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is typed so that a mistake in it is seen, and refused as a whole")]
pub(super) struct Cron {
    schedule: String,
    command: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Process {
    pub(super) role: Option<TypedRole>,
    pub(super) command: Option<Vec<String>>,
    pub(super) port: Option<u16>,
    pub(super) health: Option<Health>,
    pub(super) volumes: Option<Vec<String>>,
    pub(super) memory: Option<String>,
    pub(super) cpus: Option<f64>,
    pub(super) user: Option<String>,
    pub(super) stop_signal: Option<String>,
    pub(super) stop_grace: Option<String>,
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

#[derive(Debug, Clone, Copy, Deserialize)]
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

#[derive(Debug, Clone, Copy, Deserialize)]
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Health {
    pub(super) path: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) interval: Option<String>,
    pub(super) consecutive: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) postgres: Postgres,
    pub(super) migrations: Option<Migrations>,
    pub(super) snapshot: Option<Snapshot>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Postgres {
    pub(super) url_from: Option<String>,
    pub(super) name: Option<String>,
    pub(super) extensions: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Migrations {
    pub(super) path: Option<String>,
    pub(super) command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    pub(super) directory: String,
    pub(super) keep: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Traffic {
    pub(super) manage: Option<String>,
    pub(super) body_limit: Option<String>,
    pub(super) tls: Option<String>,
    pub(super) read_timeout: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Deploy {
    pub(super) strategy: Option<String>,
    pub(super) lock_timeout: Option<String>,
    pub(super) drain: Option<String>,
    pub(super) bake: Option<String>,
    pub(super) rollback: Option<String>,
    pub(super) log_directory: Option<String>,
    pub(super) state_file: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Hosts {
    pub(super) app: Vec<HostName>,
    pub(super) lb: Vec<HostName>,
    pub(super) db: Vec<HostName>,
}
