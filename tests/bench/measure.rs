//! Measures the chosen cases, one after the other.

use std::path::Path;

use anyhow::Result;

use crate::case::{Case, Extent};
use crate::ground::Ground;
use crate::report::Measured;
use crate::{
    cluster, deploy_overhead, fanout_hosts, idle, many_environments, rollback_seconds, switch_loss,
    switch_throughput,
};

/// Measures the cases in one stage under `directory`, in the order in which they disturb each other least.
///
/// # Errors
/// When something does not work; a limit that does not hold is no error.
pub(crate) fn measure(
    directory: &Path,
    cases: &[Case],
    extent: Extent,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Measured>> {
    let wanted = |case: &Case| cases.contains(case);
    let mut measured = cluster::measure(&directory.join("cluster"), cases, say)?;
    if Case::FANOUT.iter().any(wanted) {
        let all = fanout_hosts::measure(&directory.join("fanout"), extent, say)?;
        measured.extend(all.into_iter().filter(|one| wanted(&one.case) || wanted(&Case::FanoutHosts)));
    }
    if Case::MANY.iter().any(wanted) {
        let all = many_environments::measure(&directory.join("many"), extent, say)?;
        measured.extend(all.into_iter().filter(|one| wanted(&one.case) || wanted(&Case::ManyStatus)));
    }
    if cases.iter().all(|case| case.has_own_stage()) {
        return Ok(measured);
    }
    let mut ground = Ground::start(&directory.join("one"), say)?;
    if Case::IDLE.iter().any(wanted) {
        measured
            .extend(idle::measure(&ground, extent.effort, say)?.into_iter().filter(|one| wanted(&one.case)));
    }
    if wanted(&Case::SwitchLoss) {
        measured.push(switch_loss::measure(&ground, say)?);
    }
    if wanted(&Case::SwitchThroughput) {
        measured.push(switch_throughput::measure(&ground, extent.effort, say)?);
    }
    if wanted(&Case::RollbackSeconds) {
        measured.push(rollback_seconds::measure(&mut ground, extent.effort, say)?);
    }
    if wanted(&Case::DeployOverhead) {
        measured.push(deploy_overhead::measure(&mut ground, extent, say)?);
    }
    Ok(measured)
}
