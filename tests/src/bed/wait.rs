//! Waits for a condition, with a limit.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

const PAUSE: Duration = Duration::from_millis(25);

/// Looks again and again until `is_so`; an error in looking ends it at once.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the wait with a limit: the pause is between two looks"
)]
pub fn until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > limit {
            bail!("{what}: not so after {} s", limit.as_secs());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
