//! Ours beside the programs of another revision: the same cases, measured with the one and the other in turn.
//!
//! A sample is a run of the benchmark by itself, with fewer rounds and with programs from a folder that it is told. Two
//! samples, one of each side, are a pair; the side that goes first changes from pair to pair.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::case::Case;
use crate::report::{Limit, Measured};
use crate::statistics::{median, paired_ratio};

/// Fewer say little: Student's t of four degrees of freedom is 2.8.
const PAIRS: usize = 5;

/// Both sides, and how one of them is measured.
pub(crate) struct Comparison<'a> {
    pub(crate) ours: &'a Path,
    pub(crate) theirs: &'a Path,
    /// Measures these cases with the programs of a folder, and says where the report is.
    pub(crate) sample: &'a mut dyn FnMut(&[Case], &Path) -> Result<PathBuf>,
}

/// The values of a case, by pair.
#[derive(Default)]
struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// What is read of a line of a report.
#[derive(Deserialize)]
struct Line {
    case: String,
    ours: f64,
}

impl Comparison<'_> {
    /// Every case that both sides can run.
    ///
    /// # Errors
    /// When ours cannot run it.
    pub(crate) fn measure(&mut self, cases: &[Case], say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
        let mut measured = Vec::new();
        for together in Case::in_runs(cases) {
            let names: Vec<&str> = together.iter().map(|case| case.name()).collect();
            let names = names.join(", ");
            match self.pairs(&together, say) {
                Ok(pairs) => {
                    measured.extend(pairs.into_iter().filter_map(|(case, pairs)| compared(case, &pairs)))
                }
                Err(Failed::Ours(error)) => return Err(error.context(format!("{names} with our programs"))),
                Err(Failed::Theirs(error)) => {
                    say(&format!("  {names}: the other revision's programs cannot run it: {error:#}"));
                }
            }
        }
        Ok(measured)
    }

    fn pairs(&mut self, cases: &[Case], say: &mut dyn FnMut(&str)) -> Result<Vec<(Case, Pairs)>, Failed> {
        let mut pairs: BTreeMap<&'static str, Pairs> = BTreeMap::new();
        for pair in 1..=PAIRS {
            let order = if pair % 2 == 1 { [Side::Theirs, Side::Ours] } else { [Side::Ours, Side::Theirs] };
            for side in order {
                for (case, value) in self.sampled(side, cases)? {
                    let of_case = pairs.entry(case.name()).or_default();
                    match side {
                        Side::Ours => of_case.ours.push(value),
                        Side::Theirs => of_case.theirs.push(value),
                    }
                }
            }
            for (case, of_case) in &pairs {
                if let (Some(ours), Some(theirs)) = (of_case.ours.last(), of_case.theirs.last()) {
                    say(&format!("  {case}, {pair} of {PAIRS}: {ours:.3}, before {theirs:.3}"));
                }
            }
        }
        Ok(pairs.into_iter().filter_map(|(name, pairs)| Some((Case::by_name(name)?, pairs))).collect())
    }

    fn sampled(&mut self, side: Side, cases: &[Case]) -> Result<Vec<(Case, f64)>, Failed> {
        let (programs, failed): (_, fn(anyhow::Error) -> Failed) = match side {
            Side::Ours => (self.ours, Failed::Ours),
            Side::Theirs => (self.theirs, Failed::Theirs),
        };
        let report = (self.sample)(cases, programs).map_err(failed)?;
        values(&report).map_err(failed)
    }
}

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Theirs,
}

/// Whose programs could not run a case.
enum Failed {
    Ours(anyhow::Error),
    Theirs(anyhow::Error),
}

/// `None` of a case that one side has no value for each pair of.
fn compared(case: Case, Pairs { ours, theirs }: &Pairs) -> Option<Measured> {
    if ours.is_empty() || ours.len() != theirs.len() {
        return None;
    }
    let limit =
        if case.is_better_when_higher() { Limit::IntervalAtLeast(1.0) } else { Limit::IntervalAtMost(1.0) };
    Some(Measured {
        case,
        unit: "as the case is measured",
        ours: median(ours),
        peer: median(theirs),
        peer_name: "the other revision",
        interval: paired_ratio(ours, theirs).map(|ratio| ratio.interval),
        limit,
    })
}

fn values(report: &Path) -> Result<Vec<(Case, f64)>> {
    let text =
        std::fs::read_to_string(report).with_context(|| format!("no report in {}", report.display()))?;
    let lines: Vec<Line> = serde_json::from_str(&text)?;
    Ok(lines.into_iter().filter_map(|line| Some((Case::by_name(&line.case)?, line.ours))).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::bail;

    use super::*;

    /// Each sample takes as long as its folder says, and a little longer each time.
    fn compare(
        ours: f64,
        theirs: Result<f64, &'static str>,
        cases: &[Case],
    ) -> (Result<Vec<Measured>>, Vec<&'static str>) {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.json");
        let mut order = Vec::new();
        let mut sample = |cases: &[Case], programs: &Path| {
            let (name, value) = match programs.to_str() {
                Some("ours") => ("ours", Ok(ours)),
                _ => ("theirs", theirs),
            };
            order.push(name);
            let Ok(value) = value else { bail!("an unknown flag") };
            let value = value + order.len() as f64 / 1000.0;
            let lines: Vec<_> =
                cases.iter().map(|case| serde_json::json!({ "case": case.name(), "ours": value })).collect();
            fs::write(&report, serde_json::to_string(&lines)?)?;
            Ok(report.clone())
        };
        let (ours, theirs) = (Path::new("ours"), Path::new("theirs"));
        let measured = Comparison { ours, theirs, sample: &mut sample }.measure(cases, &mut |_| {});
        (measured, order)
    }

    #[test]
    fn a_revision_that_is_as_fast_holds_the_limit() {
        let (measured, order) = compare(1.0, Ok(1.0), &[Case::RollbackSeconds]);
        let [one] = &measured.unwrap()[..] else { panic!("one case was asked for") };
        assert!(one.limit_holds(), "{one:?}");
        assert_eq!(order.len(), PAIRS * 2);
        assert_eq!(order[..4], ["theirs", "ours", "ours", "theirs"]);
    }

    #[test]
    fn a_revision_that_is_slower_does_not() {
        let (measured, _) = compare(1.2, Ok(1.0), &[Case::RollbackSeconds]);
        assert!(!measured.unwrap()[0].limit_holds());
    }

    #[test]
    fn a_revision_that_has_less_throughput_does_not() {
        let (measured, _) = compare(0.8, Ok(1.0), &[Case::SwitchThroughput]);
        assert!(!measured.unwrap()[0].limit_holds());
        let (measured, _) = compare(1.2, Ok(1.0), &[Case::SwitchThroughput]);
        assert!(measured.unwrap()[0].limit_holds());
    }

    #[test]
    fn a_case_that_the_other_revision_cannot_run_is_left_out() {
        let (measured, _) = compare(1.0, Err("it cannot"), &[Case::RollbackSeconds]);
        assert!(measured.unwrap().is_empty());
    }

    #[test]
    fn cases_of_one_run_are_sampled_together() {
        let (measured, order) = compare(1.0, Ok(1.0), &[Case::AgentIdleRss, Case::AgentIdleCpu]);
        assert_eq!((measured.unwrap().len(), order.len()), (2, PAIRS * 2));
    }
}
