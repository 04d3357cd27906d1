//! Pending undos. An undo on an offline host is not waited for. It is recorded as pending, the revert continues, and
//! the undo runs before that host serves the environment again.
//!
//! What must stay true: the undo of a step that decides where the traffic goes is never made pending. An unreachable
//! load balancer may be serving, so the instances behind it keep running, and the deployment is stuck.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use crate::id::{DeploymentId, HostId};
use crate::plan::Undo;
use crate::record::claim::OperatorRequest;
use crate::record::pending_undo::PendingUndo;
use crate::run::engine::{Command, Run, assignment, resolutions, reverting};
use crate::run::journal::{Deferral, Direction, Entry, Event, StepKey};
use crate::time::{Millis, Timestamp};

/// How long a host is offline until its undos become pending.
pub const UNREACHABLE_AFTER: Millis = Millis::from_secs(60);

/// As [`decide`](crate::run::engine::decide), given also which hosts are unreachable and since when. Their undos become
/// pending before anything else is decided.
pub fn decide_with_unreachable(
    run: &Run,
    request: &OperatorRequest,
    unreachable: &BTreeMap<HostId, Timestamp>,
    now: Timestamp,
) -> Vec<Command> {
    let mut commands = defer_undos(run, unreachable, now);
    if !commands.iter().any(|command| matches!(command, Command::Append(_))) {
        commands.extend(super::decide(run, request, now));
    }
    commands
}

/// Empty unless the run is being reverted.
fn defer_undos(run: &Run, unreachable: &BTreeMap<HostId, Timestamp>, now: Timestamp) -> Vec<Command> {
    if !matches!(run.phase(), super::Phase::Reverting { .. }) {
        return Vec::new();
    }
    let steps = reverting::newest_wave_to_undo(run).map(|wave| wave.steps.as_slice()).unwrap_or_default();
    steps
        .iter()
        .filter(|step| unreachable.contains_key(&step.host) && run.needs_undo(step))
        .filter(|step| resolutions::rule_against_deferring(run.plan(), step.id).is_none())
        .filter_map(|step| {
            let since = *unreachable.get(&step.host)?;
            let due = since + UNREACHABLE_AFTER;
            if now < due {
                return Some(Command::WakeAt(due));
            }
            let because = format!("{} has been offline for {}", step.host_name, now.since(since));
            let how = Deferral::Pending { because, by: None };
            Some(Command::Append(Event::UndoDeferred { step: step.id, how }))
        })
        .collect()
}

/// The debt that `entry` of this deployment's journal makes, if it makes one.
pub fn pending_undo(run: &Run, deployment: &DeploymentId, entry: &Entry) -> Option<PendingUndo> {
    let Event::UndoDeferred { step, how: Deferral::Pending { because, by } } = &entry.event else {
        return None;
    };
    let planned = run.plan().step(*step)?;
    let work = assignment(run.plan(), *step, Direction::Undo)?;
    let change = match &planned.undo {
        Undo::By { change, .. } => change.clone(),
        Undo::Nothing { .. } => format!("{} has ended", planned.action.name()),
    };
    Some(PendingUndo {
        key: StepKey { deployment: deployment.clone(), step: *step, direction: Direction::Undo },
        environment: run.plan().key.clone(),
        host: work.host,
        host_name: planned.host_name.clone(),
        action: work.action,
        limit: work.limit,
        change,
        because: because.clone(),
        by: by.clone(),
        since: entry.at,
        failure: run.failure(*step).cloned(),
    })
}
