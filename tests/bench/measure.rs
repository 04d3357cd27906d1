//! Measures cases: a file for each group that one run measures together.

mod deploy_overhead;
mod etcd_overhead;
mod fanout_hosts;
mod idle;
mod many_environments;
mod redaction;
mod rollback_seconds;
mod switch_loss;
mod switch_throughput;
mod takeover_seconds;
mod transition_cost;

use std::path::Path;

use anyhow::Result;

use crate::case::{Case, Extent};
use crate::ground::Ground;
use crate::report::Measured;

/// Measures the cases in one stage under `directory`, in the order in which they disturb each other least.
///
/// # Errors
/// When something does not work; a limit that does not hold is no error.
pub(crate) fn measure_cases(
    directory: &Path,
    cases: &[Case],
    extent: Extent,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Measured>> {
    let wanted = |case: &Case| cases.contains(case);
    let mut measured = measure_on_etcd(&directory.join("cluster"), cases, say)?;
    if Case::FANOUT.iter().any(wanted) {
        let all = fanout_hosts::measure(&directory.join("fanout"), extent, say)?;
        measured.extend(all.into_iter().filter(|one| wanted(&one.case) || wanted(&Case::FanoutHosts)));
    }
    if Case::MANY.iter().any(wanted) {
        let all = many_environments::measure(&directory.join("many"), extent, say)?;
        measured.extend(all.into_iter().filter(|one| wanted(&one.case) || wanted(&Case::ManyStatus)));
    }
    if wanted(&Case::Redaction) {
        measured.push(redaction::measure(&directory.join("redaction"), extent.effort, say)?);
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

/// The cases that need an etcd.
fn measure_on_etcd(directory: &Path, cases: &[Case], say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
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
