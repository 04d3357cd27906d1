//! Plans a rollback: switch the traffic back to an earlier release. If its slot is warm, that is only a switch.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::Serialize;

use crate::host::Host;
use crate::plan::action::Preflight;
use crate::plan::operation::OperationKind;
use crate::plan::operation::{Operation, Rollback};
use crate::plan::{Action, ContainerSpec, Omission, Plan};
use crate::planner::deploy::version_of;
use crate::planner::site::{self, SiteDecision};
use crate::planner::{
    Placement, PlanRefusal, StepDraft, Version, Waves, check_from_lb, hash, names, no_undo, notify_live_slot,
    seconds, step, undo_by, waves_of,
};
use crate::record::Record;
use crate::record::history::{DeploymentSummary, since_decommission};
use crate::record::live::LiveRelease;
use crate::record::observed::ContainerRunState;
use crate::release::Compatibility;
use crate::slot::Slot;
use crate::spec::EnvironmentSpec;
use crate::time::Millis;

/// Good answers in a row that a warm slot must give: it was proved when it was deployed, and has been watched since.
const WARM_CONSECUTIVE: u16 = 2;

/// How long a warm slot may take for them.
const WARM_TIMEOUT: Millis = Millis::from_secs(10);

pub(super) fn plan(rollback: &Rollback, record: &Record) -> Result<Plan, PlanRefusal> {
    let Some(live) = &record.live else {
        return Err(PlanRefusal::new(
            format!("{} has nothing to roll back", record.key),
            "nothing has been deployed to it",
            format!("lockstep deploy {} --image IMAGE", record.key),
        ));
    };
    let target = target(rollback, live, record)?;
    let schema = refuse_outside_schema_range(target, live, record)?;
    // The release, its configuration and its secrets come back; the hosts stay those that serve.
    let placement = Placement::place(&record.key, &live.roles(), &live.spec.hosts, record)?;
    let version =
        Version { release: &target.release, spec: &target.spec, secrets_version: target.secrets_version };
    let slot = live.slot.other();
    let planning = RollbackPlanner { target, live, placement, version, slot, schema, record };
    planning.plan(rollback)
}

/// The deployment to go back to: the one that is named, else the newest verified-good one before the live release.
pub(super) fn target<'a>(
    rollback: &Rollback,
    live: &LiveRelease,
    record: &'a Record,
) -> Result<&'a DeploymentSummary, PlanRefusal> {
    let list = format!("lockstep history {}", record.key);
    if let Some(id) = &rollback.to {
        let Some(summary) = record.history.iter().find(|summary| summary.id == *id) else {
            return Err(PlanRefusal::new(
                format!("{id} is not in the history of {}", record.key),
                "it was never deployed there",
                list,
            ));
        };
        if !summary.is_verified_good() {
            let how = summary.verdict.map_or("has not ended".to_string(), |verdict| format!("was {verdict}"));
            return Err(PlanRefusal::new(
                format!("{id} was never live"),
                format!("the deployment {how}"),
                list,
            ));
        }
        if is_state_of(summary, live) {
            return Err(PlanRefusal::new(
                format!("{} is already live", summary.release.image),
                format!("{id} deployed the live release"),
                list,
            ));
        }
        return Ok(summary);
    }
    earlier_good(live, &record.history).ok_or_else(|| {
        PlanRefusal::new(
            format!("{} has no earlier release to roll back to", record.key),
            format!("{} is the first release that was live", live.release.image),
            match later_good(live, record) {
                Some(later) => format!(
                    "lockstep rollback {} --to {}    # to {}, which was live too",
                    record.key, later.id, later.release.image
                ),
                None => list,
            },
        )
    })
}

/// The newest deployment that was live with another state.
fn later_good<'a>(live: &LiveRelease, record: &'a Record) -> Option<&'a DeploymentSummary> {
    since_decommission(&record.history).iter().find(|summary| {
        summary.kind == OperationKind::Deploy && summary.is_verified_good() && !is_state_of(summary, live)
    })
}

/// Whether the deployment brought what is live: image, configuration and secrets. Hosts come and go meanwhile.
fn is_state_of(summary: &DeploymentSummary, live: &LiveRelease) -> bool {
    summary.release.image_id == live.release.image_id
        && summary.secrets_version == live.secrets_version
        && on_hosts_of(live, &summary.spec) == live.spec
}

/// `spec` with the hosts of what is live.
fn on_hosts_of(live: &LiveRelease, spec: &EnvironmentSpec) -> EnvironmentSpec {
    EnvironmentSpec { hosts: live.spec.hosts.clone(), ..spec.clone() }
}

/// The newest verified-good deployment of another state from before the live one was last deployed.
pub fn earlier_good<'a>(
    live: &LiveRelease,
    history: &'a [DeploymentSummary],
) -> Option<&'a DeploymentSummary> {
    let good =
        |summary: &&DeploymentSummary| summary.kind == OperationKind::Deploy && summary.is_verified_good();
    let mut deployed = since_decommission(history).iter().filter(good);
    // The live release may be live because of a rollback: what counts is when it was deployed.
    deployed.find(|summary| is_state_of(summary, live))?;
    deployed.find(|summary| !is_state_of(summary, live))
}

/// The schema that is there, if the target can run with it.
fn refuse_outside_schema_range(
    target: &DeploymentSummary,
    live: &LiveRelease,
    record: &Record,
) -> Result<Option<u64>, PlanRefusal> {
    let seen = record.observed.values().find_map(|seen| seen.schema).map(|schema| schema.version);
    let Some(schema) = seen.or(live.schema_version) else {
        return Ok(None);
    };
    let known = record.history.iter().map(|summary| &summary.release).chain([&live.release]);
    let contracting = known.flat_map(|release| release.migrations.iter()).find(|migration| {
        migration.compatibility == Compatibility::Contracts
            && migration.version > target.release.schema_version()
            && migration.version <= schema
    });
    match contracting {
        None => Ok(Some(schema)),
        Some(migration) => Err(PlanRefusal::new(
            format!("{} cannot run on schema version {schema}", target.release.image),
            format!(
                "migration {} {} removed something that this release needs",
                migration.version, migration.name
            ),
            format!(
                "lockstep history {}    # roll back to a release that has migration {}, or deploy a fix",
                record.key, migration.version
            ),
        )),
    }
}

/// Whether every container of the target runs in its slot as it was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Warmth {
    Warm,
    Cold,
}

struct RollbackPlanner<'a> {
    target: &'a DeploymentSummary,
    live: &'a LiveRelease,
    placement: Placement<'a>,
    version: Version<'a>,
    slot: Slot,
    schema: Option<u64>,
    record: &'a Record,
}

impl RollbackPlanner<'_> {
    fn plan(&self, rollback: &Rollback) -> Result<Plan, PlanRefusal> {
        let cold = self.cold()?;
        let warmth = if cold.is_empty() { Warmth::Warm } else { Warmth::Cold };
        let mut waves = Waves::new(self.record);
        let mut omitted = Vec::new();
        let omit =
            |what: &str, because: &str| Omission { what: what.to_string(), because: because.to_string() };
        let mut warnings = Vec::new();
        if warmth == Warmth::Warm {
            omitted.push(omit("start", "the slot is warm: its containers run as they were deployed"));
            waves.push(self.health(&self.placement.app, warmth)?);
        } else {
            waves.push(self.preflight()?);
            waves.push(self.images(&cold));
            self.slot(&cold, &mut waves)?;
            warnings.push(format!(
                "{} is no longer warm: it is started first, which takes longer than a switch",
                self.target.release.image
            ));
        }
        waves.push(self.site(rollback, &mut omitted)?);
        waves.push(self.switch()?);
        let workers = self.workers()?;
        let notifications = notify_live_slot(&self.placement, &workers, self.slot);
        waves.push(workers);
        waves.push(notifications);
        omitted.push(omit(
            "migration",
            "a rollback never changes the database: data written since then would be lost",
        ));
        if let (Some(schema), before) = (self.schema, self.target.release.schema_version())
            && schema > before
        {
            warnings.push(format!(
                "migrations stay: the schema keeps version {schema}, and {} was built for version {before}",
                self.target.release.image
            ));
        }
        warnings.extend(self.same_image());
        let live_state = (self.live.slot, &self.live.deployment, self.schema, warmth);
        Ok(Plan {
            key: self.record.key.clone(),
            operation: Operation::Rollback(rollback.clone()),
            kind: OperationKind::Rollback,
            release: self.target.release.clone(),
            slot: self.slot,
            live_slot: Some(self.live.slot),
            spec: on_hosts_of(self.live, &self.target.spec),
            serving: names(&self.placement.app),
            excluded: self.live.excluded.clone(),
            secrets_version: self.target.secrets_version,
            schema_before: self.schema,
            waves: waves.waves,
            hash: hash(&self.version, &live_state, self.record),
            omitted,
            warnings,
        })
    }

    /// What comes back where it is not another image.
    fn same_image(&self) -> Option<String> {
        let Self { target, live, .. } = self;
        if target.release.image_id != live.release.image_id {
            return None;
        }
        let configuration = on_hosts_of(live, &target.spec) != live.spec;
        let secrets = target.secrets_version.filter(|_| target.secrets_version != live.secrets_version);
        let what = match (configuration, secrets) {
            (true, Some(version)) => format!("the configuration and version {version} of the secrets"),
            (false, Some(version)) => format!("version {version} of the secrets"),
            (_, None) => "the configuration".to_string(),
        };
        Some(format!("{} stays: what comes back is {what} of {}", live.release.image, target.id))
    }

    /// The hosts on which the slot does not run as it was deployed.
    fn cold(&self) -> Result<Vec<&Host>, PlanRefusal> {
        let mut cold = Vec::new();
        for host in &self.placement.app {
            let seen = self.record.observed.get(&host.id);
            for wanted in self.version.web_containers(host, self.slot, self.record)? {
                let digest = wanted.digest();
                let runs = seen.is_some_and(|seen| {
                    seen.containers.iter().any(|there| {
                        there.spec == digest
                            && there.slot == self.slot
                            && there.running == ContainerRunState::Yes
                    })
                });
                if !runs && !cold.iter().any(|there: &&Host| there.id == host.id) {
                    cold.push(*host);
                }
            }
        }
        Ok(cold)
    }

    /// Where it is cold the slot is started and checked, so many hosts at a time; the last check asks all of it.
    fn slot(&self, cold: &[&Host], waves: &mut Waves<'_>) -> Result<(), PlanRefusal> {
        let mut begin = 0;
        for end in waves_of(cold, self.version.spec) {
            waves.push(self.start(&cold[begin..end])?);
            let is_still_cold = |host: &Host| cold[end..].iter().any(|there| there.id == host.id);
            let started: Vec<&Host> =
                self.placement.app.iter().copied().filter(|host| !is_still_cold(host)).collect();
            waves.push(self.health(&started, Warmth::Cold)?);
            begin = end;
        }
        Ok(())
    }

    fn images<'h>(&self, cold: &[&'h Host]) -> Vec<StepDraft<'h>> {
        cold.iter().map(|host| self.version.present_image(host)).collect()
    }

    fn preflight(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let mut drafts = Vec::new();
        for host in self.placement.all() {
            let is_app = self.placement.is_app(host);
            let is_lb = host.id == self.placement.lb.id;
            if !is_app && !is_lb {
                continue;
            }
            let app = match is_app {
                false => None,
                true => Some(self.version.preflight_app(host, self.slot, self.record)?),
            };
            let lb = is_lb.then(|| self.version.preflight_lb());
            let action = Action::Preflight(Preflight { app, lb, db: None });
            drafts.push(step(
                host,
                action,
                no_undo("it only checks"),
                seconds(60),
                "checks tools, ports and image; changes nothing",
            ));
        }
        Ok(drafts)
    }

    fn start<'h>(&self, hosts: &[&'h Host]) -> Result<Vec<StepDraft<'h>>, PlanRefusal> {
        let Self { version, slot, record, .. } = self;
        let again = |_: &[ContainerSpec]| format!("starts {} in {slot} again", version.release.version());
        hosts.iter().map(|host| version.start(host, *slot, record, again)).collect()
    }

    fn health(&self, hosts: &[&Host], warmth: Warmth) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let mut check = self.version.check_health(hosts, self.slot, self.record)?;
        if warmth == Warmth::Warm {
            check.health.consecutive = check.health.consecutive.min(WARM_CONSECUTIVE);
            check.health.timeout = check.health.timeout.min(WARM_TIMEOUT);
        }
        let change = format!(
            "waits for {} healthy answers in a row from {}",
            check.health.consecutive, check.health.path
        );
        Ok(vec![check_from_lb(self.placement.lb, check, change)])
    }

    fn site(
        &self,
        rollback: &Rollback,
        omitted: &mut Vec<Omission>,
    ) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let site = self.version.site(&self.placement.app, &self.placement.app, self.record)?;
        let change = format!("nginx serves {} as before ({})", site.server_name, site::ONE_RELOAD);
        let to = rollback.to.as_ref().map(|to| format!(" --to {to}")).unwrap_or_default();
        let overwriting = format!("lockstep rollback {}{to} --overwrite-site", self.record.key);
        let wanted = site::DesiredSite {
            lb: self.placement.lb,
            site,
            hosts: site::Hosts::Fixed,
            changed: rollback.changed_site,
            change,
            overwriting,
        };
        Ok(match site::decide(wanted, self.record)? {
            SiteDecision::Step(step) => vec![*step],
            SiteDecision::Nothing(omission) => {
                omitted.push(omission);
                Vec::new()
            }
        })
    }

    fn switch(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let switch = self.version.switch_to(&self.placement.app, self.slot, self.record)?;
        let back = version_of(self.live).switch_to(&self.placement.app, self.live.slot, self.record)?;
        let undo =
            undo_by(Action::SwitchTraffic(back), format!("nginx sends requests to {} again", self.live.slot));
        let change =
            format!("switches traffic from {} to {}, verified through nginx", self.live.slot, self.slot);
        Ok(vec![step(self.placement.lb, Action::SwitchTraffic(switch), undo, seconds(30), change)])
    }

    fn workers(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let live = version_of(self.live);
        let mut drafts = Vec::new();
        for host in &self.placement.app {
            let wanted = self.version.worker_containers(host, self.slot, self.record)?;
            let before = live.worker_containers(host, self.live.slot, self.record)?;
            if wanted.is_empty() && before.is_empty() {
                continue;
            }
            let grace: u64 = wanted.iter().chain(&before).map(|container| container.stop_grace.0).sum();
            let undo = undo_by(
                Action::MoveWorkers { stop: Some(self.slot), start: self.live.slot, containers: before },
                format!("starts the workers of {} again", self.live.slot),
            );
            let action =
                Action::MoveWorkers { stop: Some(self.live.slot), start: self.slot, containers: wanted };
            drafts.push(step(
                host,
                action,
                undo,
                Millis(60_000 + grace),
                format!("stops the other workers, then starts those of {}", self.slot),
            ));
        }
        Ok(drafts)
    }
}
