//! The actions: what a step does, with one variant for each kind. An agent has one executor for each.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::image::RegistryName;
use crate::plan::ContainerSpec;
use crate::plan::hba::HbaBlock;
use crate::release::{Migration, Release};
use crate::slot::Slot;
use crate::spec::{HealthSpec, TrafficSpec};
use crate::time::Millis;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Refuse what cannot work before anything changes.
    Preflight(Preflight),
    /// The image is on the host, under its id.
    PresentImage(PresentImage),
    /// PostgreSQL on this host lets in the environment's hosts that are named, and its own lines name no others.
    AdmitHosts(HbaBlock),
    TakeSnapshot(TakeSnapshot),
    Migrate(Migrate),
    /// The slot's containers run, made from exactly these specifications, and no others of that slot do.
    StartSlot {
        slot: Slot,
        containers: Vec<ContainerSpec>,
    },
    /// No container of the slot is there.
    StopSlot {
        slot: Slot,
    },
    /// Every target answers well several times in a row, asked from this host.
    CheckHealth(CheckHealth),
    /// nginx has this site. A site that differs costs a reload.
    InstallSite {
        site: Site,
        /// The text changed by hand that it may replace, and no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overwrites: Option<Digest>,
    },
    /// nginx has no site of this environment.
    RemoveSite,
    /// nginx has the site that it had before [`Action::InstallSite`] of this deployment.
    RestoreSite,
    /// nginx sends every new request to `to`, proved by answers through nginx.
    SwitchTraffic(SwitchTraffic),
    /// The workers of `stop` end, then those of `start` run.
    MoveWorkers {
        stop: Option<Slot>,
        start: Slot,
        containers: Vec<ContainerSpec>,
    },
    /// The slot stays healthy under traffic for this long.
    Bake {
        duration: Millis,
        check: CheckHealth,
    },
    /// No connection to the slot's ports is left, or the deadline has passed.
    DrainSlot {
        slot: Slot,
        ports: Vec<Endpoint>,
        deadline: Millis,
    },
    CleanUp(CleanUp),
}

/// The image of a release: what people call it, what runs, and by what a registry gives exactly that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresentImage {
    pub image: String,
    pub image_id: Digest,
    /// Nothing where the image comes from no registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
}

/// What must be so on a host before anything starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preflight {
    /// Docker answers, and these ports can be bound (or are ours).
    pub app: Option<PreflightApp>,
    /// nginx is there, its configuration is valid, the site's port is free or nginx's.
    pub lb: Option<Box<PreflightLb>>,
    /// PostgreSQL's tools are there and not older than the server, which answers.
    pub db: Option<PreflightDb>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreflightApp {
    pub image: String,
    pub image_id: Digest,
    /// Where it is not on the host yet, the registry must give it to this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    pub ports: Vec<Endpoint>,
    /// The slot whose containers may hold these ports.
    pub slot: Slot,
    pub networks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreflightLb {
    pub listen_port: u16,
    /// The files are there, and the key is the certificate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<SiteTls>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreflightDb {
    pub database: DatabaseRef,
    /// Where a snapshot of the database must fit, if one is planned.
    pub snapshot_directory: Option<String>,
}

/// A database by the name of its secret; the URL itself is asked for when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRef {
    pub url_from: String,
    pub secrets_version: u64,
}

/// The secret values of one version that something uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsUse {
    pub version: u64,
    pub names: SecretNames,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretNames {
    /// All, as containers have them.
    All,
    Only(BTreeSet<String>),
}

impl SecretNames {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl DatabaseRef {
    /// The value with its URL.
    pub fn secrets(&self) -> SecretsUse {
        SecretsUse::of_one(self.secrets_version, &self.url_from)
    }
}

impl SecretsUse {
    /// One value.
    pub fn of_one(version: u64, name: &str) -> Self {
        Self { version, names: SecretNames::Only([name.to_string()].into()) }
    }

    /// Whether who may have this may have `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.version == other.version
            && match &other.names {
                SecretNames::All => self.names == SecretNames::All,
                SecretNames::Only(names) => names.iter().all(|name| self.names.contains(name)),
            }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeSnapshot {
    pub database: DatabaseRef,
    pub directory: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    pub database: DatabaseRef,
    pub image_id: Digest,
    /// The folder in the image.
    pub path: String,
    /// The schema that the plan was made for.
    pub from: u64,
    /// What is to be applied, in order; the files' digests are checked.
    pub migrations: Vec<Migration>,
}

/// A host's address and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub address: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckHealth {
    pub slot: Slot,
    pub targets: Vec<Endpoint>,
    pub health: HealthSpec,
    /// The schema that the application must see, where there is a database.
    pub release: Box<Release>,
    /// Of the values that the application has. Nobody uses it any more; the digests of plans that are stored have it.
    pub secrets_version: Option<u64>,
    /// How many of the hosts asked may be without health at the end: it goes on without them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spare: u16,
}

fn is_zero(spare: &u16) -> bool {
    *spare == 0
}

impl CheckHealth {
    /// Whether the slot can do without `unhealthy`. Where nobody is healthy it is the release that is not.
    pub fn spares(&self, unhealthy: &[Endpoint]) -> bool {
        let missing: BTreeSet<&str> = unhealthy.iter().map(|endpoint| endpoint.address.as_str()).collect();
        let is_left = self.targets.iter().any(|target| !missing.contains(target.address.as_str()));
        missing.len() <= usize::from(self.spare) && is_left
    }
}

/// The environment's server in nginx, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    pub server_name: String,
    pub listen_port: u16,
    pub blue: Vec<Endpoint>,
    pub green: Vec<Endpoint>,
    pub body_limit: String,
    #[serde(default = "TrafficSpec::connect_timeout")]
    pub connect_timeout: Millis,
    #[serde(default = "TrafficSpec::send_timeout")]
    pub send_timeout: Millis,
    pub read_timeout: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<SiteTls>>,
}

/// TLS ends at nginx, with these files of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTls {
    pub certificate: String,
    pub key: String,
    /// Who asks at this port is sent on to the site's own.
    pub redirect_from: Option<u16>,
}

impl Site {
    /// Where nginx sends the requests of `slot`.
    pub fn endpoints_of(&self, slot: Slot) -> &[Endpoint] {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }

    /// The digest by which an installed site is recognised as this one.
    pub fn digest(&self) -> Digest {
        let json = serde_json::to_string(self).expect("a site has only text, numbers and lists");
        Digest::of_content(json.as_bytes())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchTraffic {
    pub to: Slot,
    /// Where nginx serves this environment, for the proof.
    pub server_name: String,
    pub listen_port: u16,
    pub health_path: String,
    /// The endpoints of `to`: the answers must come from them.
    pub endpoints: Vec<Endpoint>,
    /// As in [`CheckHealth`].
    pub secrets_version: Option<u64>,
}

/// What is kept; everything else of this environment goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanUp {
    /// The environment's images that a rollback may need.
    pub keep_images: Vec<Digest>,
    /// Images of this environment that were deployed once; those not kept are removed unless a container uses them.
    pub known_images: Vec<Digest>,
    pub snapshots: Option<KeepSnapshots>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepSnapshots {
    pub directory: String,
    pub keep: u32,
}

impl PresentImage {
    pub fn of(release: &Release) -> Self {
        Self {
            image: release.image.clone(),
            image_id: release.image_id.clone(),
            manifest: release.manifest.clone(),
        }
    }
}

impl Action {
    /// The kind, in a few words: in tables, spans and estimates.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preflight(_) => "preflight",
            Self::PresentImage(_) => "image",
            Self::AdmitHosts(_) => "pg_hba",
            Self::TakeSnapshot(_) => "snapshot",
            Self::Migrate(_) => "migrate",
            Self::StartSlot { .. } => "start",
            Self::StopSlot { .. } => "stop",
            Self::CheckHealth(_) => "health",
            Self::InstallSite { .. } => "site",
            Self::RemoveSite => "remove site",
            Self::RestoreSite => "restore site",
            Self::SwitchTraffic(_) => "switch",
            Self::MoveWorkers { .. } => "workers",
            Self::Bake { .. } => "bake",
            Self::DrainSlot { .. } => "drain",
            Self::CleanUp(_) => "clean up",
        }
    }

    /// Where requests can reach what it starts.
    pub fn starts(&self) -> Vec<Endpoint> {
        let Self::StartSlot { containers, .. } = self else { return Vec::new() };
        let published = containers.iter().filter_map(|container| container.publish.as_ref());
        published.map(|at| Endpoint { address: at.address.clone(), port: at.host_port }).collect()
    }

    /// Takes `endpoints`, all of one host, out of everything that it says.
    pub(super) fn forget(&mut self, endpoints: &BTreeSet<Endpoint>) {
        let forget = |there: &mut Vec<Endpoint>| there.retain(|endpoint| !endpoints.contains(endpoint));
        match self {
            Self::CheckHealth(check) | Self::Bake { check, .. } => {
                forget(&mut check.targets);
                check.spare = check.spare.saturating_sub(1);
            }
            Self::InstallSite { site, .. } => {
                forget(&mut site.blue);
                forget(&mut site.green);
            }
            Self::SwitchTraffic(switch) => forget(&mut switch.endpoints),
            // An excluded host stays declared, and is re-admitted: it stays admitted to the database.
            Self::AdmitHosts(_)
            | Self::Preflight(_)
            | Self::PresentImage(_)
            | Self::TakeSnapshot(_)
            | Self::Migrate(_)
            | Self::StartSlot { .. }
            | Self::StopSlot { .. }
            | Self::RemoveSite
            | Self::RestoreSite
            | Self::MoveWorkers { .. }
            | Self::DrainSlot { .. }
            | Self::CleanUp(_) => {}
        }
    }

    /// The digest of all that the action says: equal tokens with other content are refused by it.
    pub fn digest(&self) -> Digest {
        let json = serde_json::to_string(self).expect("an action has only text, numbers and lists");
        Digest::of_content(json.as_bytes())
    }

    /// The registry whose login the action may need, if any.
    pub fn registry(&self) -> Option<RegistryName> {
        let (image, manifest) = match self {
            Self::Preflight(Preflight { app: Some(app), .. }) => (&app.image, &app.manifest),
            Self::PresentImage(present) => (&present.image, &present.manifest),
            Self::Preflight(Preflight { app: None, .. })
            | Self::AdmitHosts(_)
            | Self::TakeSnapshot(_)
            | Self::Migrate(_)
            | Self::StartSlot { .. }
            | Self::StopSlot { .. }
            | Self::CheckHealth(_)
            | Self::InstallSite { .. }
            | Self::RemoveSite
            | Self::RestoreSite
            | Self::SwitchTraffic(_)
            | Self::MoveWorkers { .. }
            | Self::Bake { .. }
            | Self::DrainSlot { .. }
            | Self::CleanUp(_) => return None,
        };
        manifest.as_ref().map(|_| RegistryName::of_image(image))
    }

    /// Whether what it reports may quote the answers or the output of the application.
    pub fn asks_application(&self) -> bool {
        matches!(self, Self::CheckHealth(_) | Self::Bake { .. } | Self::SwitchTraffic(_))
    }

    /// The secret values that the action uses on its host. What it only shows is redacted by the coordinator, so an
    /// action of a load balancer uses none.
    pub fn secrets(&self) -> Option<SecretsUse> {
        match self {
            Self::Preflight(preflight) => preflight.db.as_ref().map(|db| db.database.secrets()),
            Self::TakeSnapshot(snapshot) => Some(snapshot.database.secrets()),
            Self::Migrate(migrate) => Some(migrate.database.secrets()),
            Self::StartSlot { containers, .. } | Self::MoveWorkers { containers, .. } => {
                let version = containers.iter().find_map(|container| container.secrets_version)?;
                Some(SecretsUse { version, names: SecretNames::All })
            }
            Self::CheckHealth(_)
            | Self::Bake { .. }
            | Self::SwitchTraffic(_)
            | Self::PresentImage(_)
            | Self::AdmitHosts(_)
            | Self::StopSlot { .. }
            | Self::InstallSite { .. }
            | Self::RemoveSite
            | Self::RestoreSite
            | Self::DrainSlot { .. }
            | Self::CleanUp(_) => None,
        }
    }
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut text = self.address.clone();
        text.push(':');
        text.push_str(&self.port.to_string());
        f.pad(&text)
    }
}
