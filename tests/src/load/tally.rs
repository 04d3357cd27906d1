//! What a load counts: requests, failures, versions, and a histogram of times.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::load::Replaced;

const FAILURES_KEPT: usize = 100;
const BUCKET: Duration = Duration::from_micros(50);
/// Up to the limit of a request, 5 s; whatever is above is in the last one.
const BUCKETS: usize = 100_001;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: u64,
    pub failed: u64,
    /// Of these, those for which no connection was made.
    pub refused: u64,
    /// Answers by the `X-Version` they carried; `none` where it was missing.
    pub by_version: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub requests: u64,
    pub failed: u64,
    /// The first hundred.
    pub failures: Vec<Failure>,
    pub latency_ms: Latency,
    pub by_version: BTreeMap<String, u64>,
    /// Connections that the server had closed while they were idle, without
    /// saying so in the answer before.
    pub closed_while_idle: u64,
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub unix_ms: u64,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection was made.
    Refused,
    /// The connection ended before the answer was complete.
    Reset,
    /// No complete answer within the limit.
    TimedOut,
    /// An answer that is not 2xx.
    Status,
}

pub(super) struct Tally {
    begun_at: SystemTime,
    requests: u64,
    failed: u64,
    refused: u64,
    failures: Vec<Failure>,
    by_version: BTreeMap<String, u64>,
    closed_while_idle: u64,
    histogram: Vec<u32>,
    slowest: Duration,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            begun_at: SystemTime::now(),
            requests: 0,
            failed: 0,
            refused: 0,
            failures: Vec::new(),
            by_version: BTreeMap::new(),
            closed_while_idle: 0,
            histogram: vec![0; BUCKETS],
            slowest: Duration::ZERO,
        }
    }

    /// Counts a request, and gives it its number: 1 for the first.
    pub(super) fn begin(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    pub(super) fn answered(&mut self, took: Duration, version: &str, replaced: Replaced) {
        match self.by_version.get_mut(version) {
            Some(count) => *count += 1,
            None => {
                self.by_version.insert(version.to_owned(), 1);
            }
        }
        if replaced == Replaced::Yes {
            self.closed_while_idle += 1;
        }
        let bucket = usize::try_from(took.as_micros() / BUCKET.as_micros()).unwrap_or(BUCKETS);
        self.histogram[bucket.min(BUCKETS - 1)] += 1;
        self.slowest = self.slowest.max(took);
    }

    pub(super) fn failed(&mut self, kind: FailureKind, detail: String) {
        self.failed += 1;
        if kind == FailureKind::Refused {
            self.refused += 1;
        }
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(Failure { kind, unix_ms: unix_ms(), detail });
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests,
            failed: self.failed,
            refused: self.refused,
            by_version: self.by_version.clone(),
        }
    }

    pub(super) fn report(&self) -> Report {
        Report {
            requests: self.requests,
            failed: self.failed,
            failures: self.failures.clone(),
            latency_ms: Latency {
                p50: self.percentile_ms(50),
                p99: self.percentile_ms(99),
                max: milliseconds(self.slowest),
            },
            by_version: self.by_version.clone(),
            closed_while_idle: self.closed_while_idle,
            seconds: self.begun_at.elapsed().unwrap_or_default().as_secs_f64(),
        }
    }

    /// The upper end of the bucket in which it is; 0 where nothing was answered.
    fn percentile_ms(&self, percent: u64) -> f64 {
        let answered: u64 = self.histogram.iter().map(|count| u64::from(*count)).sum();
        let wanted = (answered * percent).div_ceil(100);
        let mut seen = 0;
        let mut end = Duration::ZERO;
        for count in &self.histogram {
            if seen >= wanted {
                break;
            }
            seen += u64::from(*count);
            end += BUCKET;
        }
        milliseconds(end)
    }
}

/// With the two digits that the buckets have.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_upper_end_of_their_bucket() {
        let mut tally = Tally::new();
        for ms in 1..=100 {
            tally.answered(Duration::from_millis(ms), "1", Replaced::No);
        }
        let latency = tally.report().latency_ms;
        assert!((latency.p50 - 50.05).abs() < 0.001, "{latency:?}");
        assert!((latency.p99 - 99.05).abs() < 0.001, "{latency:?}");
        assert!((latency.max - 100.0).abs() < 0.001, "{latency:?}");
    }

    #[test]
    fn nothing_answered_has_no_latency() {
        assert_eq!(Tally::new().report().latency_ms, Latency { p50: 0.0, p99: 0.0, max: 0.0 });
    }

    #[test]
    fn the_first_hundred_failures_are_kept_and_all_are_counted() {
        let mut tally = Tally::new();
        for number in 0..150 {
            tally.failed(FailureKind::Reset, number.to_string());
        }
        let report = tally.report();
        assert_eq!((report.failed, report.failures.len()), (150, FAILURES_KEPT));
        assert_eq!(report.failures[99].detail, "99");
    }
}
