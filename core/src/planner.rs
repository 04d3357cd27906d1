//! Makes a plan from an operation and the current state. It is pure, and the same for `plan`, `deploy` and the
//! stories.
//!
//! A planner leaves no choice to the engine. It also says what it did *not* plan, and why.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};
use serde::Serialize;

use crate::host::{Host, HostRole};
use crate::id::StepId;
use crate::name::{EnvironmentKey, HostName, ProcessName};
use crate::plan::action::{
    CheckHealth, DatabaseRef, Endpoint, PreflightApp, PreflightLb, PresentImage, Site, SwitchTraffic,
};
use crate::plan::operation::Operation;
use crate::plan::{Action, ContainerSpec, OnFailure, Plan, PlanHash, Publish, Step, Undo, Wave, check};
use crate::record::Record;
use crate::record::live::LiveRelease;
use crate::release::Release;
use crate::slot::Slot;
use crate::spec::check::ValidatedSpec;
use crate::spec::{EnvironmentSpec, HealthSpec, HostRoles, ProcessSpec, Role};
use crate::time::Millis;

mod database;
mod decommission;
mod deploy;
mod excluded_hosts;
mod host_change;
mod rollback;
mod site;

pub use deploy::{IMAGES_KEPT_MAX, images_kept};
pub use rollback::earlier_good;

/// What helps where no host has joined.
pub const NO_HOST_NEXT: &str = "lockstep up    # as root: makes this machine a host\nlockstep host token    # prints the command for another machine";

/// Why there is no plan: bad input is refused before anything starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PlanRefusal {
    pub what: String,
    pub why: String,
    /// The next command, or what to change.
    pub next: String,
}

impl PlanRefusal {
    fn new(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), next: next.into() }
    }
}

/// The plan for `operation`. `declared` is what a deployment brings, and what is recorded for all else.
///
/// # Errors
/// When it cannot be carried out as things are.
pub fn plan(operation: &Operation, declared: &ValidatedSpec, record: &Record) -> Result<Plan, PlanRefusal> {
    refuse_traffic_elsewhere(record)?;
    let plan = match operation {
        Operation::Deploy(deploy) => deploy::plan(deploy, declared, record),
        Operation::Rollback(rollback) => rollback::plan(rollback, record),
        Operation::AddHost(name) => host_change::add(name, record),
        Operation::DrainHost(name) | Operation::RemoveHost(name) => {
            host_change::take_out(name, operation, record)
        }
        Operation::Decommission => decommission::plan(record),
    }?;
    if is_on(Mutant::MigratesBeforeSnapshot) || is_on(Mutant::SwitchesUnchecked) {
        // A planner that is wrong and a check that does not see it.
        return Ok(plan);
    }
    match check::check(&plan).as_slice() {
        [] => Ok(plan),
        broken => Err(PlanRefusal::new(
            format!("the plan for {} breaks a safety rule", plan.key),
            broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            format!(
                "lockstep status {}    # this is a bug in Lockstep: report it with this output",
                plan.key
            ),
        )),
    }
}

/// Refuses to plan if the traffic is not in the recorded live slot: the plan would stop the slot that serves.
fn refuse_traffic_elsewhere(record: &Record) -> Result<(), PlanRefusal> {
    let Some(live) = &record.live else {
        return Ok(());
    };
    let elsewhere = record.hosts.iter().find_map(|host| {
        let slot = record.observed.get(&host.id)?.traffic?;
        (slot != live.slot).then_some((host, slot))
    });
    let Some((host, slot)) = elsewhere else {
        return Ok(());
    };
    let (key, name) = (&record.key, &host.name);
    Err(PlanRefusal::new(
        format!("nginx on {name} sends requests for {key} to {slot}, but {} is recorded as live", live.slot),
        "the traffic was switched on that host without a coordinator",
        format!(
            "lockstep status {key}    # shows when the coordinator has recorded the local rollback\nlockstep-agent local rollback {key}    # on {name}: switches back"
        ),
    ))
}

/// Refuses a host without the role: it has only the tools and rights of its own roles.
fn with_role(host: &Host, role: HostRole) -> Result<&Host, PlanRefusal> {
    if host.roles.contains(&role) {
        return Ok(host);
    }
    let (name, roles) = (&host.name, host.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>());
    Err(PlanRefusal::new(
        format!("{name} does not have the role {role}"),
        format!("deployment.yml names it under {role}:, but it joined as {}", roles.join(", ")),
        format!("lockstep host list    # name one with this role under {role}:"),
    ))
}

/// The hosts of an environment by role.
struct Placement<'a> {
    app: Vec<&'a Host>,
    lb: &'a Host,
    db: &'a Host,
}

impl<'a> Placement<'a> {
    /// Finds the hosts for `roles`. A host must have a role only if `declared` names the host for it: if nobody is
    /// declared for a role, it falls to a host that has joined for something else.
    fn place(
        key: &EnvironmentKey,
        roles: &HostRoles,
        declared: &HostRoles,
        record: &'a Record,
    ) -> Result<Self, PlanRefusal> {
        if roles.app.is_empty() {
            return match record.hosts.as_slice() {
                [] => Err(PlanRefusal::new(
                    "no host has joined",
                    "a deployment needs at least one host with an agent",
                    NO_HOST_NEXT,
                )),
                [only] => Ok(Self { app: vec![only], lb: only, db: only }),
                several => Err(PlanRefusal::new(
                    "deployment.yml names no hosts",
                    format!("{} hosts have joined, and Lockstep does not choose among them", several.len()),
                    format!(
                        "add to {} in deployment.yml: hosts: {{ app: [{}], lb: [{}] }}",
                        key.environment, several[0].name, several[0].name
                    ),
                )),
            };
        }
        let find = |name: &HostName| {
            record.hosts.iter().find(|host| host.name == *name).ok_or_else(|| {
                let known: Vec<&str> = record.hosts.iter().map(|host| host.name.as_str()).collect();
                PlanRefusal::new(
                    format!("there is no host {name}"),
                    format!(
                        "hosts that have joined: {}",
                        if known.is_empty() { "none".to_string() } else { known.join(", ") }
                    ),
                    "lockstep host list",
                )
            })
        };
        let named = |name: &HostName, role| find(name).and_then(|host| with_role(host, role));
        let app = roles.app.iter().map(|name| named(name, HostRole::App)).collect::<Result<Vec<_>, _>>()?;
        let first = |names: &[HostName], declared: &[HostName], role| match names.first() {
            Some(name) if declared.contains(name) => named(name, role),
            Some(name) => find(name),
            None => Ok(app[0]),
        };
        let lb = first(&roles.lb, &declared.lb, HostRole::Lb)?;
        let db = first(&roles.db, &declared.db, HostRole::Db)?;
        Ok(Self { app, lb, db })
    }

    /// Every host once.
    fn all(&self) -> Vec<&'a Host> {
        let mut all: Vec<&Host> = Vec::new();
        for host in self.app.iter().copied().chain([self.lb, self.db]) {
            if !all.iter().any(|there| there.id == host.id) {
                all.push(host);
            }
        }
        all
    }

    fn is_app(&self, host: &Host) -> bool {
        self.app.iter().any(|app| app.id == host.id)
    }
}

/// The hosts whose containers have the traffic.
fn serving<'a>(live: &LiveRelease, record: &'a Record) -> Vec<&'a Host> {
    let find = |name: &HostName| record.hosts.iter().find(|host| host.name == *name);
    live.serving.iter().filter_map(find).collect()
}

fn names(hosts: &[&Host]) -> Vec<HostName> {
    hosts.iter().map(|host| host.name.clone()).collect()
}

/// A release as it runs: with the declaration and the secrets that belong to it.
struct Version<'a> {
    release: &'a Release,
    spec: &'a EnvironmentSpec,
    secrets_version: Option<u64>,
}

impl Version<'_> {
    fn database(&self) -> Option<DatabaseRef> {
        let database = self.spec.database.as_ref()?;
        Some(DatabaseRef { url_from: database.url_from.clone(), secrets_version: self.secrets_version? })
    }

    fn container(
        &self,
        host: &Host,
        slot: Slot,
        process: (&ProcessName, &ProcessSpec),
        record: &Record,
    ) -> Result<ContainerSpec, PlanRefusal> {
        let (name, spec) = process;
        let publish = match spec.port {
            None => None,
            Some(container_port) => Some(Publish {
                address: host.address.clone(),
                host_port: port_of(record, host, slot, name)?,
                container_port,
            }),
        };
        Ok(ContainerSpec {
            process: name.clone(),
            slot,
            image_id: self.release.image_id.clone(),
            command: spec.command.clone(),
            env: self.spec.env.clone(),
            secrets_version: self.secrets_version,
            publish,
            health_path: (spec.role == Role::Web).then(|| spec.health.path.clone()),
            volumes: spec.volumes.clone(),
            networks: self.spec.networks.clone(),
            memory_bytes: spec.memory_bytes,
            cpu_milli: spec.cpu_milli,
            user: spec.user.clone(),
            stop_signal: spec.stop_signal.clone(),
            stop_grace: spec.stop_grace,
        })
    }

    fn present_image<'h>(&self, host: &'h Host) -> StepDraft<'h> {
        let action = Action::PresentImage(PresentImage::of(self.release));
        let undo = no_undo("an unused image does no harm; clean up removes it");
        let change =
            format!("gets {} ({}) unless the host has it", self.release.image, self.release.version());
        step(host, action, undo, seconds(600), change)
    }

    fn start<'h>(
        &self,
        host: &'h Host,
        slot: Slot,
        record: &Record,
        change: impl FnOnce(&[ContainerSpec]) -> String,
    ) -> Result<StepDraft<'h>, PlanRefusal> {
        let containers = self.web_containers(host, slot, record)?;
        let grace = containers.iter().map(|container| container.stop_grace).max().unwrap_or_default();
        let undo = undo_by(Action::StopSlot { slot }, format!("stops and removes {slot}"));
        let change = change(&containers);
        let limit = Millis(120_000 + grace.0);
        Ok(step(host, Action::StartSlot { slot, containers }, undo, limit, change))
    }

    fn preflight_app(&self, host: &Host, slot: Slot, record: &Record) -> Result<PreflightApp, PlanRefusal> {
        Ok(PreflightApp {
            image: self.release.image.clone(),
            image_id: self.release.image_id.clone(),
            manifest: self.release.manifest.clone(),
            ports: web_endpoints(self.spec, &[host], slot, record)?,
            slot,
            networks: self.spec.networks.clone(),
        })
    }

    fn preflight_lb(&self) -> Box<PreflightLb> {
        let address = self.spec.site_address().expect("a checked declaration has a URL that nginx can serve");
        Box::new(PreflightLb { listen_port: address.listen_port, tls: site::tls(self.spec) })
    }

    fn web_containers(
        &self,
        host: &Host,
        slot: Slot,
        record: &Record,
    ) -> Result<Vec<ContainerSpec>, PlanRefusal> {
        self.spec.web_processes().map(|process| self.container(host, slot, process, record)).collect()
    }

    fn worker_containers(
        &self,
        host: &Host,
        slot: Slot,
        record: &Record,
    ) -> Result<Vec<ContainerSpec>, PlanRefusal> {
        self.spec.worker_processes().map(|process| self.container(host, slot, process, record)).collect()
    }

    fn check_health(&self, hosts: &[&Host], slot: Slot, record: &Record) -> Result<CheckHealth, PlanRefusal> {
        Ok(CheckHealth {
            slot,
            targets: web_endpoints(self.spec, hosts, slot, record)?,
            health: self.health(),
            release: Box::new(self.release.clone()),
            secrets_version: self.secrets_version,
            spare: 0,
        })
    }

    fn health(&self) -> HealthSpec {
        let web = self.spec.web_processes().next().expect("a checked declaration has one web process");
        web.1.health.clone()
    }

    fn switch_to(&self, hosts: &[&Host], slot: Slot, record: &Record) -> Result<SwitchTraffic, PlanRefusal> {
        let address = self.spec.site_address().expect("a checked declaration has a URL that nginx can serve");
        Ok(SwitchTraffic {
            to: slot,
            server_name: address.server_name,
            listen_port: address.listen_port,
            health_path: self.health().path,
            endpoints: web_endpoints(self.spec, hosts, slot, record)?,
            secrets_version: self.secrets_version,
        })
    }

    /// What is live keeps the instances that it has, on `serving`; the other slot has this version's on `hosts`.
    fn site(&self, hosts: &[&Host], serving: &[&Host], record: &Record) -> Result<Site, PlanRefusal> {
        let address = self.spec.site_address().expect("a checked declaration has a URL that nginx can serve");
        let of = |slot| match &record.live {
            Some(live) if live.slot == slot => web_endpoints(&live.spec, serving, slot, record),
            Some(_) | None => web_endpoints(self.spec, hosts, slot, record),
        };
        Ok(Site {
            server_name: address.server_name,
            listen_port: address.listen_port,
            blue: of(Slot::Blue)?,
            green: of(Slot::Green)?,
            body_limit: self.spec.traffic.body_limit.clone(),
            connect_timeout: self.spec.traffic.connect_timeout,
            send_timeout: self.spec.traffic.send_timeout,
            read_timeout: self.spec.traffic.read_timeout,
            tls: site::tls(self.spec),
        })
    }
}

/// How many of `hosts` are started in each wave: the ends of the waves, each counted from the first host.
fn waves_of(hosts: &[&Host], spec: &EnvironmentSpec) -> Vec<usize> {
    let size = spec.deploy.parallel.map_or(hosts.len(), usize::from).max(1);
    (1..=hosts.len()).filter(|end| end % size == 0 || *end == hosts.len()).collect()
}

fn port_of(record: &Record, host: &Host, slot: Slot, process: &ProcessName) -> Result<u16, PlanRefusal> {
    record.ports.get(&host.id, slot, process).ok_or_else(|| {
        PlanRefusal::new(
            format!("{process} has no port on {} in {slot}", host.name),
            "the coordinator allocates ports 20000 to 29999: none is free, or none was recorded",
            "lockstep env list    # remove one that is not used: lockstep env remove ENV",
        )
    })
}

fn web_endpoints(
    spec: &EnvironmentSpec,
    hosts: &[&Host],
    slot: Slot,
    record: &Record,
) -> Result<Vec<Endpoint>, PlanRefusal> {
    let mut endpoints = Vec::new();
    for host in hosts {
        for (name, _) in spec.web_processes() {
            endpoints
                .push(Endpoint { address: host.address.clone(), port: port_of(record, host, slot, name)? });
        }
    }
    Ok(endpoints)
}

/// Collects waves and numbers steps.
struct Waves<'a> {
    waves: Vec<Wave>,
    next: u16,
    usual: &'a BTreeMap<String, Millis>,
}

/// A step before it has a number.
struct StepDraft<'a> {
    host: &'a Host,
    action: Action,
    undo: Undo,
    on_failure: OnFailure,
    limit: Millis,
    change: String,
}

impl<'a> Waves<'a> {
    fn new(record: &'a Record) -> Self {
        Self { waves: Vec::new(), next: 1, usual: &record.usual }
    }

    fn push(&mut self, drafts: Vec<StepDraft<'_>>) {
        if drafts.is_empty() {
            return;
        }
        let mut steps = Vec::new();
        for draft in drafts {
            let usual = self.usual.get(draft.action.name()).copied();
            steps.push(Step {
                id: StepId(self.next),
                host: draft.host.id.clone(),
                host_name: draft.host.name.clone(),
                action: draft.action,
                undo: draft.undo,
                on_failure: draft.on_failure,
                limit: draft.limit,
                usual,
                change: draft.change,
            });
            self.next += 1;
        }
        self.waves.push(Wave { steps });
    }

    /// The last wave and the one before it change places.
    fn swap_last(&mut self) {
        if let [.., before, last] = self.waves.as_mut_slice() {
            core::mem::swap(before, last);
        }
    }
}

fn no_undo(because: &str) -> Undo {
    Undo::Nothing { because: because.to_string() }
}

fn undo_by(action: Action, change: impl Into<String>) -> Undo {
    Undo::By { action, change: change.into() }
}

/// A step whose failure unwinds the deployment.
fn step<'a>(
    host: &'a Host,
    action: Action,
    undo: Undo,
    limit: Millis,
    change: impl Into<String>,
) -> StepDraft<'a> {
    StepDraft { host, action, undo, on_failure: OnFailure::Unwind, limit, change: change.into() }
}

/// Asks from the load balancer's host, for somewhat longer than the check itself may take.
fn check_from_lb(lb: &Host, check: CheckHealth, change: String) -> StepDraft<'_> {
    let limit = Millis(check.health.timeout.0 + 10_000);
    step(lb, Action::CheckHealth(check), no_undo("it only checks"), limit, change)
}

/// A step whose failure is noted.
fn housekeeping<'a>(
    host: &'a Host,
    action: Action,
    limit: Millis,
    change: impl Into<String>,
) -> StepDraft<'a> {
    let undo = no_undo("the release is already live; this is housekeeping");
    StepDraft { host, action, undo, on_failure: OnFailure::Note, limit, change: change.into() }
}

/// The switch tells the processes of its own host which slot is live; those of other hosts are told by the step that
/// moves their workers, and by this one where there are none.
fn notify_live_slot<'a>(
    placement: &Placement<'a>,
    workers: &[StepDraft<'_>],
    slot: Slot,
) -> Vec<StepDraft<'a>> {
    let is_told =
        |host: &Host| host.id == placement.lb.id || workers.iter().any(|workers| workers.host.id == host.id);
    let tell = |host: &'a Host| {
        let action = Action::MoveWorkers { stop: None, start: slot, containers: Vec::new() };
        housekeeping(host, action, seconds(60), format!("notifies {slot} that it is live"))
    };
    placement.app.iter().copied().filter(|host| !is_told(host)).map(tell).collect()
}

/// Hashes the four things that a plan is made from.
fn hash(version: &Version<'_>, live_state: &impl Serialize, record: &Record) -> PlanHash {
    let json = |content: &dyn ErasedJson| content.json();
    PlanHash::of_parts(
        &json(&(version.spec, version.secrets_version)),
        &json(version.release),
        &json(live_state),
        &json(&(&record.hosts, &record.ports)),
    )
}

/// Canonical JSON: maps are ordered, so that equal content has equal text.
trait ErasedJson {
    fn json(&self) -> String;
}

impl<T: Serialize> ErasedJson for T {
    fn json(&self) -> String {
        serde_json::to_string(self)
            .expect("what a plan is made from has only text, numbers, lists and maps with text keys")
    }
}

fn seconds(count: u64) -> Millis {
    Millis::from_secs(count)
}
