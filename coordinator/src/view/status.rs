//! The status of environments, for `lockstep status`: recorded state, running containers, reports of agents, and
//! drift.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::health::InstanceHealth;
use lockstep_core::host::Host;
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::plan::Action;
use lockstep_core::planner::earlier_good;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::LocalChange;
use lockstep_core::record::observed::{ContainerRunState, Observation, SiteChangeOn};
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::release::Release;
use lockstep_core::run::engine::{Phase, Run, resolutions};
use lockstep_core::run::journal::{Direction, StepStatus};
use lockstep_core::secret::redact::Redactor;
use lockstep_core::spec::{EnvironmentSpec, HostRoles};
use lockstep_core::time::Millis;
use lockstep_core::view::environment::{
    ClaimStatus, EnvironmentStatus, RestartsOn, RollbackReady, RunningStep, SecretsSet, TrafficMoved,
};
use lockstep_core::view::host_status::{HostStatus, Presence};

use crate::context::Context;
use crate::drive::ending::failed_step;
use crate::ports::secrets::masks_everything;
use crate::record::environments::Recorded;
use crate::record::history::Past;
use crate::record::hosts::HostNotes;
use crate::record::{environments, history, hosts, local_rollbacks, pending_undos, tails};
use crate::store::StoreError;
use crate::view::drift;
use crate::view::drift::PlacedHosts;

mod observing;
mod slots;

use observing::{HostObserver, observe_database};

/// How many environments are worked on at a time.
const AT_A_TIME: usize = 128;

/// What a rollback to a warm slot does.
const ROLLBACK_STEPS: [&str; 3] = ["health", "switch", "workers"];

/// How long it is told that another machine showed a host's key, after it did so last.
const SECOND_TOLD_FOR: Millis = Millis::from_secs(3600);

/// What a rollback takes where none was measured.
const SWITCH_USUALLY: Millis = Millis(500);

/// One environment with what its hosts see.
///
/// # Errors
/// When the record cannot be read.
pub async fn load_status(context: &Context, spec: &EnvironmentSpec) -> Result<EnvironmentStatus, StoreError> {
    let store = &*context.store;
    let (live, open, removal) = tokio::try_join!(
        environments::live(store, &spec.key),
        environments::open(store, &spec.key),
        environments::removal(store, &spec.key)
    )?;
    let (open, removal) = (open.map(|seen| seen.content), removal.map(|seen| seen.content));
    let recorded = Recorded { spec: spec.clone(), live, open, removal };
    let shared = Shared::read(context).await?;
    observed(context, &shared, recorded).await
}

/// Several environments with what their hosts see, in the order in which they are given.
///
/// # Errors
/// When the record cannot be read.
pub async fn of_all(
    context: &Context,
    all: Vec<Recorded>,
    databases: DatabaseLook,
) -> Result<Vec<EnvironmentStatus>, StoreError> {
    let shared = Shared { databases, ..Shared::read(context).await? };
    let statuses: Vec<_> = all.into_iter().map(|one| observed(context, &shared, one)).collect();
    stream::iter(statuses).buffered(AT_A_TIME).try_collect().await
}

/// Several environments as recorded, without asking any host, in the order in which they are given.
///
/// # Errors
/// When the record cannot be read.
pub async fn all_recorded(
    context: &Context,
    all: Vec<Recorded>,
) -> Result<Vec<EnvironmentStatus>, StoreError> {
    let shared = Shared::read(context).await?;
    let mut statuses = Vec::new();
    for one in all {
        let key = one.spec.key.clone();
        statuses.push(recorded_status(context, &shared, one, &mut Past::of(&*context.store, &key)).await?);
    }
    Ok(statuses)
}

/// Whether a status has the database's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseLook {
    /// It is asked, with the credentials of the application.
    Ask,
    Skip,
}

/// What is read once for all environments of a status.
struct Shared {
    hosts: Vec<Host>,
    noted: BTreeMap<HostId, HostNotes>,
    pending_undos: BTreeMap<EnvironmentKey, Vec<PendingUndo>>,
    local: BTreeMap<EnvironmentKey, Vec<LocalChange>>,
    observer: HostObserver,
    databases: DatabaseLook,
}

impl Shared {
    async fn read(context: &Context) -> Result<Self, StoreError> {
        let store = &*context.store;
        let (hosts, noted, undos, local) = tokio::try_join!(
            hosts::list(store),
            hosts::notes(store),
            pending_undos::list(store),
            local_rollbacks::list(store)
        )?;
        let mut pending_undos: BTreeMap<_, Vec<PendingUndo>> = BTreeMap::new();
        for undo in undos {
            pending_undos.entry(undo.environment.clone()).or_default().push(undo);
        }
        let observer = HostObserver::at(&hosts);
        Ok(Self { hosts, noted, pending_undos, local, observer, databases: DatabaseLook::Skip })
    }
}

async fn observed(
    context: &Context,
    shared: &Shared,
    all: Recorded,
) -> Result<EnvironmentStatus, StoreError> {
    let spec = all.spec.clone();
    let mut past = Past::of(&*context.store, &spec.key);
    let mut status = recorded_status(context, shared, all, &mut past).await?;
    // What was declared and never got the traffic is no drift: what serves is looked at where it was deployed.
    let roles = status.live.as_ref().map_or_else(|| spec.hosts.clone(), LiveRelease::roles);
    let placed = place_hosts(&roles, &shared.hosts);
    let mine = each_once(&placed);
    // While a deployment runs, the record and the reality differ as they should.
    let is_at_rest = status.open.as_ref().is_none_or(|open| open.open.deployment().is_none());
    let live = status.live.as_ref().filter(|_| is_at_rest && shared.databases == DatabaseLook::Ask);
    let ((observed, mut drift), database, undeployed) = tokio::join!(
        shared.observer.observe(&*context.agents, &spec.key, &mine),
        observe_database(context, &shared.hosts, live),
        undeployed_secrets(context, status.live.as_ref().filter(|_| is_at_rest))
    );
    status.undeployed_secrets = undeployed?;
    if is_at_rest {
        drift.extend(drift::find_drift(&spec.key, status.live.as_ref(), &placed, &observed));
    }
    drift.extend(drift::problems(&placed, &observed));
    drift.extend(drift::schema(status.last.as_ref(), database.as_ref()));
    status.drift = drift;
    status.database = database;
    status.restarts = mine.iter().flat_map(|host| restarts_on(host, observed.get(&host.id))).collect();
    status.site_changed = placed.lb.and_then(|lb| site_changed(lb, &observed));
    let releases = releases(&status, &observed, &mut past).await?;
    status.hosts = with_health(context, &status, past.read(), (&mine, &shared.noted)).await;
    status.traffic = slots::traffic(&placed, &observed);
    for there in &mut status.hosts {
        if let Some(seen) = observed.get(&there.host.id) {
            let share = slots::share(&placed, &there.host);
            let traffic = status.traffic.as_ref().map(|traffic| traffic.slot);
            let share = |slot| if traffic == Some(slot) { share } else { 0 };
            there.slots = slots::slots_of(seen, &there.instances, &releases, share);
        }
    }
    if let (Some(live), Some(rollback)) = (&status.live, &mut status.rollback) {
        let is_warm = placed
            .app
            .iter()
            .all(|host| observed.get(&host.id).is_some_and(|seen| is_warm(seen, live, rollback, &spec)));
        rollback.takes = is_warm.then(|| usual_rollback_time(status.last.as_ref()));
    }
    Ok(status)
}

/// The newest secrets, if what is live was deployed with others.
async fn undeployed_secrets(
    context: &Context,
    live: Option<&LiveRelease>,
) -> Result<Option<SecretsSet>, StoreError> {
    match live {
        None => Ok(None),
        Some(live) => context.secrets.newer_than(&live.spec.key, live.secrets_version).await,
    }
}

/// What each of `hosts` sees of an environment, or why it does not say.
pub(crate) async fn observe_each<'h>(
    context: &Context,
    environment: &EnvironmentKey,
    hosts: &'h [Host],
) -> Vec<(&'h Host, Result<Observation, String>)> {
    let observer = HostObserver::at(hosts);
    let questions = hosts.iter().map(|host| observer.observe_host(&*context.agents, environment, host));
    hosts.iter().zip(join_all(questions).await).collect()
}

/// The hosts of an environment: what serves and the load balancer, which may be one of them.
fn each_once<'a>(placed: &PlacedHosts<'a>) -> Vec<&'a Host> {
    let mut mine: Vec<&Host> = Vec::new();
    for host in placed.app.iter().copied().chain(placed.lb) {
        if mine.iter().all(|there| there.id != host.id) {
            mine.push(host);
        }
    }
    mine
}

/// The releases of the deployments whose containers are there.
async fn releases(
    status: &EnvironmentStatus,
    observed: &BTreeMap<HostId, Observation>,
    past: &mut Past<'_>,
) -> Result<BTreeMap<DeploymentId, Release>, StoreError> {
    let there: BTreeSet<&DeploymentId> =
        observed.values().flat_map(|seen| &seen.containers).map(|container| &container.deployment).collect();
    let open = status.open.as_ref().and_then(|open| Some((open.open.deployment()?, open.release.as_ref()?)));
    let mut releases = BTreeMap::new();
    for id in there {
        let release = match open {
            Some((open, release)) if open == id => Some(release.clone()),
            Some(_) | None => past.find(|past| release_of(past, id)).await?,
        };
        releases.extend(release.map(|release| (id.clone(), release)));
    }
    Ok(releases)
}

fn release_of(past: &[DeploymentSummary], id: &DeploymentId) -> Option<Release> {
    past.iter().find(|summary| summary.id == *id).map(|summary| summary.release.clone())
}

fn restarts_on(host: &Host, seen: Option<&Observation>) -> Vec<RestartsOn> {
    let containers = seen.into_iter().flat_map(|seen| &seen.containers);
    let restarts = containers.filter_map(|container| {
        let restarts = container.restarts?;
        Some(RestartsOn {
            host: host.name.clone(),
            slot: container.slot,
            process: container.process.clone(),
            restarts,
        })
    });
    restarts.collect()
}

fn site_changed(lb: &Host, observed: &BTreeMap<HostId, Observation>) -> Option<SiteChangeOn> {
    let change = observed.get(&lb.id)?.site_changed.clone()?;
    Some(SiteChangeOn { host: lb.name.clone(), change })
}

/// What the steps of a rollback took when they were last done.
fn usual_rollback_time(last: Option<&DeploymentSummary>) -> Millis {
    let steps = last.map(|last| last.steps.as_slice()).unwrap_or_default();
    let of_rollback = steps.iter().filter(|step| ROLLBACK_STEPS.contains(&step.name.as_str()));
    match of_rollback.map(|step| step.took.0).sum() {
        0 => SWITCH_USUALLY,
        took => Millis(took),
    }
}

/// One environment as recorded, without asking any host.
async fn recorded_status(
    context: &Context,
    shared: &Shared,
    Recorded { spec, live, open, removal }: Recorded,
    past: &mut Past<'_>,
) -> Result<EnvironmentStatus, StoreError> {
    let last = past.find(|past| past.first().cloned()).await?;
    let rollback = match &live {
        Some(live) => past.find(|past| rollback_ready(live, past)).await?,
        None => None,
    };
    let open = match open {
        Some(open) if open.deployment().is_some() || context.clock.now() < open.until => {
            Some(open_status(context, open).await?)
        }
        Some(_) | None => None,
    };
    let pending_undos = shared.pending_undos.get(&spec.key).cloned().unwrap_or_default();
    let local = shared.local.get(&spec.key).map(Vec::as_slice).unwrap_or_default();
    let local = local_rollbacks::relevant(local, live.as_ref());
    // A deployment that failed has left its declaration; what serves was declared otherwise.
    let shown = live.as_ref().map_or(&spec, |live| &live.spec);
    Ok(EnvironmentStatus {
        url: shown.url.clone(),
        description: shown.description.clone(),
        branch: shown.branch.clone(),
        key: spec.key,
        live,
        rollback,
        open,
        last,
        hosts: Vec::new(),
        traffic: None,
        drift: Vec::new(),
        database: None,
        restarts: Vec::new(),
        site_changed: None,
        pending_undos,
        local,
        removal,
        undeployed_secrets: None,
    })
}

fn rollback_ready(live: &LiveRelease, past: &[DeploymentSummary]) -> Option<RollbackReady> {
    let good = earlier_good(live, past)?;
    Some(RollbackReady { deployment: good.id.clone(), release: good.release.clone(), takes: None })
}

/// Every host that has joined, without the containers of any environment.
///
/// # Errors
/// When the record cannot be read.
pub async fn all_hosts(
    context: &Context,
    may: impl Fn(&EnvironmentKey) -> bool,
) -> Result<Vec<HostStatus>, StoreError> {
    let all = hosts::list(&*context.store).await?;
    let undos = pending_undos::list(&*context.store).await?;
    let noted = hosts::notes(&*context.store).await?;
    let is_shown = |undo: &&PendingUndo, host: &Host| undo.host == host.id && may(&undo.environment);
    let of = |host: &Host| undos.iter().filter(|undo| is_shown(undo, host)).cloned().collect();
    let status = |host| HostStatus { pending_undos: of(host), ..host_status(context, host, &noted) };
    Ok(all.iter().map(status).collect())
}

/// A host that is connected is known better by its coordinator than by what was written down.
fn host_status(context: &Context, host: &Host, noted: &BTreeMap<HostId, HostNotes>) -> HostStatus {
    let HostNotes { sighting, second } = noted.get(&host.id).cloned().unwrap_or_default();
    let connected = context.agents.session_of(&host.id);
    let presence = if connected.is_some() { Presence::Connected } else { Presence::Absent };
    let sighting = connected.or(sighting);
    let last_seen = sighting.as_ref().map(|seen| seen.at);
    let second = second.map(|second| second.session).filter(|second| {
        second.is_proven(last_seen) && context.clock.now().since(second.last) < SECOND_TOLD_FOR
    });
    HostStatus {
        host: host.clone(),
        presence,
        agent_version: sighting.as_ref().map(|seen| seen.version.clone()),
        instances: Vec::new(),
        slots: Vec::new(),
        pending_undos: Vec::new(),
        last_seen,
        vitals: sighting.and_then(|seen| seen.vitals),
        second,
    }
}

async fn with_health(
    context: &Context,
    environment: &EnvironmentStatus,
    past: &[DeploymentSummary],
    (mine, noted): (&[&Host], &BTreeMap<HostId, HostNotes>),
) -> Vec<HostStatus> {
    let mut health = context.agents.health(&environment.key);
    if health.values().flatten().any(InstanceHealth::quotes) {
        for redactor in redactors(context, environment, past).await {
            for instances in health.values_mut() {
                let clean =
                    std::mem::take(instances).into_iter().map(|instance| instance.redacted(&redactor));
                *instances = clean.collect();
            }
        }
    }
    let status = |host: &&Host| {
        let instances = health.remove(&host.id).unwrap_or_default();
        HostStatus { instances, ..host_status(context, host, noted) }
    };
    mine.iter().map(status).collect()
}

/// Mask the secrets that a container may have: of what is live, of what is being deployed, and of `past`, some of which
/// is warm.
async fn redactors(
    context: &Context,
    environment: &EnvironmentStatus,
    past: &[DeploymentSummary],
) -> Vec<Redactor> {
    let key = &environment.key;
    let made = async {
        let mut versions: BTreeSet<Option<u64>> =
            past.iter().map(|summary| summary.secrets_version).collect();
        versions.insert(context.secrets.summary(key).await?.map(|newest| newest.version));
        versions.insert(environment.live.as_ref().and_then(|live| live.secrets_version));
        if let Some(open) = environment.open.as_ref().and_then(|open| open.open.deployment()) {
            let plan = history::plan(&*context.store, open).await?;
            versions.insert(plan.and_then(|plan| plan.secrets_version));
        }
        let mut redactors = Vec::new();
        for version in versions {
            redactors.push(context.secrets.redactor(key, version).await?);
        }
        anyhow::Ok(redactors)
    };
    made.await.unwrap_or_else(|error| vec![masks_everything(&error)])
}

pub(crate) fn place_hosts<'a>(roles: &HostRoles, all: &'a [Host]) -> PlacedHosts<'a> {
    let find = |name: &HostName| all.iter().find(|host| host.name == *name);
    let app: Vec<&Host> = if roles.app.is_empty() {
        match all {
            [only] => vec![only],
            [] | [_, _, ..] => Vec::new(),
        }
    } else {
        roles.app.iter().filter_map(find).collect()
    };
    let lb = roles.lb.first().and_then(find).or_else(|| app.first().copied());
    PlacedHosts { app, lb }
}

/// Whether the slot that is not live runs what a rollback would go to.
fn is_warm(seen: &Observation, live: &LiveRelease, rollback: &RollbackReady, spec: &EnvironmentSpec) -> bool {
    // Of one image, who started it tells one configuration from another.
    let is_same_image = rollback.release.image_id == live.release.image_id;
    spec.web_processes().all(|(process, _)| {
        seen.containers.iter().any(|container| {
            container.slot == live.slot.other()
                && container.process == *process
                && container.image_id == rollback.release.image_id
                && (!is_same_image || container.deployment == rollback.deployment)
                && container.running == ContainerRunState::Yes
        })
    })
}

async fn open_status(context: &Context, open: Claim) -> Result<ClaimStatus, StoreError> {
    let nothing_yet = |open| ClaimStatus {
        open,
        release: None,
        direction: Direction::Do,
        steps_done: 0,
        steps_all: 0,
        running: Vec::new(),
        failure: None,
        traffic_moved: TrafficMoved::NotYet,
        resolutions: Vec::new(),
    };
    let Some(id) = open.deployment().cloned() else {
        return Ok(nothing_yet(open));
    };
    let Some((run, summary)) = replayed(context, &id, &open).await? else {
        return Ok(nothing_yet(open));
    };
    let entries = history::journal(&*context.store, &id).await?;
    let tails = tails::of_deployment(&*context.store, &id).await?;
    let direction = direction(&run);
    let (steps_done, steps_all) = counted(&run, direction);
    let failure = failed_step(&summary, &run, &entries);
    Ok(ClaimStatus {
        release: Some(summary.release),
        direction,
        steps_done,
        steps_all,
        running: running(&run, &tails),
        failure,
        traffic_moved: traffic_moved(&run),
        resolutions: resolutions(&run),
        open,
    })
}

/// The run as far as its journal tells; nothing for a claim that has no plan yet.
async fn replayed(
    context: &Context,
    id: &DeploymentId,
    open: &Claim,
) -> Result<Option<(Run, DeploymentSummary)>, StoreError> {
    let store = &*context.store;
    let (Some(plan), Some(summary)) = (history::plan(store, id).await?, history::summary(store, id).await?)
    else {
        return Ok(None);
    };
    let entries = history::journal(store, id).await?;
    // A journal that cannot be replayed is the driver's affair, which says so; a status shows no progress.
    Ok(Run::replay(plan, open.until, &entries).ok().map(|run| (run, summary)))
}

fn direction(run: &Run) -> Direction {
    match run.phase() {
        Phase::Forward | Phase::Ended { .. } => Direction::Do,
        Phase::Reverting { .. } | Phase::Stuck { .. } => Direction::Undo,
    }
}

/// How many steps are done of how many; on the way back, how many of those that began are undone or need
/// no undo.
fn counted(run: &Run, direction: Direction) -> (u32, u32) {
    let mut done = 0;
    let mut all = 0;
    for step in run.plan_of(direction).steps() {
        let standing = run.step_status(step.id);
        match direction {
            Direction::Do => {
                all += 1;
                done += u32::from(*standing == StepStatus::Done);
            }
            Direction::Undo => {
                let needs_undo = match standing {
                    StepStatus::Waiting => false,
                    StepStatus::UndoDeferred => true,
                    StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. } | StepStatus::Undone => true,
                    StepStatus::Begun { .. } | StepStatus::Done | StepStatus::Failed { .. } => {
                        matches!(step.undo, lockstep_core::plan::Undo::By { .. })
                    }
                };
                all += u32::from(needs_undo);
                done += u32::from(matches!(standing, StepStatus::Undone | StepStatus::UndoDeferred));
            }
        }
    }
    (done, all)
}

fn running(run: &Run, tails: &BTreeMap<lockstep_core::id::StepId, String>) -> Vec<RunningStep> {
    run.plan()
        .steps()
        .filter_map(|step| {
            let (since, usual) = match run.step_status(step.id) {
                StepStatus::Begun { at } => (*at, step.usual),
                StepStatus::Undoing { at, .. } => (*at, None),
                StepStatus::Waiting
                | StepStatus::Done
                | StepStatus::Failed { .. }
                | StepStatus::UndoFailed { .. }
                | StepStatus::Undone
                | StepStatus::UndoDeferred => return None,
            };
            Some(RunningStep {
                step: step.id,
                name: step.action.name().to_owned(),
                host: step.host_name.clone(),
                since,
                usual,
                tail: tails.get(&step.id).cloned(),
            })
        })
        .collect()
}

/// A switch that began has perhaps happened.
fn traffic_moved(run: &Run) -> TrafficMoved {
    let moved = run.plan().steps().any(|step| {
        matches!(step.action, Action::SwitchTraffic(_))
            && !matches!(run.step_status(step.id), StepStatus::Waiting | StepStatus::Undone)
    });
    if moved { TrafficMoved::Moved } else { TrafficMoved::NotYet }
}
