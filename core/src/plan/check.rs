//! The safety rules that every plan must follow. They are checked when a plan is made, stored and loaded. A violation
//! is a bug in a planner or damage to the store, and the plan is refused in both cases.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::id::StepId;
use crate::plan::action::{Endpoint, Site, SwitchTraffic};
use crate::plan::hba::HbaBlock;
use crate::plan::operation::Operation;
use crate::plan::{Action, OnFailure, Plan, Step, Undo};
use crate::slot::Slot;

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The step that breaks it; `None` if the plan as a whole does.
    pub step: Option<StepId>,
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "{step}: {}", self.rule),
            None => f.write_str(&self.rule),
        }
    }
}

/// Every rule that `plan` breaks.
pub fn check(plan: &Plan) -> Vec<Violation> {
    let mut broken = Violations(Vec::new());
    shape(plan, &mut broken);
    let mut before = PrecedingSteps::none(plan);
    for wave in &plan.waves {
        for step in &wave.steps {
            order(plan, step, &before, &mut broken);
            undo(plan, step, &mut broken);
        }
        // Steps of one wave run side by side: none may count on another.
        for step in &wave.steps {
            before.note(step);
        }
    }
    if before.switched != Some(plan.slot) {
        broken.add(None, format!("the plan does not end with the traffic in {}", plan.slot));
    }
    if let Some(host) = plan.operation.host()
        && before.site.installed().is_none()
    {
        broken.add(None, format!("no step tells nginx whether {host} gets traffic"));
    }
    if plan.operation == Operation::Decommission && !before.site.is_removed() {
        broken.add(None, "nginx serves the environment at the end of a plan that gives it up");
    }
    broken.0
}

/// Every rule that `plan` would break without what `step` does.
pub fn violations_without(plan: &Plan, step: StepId) -> Vec<Violation> {
    let mut rest = plan.clone();
    for wave in &mut rest.waves {
        wave.steps.retain(|there| there.id != step);
    }
    rest.waves.retain(|wave| !wave.steps.is_empty());
    check(&rest)
}

struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, step: Option<&Step>, rule: impl Into<String>) {
        self.0.push(Violation { step: step.map(|step| step.id), rule: rule.into() });
    }
}

/// What has become of nginx's site.
#[derive(Default)]
enum SiteState {
    #[default]
    AsBefore,
    Installed(Site),
    Removed,
}

impl SiteState {
    fn installed(&self) -> Option<&Site> {
        if let Self::Installed(site) = self { Some(site) } else { None }
    }

    fn is_removed(&self) -> bool {
        matches!(self, Self::Removed)
    }
}

/// The effects of earlier waves.
#[derive(Default)]
struct PrecedingSteps {
    snapshots: usize,
    migrations: usize,
    /// Where instances were started and what has been asked since, of each slot.
    started: BTreeMap<Slot, BTreeSet<Endpoint>>,
    healthy: BTreeMap<Slot, BTreeSet<Endpoint>>,
    site: SiteState,
    switched: Option<Slot>,
    housekeeping: bool,
}

impl PrecedingSteps {
    /// Where only the hosts change, the traffic is where it was.
    fn none(plan: &Plan) -> Self {
        let switched = plan.live_slot.filter(|_| !plan.kind.changes_release());
        Self { switched, ..Self::default() }
    }

    /// Whether nginx sends requests to none of `endpoints` of the slot.
    fn are_without_traffic(&self, slot: Slot, endpoints: &[Endpoint]) -> bool {
        if self.site.is_removed() {
            return true;
        }
        match (self.site.installed(), self.switched) {
            (Some(site), Some(switched)) if switched == slot => {
                endpoints.iter().all(|endpoint| !site.endpoints_of(slot).contains(endpoint))
            }
            (None, Some(switched)) => switched != slot,
            (Some(_), Some(_)) | (_, None) => true,
        }
    }

    /// What is live may be started and stopped on the one host that the plan is about, while nginx sends it nothing.
    fn is_apart(&self, plan: &Plan, step: &Step) -> bool {
        let is_of_host = plan.operation.host() == Some(&step.host_name);
        let serves_later = plan.serving.contains(&step.host_name);
        let is_before_site = self.site.installed().is_none();
        let is_start = matches!(step.action, Action::StartSlot { .. });
        is_of_host && is_start == serves_later && is_start == is_before_site
    }

    /// What is live may be stopped if it is given up: once nginx does not serve it, and the last snapshot is taken.
    fn is_given_up(&self, plan: &Plan, step: &Step) -> bool {
        let is_stop = matches!(step.action, Action::StopSlot { .. });
        let is_saved = !wants_snapshot(plan) || plan.secrets_version.is_none() || self.snapshots > 0;
        plan.operation == Operation::Decommission && is_stop && self.site.is_removed() && is_saved
    }

    /// Instances of the live slot that this plan has started must be healthy before they get requests.
    fn site(&self, plan: &Plan, step: &Step, site: &Site, broken: &mut Violations) {
        let Some(live) = plan.live_slot else { return };
        let none = BTreeSet::new();
        let healthy = self.healthy.get(&live).unwrap_or(&none);
        let started = self.started.get(&live).unwrap_or(&none);
        for endpoint in started.iter().filter(|started| !healthy.contains(*started)) {
            if site.endpoints_of(live).contains(endpoint) {
                broken.add(Some(step), format!("sends requests to {endpoint} before it is healthy"));
            }
        }
        if let Some(left_out) = started.iter().find(|started| !site.endpoints_of(live).contains(*started)) {
            broken.add(Some(step), format!("omits {left_out}, which is an instance of {live}"));
        }
    }

    fn note(&mut self, step: &Step) {
        self.housekeeping |= step.on_failure == OnFailure::Note;
        match &step.action {
            Action::TakeSnapshot(_) => self.snapshots += 1,
            Action::Migrate(_) => self.migrations += 1,
            Action::StartSlot { slot, .. } => {
                for endpoint in step.action.starts() {
                    self.healthy.entry(*slot).or_default().remove(&endpoint);
                    self.started.entry(*slot).or_default().insert(endpoint);
                }
            }
            Action::StopSlot { slot } => {
                self.healthy.remove(slot);
            }
            Action::CheckHealth(check) => {
                self.healthy.entry(check.slot).or_default().extend(check.targets.iter().cloned());
            }
            Action::InstallSite { site, .. } => self.site = SiteState::Installed(site.clone()),
            Action::RemoveSite => self.site = SiteState::Removed,
            Action::SwitchTraffic(switch) => self.switched = Some(switch.to),
            Action::Preflight(_)
            | Action::PresentImage(_)
            | Action::AdmitHosts(_)
            | Action::RestoreSite
            | Action::MoveWorkers { .. }
            | Action::Bake { .. }
            | Action::DrainSlot { .. }
            | Action::CleanUp(_) => {}
        }
    }

    /// Hosts are admitted before anything starts there, and lose their line only after they are removed.
    fn admission(&self, plan: &Plan, step: &Step, admission: &HbaBlock, broken: &mut Violations) {
        match (step.on_failure, &plan.operation) {
            (OnFailure::Unwind, _) if !self.started.is_empty() => {
                broken.add(Some(step), "admits hosts to the database after containers were started on them");
            }
            (OnFailure::Unwind, _) => {}
            (OnFailure::Note, Operation::RemoveHost(host)) => {
                if self.site.installed().is_none() {
                    broken.add(Some(step), format!("removes {host} from pg_hba.conf while it gets traffic"));
                }
                if admission.names(host) {
                    broken.add(
                        Some(step),
                        format!("keeps the line of {host} in pg_hba.conf, although the host is removed"),
                    );
                }
            }
            (OnFailure::Note, Operation::Decommission) => {
                if !self.site.is_removed() {
                    broken.add(Some(step), "removes hosts from pg_hba.conf while they get traffic");
                }
                if !admission.lines.is_empty() {
                    broken
                        .add(Some(step), "keeps lines in pg_hba.conf, although the environment is given up");
                }
            }
            (OnFailure::Note, _) => {
                broken.add(Some(step), "removes a host from pg_hba.conf, although no host is removed")
            }
        }
    }

    /// One switch for all: to every instance of the slot, each healthy, and where nginx sends requests to.
    fn switch(&self, step: &Step, switch: &SwitchTraffic, broken: &mut Violations) {
        let to = switch.to;
        let named: BTreeSet<Endpoint> = switch.endpoints.iter().cloned().collect();
        if named.is_empty() {
            broken.add(Some(step), "switches to no instance");
        }
        let none = BTreeSet::new();
        let (healthy, started) =
            (self.healthy.get(&to).unwrap_or(&none), self.started.get(&to).unwrap_or(&none));
        if !named.is_subset(healthy) {
            broken.add(Some(step), format!("switches to {to} before every instance is healthy"));
        }
        if let Some(left_out) = started.union(healthy).find(|endpoint| !named.contains(endpoint)) {
            broken.add(Some(step), format!("omits {left_out}, which is an instance of {to}"));
        }
        let of_site = self.site.installed().map(|site| site.endpoints_of(to));
        if of_site.is_some_and(|of_site| of_site.iter().cloned().collect::<BTreeSet<_>>() != named) {
            broken.add(Some(step), format!("names other instances of {to} than the nginx site has"));
        }
    }
}

fn wants_snapshot(plan: &Plan) -> bool {
    plan.spec.database.as_ref().is_some_and(|database| database.snapshot.is_some())
}

fn shape(plan: &Plan, broken: &mut Violations) {
    if !plan.steps().any(|step| step.on_failure == OnFailure::Unwind) {
        broken.add(None, "the plan has no step whose failure reverts it");
    }
    let mut last = StepId(0);
    for wave in &plan.waves {
        if wave.steps.is_empty() {
            broken.add(None, "the plan has an empty wave");
        }
        let mut hosts = BTreeSet::new();
        for step in &wave.steps {
            if step.id <= last {
                broken.add(Some(step), "its number is not higher than that of the step before");
            }
            last = step.id;
            if !hosts.insert(&step.host) {
                broken.add(Some(step), format!("{} has two steps in one wave", step.host_name));
            }
            if step.limit.0 == 0 {
                broken.add(Some(step), "has no deadline");
            }
        }
    }
}

fn order(plan: &Plan, step: &Step, before: &PrecedingSteps, broken: &mut Violations) {
    if before.housekeeping && step.on_failure == OnFailure::Unwind {
        broken.add(Some(step), "comes after housekeeping, although its failure reverts the deployment");
    }
    let gives_up = plan.operation == Operation::Decommission;
    match &step.action {
        Action::TakeSnapshot(_) if before.migrations > 0 => {
            broken.add(Some(step), "takes the snapshot after the migration")
        }
        Action::Migrate(_) if before.migrations > 0 => broken.add(Some(step), "migrates a second time"),
        Action::Migrate(_) if wants_snapshot(plan) && before.snapshots == 0 => {
            broken.add(Some(step), "migrates before a snapshot was taken");
        }
        Action::StartSlot { slot, .. } | Action::StopSlot { slot }
            if Some(*slot) == plan.live_slot
                && !before.is_apart(plan, step)
                && !before.is_given_up(plan, step) =>
        {
            broken.add(Some(step), format!("starts or stops {slot}, which is live"));
        }
        Action::SwitchTraffic(_) if !plan.kind.changes_release() => {
            broken.add(Some(step), "switches the traffic in a plan that changes only hosts");
        }
        Action::SwitchTraffic(switch) => before.switch(step, switch, broken),
        Action::InstallSite { .. } | Action::StartSlot { .. } | Action::Migrate(_) if gives_up => {
            broken.add(Some(step), "brings something, although the environment is given up");
        }
        Action::RemoveSite if !gives_up => {
            broken.add(Some(step), "removes the nginx site, although the environment is not given up");
        }
        Action::InstallSite { site, .. } => before.site(plan, step, site, broken),
        Action::AdmitHosts(admission) => before.admission(plan, step, admission, broken),
        Action::MoveWorkers { .. } | Action::Bake { .. } | Action::DrainSlot { .. }
            if before.switched.is_none() =>
        {
            broken.add(Some(step), "comes before the switch");
        }
        Action::DrainSlot { slot, ports, .. } if !before.are_without_traffic(*slot, ports) => {
            broken.add(Some(step), format!("drains {slot}, which has the traffic"));
        }
        Action::CleanUp(clean_up) if !gives_up && !clean_up.keep_images.contains(&plan.release.image_id) => {
            broken.add(Some(step), "removes the image of the release that the plan deploys");
        }
        Action::Preflight(_)
        | Action::PresentImage(_)
        | Action::TakeSnapshot(_)
        | Action::Migrate(_)
        | Action::StartSlot { .. }
        | Action::StopSlot { .. }
        | Action::CheckHealth(_)
        | Action::RemoveSite
        | Action::RestoreSite
        | Action::MoveWorkers { .. }
        | Action::Bake { .. }
        | Action::DrainSlot { .. }
        | Action::CleanUp(_) => {}
    }
}

fn undo(plan: &Plan, step: &Step, broken: &mut Violations) {
    match (&step.action, &step.undo) {
        (Action::StartSlot { slot, .. }, Undo::By { action: Action::StopSlot { slot: stopped }, .. })
            if slot == stopped => {}
        (Action::StartSlot { slot, .. }, _) => {
            broken.add(Some(step), format!("its undo does not stop {slot}"))
        }
        (Action::SwitchTraffic(_), Undo::By { action: Action::SwitchTraffic(back), .. })
            if Some(back.to) == plan.live_slot => {}
        (Action::SwitchTraffic(_), Undo::Nothing { .. }) if plan.live_slot.is_none() => {}
        (Action::SwitchTraffic(_), _) => broken.add(Some(step), "its undo does not switch the traffic back"),
        (Action::InstallSite { .. }, Undo::By { action: Action::RemoveSite | Action::RestoreSite, .. }) => {}
        (Action::InstallSite { .. }, _) => broken.add(Some(step), "its undo does not restore the site"),
        (Action::RemoveSite, Undo::By { action: Action::RestoreSite, .. }) => {}
        (Action::RemoveSite, _) => broken.add(Some(step), "its undo does not restore the site"),
        (Action::AdmitHosts(wanted), Undo::By { action: Action::AdmitHosts(before), .. })
            if wanted.keeps(before) => {}
        (Action::AdmitHosts(_), Undo::Nothing { .. }) if step.on_failure == OnFailure::Note => {}
        (Action::AdmitHosts(_), _) => {
            broken.add(Some(step), "its undo does not keep the earlier lines of pg_hba.conf")
        }
        (Action::MoveWorkers { .. }, Undo::By { action: Action::MoveWorkers { .. }, .. }) => {}
        (Action::MoveWorkers { .. }, Undo::Nothing { .. }) if plan.live_slot.is_none() => {}
        // It moves none.
        (Action::MoveWorkers { stop: None, containers, .. }, _) if containers.is_empty() => {}
        (Action::MoveWorkers { .. }, _) => broken.add(Some(step), "its undo does not move the workers back"),
        (
            Action::Preflight(_)
            | Action::PresentImage(_)
            | Action::TakeSnapshot(_)
            | Action::Migrate(_)
            | Action::StopSlot { .. }
            | Action::CheckHealth(_)
            | Action::RestoreSite
            | Action::Bake { .. }
            | Action::DrainSlot { .. }
            | Action::CleanUp(_),
            _,
        ) => {}
    }
}
