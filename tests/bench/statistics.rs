//! The middle of what was measured, and how far a ratio of two sides that were measured in pairs can be trusted.

use serde::Serialize;

/// Student's t for 95 % on both sides, by degrees of freedom from 1 on.
const STUDENT_T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The interval that the true ratio is in, 95 times of 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A ratio of two sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    /// The geometric mean of the pairs' ratios.
    pub(super) middle: f64,
    pub(super) interval: Interval,
}

/// The middle of the values; of an even number of them, the middle of the two.
///
/// # Panics
/// When there are none, which is a bug of who measured.
pub(super) fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The ratio of `ours` to `peers`, whose values were measured in pairs: what disturbs both of a pair disturbs neither
/// the ratio nor its interval. A ratio of times is skewed and its logarithm is not, so the interval is Student's of the
/// logarithms. `None` if there are fewer than two pairs, or a value has no logarithm.
///
/// # Panics
/// When the values are not in pairs, which is a bug of who measured.
pub(super) fn paired_ratio(ours: &[f64], peers: &[f64]) -> Option<Ratio> {
    assert_eq!(ours.len(), peers.len(), "a pair has two sides");
    let logarithms: Vec<f64> = ours.iter().zip(peers).map(|(ours, peer)| (ours / peer).ln()).collect();
    let count = logarithms.len();
    if count < 2 || logarithms.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = logarithms.iter().sum::<f64>() / count as f64;
    let squares: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (count - 1) as f64 / count as f64).sqrt();
    let t = STUDENT_T[(count - 2).min(STUDENT_T.len() - 1)];
    let interval = Interval { low: (mean - t * error).exp(), high: (mean + t * error).exp() };
    Some(Ratio { middle: mean.exp(), interval })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-3
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_disturbs_both_of_a_pair_does_not_widen_the_interval() {
        let ratio = paired_ratio(&[2.0, 20.0, 200.0], &[1.0, 10.0, 100.0]).unwrap();
        assert!(near(ratio.middle, 2.0) && near(ratio.interval.low, 2.0) && near(ratio.interval.high, 2.0));
    }

    /// Logarithms -0.1, 0.0 and 0.1: the mean is 0, its standard error 0.1 / √3, and t of two degrees 4.303.
    #[test]
    fn the_interval_is_students_of_the_logarithms() {
        let ours = [(-0.1_f64).exp(), 1.0, 0.1_f64.exp()];
        let ratio = paired_ratio(&ours, &[1.0; 3]).unwrap();
        let half = 4.303 * 0.1 / 3.0_f64.sqrt();
        assert!(near(ratio.middle, 1.0), "{ratio:?}");
        assert!(near(ratio.interval.low, (-half).exp()), "{ratio:?}");
        assert!(near(ratio.interval.high, half.exp()), "{ratio:?}");
    }

    #[test]
    fn many_pairs_narrow_the_interval() {
        let pairs = |count| {
            let ours: Vec<f64> = (0..count).map(|at| if at % 2 == 0 { 0.9 } else { 1.1 }).collect();
            let Interval { low, high } = paired_ratio(&ours, &vec![1.0; count]).unwrap().interval;
            high - low
        };
        assert!(pairs(100) < pairs(10) / 2.0);
    }

    #[test]
    fn one_pair_says_nothing_of_how_far_it_can_be_trusted() {
        assert_eq!(paired_ratio(&[1.0], &[1.0]), None);
        assert_eq!(paired_ratio(&[], &[]), None);
    }

    #[test]
    fn a_side_of_nothing_has_no_ratio() {
        assert_eq!(paired_ratio(&[1.0, 1.0], &[0.0, 1.0]), None);
        assert_eq!(paired_ratio(&[0.0, 1.0], &[1.0, 1.0]), None);
    }
}
