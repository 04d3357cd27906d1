//! One run, from a seed to what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use lockstep_coordinator::planning::grants::{GrantChange, change_grant};
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::{Store, Write, keys};
use lockstep_core::host::{Host as HostRecord, HostRole};
use lockstep_core::id::HostId;
use lockstep_core::record::grant::Resource;
use tokio::time::Instant;

use crate::check::Check;
use crate::clock::{BEGINNING, SimulatedClock};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::invariant::{ENDS, Violation};
use crate::neighbour::reach_out;
use crate::operator;
use crate::reality::{Database, NEVER, Reality};
use crate::schedule::{Schedule, Shape};
use crate::watchman::watch_over;
use crate::world::{Coordinator, Host, Process, State, Trace, World};

/// The longest that a run may take on its own clock.
const LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// Where a run begins that has a past.
const AFTER_THE_PAST: u64 = BEGINNING + 3_600_000;

/// Whether a run is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    Yes,
    No,
}

/// What came of a run.
pub struct Outcome {
    pub violation: Option<Violation>,
    pub struck: [u32; Fault::ALL.len()],
    pub digest: u64,
    pub events: u64,
    pub states: Vec<u32>,
    pub lines: Vec<String>,
}

/// A world in which so many deployments have gone well.
struct Past {
    store: MemoryStore,
    disks: Vec<Disk>,
    reality: Reality,
}

/// The pasts that runs begin with, made when they are first wanted.
#[derive(Default)]
pub struct Pasts {
    made: Mutex<BTreeMap<(Shape, u8), Arc<Past>>>,
}

impl Pasts {
    fn of(&self, shape: Shape, past: u8) -> Arc<Past> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let there = made.entry((shape, past)).or_insert_with(|| Arc::new(Past::after(shape, past)));
        Arc::clone(there)
    }
}

impl Past {
    fn after(shape: Shape, past: u8) -> Self {
        let runtime = runtime();
        runtime.block_on(async {
            let schedule = Schedule::calm(shape, past);
            let world = nothing_yet(schedule, Telling::No).await;
            live_through(&world).await;
            let mut state = world.lock();
            assert_eq!(state.check.violation, None, "a run without faults breaks nothing");
            let mut reality = std::mem::take(&mut state.reality);
            for there in reality.containers.iter_mut().flatten() {
                there.healthy_from = if there.healthy_from == NEVER { NEVER } else { 0 };
            }
            let mut disks: Vec<Disk> = state.hosts.iter().map(|host| host.disk.clone()).collect();
            disks.iter_mut().for_each(Disk::settle);
            let clock = Arc::new(SimulatedClock::new(Instant::now(), BEGINNING, 0));
            Self { store: world.store.copy(clock), disks, reality }
        })
    }
}

/// A runtime of one thread with a clock that jumps to whatever comes next.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time();
    #[cfg(feature = "simulate")]
    builder.start_paused(true);
    builder.build().expect("a runtime without I/O needs nothing of the system")
}

/// Runs what `seed` says.
pub fn run(seed: u64, pasts: &Pasts, telling: Telling) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let schedule = Schedule::of(seed, &mut rng);
    let past = (schedule.past > 0).then(|| pasts.of(schedule.shape, schedule.past));
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = match past {
            Some(past) => after(&past, schedule, rng, telling),
            None => {
                let world = nothing_yet(schedule, telling).await;
                world.lock().rng = rng;
                world
            }
        };
        live_through(&world).await;
        world
    });
    let mut state = world.lock();
    Outcome {
        violation: state.check.violation.take(),
        struck: state.faults.struck,
        digest: state.trace.digest,
        events: state.trace.events,
        states: std::mem::take(&mut state.trace.states),
        lines: state.trace.lines.take().unwrap_or_default(),
    }
}

/// Hosts by name and address.
fn places(shape: Shape) -> &'static [(&'static str, &'static str, &'static str)] {
    const APP: (&str, &str, &str) = ("host_01JBQR2KXYZ987654321012345", "app-1", "10.0.0.1");
    const EDGE: (&str, &str, &str) = ("host_01JBQR2KXYZ987654321012346", "edge-1", "10.0.0.2");
    const SECOND: (&str, &str, &str) = ("host_01JBQR2KXYZ987654321012344", "app-2", "10.0.0.3");
    match shape {
        Shape::One => &[APP],
        Shape::Two => &[APP, EDGE],
        Shape::Three => &[APP, SECOND, EDGE],
    }
}

fn state(schedule: Schedule, first: u64, rng: Rng, telling: Telling) -> State {
    let begun = Instant::now();
    let coordinators = schedule.clocks.iter().zip(1..).map(|(ahead, number)| Coordinator {
        process: Process::default(),
        frozen_until: None,
        clock: Arc::new(SimulatedClock::new(begun, first + ahead, number)),
        connected: BTreeMap::new(),
    });
    let hosts = places(schedule.shape).iter().map(|(id, name, address)| Host {
        id: id.parse().expect("a host's id"),
        name,
        address,
        process: Process::default(),
        disk: Disk::default(),
        inbox: None,
        session: None,
        reported: Vec::new(),
    });
    // The last host is the one with nginx and the database.
    let db = places(schedule.shape).last().map_or("", |(_, _, address)| *address);
    let lines = (telling == Telling::Yes).then(Vec::new);
    State {
        rng,
        faults: schedule.faults.clone(),
        coordinators: coordinators.collect(),
        hosts: hosts.collect(),
        sessions: BTreeMap::new(),
        next_session: 1,
        reality: Reality { database: Database { address: db, ..Database::default() }, ..Reality::default() },
        check: Check::default(),
        trace: Trace { lines, ..Trace::default() },
        schedule,
    }
}

async fn nothing_yet(schedule: Schedule, telling: Telling) -> Arc<World> {
    let begun = Instant::now();
    let store = Arc::new(MemoryStore::new(Arc::new(SimulatedClock::new(begun, BEGINNING, 0))));
    let places = places(schedule.shape);
    for (id, name, address) in places {
        let id: HostId = id.parse().expect("a host's id");
        let name = name.parse().expect("a host's name");
        let host = HostRecord {
            id: id.clone(),
            name,
            address: (*address).to_owned(),
            roles: [HostRole::App, HostRole::Lb, HostRole::Db].into(),
        };
        let named = Write::put_bytes(keys::host_name(&host.name), id.as_str().to_owned());
        let writes = vec![Write::put(keys::host_spec(&id), &host), named];
        store.commit(vec![], writes).await.expect("a memory store without faults");
    }
    let mut state = state(schedule, BEGINNING, Rng::with_seed(0), telling);
    state.reality.containers = vec![Vec::new(); places.len()];
    let world = World::new(store, begun, BEGINNING, state);
    let change = GrantChange { granted: grant_of_everything(places), ..GrantChange::default() };
    change_grant(&*world.store, &world.key, &change).await.expect("a memory store without faults");
    world
}

fn grant_of_everything(places: &[(&str, &str, &str)]) -> Vec<Resource> {
    let hosts = places.iter().map(|(_, name, _)| Resource::Host(name.parse().expect("a host's name")));
    hosts.chain([Resource::SnapshotDirectory(operator::SNAPSHOTS.to_owned())]).collect()
}

fn after(past: &Past, schedule: Schedule, rng: Rng, telling: Telling) -> Arc<World> {
    let begun = Instant::now();
    let clock = Arc::new(SimulatedClock::new(begun, AFTER_THE_PAST, 0));
    let store = Arc::new(past.store.copy(clock));
    let mut state = state(schedule, AFTER_THE_PAST, rng, telling);
    state.reality = past.reality.clone();
    for (host, disk) in state.hosts.iter_mut().zip(&past.disks) {
        host.disk = disk.clone();
    }
    World::new(store, begun, AFTER_THE_PAST, state)
}

/// Everybody starts, the operator does what is wanted, and the run ends: well, or at the first thing
/// that must not be.
async fn live_through(world: &Arc<World>) {
    let (coordinators, hosts) = {
        let state = world.lock();
        (state.coordinators.len(), state.hosts.len())
    };
    (0..coordinators).for_each(|number| world.start_coordinator(number));
    (0..hosts).for_each(|number| world.start_agent(number));
    tokio::spawn(watch_over(Arc::clone(world)));
    tokio::spawn(reach_out(Arc::clone(world)));
    tokio::select! {
        biased;
        () = world.broken.notified() => {}
        () = operator::operate(world) => {}
        () = tokio::time::sleep(LIMIT) => {
            world.lock().check.breaks(ENDS, "it goes on for ever");
        }
    }
}
