//! Plans a deployment: start a release in the inactive slot, switch the traffic to it, clean up.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::host::Host;
use crate::id::Digest;
use crate::plan::action::{
    CheckHealth, CleanUp, DatabaseRef, KeepSnapshots, Migrate, Preflight, PreflightDb, TakeSnapshot,
};
use crate::plan::operation::OperationKind;
use crate::plan::operation::{AnyBranch, ChangedSite, DETACHED, Deploy, Operation};
use crate::plan::{Action, ContainerSpec, Omission, Plan, Undo};
use crate::planner::database::{HbaRequest, current_schema, foreign_schema, refuse_foreign_schema};
use crate::planner::excluded_hosts::{self, ExcludedHost};
use crate::planner::site::{self, Hosts, SiteDecision};
use crate::planner::{
    Placement, PlanRefusal, StepDraft, Version, Waves, check_from_lb, hash, housekeeping, names, no_undo,
    notify_live_slot, seconds, serving, step, undo_by, waves_of, web_endpoints,
};
use crate::record::Record;
use crate::record::history::{DeploymentSummary, since_decommission};
use crate::record::live::LiveRelease;
use crate::release::{Compatibility, Migration, Release};
use crate::secret::set_command;
use crate::slot::Slot;
use crate::spec::check::ValidatedSpec;
use crate::spec::{EnvironmentSpec, Mode};
use crate::time::Millis;

/// How many releases, beside the live one and the one before it, keep their images.
const IMAGES_KEPT: usize = 3;

/// The most that [`images_kept`] gives: what is live comes on top.
pub const IMAGES_KEPT_MAX: usize = IMAGES_KEPT + 1;

/// The images of an environment that a rollback may need: of what is live, and of the newest that were good. Once
/// there are [`IMAGES_KEPT_MAX`] of them, older deployments add none.
pub fn images_kept(live: Option<&LiveRelease>, history: &[DeploymentSummary]) -> Vec<Digest> {
    let mut keep: Vec<Digest> = live.map(|live| live.release.image_id.clone()).into_iter().collect();
    for summary in since_decommission(history).iter().filter(|summary| summary.is_verified_good()) {
        if keep.len() <= IMAGES_KEPT && !keep.contains(&summary.release.image_id) {
            keep.push(summary.release.image_id.clone());
        }
    }
    keep
}

pub(super) fn plan(deploy: &Deploy, declared: &ValidatedSpec, record: &Record) -> Result<Plan, PlanRefusal> {
    let spec = declared.get();
    refuse_other_branch(deploy, spec)?;
    refuse_missing_variables(spec, record)?;
    let (mut left_out, roles) = excluded_hosts::without_drained(spec, record)?;
    let mut placement = Placement::place(&spec.key, &roles, &spec.hosts, record)?;
    left_out.extend(excluded_hosts::exclude_unreachable(&mut placement, spec, record)?);
    let serving = match record.live.as_ref().map(|live| serving(live, record)) {
        // None of them has joined any more: what is live was to be on the hosts that are named.
        Some(none) if none.is_empty() => placement.app.clone(),
        Some(serving) => serving,
        None => Vec::new(),
    };
    excluded_hosts::refuse_without_a_host_that_serves(spec, &serving, &placement, &left_out)?;
    let version = Version {
        release: &deploy.release,
        spec,
        secrets_version: record.secrets.as_ref().map(|secrets| secrets.version),
    };
    let schema = current_schema(spec, &placement, record)?;
    let foreign = foreign_schema(spec, &placement, record);
    refuse_foreign_schema(spec, &deploy.release, foreign)?;
    let planning = DeployPlanner {
        slot: record.live.as_ref().map_or(Slot::Blue, |live| live.slot.other()),
        pending: schema.map_or_else(Vec::new, |schema| deploy.release.pending(schema).cloned().collect()),
        placement,
        serving,
        left_out,
        version,
        schema,
        foreign,
        record,
    };
    planning.plan(deploy)
}

fn refuse_other_branch(deploy: &Deploy, spec: &EnvironmentSpec) -> Result<(), PlanRefusal> {
    let (key, image) = (&spec.key, &deploy.release.image);
    match (&spec.branch, &deploy.branch, deploy.any_branch) {
        (Some(wanted), Some(found), AnyBranch::Refused)
            if spec.mode == Mode::Production && wanted != found =>
        {
            let (why, next) = if found == DETACHED {
                (
                    "this checkout is on no branch, and no CI system says which one it was".to_string(),
                    format!(
                        "lockstep deploy {key} --image {image} --branch {wanted}    # if it is of {wanted}"
                    ),
                )
            } else {
                (
                    format!("this checkout is on {found}"),
                    format!(
                        "git switch {wanted}\nlockstep deploy {key} --image {image} --allow-branch    # deploys this branch"
                    ),
                )
            };
            Err(PlanRefusal::new(format!("{key} must be deployed from the branch {wanted}"), why, next))
        }
        _ => Ok(()),
    }
}

fn refuse_missing_variables(spec: &EnvironmentSpec, record: &Record) -> Result<(), PlanRefusal> {
    let none = BTreeSet::new();
    let secrets = record.secrets.as_ref().map_or(&none, |secrets| &secrets.names);
    let database = spec.database.as_ref().map(|database| &database.url_from);
    let missing: Vec<&str> = spec
        .required
        .iter()
        .filter(|name| !secrets.contains(*name) && !spec.env.contains_key(*name))
        .chain(database.filter(|name| !secrets.contains(*name) && !spec.required.contains(name)))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(PlanRefusal::new(
        format!("{} lacks {}", spec.key, missing.join(", ")),
        "deployment.yml requires it, and neither `env` nor the imported secrets have it",
        set_command(&spec.key, missing[0]),
    ))
}

struct DeployPlanner<'a> {
    placement: Placement<'a>,
    /// The app hosts of what is live: all of them are among those of the placement, or left out.
    serving: Vec<&'a Host>,
    left_out: Vec<ExcludedHost>,
    version: Version<'a>,
    slot: Slot,
    schema: Option<u64>,
    /// What is where golang-migrate would have its table, if that is another tool's.
    foreign: Option<&'a str>,
    pending: Vec<Migration>,
    record: &'a Record,
}

impl DeployPlanner<'_> {
    fn plan(&self, deploy: &Deploy) -> Result<Plan, PlanRefusal> {
        let mut waves = Waves::new(self.record);
        let key = &self.version.spec.key;
        let mut omitted: Vec<Omission> = self.left_out.iter().map(|host| host.omission(key)).collect();
        waves.push(self.preflight()?);
        waves.push(self.placement.app.iter().map(|host| self.version.present_image(host)).collect());
        let asked = HbaRequest {
            spec: self.version.spec,
            db: self.placement.db,
            app: &self.placement.app,
            record: self.record,
        };
        let admitted = asked.admit(&mut waves, &mut omitted);
        self.database(&mut waves, &mut omitted);
        self.slot(&mut waves)?;
        self.traffic(deploy.changed_site, &mut waves, &mut omitted)?;
        let workers = self.workers(&mut omitted)?;
        let notifications = notify_live_slot(&self.placement, &workers, self.slot);
        waves.push(workers);
        self.bake(&mut waves, &mut omitted)?;
        waves.push(notifications.into_iter().chain(self.drain(&mut omitted)?).collect());
        waves.push(self.clean_up());
        let live = self.record.live.as_ref();
        let site = self.record.observed.get(&self.placement.lb.id).and_then(|seen| {
            let by_hand = seen.site_changed.as_ref().map(|change| &change.there);
            seen.site.as_ref().or(by_hand)
        });
        let serves = live.map(|live| (live.slot, &live.deployment, &live.serving));
        let live_state = (serves, self.schema, site, admitted);
        Ok(Plan {
            key: self.version.spec.key.clone(),
            operation: Operation::Deploy(deploy.clone()),
            kind: OperationKind::Deploy,
            release: deploy.release.clone(),
            slot: self.slot,
            live_slot: live.map(|live| live.slot),
            spec: self.version.spec.clone(),
            serving: names(&self.placement.app),
            excluded: self.left_out.iter().filter_map(ExcludedHost::excluded_name).collect(),
            secrets_version: self.version.secrets_version,
            schema_before: self.schema,
            waves: waves.waves,
            hash: hash(&self.version, &live_state, self.record),
            omitted,
            warnings: self.warnings(),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.left_out.iter().filter_map(ExcludedHost::warning));
        for migration in
            self.pending.iter().filter(|migration| migration.compatibility == Compatibility::Contracts)
        {
            warnings.push(format!(
                "migration {} {} removes something from the schema: earlier releases cannot run after it, and a rollback past it will be refused",
                migration.version, migration.name
            ));
        }
        if let Some(live) = &self.record.live
            && live.release.image_id == self.version.release.image_id
        {
            warnings.push(format!(
                "{} is already live in {}: this deploys it again",
                live.release.image, live.slot
            ));
        }
        if let Some(schema) = self.schema
            && schema > self.version.release.schema_version()
            && !self.version.release.migrations.is_empty()
        {
            warnings.push(format!(
                "the database schema has version {schema}, and this release was built for version {}",
                self.version.release.schema_version()
            ));
        }
        warnings
    }

    fn preflight(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let mut drafts = Vec::new();
        for host in self.placement.all() {
            let app = match self.placement.is_app(host) {
                false => None,
                true => Some(self.version.preflight_app(host, self.slot, self.record)?),
            };
            let lb = (host.id == self.placement.lb.id).then(|| self.version.preflight_lb());
            let db = (host.id == self.placement.db.id).then(|| self.preflight_database()).flatten();
            let action = Action::Preflight(Preflight { app, lb, db });
            drafts.push(step(
                host,
                action,
                no_undo("it only checks"),
                seconds(60),
                "checks tools, disk, ports, image and database; changes nothing",
            ));
        }
        Ok(drafts)
    }

    fn preflight_database(&self) -> Option<PreflightDb> {
        let snapshot = self.version.spec.database.as_ref().and_then(|database| database.snapshot.as_ref());
        let snapshot_directory = snapshot
            .filter(|_| !self.pending.is_empty() || self.foreign.is_some())
            .map(|snapshot| snapshot.directory.clone());
        Some(PreflightDb { database: self.version.database()?, snapshot_directory })
    }

    fn database(&self, waves: &mut Waves<'_>, omitted: &mut Vec<Omission>) {
        let omit = |what: &str, because: String| Omission { what: what.to_string(), because };
        if let (Some(foreign), Some(reference)) = (self.foreign, self.version.database()) {
            // When its tool migrates is not known: it may be at the start of this very release.
            let because = format!("schema_migrations belongs to another tool: {foreign}");
            omitted.push(omit("migration", because));
            self.snapshot(reference, waves, omitted);
            return;
        }
        let (Some(database), Some(reference), Some(schema)) =
            (&self.version.spec.database, self.version.database(), self.schema)
        else {
            omitted.push(omit("snapshot and migration", "deployment.yml declares no database".to_string()));
            return;
        };
        let Some(path) = database.migrations.as_ref().filter(|_| !self.pending.is_empty()) else {
            let because = match &database.migrations {
                None => "deployment.yml names no migrations".to_string(),
                Some(path) if self.version.release.migrations.is_empty() => {
                    format!("the image has no migrations in {path}")
                }
                Some(_) => format!("the schema already has version {schema}"),
            };
            omitted.push(omit("migration", because));
            omitted.push(omit("snapshot", "there is no migration to run".to_string()));
            return;
        };
        self.snapshot(reference.clone(), waves, omitted);
        let to = self.version.release.schema_version();
        let action = Action::Migrate(Migrate {
            database: reference,
            image_id: self.version.release.image_id.clone(),
            path: path.clone(),
            from: schema,
            migrations: self.pending.clone(),
        });
        let names: Vec<&str> = self.pending.iter().map(|migration| migration.name.as_str()).collect();
        let change = format!("migrates the schema from version {schema} to {to}: {}", names.join(", "));
        let undo =
            no_undo("migrations stay: they only add to the schema, so the previous release runs with them");
        waves.push(vec![step(self.placement.db, action, undo, seconds(20 * 60), change)]);
        if is_on(Mutant::MigratesBeforeSnapshot) {
            waves.swap_last();
        }
    }

    fn snapshot(&self, database: DatabaseRef, waves: &mut Waves<'_>, omitted: &mut Vec<Omission>) {
        let declared = self.version.spec.database.as_ref().and_then(|database| database.snapshot.as_ref());
        let Some(snapshot) = declared else {
            let because = "deployment.yml sets no database.snapshot".to_string();
            omitted.push(Omission { what: "snapshot".to_string(), because });
            return;
        };
        let change = format!("takes and verifies a snapshot of the database in {}", snapshot.directory);
        let action = Action::TakeSnapshot(TakeSnapshot { database, directory: snapshot.directory.clone() });
        let undo = no_undo("the snapshot stays");
        waves.push(vec![step(self.placement.db, action, undo, seconds(20 * 60), change)]);
    }

    /// Started and checked, so many hosts at a time. Each check asks all that were started so far: the last one
    /// asks the whole slot.
    fn slot(&self, waves: &mut Waves<'_>) -> Result<(), PlanRefusal> {
        let hosts = &self.placement.app;
        let mut begin = 0;
        for end in waves_of(hosts, self.version.spec) {
            waves.push(self.start(&hosts[begin..end])?);
            if !is_on(Mutant::SwitchesUnchecked) {
                waves.push(self.health(&hosts[..end])?);
            }
            begin = end;
        }
        Ok(())
    }

    fn start<'h>(&self, hosts: &[&'h Host]) -> Result<Vec<StepDraft<'h>>, PlanRefusal> {
        let Self { version, slot, record, .. } = self;
        let start = |host: &&'h Host| {
            version.start(host, *slot, record, |containers| started(version, containers, record, host))
        };
        hosts.iter().map(start).collect()
    }

    /// How many app hosts may be excluded.
    fn spare(&self) -> u16 {
        let app = self.placement.app.len();
        let quorum = self.version.spec.deploy.quorum.map_or(app, usize::from);
        u16::try_from(app.saturating_sub(quorum)).unwrap_or(u16::MAX)
    }

    fn check(&self, hosts: &[&Host]) -> Result<CheckHealth, PlanRefusal> {
        let check = self.version.check_health(hosts, self.slot, self.record)?;
        Ok(CheckHealth { spare: self.spare(), ..check })
    }

    fn health(&self, hosts: &[&Host]) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let check = self.check(hosts)?;
        let without = match check.spare {
            0 => String::new(),
            1 => "; continues without one unhealthy host".to_string(),
            spare => format!("; continues without up to {spare} unhealthy hosts"),
        };
        let change = format!(
            "waits for {} healthy answers in a row from {}, for at most {}{without}",
            check.health.consecutive, check.health.path, check.health.timeout
        );
        Ok(vec![check_from_lb(self.placement.lb, check, change)])
    }

    fn traffic(
        &self,
        changed: ChangedSite,
        waves: &mut Waves<'_>,
        omitted: &mut Vec<Omission>,
    ) -> Result<(), PlanRefusal> {
        let lb = self.placement.lb;
        let live = self.record.live.as_ref();
        let site = self.version.site(&self.placement.app, &self.serving, self.record)?;
        let hosts = if self.spare() > 0 { Hosts::MayBeExcluded } else { Hosts::Fixed };
        match site::of_deployment(lb, (site, hosts), changed, (&self.version, self.record))? {
            SiteDecision::Step(step) => waves.push(vec![*step]),
            SiteDecision::Nothing(omission) => omitted.push(omission),
        }
        let switch = self.version.switch_to(&self.placement.app, self.slot, self.record)?;
        let undo: Undo = match live {
            None => no_undo("no slot had traffic before"),
            Some(live) => {
                let back = version_of(live).switch_to(&self.serving, live.slot, self.record)?;
                undo_by(Action::SwitchTraffic(back), format!("nginx sends requests to {} again", live.slot))
            }
        };
        let from = live.map_or("no slot".to_string(), |live| live.slot.to_string());
        let change = format!("switches traffic from {from} to {}, verified through nginx", self.slot);
        waves.push(vec![step(lb, Action::SwitchTraffic(switch), undo, seconds(30), change)]);
        Ok(())
    }

    fn workers(&self, omitted: &mut Vec<Omission>) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let live = self.record.live.as_ref();
        let mut drafts = Vec::new();
        for host in &self.placement.app {
            let fresh = self.version.worker_containers(host, self.slot, self.record)?;
            let before = match live {
                Some(live) if self.serving.iter().any(|serving| serving.id == host.id) => {
                    version_of(live).worker_containers(host, live.slot, self.record)?
                }
                Some(_) | None => Vec::new(),
            };
            if fresh.is_empty() && before.is_empty() {
                continue;
            }
            let grace: u64 = fresh.iter().chain(&before).map(|container| container.stop_grace.0).sum();
            let undo = match live {
                None => no_undo("they stop with the slot"),
                Some(live) => undo_by(
                    Action::MoveWorkers { stop: Some(self.slot), start: live.slot, containers: before },
                    format!("starts the workers of {} again", live.slot),
                ),
            };
            let change = format!("stops the old workers, then starts those of {}", self.slot);
            let action =
                Action::MoveWorkers { stop: live.map(|live| live.slot), start: self.slot, containers: fresh };
            drafts.push(step(host, action, undo, Millis(60_000 + grace), change));
        }
        if drafts.is_empty() {
            omitted.push(Omission {
                what: "workers".to_string(),
                because: "no process has the role worker".to_string(),
            });
        }
        Ok(drafts)
    }

    fn bake(&self, waves: &mut Waves<'_>, omitted: &mut Vec<Omission>) -> Result<(), PlanRefusal> {
        let deploy = &self.version.spec.deploy;
        let lb = self.placement.lb;
        if deploy.bake.0 == 0 {
            omitted.push(Omission { what: "bake".to_string(), because: "deploy.bake is 0s".to_string() });
        } else {
            let check = self.check(&self.placement.app)?;
            let change = format!("watches {} under traffic for {}", self.slot, deploy.bake);
            let action = Action::Bake { duration: deploy.bake, check };
            waves.push(vec![step(
                lb,
                action,
                no_undo("it only checks"),
                Millis(deploy.bake.0 + 30_000),
                change,
            )]);
        }
        Ok(())
    }

    fn drain(&self, omitted: &mut Vec<Omission>) -> Result<Option<StepDraft<'_>>, PlanRefusal> {
        let deploy = &self.version.spec.deploy;
        let lb = self.placement.lb;
        let because = match &self.record.live {
            None => "no slot had traffic before",
            Some(_) if deploy.drain.0 == 0 => "deploy.drain is 0s",
            Some(live) => {
                let ports = web_endpoints(&live.spec, &self.serving, live.slot, self.record)?;
                let action = Action::DrainSlot { slot: live.slot, ports, deadline: deploy.drain };
                let change = format!(
                    "waits up to {} for the requests of {} to end; the slot stays warm for a rollback",
                    deploy.drain, live.slot
                );
                return Ok(Some(housekeeping(lb, action, Millis(deploy.drain.0 + 15_000), change)));
            }
        };
        omitted.push(Omission { what: "drain".to_string(), because: because.to_string() });
        Ok(None)
    }

    fn clean_up(&self) -> Vec<StepDraft<'_>> {
        let mut keep = images_kept(self.record.live.as_ref(), &self.record.history);
        if !keep.contains(&self.version.release.image_id) {
            keep.insert(0, self.version.release.image_id.clone());
        }
        let deployed = self.record.history.iter().map(|summary| &summary.release);
        let RemovableImages { known, removed } = RemovableImages::of(deployed, &keep, self.record);
        let change = cleaned_up(NOTHING_NEEDED, &removed);
        let snapshots = self.version.spec.database.as_ref().and_then(|database| database.snapshot.as_ref());
        let mut drafts = Vec::new();
        for host in self.placement.all() {
            let is_app = self.placement.is_app(host);
            let is_db = host.id == self.placement.db.id && snapshots.is_some();
            if !is_app && !is_db {
                continue;
            }
            let action = Action::CleanUp(CleanUp {
                keep_images: keep.clone(),
                known_images: if is_app { known.clone() } else { Vec::new() },
                snapshots: snapshots.filter(|_| is_db).map(|snapshot| KeepSnapshots {
                    directory: snapshot.directory.clone(),
                    keep: snapshot.keep,
                }),
            });
            drafts.push(housekeeping(
                host,
                action,
                seconds(120),
                if is_app { &change } else { NOTHING_NEEDED },
            ));
        }
        drafts
    }
}

const NOTHING_NEEDED: &str = "removes images and snapshots that no rollback needs";

/// So many images are named that a clean-up removes. Those before them went with earlier deployments.
const IMAGES_NAMED_MAX: usize = 3;

/// The images that a clean-up may touch.
pub(super) struct RemovableImages<'a> {
    /// What this environment has deployed and no other one needs.
    pub(super) known: Vec<Digest>,
    /// The names of those that go, newest first.
    pub(super) removed: Vec<&'a str>,
}

impl<'a> RemovableImages<'a> {
    /// Of what was `deployed`, newest first.
    pub(super) fn of(
        deployed: impl Iterator<Item = &'a Release>,
        keep: &[Digest],
        record: &Record,
    ) -> RemovableImages<'a> {
        let (mut known, mut removed) = (BTreeSet::new(), Vec::new());
        for release in deployed.filter(|release| !record.kept_elsewhere.contains(&release.image_id)) {
            known.insert(release.image_id.clone());
            if !keep.contains(&release.image_id) && !removed.contains(&release.image.as_str()) {
                removed.push(release.image.as_str());
            }
        }
        Self { known: known.into_iter().collect(), removed }
    }
}

/// What a clean-up removes, newest first, also of what somebody has built on the host.
pub(super) fn cleaned_up(what: &str, images: &[&str]) -> String {
    let named = &images[..images.len().min(IMAGES_NAMED_MAX)];
    match images.len() - named.len() {
        _ if named.is_empty() => what.to_string(),
        0 => format!("{what}: {}", named.join(", ")),
        older => format!("{what}: {} and {older} older", named.join(", ")),
    }
}

/// What a start changes.
pub(super) fn started(
    version: &Version<'_>,
    containers: &[ContainerSpec],
    record: &Record,
    host: &Host,
) -> String {
    let names: Vec<&str> = containers.iter().map(|container| container.process.as_str()).collect();
    let slot = containers.first().map(|container| container.slot);
    let seen = record.observed.get(&host.id);
    let there = seen.and_then(|seen| seen.containers.iter().find(|container| Some(container.slot) == slot));
    let replaced = match there {
        None => "the slot is empty".to_string(),
        Some(container) => format!("replaces {} there", container.image_id.short()),
    };
    let slot = slot.map_or_else(String::new, |slot| format!(" in {slot}"));
    format!("starts {} of {}{slot}; {replaced}", names.join(", "), version.release.version())
}

/// What is live, as a version of its own.
pub(super) fn version_of(live: &LiveRelease) -> Version<'_> {
    Version { release: &live.release, spec: &live.spec, secrets_version: live.secrets_version }
}
