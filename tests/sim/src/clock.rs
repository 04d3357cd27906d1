//! Clocks that go as the simulation goes, and ids in the order of time.

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_coordinator::ports::clock::Clock;
use lockstep_core::time::Timestamp;
use tokio::time::Instant;
use ulid::Ulid;

/// When simulations begin: any time will do.
pub const BEGINNING: u64 = 1_769_596_200_000;

pub struct SimulatedClock {
    begun: Instant,
    /// What it showed then.
    first: u64,
    ids: AtomicU64,
}

/// How many ids one clock may give before they are those of the next.
const IDS_OF_ONE: u64 = 1 << 32;

impl SimulatedClock {
    /// `number` is that of whoever reads it: what it gives to one is never given to another.
    pub fn new(begun: Instant, first: u64, number: u64) -> Self {
        Self { begun, first, ids: AtomicU64::new(number * IDS_OF_ONE) }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.first + passed)
    }

    fn ulid(&self) -> Ulid {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        Ulid::from_parts(self.now().0, u128::from(number))
    }
}
