//! The interface to the clock. It is the only place of the coordinator that reads the time, and it makes ids that are
//! ordered by time.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::time::Timestamp;
use ulid::Ulid;

pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// A new id, of this moment.
    fn ulid(&self) -> Ulid {
        Ulid::generate()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
