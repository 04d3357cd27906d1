//! Plans to add, drain or remove one app host. The live release stays live, and only the nginx site changes.
//!
//! What must stay true: a host gets requests only after a health check from the load balancer, and its containers stop
//! only after it gets none. The other app hosts are not asked, because they may be offline.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::host::{Host, HostRole};
use crate::name::HostName;
use crate::plan::action::Preflight;
use crate::plan::hba::HbaBlock;
use crate::plan::operation::Operation;
use crate::plan::{Action, ContainerSpec, Omission, Plan};
use crate::planner::database::HbaRequest;
use crate::planner::deploy::{started, version_of};
use crate::planner::site;
use crate::planner::{
    Placement, PlanRefusal, StepDraft, Waves, check_from_lb, hash, housekeeping, names, no_undo, seconds,
    step, undo_by, web_endpoints,
};
use crate::record::Record;
use crate::record::live::LiveRelease;
use crate::spec::check::check;
use crate::spec::{EnvironmentSpec, HostRoles};
use crate::time::Millis;

/// What is live runs on `name` too.
pub(super) fn add(name: &HostName, record: &Record) -> Result<Plan, PlanRefusal> {
    let live = live(record)?;
    let mut roles = live.roles();
    if roles.app.contains(name) {
        return Err(PlanRefusal::new(
            format!("{name} already serves {}", record.key),
            "nginx sends requests to it",
            format!("lockstep status {}", record.key),
        ));
    }
    roles.app.push(name.clone());
    let placement = Placement::place(&record.key, &roles, &live.spec.hosts, record)?;
    let host = placement.app.last().copied().expect("it was pushed a few lines ago");
    let changing = HostChangePlanner { live, host, placement, record };
    changing.add(Operation::AddHost(name.clone()))
}

/// `name` gets no traffic and runs nothing of what is live.
pub(super) fn take_out(name: &HostName, operation: &Operation, record: &Record) -> Result<Plan, PlanRefusal> {
    let live = live(record)?;
    let mut roles = live.roles();
    let serves = roles.app.contains(name);
    let is_to_come_back = live.excluded.contains(name);
    let is_drained = live.is_drained(name) && matches!(operation, Operation::RemoveHost(_));
    if !(serves || is_drained || is_to_come_back) {
        return Err(PlanRefusal::new(
            format!("{name} does not serve {}", record.key),
            format!("nginx sends requests to: {}", list(&roles.app)),
            format!("lockstep status {}", record.key),
        ));
    }
    roles.app.retain(|there| there != name);
    if roles.app.is_empty() {
        return Err(PlanRefusal::new(
            format!("{name} is the only host that serves {}", record.key),
            "no app host would be left to serve requests",
            format!(
                "lockstep host list    # first add another of them: lockstep host add {} HOST",
                record.key
            ),
        ));
    }
    let placement = Placement::place(&record.key, &roles, &live.spec.hosts, record)?;
    let host = record.hosts.iter().find(|host| host.name == *name).ok_or_else(|| {
        PlanRefusal::new(
            format!("there is no host {name}"),
            "no host of this name has joined",
            "lockstep host list",
        )
    })?;
    let changing = HostChangePlanner { live, host, placement, record };
    changing.take_out(operation.clone())
}

fn live(record: &Record) -> Result<&LiveRelease, PlanRefusal> {
    record.live.as_ref().ok_or_else(|| {
        PlanRefusal::new(
            format!("nothing is live in {}", record.key),
            "the first deployment takes its hosts from deployment.yml",
            format!("lockstep deploy {} --image IMAGE", record.key),
        )
    })
}

fn list(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

struct HostChangePlanner<'a> {
    live: &'a LiveRelease,
    /// The host that comes or goes.
    host: &'a Host,
    /// With the app hosts that serve at the end.
    placement: Placement<'a>,
    record: &'a Record,
}

/// What a plan says beside its steps.
#[derive(Default)]
struct Notes {
    omitted: Vec<Omission>,
    warnings: Vec<String>,
    /// The database's lines for whom it lets in, where that changes.
    admitted: Option<HbaBlock>,
}

impl HostChangePlanner<'_> {
    fn add(&self, operation: Operation) -> Result<Plan, PlanRefusal> {
        let Self { live, host, record, .. } = self;
        let (version, slot) = (version_of(live), live.slot);
        let start = |containers: &[ContainerSpec]| started(&version, containers, record, host);
        let mut waves = Waves::new(record);
        let mut omitted = Vec::new();
        waves.push(self.preflight()?);
        let admitted = self.asked().admit(&mut waves, &mut omitted);
        waves.push(vec![version.present_image(host)]);
        waves.push(vec![version.start(host, slot, record, start)?]);
        waves.push(vec![self.health()?]);
        waves.push(vec![self.site()?]);
        waves.push(vec![self.workers()?]);
        let mut hosts = self.declared();
        if !hosts.app.contains(&host.name) {
            hosts.app.push(host.name.clone());
        }
        let warnings = vec![format!(
            "only the live release is started on {}: a rollback starts the earlier release there first, which takes longer than a switch",
            host.name
        )];
        self.plan(operation, hosts, waves, Notes { omitted, warnings, admitted })
    }

    /// With the one host that comes: those that serve are let in already.
    fn asked(&self) -> HbaRequest<'_> {
        let app = core::slice::from_ref(&self.host);
        HbaRequest { spec: &self.live.spec, db: self.placement.db, app, record: self.record }
    }

    fn take_out(&self, operation: Operation) -> Result<Plan, PlanRefusal> {
        let Self { live, host, record, .. } = self;
        let mut waves = Waves::new(record);
        waves.push(vec![self.site()?]);
        waves.push(self.drain()?.into_iter().collect());
        let mut notes = Vec::new();
        let is_removal = matches!(operation, Operation::RemoveHost(_));
        let stops = if is_removal { vec![live.slot, live.slot.other()] } else { vec![live.slot] };
        if record.observed.contains_key(&host.id) {
            for slot in stops {
                let change = format!("stops and removes {slot}");
                let grace = live.spec.processes.values().map(|process| process.stop_grace.0).sum::<u64>();
                let action = Action::StopSlot { slot };
                waves.push(vec![housekeeping(host, action, Millis(60_000 + grace), change)]);
            }
        } else {
            notes.push(format!(
                "{} does not answer: its containers are not stopped, and get no requests",
                host.name
            ));
        }
        let mut hosts = self.declared();
        if is_removal {
            hosts.app.retain(|there| *there != host.name);
            match self.asked().remove_line(host) {
                Ok(step) => waves.push(step.into_iter().collect()),
                Err(unknown) => notes.push(unknown),
            }
        }
        self.plan(operation, hosts, waves, Notes { warnings: notes, ..Notes::default() })
    }

    /// The declared hosts; if none are declared, those that serve.
    fn declared(&self) -> HostRoles {
        let declared = &self.live.spec.hosts;
        if !declared.app.is_empty() {
            return declared.clone();
        }
        let HostRoles { app, lb, mut db } = self.live.roles();
        // From now on this host is declared for the role, and must have it.
        let has_role = |host: &&Host| host.roles.contains(&HostRole::Db);
        db.retain(|name| self.record.hosts.iter().filter(has_role).any(|host| host.name == *name));
        HostRoles { app, lb, db }
    }

    fn plan(
        &self,
        operation: Operation,
        hosts: HostRoles,
        waves: Waves<'_>,
        notes: Notes,
    ) -> Result<Plan, PlanRefusal> {
        let Self { live, record, placement, .. } = self;
        let Notes { mut omitted, mut warnings, admitted } = notes;
        let environment = &record.key.environment;
        if hosts != live.spec.hosts {
            let otherwise = match operation {
                Operation::RemoveHost(_) => "uses the host again",
                Operation::AddHost(_)
                | Operation::DrainHost(_)
                | Operation::Deploy(_)
                | Operation::Rollback(_)
                | Operation::Decommission => "is refused",
            };
            warnings.push(format!(
                "change deployment.yml as well, or the next deployment {otherwise}: {environment}: hosts: {{ app: [{}], lb: [{}], db: [{}] }}",
                list(&hosts.app), list(&hosts.lb), list(&hosts.db)
            ));
        }
        let spec = EnvironmentSpec { hosts, ..live.spec.clone() };
        if let Err(problems) = check(spec.clone()) {
            return Err(PlanRefusal::new(
                format!("the live release of {} cannot run on these hosts", record.key),
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                format!(
                    "lockstep deploy {} --image {}    # once deployment.yml is corrected; then repeat this command",
                    record.key, live.release.image
                ),
            ));
        }
        let because = "the same release stays live in the same slot".to_string();
        omitted.push(Omission { what: "switch".to_string(), because });
        let version = version_of(live);
        let live_state = (live.slot, &live.deployment, &live.serving, &operation, admitted);
        Ok(Plan {
            key: record.key.clone(),
            kind: operation.kind(),
            release: live.release.clone(),
            slot: live.slot,
            live_slot: Some(live.slot),
            spec,
            serving: names(&placement.app),
            excluded: live.excluded.iter().filter(|there| **there != self.host.name).cloned().collect(),
            secrets_version: live.secrets_version,
            schema_before: live.schema_version,
            hash: hash(&version, &live_state, record),
            operation,
            waves: waves.waves,
            omitted,
            warnings,
        })
    }

    fn preflight(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let Self { live, host, record, placement } = self;
        let version = version_of(live);
        let preflight_step = |host, app, lb| {
            let action = Action::Preflight(Preflight { app, lb, db: None });
            step(
                host,
                action,
                no_undo("it only checks"),
                seconds(60),
                "checks tools, ports and image; changes nothing",
            )
        };
        let app = Some(version.preflight_app(host, live.slot, record)?);
        let lb = Some(version.preflight_lb());
        Ok(if host.id == placement.lb.id {
            vec![preflight_step(host, app, lb)]
        } else {
            vec![preflight_step(host, app, None), preflight_step(placement.lb, None, lb)]
        })
    }

    fn health(&self) -> Result<StepDraft<'_>, PlanRefusal> {
        let Self { live, host, record, placement } = self;
        let check = version_of(live).check_health(&[*host], live.slot, record)?;
        let change = format!(
            "waits for {} healthy answers in a row from {} on {}, for at most {}",
            check.health.consecutive, check.health.path, host.name, check.health.timeout
        );
        Ok(check_from_lb(placement.lb, check, change))
    }

    fn site(&self) -> Result<StepDraft<'_>, PlanRefusal> {
        let Self { live, host, record, placement } = self;
        let serving = &placement.app;
        let site = version_of(live).site(serving, serving, record)?;
        let seen = record.observed.get(&placement.lb.id);
        if let Some(there) = seen.and_then(|seen| seen.site_changed.as_ref()) {
            let overwriting =
                format!("lockstep deploy {} --image {} --overwrite-site", record.key, live.release.image);
            return Err(site::changed_by_hand(placement.lb, &record.key, there, &overwriting));
        }
        let installed = seen.and_then(|seen| seen.site.as_ref());
        let cost =
            if installed == Some(&site.digest()) { "no change and no reload" } else { site::ONE_RELOAD };
        let is_in = serving.iter().any(|there| there.id == host.id);
        let what = if is_in { "requests to HOST too" } else { "no requests to HOST" };
        let change = format!("nginx sends {} ({cost})", what.replace("HOST", host.name.as_str()));
        let undo = undo_by(Action::RestoreSite, "restores the previous nginx site");
        Ok(step(placement.lb, Action::InstallSite { site, overwrites: None }, undo, seconds(30), change))
    }

    /// A host that comes back may still run the workers of a release that was live when it went.
    fn workers(&self) -> Result<StepDraft<'_>, PlanRefusal> {
        let Self { live, host, record, .. } = self;
        let slot = live.slot;
        let containers = version_of(live).worker_containers(host, slot, record)?;
        let grace: u64 = containers.iter().map(|container| container.stop_grace.0).sum();
        let change =
            format!("starts the workers of {slot}, stops all others, and notifies {slot} that it is live");
        let end = Action::MoveWorkers { stop: Some(slot), start: slot, containers: Vec::new() };
        let undo = undo_by(end, "stops its workers");
        let action = Action::MoveWorkers { stop: Some(slot.other()), start: slot, containers };
        Ok(step(host, action, undo, Millis(60_000 + grace), change))
    }

    fn drain(&self) -> Result<Option<StepDraft<'_>>, PlanRefusal> {
        let Self { live, host, record, placement } = self;
        let deadline = live.spec.deploy.drain;
        if deadline.0 == 0 || !live.serving.contains(&host.name) {
            return Ok(None);
        }
        let ports = web_endpoints(&live.spec, &[*host], live.slot, record)?;
        let action = Action::DrainSlot { slot: live.slot, ports, deadline };
        let change = format!("waits up to {deadline} for the requests of {} to end", host.name);
        Ok(Some(housekeeping(placement.lb, action, Millis(deadline.0 + 15_000), change)))
    }
}
