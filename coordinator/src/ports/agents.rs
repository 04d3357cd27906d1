//! The interface to the agents: which are connected, and what can be asked of a connected host.
//!
//! Assignments go through the store ([`crate::store::handover`]). This interface is for questions that need an answer
//! at once. A question of a driver carries its token, so it fences.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use lockstep_core::agent::fence::Token;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::image::ImageLookup;
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::plan::action::SecretsUse;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::{Finding, StepFailure, StepKey};
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_core::view::host_status::Vitals;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// What became of these steps. Raises the agent's fence to the token first.
    async fn query_steps(
        &self,
        host: &HostId,
        question: StepQuery,
    ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError>;

    /// A look without any effect.
    async fn observe(&self, host: &HostId, question: ObservationRequest) -> Result<Observation, AgentError>;

    async fn fetch_log(&self, host: &HostId, wanted: LogRequest) -> Result<Vec<String>, AgentError>;

    /// Something that may take its time.
    async fn run_task(&self, host: &HostId, task: HostTask) -> Result<(), AgentError>;

    /// The last health report of each host for this environment.
    fn health(&self, environment: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>>;

    /// How the host was seen last, while its agent is connected.
    fn session_of(&self, host: &HostId) -> Option<SessionInfo>;

    /// Those of `hosts` that are not connected.
    fn unreachable_of(&self, hosts: &BTreeSet<HostId>) -> Vec<HostId> {
        hosts.iter().filter(|host| self.session_of(host).is_none()).cloned().collect()
    }

    /// The last line of what runs, as agents send it.
    fn progress(&self) -> broadcast::Receiver<ProgressLine>;
}

/// A host as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionInfo {
    pub at: Timestamp,
    /// Of its agent.
    pub version: String,
    /// `None` until the agent has reported them.
    pub vitals: Option<Vitals>,
}

impl StoredDocument for SessionInfo {
    const KIND: &'static str = "host_sighting";
}

/// Asked by a driver that took over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepQuery {
    pub token: Token,
    pub environment: EnvironmentKey,
    pub keys: Vec<StepKey>,
}

/// What an agent knows of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum QueriedStatus {
    Ended(Result<Finding, StepFailure>),
    Running,
    #[serde(rename = "Unheard")]
    NeverReceived,
}

/// What to look at: tools, containers and nginx always; image, migrations and schema where named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationRequest {
    pub environment: EnvironmentKey,
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "ImageLookup::is_registry")]
    pub lookup: ImageLookup,
    pub migrations_path: Option<String>,
    pub database: Option<DatabaseObservation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseObservation {
    /// The secret whose value is the connection URL.
    pub url_from: String,
    pub secrets_version: u64,
    /// Of app hosts: which of them are let in, if it is there.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl ObservationRequest {
    /// What is always looked at, and nothing else.
    pub fn of(environment: EnvironmentKey) -> Self {
        Self {
            environment,
            image: None,
            lookup: ImageLookup::default(),
            migrations_path: None,
            database: None,
        }
    }
}

impl DatabaseObservation {
    /// The value with its URL.
    pub fn secrets(&self) -> SecretsUse {
        SecretsUse::of_one(self.secrets_version, &self.url_from)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    pub environment: EnvironmentKey,
    pub of: LogSource,
    /// How many of the last lines; `None`: all.
    pub tail: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LogSource {
    Step {
        deployment: DeploymentId,
        step: StepId,
    },
    /// The output of the live slot's containers, of one process or of all.
    Live {
        process: Option<ProcessName>,
        /// Of the live deployment: its values are taken out of what containers printed, by the coordinator that has the
        /// session of their host.
        secrets_version: Option<u64>,
    },
}

/// The answer to a [`StepQuery`], as one coordinator gives it to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueriedStatuses(pub Vec<(StepKey, QueriedStatus)>);

impl StoredDocument for StepQuery {
    const KIND: &'static str = "question";
}

impl StoredDocument for QueriedStatuses {
    const KIND: &'static str = "standings";
}

impl StoredDocument for ObservationRequest {
    const KIND: &'static str = "look";
}

impl StoredDocument for LogRequest {
    const KIND: &'static str = "log_wanted";
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressLine {
    pub environment: EnvironmentKey,
    pub key: StepKey,
    pub line: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("the agent of {host} is not connected")]
    Absent { host: HostId },
    #[error("the agent of {host} did not answer in time")]
    NoAnswer { host: HostId },
    #[error("the agent of {host} refused: {why}")]
    Refused { host: HostId, why: String },
}
