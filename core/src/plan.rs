//! A plan: exactly what will run. It is data that a planner makes and [`check::check`] checks. It is shown and stored,
//! and one engine carries it out.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, HostId, StepId};
use crate::name::{EnvironmentKey, HostName};
use crate::plan::operation::Operation;
use crate::plan::operation::OperationKind;
use crate::release::Release;
use crate::slot::Slot;
use crate::spec::EnvironmentSpec;
use crate::time::Millis;

pub mod action;
pub mod check;
pub mod exclusion;
pub mod hba;
pub mod operation;

pub use action::Action;

/// What will run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub key: EnvironmentKey,
    pub operation: Operation,
    pub kind: OperationKind,
    /// What will have the traffic at the end, and where.
    pub release: Release,
    pub slot: Slot,
    /// The slot that has the traffic at the start; `None` before the first deployment.
    pub live_slot: Option<Slot>,
    pub spec: EnvironmentSpec,
    /// The app hosts that have the traffic at the end.
    #[serde(default)]
    pub serving: Vec<HostName>,
    /// Those that should, and cannot: they come back when they are well.
    #[serde(rename = "passed_by", default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<HostName>,
    pub secrets_version: Option<u64>,
    pub schema_before: Option<u64>,
    pub waves: Vec<Wave>,
    pub hash: PlanHash,
    /// What was not planned, and why.
    pub omitted: Vec<Omission>,
    /// What an operator should read before it runs.
    pub warnings: Vec<String>,
}

/// Steps that may run side by side: a wave begins when the one before it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    pub steps: Vec<Step>,
}

/// One typed action on one host, with its undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: StepId,
    pub host: HostId,
    pub host_name: HostName,
    pub action: Action,
    pub undo: Undo,
    /// What its failure means for the deployment.
    pub on_failure: OnFailure,
    /// After this long its outcome is unknown and the deployment is unwound.
    pub limit: Millis,
    /// How long it took of late, where there is any history.
    pub usual: Option<Millis>,
    /// What it changes, in one line.
    pub change: String,
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    /// There is nothing to undo, for this reason.
    Nothing {
        because: String,
    },
    By {
        action: Action,
        change: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The deployment is unwound.
    Unwind,
    /// It is noted: the release serves already, and this is housekeeping.
    Note,
}

/// Something that one might expect in the plan and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    pub what: String,
    pub because: String,
}

impl Plan {
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.waves.iter().flat_map(|wave| wave.steps.iter())
    }

    /// What people call a host that has a part in it.
    pub fn host_name(&self, host: &HostId) -> Option<&HostName> {
        self.steps().find(|step| step.host == *host).map(|step| &step.host_name)
    }

    pub fn step(&self, id: StepId) -> Option<&Step> {
        // Numbers follow each other, as the plan's rules say. What breaks the rules is looked through.
        let wave = self.waves.partition_point(|wave| wave.steps.last().is_some_and(|last| last.id < id));
        let found = self.waves.get(wave).and_then(|wave| {
            let place = wave.steps.binary_search_by_key(&id, |step| step.id).ok()?;
            wave.steps.get(place)
        });
        found.or_else(|| self.steps().find(|step| step.id == id))
    }
}

/// The four things that a plan is made from, each by six hexadecimal digits, so that a plan that is no
/// longer valid can say *what* moved: `3fa9c1-77b210-0c9e41-5d1e02`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanHash {
    pub configuration: String,
    pub release: String,
    pub live_state: String,
    pub hosts: String,
}

/// Why a text is not a plan's hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the hash of a plan: write four groups of six hexadecimal digits, as `lockstep plan` prints them"
)]
pub struct InvalidPlanHash {
    pub text: String,
}

impl PlanHash {
    /// Hashes the canonical JSON of each group. Never put time, health, presence, disk or a digest of
    /// a secret into one: they move without the plan being another.
    pub fn of_parts(configuration: &str, release: &str, live_state: &str, hosts: &str) -> Self {
        let group = |content: &str| Digest::of_content(content.as_bytes()).hex()[..6].to_string();
        Self {
            configuration: group(configuration),
            release: group(release),
            live_state: group(live_state),
            hosts: group(hosts),
        }
    }

    /// What differs between the two, in words.
    pub fn moved(&self, current: &PlanHash) -> Vec<&'static str> {
        [
            (self.configuration != current.configuration, "the configuration or the version of the secrets"),
            (self.release != current.release, "the release"),
            (
                self.live_state != current.live_state,
                "the live state (another deployment ended, or the schema changed)",
            ),
            (self.hosts != current.hosts, "the hosts, their addresses or ports"),
        ]
        .into_iter()
        .filter_map(|(moved, what)| moved.then_some(what))
        .collect()
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}-{}-{}", self.configuration, self.release, self.live_state, self.hosts))
    }
}

impl FromStr for PlanHash {
    type Err = InvalidPlanHash;
    fn from_str(text: &str) -> Result<Self, InvalidPlanHash> {
        let groups: Vec<&str> = text.split('-').collect();
        let is_group =
            |group: &&str| group.len() == 6 && group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match groups.as_slice() {
            [configuration, release, live_state, hosts] if groups.iter().all(is_group) => Ok(Self {
                configuration: (*configuration).to_string(),
                release: (*release).to_string(),
                live_state: (*live_state).to_string(),
                hosts: (*hosts).to_string(),
            }),
            _ => Err(InvalidPlanHash { text: text.to_string() }),
        }
    }
}

impl TryFrom<String> for PlanHash {
    type Error = InvalidPlanHash;
    fn try_from(text: String) -> Result<Self, InvalidPlanHash> {
        text.parse()
    }
}

impl From<PlanHash> for String {
    fn from(hash: PlanHash) -> String {
        hash.to_string()
    }
}

/// The specification of one container, complete enough to make it and to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    pub process: crate::name::ProcessName,
    pub slot: Slot,
    pub image_id: Digest,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The values of this version become variables too, delivered when the container is made.
    pub secrets_version: Option<u64>,
    pub publish: Option<Publish>,
    /// Where the agent asks for its health, as long as it runs.
    pub health_path: Option<String>,
    pub volumes: Vec<crate::spec::Volume>,
    pub networks: Vec<String>,
    pub memory_bytes: Option<u64>,
    pub cpu_milli: Option<u64>,
    pub user: Option<String>,
    pub stop_signal: Option<String>,
    pub stop_grace: Millis,
}

/// A port of a container on the host's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    pub address: String,
    pub host_port: u16,
    pub container_port: u16,
}

impl ContainerSpec {
    /// The digest by which a container that is already there is recognised as this one.
    pub fn digest(&self) -> Digest {
        let json = serde_json::to_string(self)
            .expect("a container's specification has only text, numbers and lists");
        Digest::of_content(json.as_bytes())
    }
}
