//! The wall clock, for times that people read. No decision depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::time::Timestamp;

/// The time of day.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
