//! Logs the entries of a journal, and names the crash point after each.

use lockstep_core::id::StepId;
use lockstep_core::run::engine::Run;
use lockstep_core::run::journal::{Deferral, Direction, Entry, Event, RevertReason, StepFailure};
use tracing::{info, warn};

/// The most lines of output that a journal keeps of one failure; the whole is in the step's log.
const TAIL_LINES_MAX: usize = 40;

/// The longest line of them, in characters.
const TAIL_LINE_MAX: usize = 400;

/// A failure that fits into the journal.
pub(super) fn shorten_failure(mut failure: StepFailure) -> StepFailure {
    let from = failure.tail.len().saturating_sub(TAIL_LINES_MAX);
    failure.tail.drain(..from);
    for line in &mut failure.tail {
        if let Some((at, _)) = line.char_indices().nth(TAIL_LINE_MAX) {
            line.truncate(at);
        }
    }
    failure
}

/// A name for the moment after `entry` was written: the same from run to run.
pub(super) fn crash_point(entry: &Entry) -> String {
    let step = |kind: &str, step: &StepId, direction: &Direction| format!("{kind} {step} {direction}");
    let event = match &entry.event {
        Event::LockTaken { .. } => "taken".to_owned(),
        Event::Begun { step: id, direction } => step("begun", id, direction),
        Event::Done { step: id, direction, .. } => step("done", id, direction),
        Event::Failed { step: id, direction, .. } => step("failed", id, direction),
        Event::Excluded { because, .. } => format!("passed by {because}"),
        Event::RevertStarted { .. } => "turned".to_owned(),
        Event::Stuck { step, .. } => format!("stuck {step}"),
        Event::Resumed { .. } => "resumed".to_owned(),
        Event::UndoDeferred { step, .. } => format!("left {step}"),
        Event::Ended { .. } => "ended".to_owned(),
    };
    format!("coordinator: {event}")
}

/// Logs the entry.
pub(super) fn log_entry(run: &Run, entry: &Entry) {
    let seq = entry.seq;
    let name = |id: &StepId| run.plan().step(*id).map_or("?", |step| step.action.name());
    let host = |id: &StepId| run.plan().step(*id).map_or("?", |step| step.host_name.as_str());
    match &entry.event {
        Event::LockTaken { by } => info!(seq, epoch = entry.epoch, by, "took the lock"),
        Event::Begun { step, direction } => {
            info!(seq, %step, host = host(step), %direction, "{} begun", name(step));
        }
        Event::Done { step, direction, finding } => {
            info!(seq, %step, host = host(step), %direction, said = finding.said, "{} done", name(step));
        }
        Event::Failed { step, direction, failure } => {
            info!(seq, %step, host = host(step), %direction, what = failure.what, why = failure.why, "{} failed", name(step));
        }
        Event::Excluded { host, because } => {
            warn!(seq, %host, step = %because, "excluded the host");
        }
        Event::RevertStarted { because } => {
            info!(seq, because = revert_reason_text(because), "reverting the deployment")
        }
        Event::Stuck { step, failure } => {
            warn!(seq, %step, host = host(step), what = failure.what, why = failure.why, "the deployment is stuck: an operator must choose a resolution");
        }
        Event::Resumed { by } => info!(seq, %by, "an operator requested another attempt at the undo"),
        Event::UndoDeferred { step, how: Deferral::Pending { because, by } } => {
            let by = by.as_ref().map(ToString::to_string);
            warn!(seq, %step, host = host(step), because, by, "the undo is pending");
        }
        Event::UndoDeferred { step, how: Deferral::Skipped { by } } => {
            warn!(seq, %step, host = host(step), %by, "the undo is skipped");
        }
        Event::Ended { verdict } => info!(seq, %verdict, "the deployment has ended"),
    }
}

pub(crate) fn revert_reason_text(because: &RevertReason) -> String {
    match because {
        RevertReason::StepFailed { step } => format!("{step} failed"),
        RevertReason::LockTimeout => "lock time-out".to_owned(),
        RevertReason::Cancelled { by } => format!("cancelled by {by}"),
    }
}
