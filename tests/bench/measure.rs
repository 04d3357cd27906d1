//! The cases that need an etcd.

use std::path::Path;

use anyhow::Result;

use crate::report::Measured;
use crate::case::{Case, etcd_overhead, takeover_seconds, transition_cost};

pub(super) fn measure(directory: &Path, cases: &[Case], say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    if cases.contains(&Case::TransitionCost) {
        measured.push(transition_cost::measure(&directory.join("transition"), say)?);
    }
    if cases.contains(&Case::EtcdOverhead) {
        measured.push(etcd_overhead::measure(&directory.join("overhead"), say)?);
    }
    if cases.contains(&Case::TakeoverSeconds) {
        measured.push(takeover_seconds::measure(&directory.join("takeover"), say)?);
    }
    Ok(measured)
}
