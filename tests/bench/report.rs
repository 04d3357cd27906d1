//! What was measured, and whether its limit holds: a table for people, JSON for programs.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::case::Case;
use crate::statistics::Interval;

/// One figure of ours beside the peer's.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) peer_name: &'static str,
    /// Of the ratio, where both sides were measured in pairs.
    pub(crate) interval: Option<Interval>,
    pub(crate) limit: Limit,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    OursBelow(f64),
    /// Both of them.
    OursBelowAndRatioAtMost(f64, f64),
    OursIsZero,
    /// The ratio's interval includes this or less: as far as can be said, ours is no more than that.
    IntervalAtMost(f64),
    /// The ratio's interval includes this or more: as far as can be said, ours is no less than that.
    IntervalAtLeast(f64),
}

impl Limit {
    fn holds(self, measured: &Measured) -> bool {
        match self {
            Self::RatioAtMost(most) => measured.ratio().is_some_and(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => measured.ratio().is_some_and(|ratio| ratio >= least),
            Self::OursBelow(limit) => measured.ours < limit,
            Self::OursBelowAndRatioAtMost(limit, most) => {
                Self::OursBelow(limit).holds(measured) && Self::RatioAtMost(most).holds(measured)
            }
            Self::OursIsZero => measured.ours == 0.0,
            Self::IntervalAtMost(most) => measured.interval.is_some_and(|interval| interval.low <= most),
            Self::IntervalAtLeast(least) => measured.interval.is_some_and(|interval| interval.high >= least),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(most) => write!(f, "ratio at most {most}"),
            Self::RatioAtLeast(least) => write!(f, "ratio at least {least}"),
            Self::OursBelow(limit) => write!(f, "ours below {limit}"),
            Self::OursBelowAndRatioAtMost(limit, most) => write!(f, "below {limit}, ratio {most}"),
            Self::OursIsZero => write!(f, "ours 0"),
            Self::IntervalAtMost(most) => write!(f, "includes {most} or less"),
            Self::IntervalAtLeast(least) => write!(f, "includes {least} or more"),
        }
    }
}

impl Measured {
    /// Nothing where the peer has nothing to compare with.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (self.peer != 0.0).then(|| self.ours / self.peer)
    }

    pub(crate) fn limit_holds(&self) -> bool {
        self.limit.holds(self)
    }
}

/// As it stands in `report.json`.
#[derive(Serialize)]
struct Line {
    case: &'static str,
    unit: &'static str,
    ours: f64,
    peer: f64,
    peer_name: &'static str,
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<Interval>,
}

/// Writes the report; cases that were not measured are not in it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, measured: &[Measured]) -> Result<()> {
    let lines: Vec<Line> = measured
        .iter()
        .map(|one| Line {
            case: one.case.name(),
            unit: one.unit,
            ours: thousandths(one.ours),
            peer: thousandths(one.peer),
            peer_name: one.peer_name,
            ratio: one.ratio().map(thousandths),
            interval: one
                .interval
                .map(|Interval { low, high }| Interval { low: thousandths(low), high: thousandths(high) }),
        })
        .collect();
    fs::write(path, serde_json::to_string_pretty(&lines)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The table for people.
pub(crate) fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<26} {:>10} {:>10} {:>8} {:>13}  {:<26} {:<22} {}\n",
        "case", "ours", "peer", "ratio", "95 % of it", "peer is", "limit", "holds"
    );
    for one in measured {
        let ratio = one.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let interval =
            one.interval.map_or_else(String::new, |Interval { low, high }| format!("{low:.3}–{high:.3}"));
        text.push_str(&format!(
            "{:<26} {:>10.3} {:>10.3} {:>8} {:>13}  {:<26} {:<22} {}\n",
            one.case.name(),
            one.ours,
            one.peer,
            ratio,
            interval,
            one.peer_name,
            one.limit.to_string(),
            if one.limit_holds() { "yes" } else { "NO" }
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ours: f64, peer: f64, limit: Limit) -> Measured {
        let case = Case::DeployOverhead;
        Measured { case, unit: "s", ours, peer, peer_name: "deploy.sh", interval: None, limit }
    }

    fn in_pairs(low: f64, high: f64, limit: Limit) -> Measured {
        Measured { interval: Some(Interval { low, high }), ..measured(1.0, 1.0, limit) }
    }

    #[test]
    fn a_limit_is_of_the_ratio_or_of_ours() {
        assert!(measured(11.5, 10.0, Limit::RatioAtMost(1.15)).limit_holds());
        assert!(!measured(11.6, 10.0, Limit::RatioAtMost(1.15)).limit_holds());
        assert!(measured(5.0, 10.0, Limit::RatioAtLeast(0.5)).limit_holds());
        assert!(!measured(4.9, 10.0, Limit::RatioAtLeast(0.5)).limit_holds());
        assert!(!measured(1.0, 10.0, Limit::OursBelow(1.0)).limit_holds());
        assert!(measured(1.0, 10.0, Limit::OursBelowAndRatioAtMost(1.1, 0.1)).limit_holds());
        assert!(!measured(1.0, 10.0, Limit::OursBelowAndRatioAtMost(1.0, 0.1)).limit_holds());
        assert!(!measured(1.0, 9.0, Limit::OursBelowAndRatioAtMost(1.1, 0.1)).limit_holds());
        assert!(!measured(1.0, 10.0, Limit::OursIsZero).limit_holds());
    }

    #[test]
    fn an_interval_that_includes_the_limit_holds_it() {
        assert!(in_pairs(0.99, 1.2, Limit::IntervalAtMost(1.0)).limit_holds());
        assert!(!in_pairs(1.01, 1.2, Limit::IntervalAtMost(1.0)).limit_holds());
        assert!(in_pairs(0.8, 0.9, Limit::IntervalAtMost(1.0)).limit_holds());
        assert!(in_pairs(0.9, 0.97, Limit::IntervalAtLeast(0.97)).limit_holds());
        assert!(!in_pairs(0.9, 0.96, Limit::IntervalAtLeast(0.97)).limit_holds());
    }

    #[test]
    fn without_an_interval_no_limit_of_one_holds() {
        assert!(!measured(1.0, 1.0, Limit::IntervalAtMost(1.0)).limit_holds());
        assert!(!measured(1.0, 1.0, Limit::IntervalAtLeast(1.0)).limit_holds());
    }

    #[test]
    fn a_peer_of_nothing_has_no_ratio_and_holds_none() {
        let nothing = measured(0.0, 0.0, Limit::RatioAtMost(1.15));
        assert_eq!(nothing.ratio(), None);
        assert!(!nothing.limit_holds());
    }

    #[test]
    fn the_report_has_the_fields_that_others_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let pairs = Measured { ours: 2.0, ..in_pairs(1.9, 2.1004, Limit::IntervalAtMost(1.0)) };
        write(&path, &[measured(11.0, 10.0, Limit::RatioAtMost(1.15)), pairs]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            read,
            serde_json::json!([{
                "case": "deploy_overhead", "unit": "s", "ours": 11.0, "peer": 10.0,
                "peer_name": "deploy.sh", "ratio": 1.1
            }, {
                "case": "deploy_overhead", "unit": "s", "ours": 2.0, "peer": 1.0,
                "peer_name": "deploy.sh", "ratio": 2.0, "interval": { "low": 1.9, "high": 2.1 }
            }])
        );
    }
}
