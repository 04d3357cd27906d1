//! The observed state: what an agent finds on its host.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::id::{DeploymentId, Digest};
use crate::name::{HostName, ProcessName};
use crate::plan::hba::{DatabaseRole, HbaLine};
use crate::release::Schema;
use crate::slot::Slot;

/// What an agent sees on its host when asked, without any effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// `docker` → `20.10.24`, `nginx` → …, `pg_dump` → …; a tool that is not there is not here.
    pub tools: BTreeMap<String, String>,
    pub image: Option<ImageObservation>,
    /// What a registry has under the name that was looked for, where one was asked and answered. Then `image` is
    /// of this manifest, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// `None` where there is no database, or it did not answer: then `problems` says why.
    pub schema: Option<Schema>,
    /// What `schema_migrations` is where it is another tool's; then `schema` is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_schema: Option<String>,
    /// Which hosts PostgreSQL admits; `None` if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<HbaObservation>,
    /// The digest of the [`Site`](crate::plan::action::Site) that nginx has, where there is one and nobody changed it by hand.
    pub site: Option<Digest>,
    /// What somebody changed by hand in nginx's site, which is not overwritten unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_changed: Option<SiteChange>,
    /// What nginx answers for the site that is installed, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_served: Option<String>,
    /// The slot that nginx points at.
    pub traffic: Option<Slot>,
    pub containers: Vec<ContainerObservation>,
    pub disk_free_bytes: Option<u64>,
    /// The ports among [`SLOT_PORTS`](super::ports::SLOT_PORTS) on which something listens that is no container of this
    /// environment.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports_in_use: BTreeSet<u16>,
    /// What could not be seen, and why.
    pub problems: Vec<String>,
}

/// Which hosts PostgreSQL admits, by its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HbaObservation {
    /// The database is one of this host's PostgreSQL, which can be asked and told.
    Here(LocalHba),
    /// Not managed by Lockstep, for this reason.
    NotOurs { because: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalHba {
    pub port: u16,
    /// The role of the application, and its database.
    pub role: DatabaseRole,
    /// The lines of this environment.
    pub lines: Vec<HbaLine>,
    /// Of the addresses that were asked about, those that are let in, by whosever line.
    pub admitted: BTreeSet<String>,
}

/// What stands where the site should be, against what was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteChange {
    /// The site that the installed text was made from; `None` if none was installed.
    pub installed: Option<Digest>,
    /// Of the text that is there.
    pub there: Digest,
    pub added: u32,
    pub removed: u32,
    /// Unified, from what was installed to what is there, without the secret of the probes.
    pub diff: String,
}

impl fmt::Display for SiteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lines: {} added, {} removed", self.added, self.removed)
    }
}

/// A change by hand, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteChangeOn {
    pub host: HostName,
    pub change: SiteChange,
}

/// An image as the host's engine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageObservation {
    pub id: Digest,
    /// By which the registry of its name has it, as the engine remembers; nothing for an image that came from none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    pub commit: Option<String>,
    pub migrations: Vec<crate::release::Migration>,
    pub size_bytes: u64,
}

/// A container that carries our labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerObservation {
    pub name: String,
    pub slot: Slot,
    pub process: ProcessName,
    pub deployment: DeploymentId,
    /// The digest of the specification that it was made from.
    pub spec: Digest,
    pub image_id: Digest,
    pub running: ContainerRunState,
    pub health: Health,
    /// Where the engine has restarted it within the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<Restarts>,
}

/// The exit code of a container's program, with what it means where that is known.
pub fn exit_code_in_words(code: i64) -> String {
    match code {
        // 128 + SIGKILL. The engine does not always see that it was for memory.
        137 => "exit code 137: it was killed, as happens when its memory is used up".to_owned(),
        code => format!("exit code {code}"),
    }
}

/// How often the engine restarted a container because its program had ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// Since it was created.
    pub count: u64,
    /// With which the program ended last. `None` if the engine does not remember it.
    pub exit_code: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerRunState {
    Yes,
    /// It is there and has ended, with this code.
    Exited(i64),
}
