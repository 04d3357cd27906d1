//! What a process has needed of the machine, as the system says.

use std::fs;

use anyhow::{Context, Result};

/// Processor time so far, in the system's ticks.
pub(super) fn ticks(process: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process has ended")?;
    ticks_in(&stat).with_context(|| format!("/proc/{process}/stat is not understood"))
}

/// `utime` and `stime`, the 14th and 15th field; the second, a name in brackets, may have spaces.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = after_name.next()?.parse().ok()?;
    let system: u64 = after_name.next()?.parse().ok()?;
    Some(user + system)
}

/// What of it is in memory.
pub(super) fn rss_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .with_context(|| format!("/proc/{process}/status has no VmRSS"))?
        .trim()
        .parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_after_a_name_with_spaces() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(ticks_in(stat), Some(300));
    }

    #[test]
    fn this_process_is_looked_at() {
        let this = std::process::id();
        assert!(rss_mib(this).unwrap() > 0.5);
        ticks(this).unwrap();
    }
}
