//! What is really there: containers, nginx, the database. Only executors and faults change it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::health::Health;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::name::ProcessName;
use lockstep_core::plan::ContainerSpec;
use lockstep_core::plan::action::{Endpoint, Site};
use lockstep_core::plan::hba::HbaLine;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState};
use lockstep_core::release::{Compatibility, Migration};
use lockstep_core::slot::Slot;

use crate::schedule::Release;

/// An instance that never becomes healthy does so at this time.
pub const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheck {
    Passed,
    NotPassed,
}

#[derive(Debug, Clone)]
pub struct Container {
    pub slot: Slot,
    pub process: ProcessName,
    pub spec: Digest,
    pub image: Digest,
    pub deployment: DeploymentId,
    pub endpoint: Option<Endpoint>,
    /// Whether its engine is to keep it running.
    pub is_started: bool,
    /// From when on it answers well, on the simulation's clock.
    pub healthy_from: u64,
    /// Until when it is down, because it ended and its engine has not started it again.
    pub down_until: u64,
    /// Whether it passed a health check since it was made.
    pub check: HealthCheck,
}

impl Container {
    pub fn is_web(&self) -> bool {
        self.endpoint.is_some()
    }

    pub fn is_healthy(&self, now: u64) -> bool {
        self.is_started && now >= self.healthy_from && now >= self.down_until
    }

    /// As an agent sees it.
    pub fn seen(&self, now: u64) -> ContainerObservation {
        let is_up = self.is_started && now >= self.down_until;
        ContainerObservation {
            name: format!("{}-{}", self.slot, self.process),
            slot: self.slot,
            process: self.process.clone(),
            deployment: self.deployment.clone(),
            spec: self.spec.clone(),
            image_id: self.image.clone(),
            running: if is_up { ContainerRunState::Yes } else { ContainerRunState::Exited(137) },
            health: if self.is_healthy(now) { Health::Healthy } else { Health::Unhealthy },
            restarts: None,
        }
    }
}

/// nginx of one environment, with the switch that is a file.
#[derive(Debug, Clone, Default)]
pub struct Nginx {
    pub site: Option<Site>,
    /// What was there before the last deployment that installed a site, for its undo.
    pub previous: Option<PreviousSite>,
    pub points_to_green: bool,
}

/// The site before that of a deployment. Nobody else may restore it.
#[derive(Debug, Clone)]
pub struct PreviousSite {
    pub deployment: DeploymentId,
    pub site: Option<Site>,
    points_to_green: bool,
}

impl Nginx {
    /// Installs a site; what was there is saved once for a deployment.
    pub fn install(&mut self, deployment: &DeploymentId, wanted: &Site) {
        if self.site.as_ref() == Some(wanted) {
            return;
        }
        let before = self.site.replace(wanted.clone());
        if self.previous_of(deployment).is_none() {
            self.save(deployment, before);
        }
    }

    /// Removes the site, so that the undo of the deployment can restore it. Who installs one again begins with blue.
    pub fn take_down(&mut self, deployment: &DeploymentId) {
        let before = self.site.take();
        if self.previous_of(deployment).is_none() {
            self.save(deployment, before);
        }
        self.points_to_green = false;
    }

    fn save(&mut self, deployment: &DeploymentId, site: Option<Site>) {
        let (deployment, points_to_green) = (deployment.clone(), self.points_to_green);
        self.previous = Some(PreviousSite { deployment, site, points_to_green });
    }

    /// Restores what was there before the deployment installed its own, if it came that far.
    pub fn restore(&mut self, deployment: &DeploymentId) {
        let Some(previous) = self.previous_of(deployment).cloned() else { return };
        if self.site.is_none() {
            self.points_to_green = previous.points_to_green;
        }
        self.site = previous.site;
    }

    fn previous_of(&self, deployment: &DeploymentId) -> Option<&PreviousSite> {
        self.previous.as_ref().filter(|previous| previous.deployment == *deployment)
    }

    /// Where requests go.
    pub fn target(&self) -> Option<Slot> {
        self.site.as_ref().map(|_| if self.points_to_green { Slot::Green } else { Slot::Blue })
    }

    /// The instances to which requests go.
    pub fn instances(&self) -> &[Endpoint] {
        match (&self.site, self.points_to_green) {
            (None, _) => &[],
            (Some(site), true) => &site.green,
            (Some(site), false) => &site.blue,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Database {
    pub version: u64,
    /// Every migration in the order in which it was applied.
    pub applied: Vec<u64>,
    /// Verified ones, by the deployment that took them.
    pub snapshots: BTreeSet<DeploymentId>,
    /// Of its own host.
    pub address: &'static str,
    /// Whom it lets in, beside its own host.
    pub lines: Vec<HbaLine>,
}

/// An image that an operator can name.
#[derive(Debug, Clone)]
pub struct Image {
    pub name: String,
    pub id: Digest,
    pub release: Release,
    pub migrations: Vec<Migration>,
}

impl Image {
    /// The image of the `number`th release; every other one brings a migration.
    pub fn new(number: usize, release: Release) -> Self {
        let name = format!("notes:{number}");
        let versions = u64::try_from(number / 2 + 1).unwrap_or(1);
        let migrations = (1..=versions).map(|version| Migration {
            version,
            name: format!("m{version}"),
            digest: Digest::of_content(&version.to_be_bytes()),
            compatibility: Compatibility::Expands,
        });
        Self { id: Digest::of_content(name.as_bytes()), migrations: migrations.collect(), release, name }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Reality {
    /// Of each host, by its number.
    pub containers: Vec<Vec<Container>>,
    pub nginx: Nginx,
    pub database: Database,
    pub images: BTreeMap<Digest, Image>,
}

impl Reality {
    pub fn image_named(&self, name: &str) -> Option<&Image> {
        self.images.values().find(|image| image.name == name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().flatten()
    }

    pub fn of_slot(&self, slot: Slot) -> impl Iterator<Item = &Container> {
        self.all().filter(move |container| container.slot == slot)
    }

    pub fn find(&self, host: usize, spec: &ContainerSpec) -> Option<usize> {
        let named = |there: &Container| there.slot == spec.slot && there.process == spec.process;
        self.containers[host].iter().position(named)
    }

    /// The instances behind these endpoints; fewer when some are not there.
    pub fn at<'a>(&'a self, endpoints: &'a [Endpoint]) -> impl Iterator<Item = &'a Container> {
        self.all().filter(|there| there.endpoint.as_ref().is_some_and(|own| endpoints.contains(own)))
    }

    pub fn are_healthy(&self, endpoints: &[Endpoint], now: u64) -> bool {
        let healthy = self.at(endpoints).filter(|there| there.is_healthy(now));
        healthy.count() == endpoints.len()
    }

    /// Those that do not answer well.
    pub fn unhealthy(&self, endpoints: &[Endpoint], now: u64) -> Vec<Endpoint> {
        let is_healthy = |endpoint: &Endpoint| self.are_healthy(std::slice::from_ref(endpoint), now);
        endpoints.iter().filter(|endpoint| !is_healthy(endpoint)).cloned().collect()
    }

    /// Whether one of them has ended.
    pub fn has_ended(&self, endpoints: &[Endpoint], now: u64) -> bool {
        self.at(endpoints).any(|there| there.is_started && now < there.down_until)
    }
}
