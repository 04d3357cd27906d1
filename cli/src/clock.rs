//! The clock of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::time::Timestamp;

/// What this machine's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
