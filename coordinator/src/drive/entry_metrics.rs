//! Metrics of journal entries, and the end of the trace span of a step.

use lockstep_core::id::StepId;
use lockstep_core::plan::Action;
use lockstep_core::run::engine::{Run, assignment};
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Direction, Event};
use lockstep_core::time::Millis;
use lockstep_runtime::telemetry::span;

use super::drive_state::DriveState;
use super::pending_transaction::JournaledEntry;
use crate::ports::metrics;

/// Counts what is written.
pub(super) fn record_metrics(drive_state: &DriveState, journaled: &JournaledEntry) {
    let JournaledEntry { entry, span: about, took } = journaled;
    let opened = &drive_state.opened;
    match &entry.event {
        // The first entry of a journal is that its first driver has the lock.
        Event::LockTaken { .. } if entry.seq > 1 => metrics::taken_over(&opened.key),
        Event::Done { step, direction, .. } => {
            span::outcome(about, "done");
            measure(&drive_state.run, (*step, *direction), "done", *took);
        }
        Event::Failed { step, direction, .. } => {
            span::outcome(about, "failed");
            span::fail(about);
            measure(&drive_state.run, (*step, *direction), "failed", *took);
        }
        Event::Stuck { .. } => metrics::stuck(&opened.key),
        Event::Ended { verdict } => {
            span::outcome(about, metrics::verdict_name(*verdict));
            match verdict {
                Verdict::Succeeded => {}
                Verdict::RolledBack => span::fail(about),
            }
            let took = entry.at.since(opened.opened_at);
            metrics::deployment_ended(&opened.key, opened.kind, *verdict, took);
        }
        Event::LockTaken { .. }
        | Event::Begun { .. }
        | Event::Excluded { .. }
        | Event::RevertStarted { .. }
        | Event::Resumed { .. }
        | Event::UndoDeferred { .. } => {}
    }
}

fn measure(run: &Run, (step, direction): (StepId, Direction), outcome: &'static str, took: Option<Millis>) {
    if let Some(took) = took {
        metrics::step_ended(kind_of(run, step, direction), direction, outcome, took);
    }
}

fn kind_of(run: &Run, step: StepId, direction: Direction) -> &'static str {
    assignment(run.plan(), step, direction).map_or("nothing", |work| kind(work.action.as_ref()))
}

/// What a host does, in a word: for an undo, what takes the step back.
pub(super) fn kind(action: Option<&Action>) -> &'static str {
    action.map_or("nothing", Action::name)
}
