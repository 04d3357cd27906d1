//! What a seed means: how many there are of whom, what an operator wants, and which faults there may be.

use fastrand::Rng;

use crate::fault::Faults;

/// Which hosts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One host for everything.
    One,
    /// One for the application, one for nginx and the database.
    Two,
    /// Two for the application, which every other release reaches one after the other, and one for the rest.
    Three,
}

/// How often each is taken: what goes wrong between two hosts is seldom the third's doing, and three take longest.
const SHAPES: [Shape; 8] = {
    use Shape::{One, Three, Two};
    [One, One, One, Two, Two, Two, Three, Three]
};

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    Good,
    NeverHealthy,
    MigrationFails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Deploy(Release),
    Rollback,
    Decommission,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub what: What,
    /// So long after it was opened it is cancelled.
    pub cancel_after_ms: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    pub shape: Shape,
    /// Deployments that went well before it begins.
    pub past: u8,
    /// How far each coordinator's clock is ahead.
    pub clocks: Vec<u64>,
    pub wanted: Vec<Wanted>,
    pub faults: Faults,
}

impl Schedule {
    pub fn of(seed: u64, rng: &mut Rng) -> Self {
        let shape = SHAPES[rng.usize(0..SHAPES.len())];
        let past = rng.u8(0..=2);
        let coordinators = [1, 2, 2, 2, 2, 3][rng.usize(0..6)];
        let clocks = (0..coordinators).map(|_| rng.u64(0..=300)).collect();
        let first = wanted(rng, past);
        let mut all = vec![first];
        if rng.u8(0..6) == 0 {
            all.push(wanted(rng, past));
        }
        Self { seed, shape, past, clocks, wanted: all, faults: Faults::of(rng) }
    }

    /// `past` deployments that nothing happens to.
    pub fn calm(shape: Shape, past: u8) -> Self {
        let good = Wanted { what: What::Deploy(Release::Good), cancel_after_ms: None };
        let wanted = vec![good; usize::from(past)];
        Self { seed: 0, shape, past: 0, clocks: vec![0], wanted, faults: Faults::none() }
    }
}

fn wanted(rng: &mut Rng, past: u8) -> Wanted {
    let what = match rng.u8(0..11) {
        0..=4 => What::Deploy(Release::Good),
        5 | 6 => What::Deploy(Release::NeverHealthy),
        7 => What::Deploy(Release::MigrationFails),
        8 if past > 0 => What::Decommission,
        _ if past == 2 => What::Rollback,
        _ => What::Deploy(Release::Good),
    };
    let cancel_after_ms = (rng.u8(0..6) == 0).then(|| rng.u64(0..15_000));
    Wanted { what, cancel_after_ms }
}
