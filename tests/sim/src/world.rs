//! Who there is in one run, and what has happened to whom: everything but the store behind one lock, on
//! one thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use lockstep_coordinator::store::handover::Report;
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::{Key, keys};
use lockstep_core::id::{ClusterId, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::live::LiveRelease;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::check::Check;
use crate::clock::SimulatedClock;
use crate::disk::Disk;
use crate::fault::{Fault, Faults, Point};
use crate::message::Incoming;
use crate::reality::{Container, Reality};
use crate::schedule::Schedule;

pub struct World {
    pub store: Arc<MemoryStore>,
    pub begun: Instant,
    /// What clocks showed then.
    pub first: u64,
    pub key: EnvironmentKey,
    pub keys: Keys,
    pub cluster: ClusterId,
    // Everything runs on one thread; the lock is never held across an await.
    state: Mutex<State>,
    /// Something that must not be is so.
    pub broken: Notify,
}

/// Where the store has what is looked at after every event.
pub struct Keys {
    pub lock: Key,
    pub epoch: Key,
    pub open: Key,
    pub live: Key,
}

impl Keys {
    fn of(environment: &EnvironmentKey) -> Self {
        Self {
            lock: keys::lock(environment).into(),
            epoch: keys::epoch(environment).into(),
            open: keys::open(environment).into(),
            live: keys::live(environment).into(),
        }
    }
}

pub struct State {
    pub rng: Rng,
    pub schedule: Schedule,
    pub faults: Faults,
    pub coordinators: Vec<Coordinator>,
    pub hosts: Vec<Host>,
    pub sessions: BTreeMap<u64, Session>,
    pub next_session: u64,
    pub reality: Reality,
    pub check: Check,
    pub trace: Trace,
}

/// A process, which may be another one of the same name later.
#[derive(Debug, Default)]
pub struct Process {
    /// Rises with every start and every death.
    pub incarnation: u32,
    pub is_up: bool,
    pub tasks: Vec<AbortHandle>,
}

pub struct Coordinator {
    pub process: Process,
    pub frozen_until: Option<Instant>,
    pub clock: Arc<SimulatedClock>,
    /// The host's session that it believes to have.
    pub connected: BTreeMap<usize, u64>,
}

pub struct Host {
    pub id: HostId,
    pub name: &'static str,
    pub address: &'static str,
    pub process: Process,
    pub disk: Disk,
    pub inbox: Option<mpsc::UnboundedSender<Incoming>>,
    /// The session that its agent believes to have.
    pub session: Option<u64>,
    /// What it has reported, for it to be replayed.
    pub reported: Vec<Report>,
}

/// A stream between an agent and a coordinator.
pub struct Session {
    pub host: usize,
    pub coordinator: usize,
    /// What is sent over it is lost.
    pub is_broken: bool,
    /// `None` if the coordinator's end is closed.
    pub to_coordinator: Option<mpsc::UnboundedSender<Report>>,
}

impl State {
    /// What is on the hosts that have the traffic.
    pub fn serving<'a>(&'a self, live: &'a LiveRelease) -> impl Iterator<Item = &'a Vec<Container>> {
        let named = self.hosts.iter().zip(&self.reality.containers);
        let serving = named.filter(|(host, _)| live.serving.iter().any(|name| name.as_str() == host.name));
        serving.map(|(_, containers)| containers)
    }
}

/// What happened, for people and for the comparison of two runs.
#[derive(Debug, Default)]
pub struct Trace {
    /// Kept only where somebody reads it.
    pub lines: Option<Vec<String>>,
    /// A digest of all that happened.
    pub digest: u64,
    pub events: u64,
    /// Fingerprints of where the deployment stood when a fault struck.
    pub states: Vec<u32>,
}

impl Trace {
    pub fn note(&mut self, what: u64) {
        self.events += 1;
        // FNV-1a: enough to tell two runs apart.
        self.digest = (self.digest ^ what).wrapping_mul(0x0100_0000_01b3);
    }
}

impl World {
    pub fn new(store: Arc<MemoryStore>, begun: Instant, first: u64, state: State) -> Arc<Self> {
        let key = "notes/production".parse().expect("a key");
        Arc::new(Self {
            store,
            begun,
            first,
            keys: Keys::of(&key),
            key,
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().expect("a cluster's id"),
            state: Mutex::new(state),
            broken: Notify::new(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something happens: it is in the trace, and all is looked at.
    pub fn tell(&self, words: impl FnOnce() -> String) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.note(now);
        if let Some(lines) = &mut state.trace.lines {
            lines.push(format!("{:>9.3}  {}", Duration::from_millis(now).as_secs_f64(), words()));
        }
    }

    /// Something must not be: the run ends here.
    pub fn break_off(&self, invariant: &'static str, what: impl Into<String>) {
        self.lock().check.breaks(invariant, what);
        self.broken.notify_one();
    }

    /// What goes wrong at this point.
    pub fn strike(&self, point: Point) -> Option<Fault> {
        let fault = {
            let mut state = self.lock();
            let State { rng, faults, check, trace, .. } = &mut *state;
            let fault = faults.strike(rng, point)?;
            trace.states.push(check.fingerprint() * 64 + fault as u32);
            fault
        };
        self.tell(|| format!("*** {} ({point:?})", fault.name()));
        let is_free = matches!(
            fault,
            Fault::WatchLost | Fault::MessageTwice | Fault::ReportForged | Fault::ReportReplayed
        );
        if !is_free {
            self.holds_up(HOLDS_UP_MS);
        }
        Some(fault)
    }

    pub fn chance<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.lock().rng)
    }

    /// A fault holds something up until so many milliseconds from here.
    pub fn holds_up(&self, for_ms: u64) {
        let until = self.now() + for_ms;
        self.lock().check.held_up(until);
    }

    pub fn host_of(&self, id: &HostId) -> Option<usize> {
        self.lock().hosts.iter().position(|host| host.id == *id)
    }
}

/// How long any fault may hold things up.
const HOLDS_UP_MS: u64 = 4_000;

/// Waits so many milliseconds of the simulation.
pub async fn wait(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
