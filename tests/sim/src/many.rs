//! Many runs, side by side, and what they amount to.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::invariant::Violation;
use crate::run::{Pasts, Telling, run};

/// Which runs.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub from: u64,
    pub seeds: u64,
    pub limit: Option<Duration>,
    pub threads: usize,
}

/// What they amount to.
#[derive(Debug, Default)]
pub struct Sum {
    pub schedules: u64,
    pub events: u64,
    pub struck: [u64; Fault::ALL.len()],
    pub states: BTreeSet<u32>,
    /// The lowest seed that breaks something, of those that ran.
    pub failure: Option<(u64, Violation)>,
    pub took: Duration,
}

impl Sum {
    pub fn faults(&self) -> u64 {
        self.struck.iter().sum()
    }

    pub fn a_second(&self) -> f64 {
        self.schedules as f64 / self.took.as_secs_f64().max(0.001)
    }

    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        for (sum, more) in self.struck.iter_mut().zip(other.struck) {
            *sum += more;
        }
        self.states.extend(other.states);
        if let Some((seed, violation)) = other.failure
            && self.failure.as_ref().is_none_or(|(there, _)| seed < *there)
        {
            self.failure = Some((seed, violation));
        }
    }
}

/// Runs until all are done, the time is over, or one breaks something.
pub fn many(range: &Range, pasts: &Pasts) -> Sum {
    let begun = Instant::now();
    let next = AtomicU64::new(range.from);
    let has_failed = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let end = range.from.saturating_add(range.seeds);
    std::thread::scope(|scope| {
        for _ in 0..range.threads.max(1) {
            scope.spawn(|| {
                let mut own = Sum::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_late = range.limit.is_some_and(|limit| begun.elapsed() >= limit);
                    if seed >= end || is_late || has_failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = run(seed, pasts, Telling::No);
                    own.schedules += 1;
                    own.events += outcome.events;
                    for (sum, struck) in own.struck.iter_mut().zip(outcome.struck) {
                        *sum += u64::from(struck);
                    }
                    own.states.extend(outcome.states);
                    if let Some(violation) = outcome.violation {
                        own.failure = Some((seed, violation));
                        has_failed.store(true, Ordering::Relaxed);
                    }
                }
                sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(own);
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.took = begun.elapsed();
    sum
}
