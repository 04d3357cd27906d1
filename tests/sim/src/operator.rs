//! The operator: asks for deployments one after another, cancels some, and helps those that are stuck.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::grants::Authority;
use lockstep_coordinator::planning::{
    DeployError, DeployRequest, PlanRequest, RequestedOperation as Asked, Requester, StartRequest, claims,
};
use lockstep_coordinator::store::{Store, keys};
use lockstep_core::id::DeploymentId;
use lockstep_core::plan::Action;
use lockstep_core::plan::operation::ChangedSite;
use lockstep_core::record::claim::{Claim, ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::EnvironmentSpec;

use crate::invariant::{ENDS, NOTHING_LOST, REALITY};
use crate::reality::Image;
use crate::schedule::{Release, Shape, Wanted, What};
use crate::world::{World, wait};

/// How long a command waits for its answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long after the last fault a deployment may still be open.
const ENDS_WITHIN_MS: u64 = 45 * 60_000;

/// A host that was passed by is on its way back by then, when nothing is in its way.
const RETURNS_WITHIN_MS: u64 = 40_000;

/// How often a command that was refused is given again.
const COMMANDS_MAX: usize = 100;

/// Where the snapshots of the environment are.
pub const SNAPSHOTS: &str = "/snapshots";

fn anna() -> Requester {
    Requester {
        operator: "anna".parse().expect("a name"),
        hostname: "ws".to_owned(),
        pid: 7,
        authority: Authority::Administrator,
    }
}

pub fn declaration(shape: Shape, number: usize) -> EnvironmentSpec {
    let process = |role: &str, port: Option<u16>| {
        serde_json::json!({
            "role": role, "command": [], "port": port,
            "health": { "path": "/health", "timeout": 10_000, "interval": 500, "consecutive": 3 },
            "volumes": [], "memory_bytes": null, "cpu_milli": null, "user": null, "stop_signal": null,
            "stop_grace": 1_000, "standby": "run",
        })
    };
    let hosts = match shape {
        Shape::One => serde_json::json!({ "app": [], "lb": [], "db": [] }),
        Shape::Two => serde_json::json!({ "app": ["app-1"], "lb": ["edge-1"], "db": ["edge-1"] }),
        Shape::Three => {
            serde_json::json!({ "app": ["app-1", "app-2"], "lb": ["edge-1"], "db": ["edge-1"] })
        }
    };
    let parallel = (shape == Shape::Three && number.is_multiple_of(2)).then_some(1);
    let quorum = (shape == Shape::Three && number % 3 == 1).then_some(1);
    // Some declarations differ in what nginx gets.
    let body_limit = if number.is_multiple_of(3) { "20m" } else { "10m" };
    serde_json::from_value(serde_json::json!({
        "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
        "mode": "staging", "image": { "repository": "notes" },
        "processes": { "web": process("web", Some(8080)), "work": process("worker", None) },
        "database": {
            "url_from": "DATABASE_URL", "migrations": "/migrations",
            "snapshot": { "directory": SNAPSHOTS, "keep": 3 },
        },
        "traffic": { "body_limit": body_limit, "read_timeout": 60_000 }, "networks": [],
        "deploy": { "lock_timeout": 900_000, "drain": 1_000, "bake": 600, "parallel": parallel, "quorum": quorum, "log_directory": null, "state_file": null },
        "env": {}, "required": [], "public": [], "hosts": hosts,
    }))
    .expect("a declaration")
}

/// Does all that the schedule says, and waits until it is done.
pub async fn operate(world: &Arc<World>) {
    let (wanted, past) = {
        let state = world.lock();
        (state.schedule.wanted.clone(), usize::from(state.schedule.past))
    };
    // Hosts attach first.
    wait(10).await;
    for (number, wanted) in wanted.into_iter().enumerate() {
        let Some(id) = begin(world, wanted, past + number + 1).await else {
            continue;
        };
        world.tell(|| format!("{id} is open"));
        world.lock().check.acknowledged.push(id.clone());
        if let Some(after_ms) = wanted.cancel_after_ms {
            wait(after_ms).await;
            cancel(world, &id).await;
        }
        if !ended(world, &id).await {
            return;
        }
        verify(world, &id);
        if !all_ended(world).await {
            return;
        }
    }
    // What comes late must find nothing to do.
    let late_ms = world.chance(|rng| if rng.u8(0..40) == 0 { 85_000 } else { rng.u64(500..2_500) });
    let late_ms = if is_passing_by(world) { late_ms.max(RETURNS_WITHIN_MS) } else { late_ms };
    wait(late_ms).await;
    if !all_ended(world).await {
        return;
    }
    let last = world.lock().check.acknowledged.last().cloned();
    if let Some(last) = last {
        verify(world, &last);
    }
}

/// A host that was passed by may be on its way back, in a deployment that no operator asked for.
async fn all_ended(world: &Arc<World>) -> bool {
    while let Some(id) = opened(world).and_then(|open| open.deployment().cloned()) {
        if !ended(world, &id).await {
            return false;
        }
    }
    true
}

fn opened(world: &World) -> Option<Claim> {
    world.store.peek(&world.keys.open).and_then(|stored| stored.read().ok())
}

/// What is live is without a host that it should have.
fn is_passing_by(world: &World) -> bool {
    let live: Option<LiveRelease> = world.store.peek(&world.keys.live).and_then(|stored| stored.read().ok());
    live.is_some_and(|live| !live.excluded.is_empty())
}

pub fn any_coordinator(world: &World) -> usize {
    let coordinators = world.lock().coordinators.len();
    world.chance(|rng| rng.usize(0..coordinators))
}

/// Asks until a deployment is open. Nothing: there is nothing to do for what was wanted.
async fn begin(world: &Arc<World>, wanted: Wanted, number: usize) -> Option<DeploymentId> {
    let shape = world.lock().schedule.shape;
    let what = match wanted.what {
        What::Rollback => Asked::Rollback { to: None, changed_site: ChangedSite::Refused },
        What::Decommission => Asked::Decommission,
        What::Deploy(release) => {
            let image = Image::new(number, release);
            let name = image.name.clone();
            world.lock().reality.images.insert(image.id.clone(), image);
            Asked::Deploy(Box::new(DeployRequest::of(declaration(shape, number), name)))
        }
    };
    let start = StartRequest::of(PlanRequest { environment: world.key.clone(), what });
    for _ in 0..COMMANDS_MAX {
        let parts = world.parts(any_coordinator(world));
        let started = tokio::time::timeout(ANSWER_LIMIT, planning::start(&parts, &start, &anna())).await;
        match started {
            Ok(Ok((id, _))) => return Some(id),
            Ok(Err(DeployError::Refused(refusal))) => {
                world.tell(|| format!("refused: {} {}", refusal.what, refusal.why));
                let has_nothing = match wanted.what {
                    What::Rollback => {
                        refusal.what.contains("earlier release") || refusal.what.contains("roll back")
                    }
                    What::Decommission => refusal.what.contains("nothing is live"),
                    What::Deploy(_) => false,
                };
                if has_nothing {
                    return None;
                }
            }
            // An earlier command, whose answer was lost, may have been the one.
            Ok(Err(DeployError::Locked { open, .. })) => {
                if let Some(id) = open.deployment() {
                    return Some(id.clone());
                }
            }
            Ok(Err(error)) => world.tell(|| format!("no answer: {error:?}")),
            Err(_) => world.tell(|| "no answer in time".to_owned()),
        }
        if let Some(id) = opened(world).and_then(|open| open.deployment().cloned()) {
            return Some(id);
        }
        wait(1_000).await;
    }
    world.break_off(ENDS, "no deployment can be opened");
    None
}

async fn cancel(world: &Arc<World>, id: &DeploymentId) {
    for _ in 0..COMMANDS_MAX {
        let parts = world.parts(any_coordinator(world));
        let answered =
            tokio::time::timeout(ANSWER_LIMIT, claims::cancel(&parts, &world.key, id, &anna())).await;
        match answered {
            Ok(Ok(_)) => {
                world.tell(|| format!("{id} is to be cancelled"));
                return;
            }
            // It has ended, or is stuck.
            Ok(Err(DeployError::Refused(_) | DeployError::Locked { .. })) => return,
            Ok(Err(_)) | Err(_) => wait(500).await,
        }
    }
}

/// Waits until the deployment has ended; helps it where it is stuck.
async fn ended(world: &Arc<World>, id: &DeploymentId) -> bool {
    let mut wakeups = world.store.watch(&keys::environment(&world.key));
    loop {
        match opened(world) {
            Some(open) if open.deployment() == Some(id) => {
                if let ClaimKind::Stuck { .. } = open.kind {
                    wait(1_000).await;
                    let parts = world.parts(any_coordinator(world));
                    let anna = anna();
                    let way = if world.chance(|rng| rng.u8(0..4)) == 0 {
                        Resolution::Unwind
                    } else {
                        Resolution::Retry
                    };
                    let retry = claims::resolve(&parts, (&world.key, id), way, &anna);
                    if tokio::time::timeout(ANSWER_LIMIT, retry).await.is_ok_and(|retried| retried.is_ok()) {
                        world.tell(|| format!("{id} is to go on: {way:?}"));
                    }
                }
            }
            Some(_) | None => return true,
        }
        if world.now() > world.lock().check.held_up_until() + ENDS_WITHIN_MS {
            world.break_off(ENDS, "it stands still: nothing is in its way, and it is open");
            return false;
        }
        tokio::select! {
            biased;
            () = wakeups.changed() => {}
            () = wait(3_000) => {}
        }
    }
}

/// What was acknowledged is in the history, with its verdict, and the record is so.
fn verify(world: &World, id: &DeploymentId) {
    let summary = world.store.peek(keys::summary(id).key());
    let summary: Option<DeploymentSummary> = summary.and_then(|stored| stored.read().ok());
    let kept = world.store.peek(keys::history_entry(&world.key, id).key()).is_some();
    let Some(verdict) = summary.as_ref().filter(|_| kept).and_then(|summary| summary.verdict) else {
        return world.break_off(NOTHING_LOST, format!("{id} was acknowledged, and is not in the history"));
    };
    let is_lied_to = world.lock().check.is_lied_to();
    let snapshots = &world.lock().reality.database.snapshots.clone();
    let taken = summary.and_then(|summary| summary.receipt.snapshot);
    if taken.is_some() && !snapshots.contains(id) && !is_lied_to {
        return world.break_off(NOTHING_LOST, format!("the snapshot of {id} is listed, and is not there"));
    }
    // A host that is on its way back may have begun to move.
    if opened(world).is_none()
        && let Err(broken) = world.ended(id, verdict)
    {
        world.break_off(broken.0, broken.1);
    }
    if verdict == Verdict::Succeeded && !can_serve(world, id) && !is_lied_to {
        world.break_off(REALITY, format!("{id} has succeeded with a release that cannot serve"));
    }
}

/// Whether the release of a deployment becomes healthy, and its plan is one that can be carried out.
fn can_serve(world: &World, id: &DeploymentId) -> bool {
    let state = world.lock();
    let Some(mirror) = state.check.runs.get(id) else { return false };
    let plan = mirror.run.plan();
    let migrates = plan.steps().any(|step| matches!(step.action, Action::Migrate(_)));
    match state.reality.images.get(&plan.release.image_id).map(|image| image.release) {
        Some(Release::NeverHealthy) => false,
        Some(Release::MigrationFails) => !migrates,
        Some(Release::Good) | None => true,
    }
}
