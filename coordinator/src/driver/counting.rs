//! What a driver counts and measures of an entry, and how the span that the entry is about ends.

use lockstep_core::engine::{Run, assignment};
use lockstep_core::id::StepId;
use lockstep_core::journal::{Direction, Entry, Event};
use lockstep_core::plan::Action;
use lockstep_core::record::Verdict;
use lockstep_core::time::Timestamp;
use lockstep_telemetry::span;
use tracing::Span;

use super::course::Course;
use crate::telemetry;

/// Counts `entry`, which is written. `about` is the span of its step, or else of the deployment.
pub(super) fn count(course: &Course, entry: &Entry, about: &Span) {
    let opened = &course.opened;
    match &entry.event {
        // The first entry of a journal is that its first driver has the lock.
        Event::Taken { .. } if entry.seq > 1 => telemetry::taken_over(&opened.key),
        Event::Done { step, direction, .. } => {
            span::outcome(about, "done");
            measure(course, (*step, *direction), "done", entry);
        }
        Event::Failed { step, direction, .. } => {
            span::outcome(about, "failed");
            span::fail(about);
            measure(course, (*step, *direction), "failed", entry);
        }
        Event::Stuck { .. } => telemetry::stuck(&opened.key),
        Event::Ended { verdict } => {
            span::outcome(about, telemetry::verdict_name(*verdict));
            match verdict {
                Verdict::Succeeded => {}
                Verdict::RolledBack => span::fail(about),
            }
            let took = entry.at.since(opened.opened_at);
            telemetry::deployment_ended(&opened.key, opened.kind, *verdict, took);
        }
        Event::Taken { .. }
        | Event::Begun { .. }
        | Event::Turned { .. }
        | Event::Resumed { .. }
        | Event::Left { .. } => {}
    }
}

fn measure(course: &Course, of: (StepId, Direction), outcome: &'static str, ended: &Entry) {
    let (step, direction) = of;
    if let Some(begun) = begun(&course.entries, of, ended) {
        let took = ended.at.since(begun);
        telemetry::step_ended(kind_of(&course.run, step, direction), direction, outcome, took);
    }
}

/// When what `ended` tells the outcome of had begun.
fn begun(entries: &[Entry], of: (StepId, Direction), ended: &Entry) -> Option<Timestamp> {
    entries.iter().rev().skip_while(|entry| entry.seq >= ended.seq).find_map(|entry| match &entry.event {
        Event::Begun { step, direction } => ((*step, *direction) == of).then_some(entry.at),
        Event::Taken { .. }
        | Event::Done { .. }
        | Event::Failed { .. }
        | Event::Turned { .. }
        | Event::Stuck { .. }
        | Event::Resumed { .. }
        | Event::Left { .. }
        | Event::Ended { .. } => None,
    })
}

fn kind_of(run: &Run, step: StepId, direction: Direction) -> &'static str {
    assignment(run.plan(), step, direction).map_or("nothing", |work| kind(work.action.as_ref()))
}

/// What a host does, in a word: for an undo, what takes the step back.
pub(super) fn kind(action: Option<&Action>) -> &'static str {
    action.map_or("nothing", Action::name)
}
