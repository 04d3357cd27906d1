//! Debts: an undo on a host that is gone is not waited for. It is recorded, the unwinding goes on, and
//! it is paid before that host serves the environment again.
//!
//! What must stay true: what decides where the traffic goes is never owed. A load balancer that is out of
//! reach may be serving, so what it sends its requests to is left running, and the deployment is stuck.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use crate::engine::{Command, Run, assignment, backward, ways};
use crate::id::{DeploymentId, HostId};
use crate::journal::{Direction, Entry, Event, Leaving, StepKey};
use crate::plan::Undo;
use crate::record::{Debt, Wish};
use crate::time::{Millis, Timestamp};

/// How long a host has no session until what it is to undo is owed.
pub const GONE_AFTER: Millis = Millis::from_secs(60);

/// As [`decide`](crate::engine::decide), given also which hosts are gone, each since when: what they are to
/// undo is owed before anything else is decided.
pub fn decide_knowing(
    run: &Run,
    wish: &Wish,
    gone: &BTreeMap<HostId, Timestamp>,
    now: Timestamp,
) -> Vec<Command> {
    let mut commands = owe(run, gone, now);
    if !commands.iter().any(|command| matches!(command, Command::Append(_))) {
        commands.extend(super::decide(run, wish, now));
    }
    commands
}

/// Nothing while the run is not being unwound.
fn owe(run: &Run, gone: &BTreeMap<HostId, Timestamp>, now: Timestamp) -> Vec<Command> {
    if !matches!(run.phase(), super::Phase::Backward { .. }) {
        return Vec::new();
    }
    let steps = backward::newest(run).map(|wave| wave.steps.as_slice()).unwrap_or_default();
    steps
        .iter()
        .filter(|step| gone.contains_key(&step.host) && backward::is_to_be_undone(run, step))
        .filter(|step| ways::rule_against_leaving(run.plan(), step.id).is_none())
        .filter_map(|step| {
            let since = *gone.get(&step.host)?;
            let due = since + GONE_AFTER;
            if now < due {
                return Some(Command::WakeAt(due));
            }
            let because = format!("{} has been away for {}", step.host_name, now.since(since));
            let how = Leaving::Owed { because, by: None };
            Some(Command::Append(Event::Left { step: step.id, how }))
        })
        .collect()
}

/// The debt that `entry` of this deployment's journal makes, if it makes one.
pub fn debt(run: &Run, deployment: &DeploymentId, entry: &Entry) -> Option<Debt> {
    let Event::Left { step, how: Leaving::Owed { because, by } } = &entry.event else {
        return None;
    };
    let planned = run.plan().step(*step)?;
    let work = assignment(run.plan(), *step, Direction::Undo)?;
    let change = match &planned.undo {
        Undo::By { change, .. } => change.clone(),
        Undo::Nothing { .. } => format!("{} has ended", planned.action.name()),
    };
    Some(Debt {
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
