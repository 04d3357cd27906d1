//! The neighbour: another environment on the same hosts, whose operators ask for what is not theirs.

use std::sync::Arc;

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::grants::Authority;
use lockstep_coordinator::planning::{
    DeployRequest, PlanRequest, RequestedOperation as Asked, Requester, StartRequest,
};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::spec::EnvironmentSpec;

use crate::invariant::OWN;
use crate::operator::{ANSWER_LIMIT, any_coordinator, declaration};
use crate::schedule::What;
use crate::world::{World, wait};

/// How often it asks in one run.
const TIMES: usize = 2;

/// Asks at some moments. Whatever else happens, it is refused, or has no answer.
pub async fn reach_out(world: Arc<World>) {
    for _ in 0..TIMES {
        let after_ms = world.chance(|rng| rng.u64(0..15_000));
        wait(after_ms).await;
        // Who may only deploy has no grant for any host. An administrator has: that one wants the name that is taken.
        let wants_name = is_name_taken(&world) && world.chance(fastrand::Rng::bool);
        let authority = if wants_name { Authority::Administrator } else { Authority::Deployer };
        let context = world.parts(any_coordinator(&world));
        let (start, by) = (request(&world), mallory(authority));
        let asked = planning::start(&context, &start, &by);
        if let Ok(Ok((id, _))) = tokio::time::timeout(ANSWER_LIMIT, asked).await {
            let what = format!("{id} of {} is open, and what it needs is not its own", start.ask.environment);
            return world.break_off(OWN, what);
        }
    }
}

/// Whether the environment is live all the time: then nobody else can have its name.
fn is_name_taken(world: &World) -> bool {
    let schedule = &world.lock().schedule;
    schedule.past > 0 && schedule.wanted.iter().all(|wanted| wanted.what != What::Decommission)
}

fn mallory(authority: Authority) -> Requester {
    Requester {
        operator: "mallory".parse().expect("a name"),
        hostname: "elsewhere".to_owned(),
        pid: 8,
        authority,
    }
}

/// The declaration of the other environment, name and all, under a key of its own.
fn request(world: &World) -> StartRequest {
    let environment: EnvironmentKey = "neighbour/production".parse().expect("a key");
    let shape = world.lock().schedule.shape;
    let spec = EnvironmentSpec { key: environment.clone(), database: None, ..declaration(shape, 1) };
    let what = Asked::Deploy(Box::new(DeployRequest::of(spec, "notes:1".to_owned())));
    StartRequest::of(PlanRequest { environment, what })
}
