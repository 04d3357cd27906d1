//! The plan that gives an environment up: nginx serves it no more, its workers stop, the database gets a last snapshot,
//! and then what is on its hosts is removed.
//!
//! What must stay true: nothing that serves stops while nginx sends it requests, nothing is removed before the last
//! snapshot is verified, and until then a failure brings everything back. Data is never removed: volumes, the database
//! and snapshots stay.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::host::Host;
use crate::plan::action::{CleanUp, Preflight, PreflightDb, TakeSnapshot};
use crate::plan::operation::Operation;
use crate::plan::{Action, Omission, Plan};
use crate::planner::database::HbaRequest;
use crate::planner::deploy::{RemovableImages, cleaned_up, version_of};
use crate::planner::site;
use crate::planner::{
    Placement, PlanRefusal, StepDraft, Waves, hash, housekeeping, no_undo, seconds, step, undo_by,
    web_endpoints,
};
use crate::record::Record;
use crate::record::live::LiveRelease;
use crate::slot::Slot;
use crate::time::Millis;

/// The plan for what is live.
pub(super) fn plan(record: &Record) -> Result<Plan, PlanRefusal> {
    let Some(live) = &record.live else {
        return Err(PlanRefusal::new(
            format!("nothing is live in {}", record.key),
            "there is nothing to take out of service; only its record is left to remove",
            format!("lockstep env remove {}", record.key),
        ));
    };
    let placement = Placement::place(&record.key, &live.roles(), &live.spec.hosts, record)?;
    DecommissionPlanner { live, placement, record }.plan()
}

struct DecommissionPlanner<'a> {
    live: &'a LiveRelease,
    placement: Placement<'a>,
    record: &'a Record,
}

impl DecommissionPlanner<'_> {
    fn plan(&self) -> Result<Plan, PlanRefusal> {
        let Self { live, record, placement } = self;
        self.refuse_changed_site()?;
        let (mut waves, mut omitted, mut warnings) = (Waves::new(record), Vec::new(), Vec::new());
        waves.push(self.preflight());
        waves.push(vec![self.remove_site()]);
        waves.push(self.drain()?.into_iter().collect());
        waves.push(self.stop_workers()?);
        match self.snapshot() {
            Ok(step) => waves.push(vec![step]),
            Err(omission) => omitted.push(omission),
        }
        for slot in [live.slot, live.slot.other()] {
            waves.push(placement.app.iter().map(|host| self.stop_slot(host, slot)).collect());
        }
        let admitting = HbaRequest { spec: &live.spec, db: placement.db, app: &placement.app, record };
        match admitting.remove_lines() {
            Ok(step) => waves.push(step.into_iter().collect()),
            Err(unknown) => warnings.push(unknown),
        }
        waves.push(placement.app.iter().map(|host| self.clean_up(host)).collect());
        warnings.extend(self.what_stays());
        let version = version_of(live);
        let live_state = (live.slot, &live.deployment, &live.serving, &Operation::Decommission);
        Ok(Plan {
            key: record.key.clone(),
            operation: Operation::Decommission,
            kind: Operation::Decommission.kind(),
            release: live.release.clone(),
            slot: live.slot,
            live_slot: Some(live.slot),
            spec: live.spec.clone(),
            serving: Vec::new(),
            excluded: Vec::new(),
            secrets_version: live.secrets_version,
            schema_before: live.schema_version,
            hash: hash(&version, &live_state, record),
            waves: waves.waves,
            omitted,
            warnings,
        })
    }

    fn refuse_changed_site(&self) -> Result<(), PlanRefusal> {
        let Self { live, record, placement } = self;
        let seen = record.observed.get(&placement.lb.id);
        let Some(there) = seen.and_then(|seen| seen.site_changed.as_ref()) else { return Ok(()) };
        let overwriting =
            format!("lockstep deploy {} --image {} --overwrite-site", record.key, live.release.image);
        Err(site::changed_by_hand(placement.lb, &record.key, there, &overwriting))
    }

    fn preflight(&self) -> Vec<StepDraft<'_>> {
        let Self { live, placement, .. } = self;
        let version = version_of(live);
        let snapshot = live.spec.database.as_ref().and_then(|database| database.snapshot.as_ref());
        let database = snapshot.zip(version.database()).map(|(snapshot, database)| PreflightDb {
            database,
            snapshot_directory: Some(snapshot.directory.clone()),
        });
        let mut drafts = Vec::new();
        for host in placement.all() {
            let lb = (host.id == placement.lb.id).then(|| version.preflight_lb());
            let db = database.clone().filter(|_| host.id == placement.db.id);
            if lb.is_some() || db.is_some() {
                let action = Action::Preflight(Preflight { app: None, lb, db });
                let change = "checks tools, disk and database; changes nothing";
                drafts.push(step(host, action, no_undo("it only checks"), seconds(60), change));
            }
        }
        drafts
    }

    fn remove_site(&self) -> StepDraft<'_> {
        let Self { record, placement, .. } = self;
        let change = format!("nginx serves {} no more ({})", record.key, site::ONE_RELOAD);
        let undo = undo_by(Action::RestoreSite, "restores the nginx site");
        step(placement.lb, Action::RemoveSite, undo, seconds(30), change)
    }

    /// Its deadline is no failure.
    fn drain(&self) -> Result<Option<StepDraft<'_>>, PlanRefusal> {
        let Self { live, record, placement } = self;
        let deadline = live.spec.deploy.drain;
        if deadline.0 == 0 {
            return Ok(None);
        }
        let ports = web_endpoints(&live.spec, &placement.app, live.slot, record)?;
        let action = Action::DrainSlot { slot: live.slot, ports, deadline };
        let change = format!("waits up to {deadline} for the requests of {} to end", live.slot);
        let undo = no_undo("it only waits");
        Ok(Some(step(placement.lb, action, undo, Millis(deadline.0 + 15_000), change)))
    }

    /// So that nothing is written after the snapshot.
    fn stop_workers(&self) -> Result<Vec<StepDraft<'_>>, PlanRefusal> {
        let Self { live, record, placement } = self;
        let (slot, version) = (live.slot, version_of(live));
        let mut drafts = Vec::new();
        for host in &placement.app {
            let containers = version.worker_containers(host, slot, record)?;
            if containers.is_empty() {
                continue;
            }
            let grace: u64 = containers.iter().map(|container| container.stop_grace.0).sum();
            let stop = Action::MoveWorkers { stop: Some(slot), start: slot, containers: Vec::new() };
            let start = Action::MoveWorkers { stop: None, start: slot, containers };
            let undo = undo_by(start, "starts its workers again");
            let change = format!("stops the workers of {slot}");
            drafts.push(step(host, stop, undo, Millis(60_000 + grace), change));
        }
        Ok(drafts)
    }

    fn snapshot(&self) -> Result<StepDraft<'_>, Omission> {
        let Self { live, placement, .. } = self;
        let omission =
            |because: &str| Omission { what: "snapshot".to_string(), because: because.to_string() };
        let Some(database) = &live.spec.database else {
            return Err(omission("deployment.yml declares no database"));
        };
        let Some((snapshot, reference)) = database.snapshot.as_ref().zip(version_of(live).database()) else {
            return Err(omission("deployment.yml sets no database.snapshot: the database stays as it is"));
        };
        let directory = snapshot.directory.clone();
        let change = format!("takes and verifies the last snapshot of the database in {directory}");
        let action = Action::TakeSnapshot(TakeSnapshot { database: reference, directory });
        Ok(step(placement.db, action, no_undo("the snapshot stays"), seconds(20 * 60), change))
    }

    fn stop_slot<'h>(&self, host: &'h Host, slot: Slot) -> StepDraft<'h> {
        let grace: u64 = self.live.spec.processes.values().map(|process| process.stop_grace.0).sum();
        let change = format!("stops and removes {slot}");
        housekeeping(host, Action::StopSlot { slot }, Millis(60_000 + grace), change)
    }

    fn clean_up<'h>(&self, host: &'h Host) -> StepDraft<'h> {
        let Self { live, record, .. } = self;
        // Deployments that are too old for a plan may have brought what is live.
        let deployed = record.history.iter().map(|summary| &summary.release).chain([&live.release]);
        let RemovableImages { known, removed } = RemovableImages::of(deployed, &[], record);
        let action =
            Action::CleanUp(CleanUp { keep_images: Vec::new(), known_images: known, snapshots: None });
        let change = cleaned_up("removes the images that no other environment needs", &removed);
        housekeeping(host, action, seconds(120), change)
    }

    /// What an operator may want to remove by hand.
    fn what_stays(&self) -> Vec<String> {
        let Self { live, record, .. } = self;
        let mut stays = Vec::new();
        let declared = live.spec.processes.values().flat_map(|process| &process.volumes);
        let volumes: BTreeSet<&str> = declared.map(|volume| volume.source.as_str()).collect();
        if !volumes.is_empty() {
            let volumes: Vec<&str> = volumes.into_iter().collect();
            stays.push(format!("volumes stay on the app hosts: {}", volumes.join(", ")));
        }
        if let Some(database) = &live.spec.database {
            let snapshots = database.snapshot.as_ref().map_or_else(String::new, |snapshot| {
                format!(", and its snapshots in {}", snapshot.directory)
            });
            stays.push(format!("the database of {} stays{snapshots}", record.key));
        }
        stays
    }
}
