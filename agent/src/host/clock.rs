//! The wall clock, for what people read: nothing is decided by it.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::time::Timestamp;

/// The time of day.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
