//! What one transaction writes: entries that follow from each other, each with all that belongs to it.
//!
//! An entry is taken in as soon as it is drafted, so that what follows from it can be in the same
//! transaction: the outcome of a step and the intent of the next. So a course is ahead of the record until
//! its transaction is written, and nothing else happens meanwhile; a driver that cannot write it leaves, and
//! its course with it.

use lockstep_core::engine::assignment;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::journal::{Direction, Event, Leaving, StepFailure, StepKey};
use lockstep_core::record::{Live, OpenKind, Summary, Verdict, Wish};
use lockstep_core::time::Timestamp;
use lockstep_mutant::{Mutant, is_on};
use lockstep_proto::trace::traceparent;
use lockstep_telemetry::span;
use tracing::{Span, info_span};

use super::counting::kind;
use super::course::Course;
use super::deployment::DriverError;
use super::ending;
use super::telling::brief;
use super::transaction::{Assigned, Pending, Told};
use crate::history;
use crate::store::guarded::OwnedWrite;
use crate::store::handover::{Assignment, Report, Reported};
use crate::store::{Owned, Stored, keys};

/// What the record says when a deployment ends.
#[derive(Default)]
pub(super) struct Before {
    pub(super) live: Option<Live>,
    /// The deployments that ended earlier.
    pub(super) past: Vec<Summary>,
}

impl Course {
    /// Adds `event` to the journal, with all that belongs to it.
    pub(super) fn record(
        &mut self,
        pending: &mut Pending,
        event: Event,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        let entry = self.entry(event, at);
        let mut span = Span::current();
        let belongings = match &entry.event {
            Event::Begun { step, direction } => {
                let (begun, writes) = self.hand_out(*step, *direction)?;
                span = begun;
                writes
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => {
                span = self.handed.span(*step).unwrap_or(span);
                withdrawn(self.handed.withdraw(*step))
            }
            Event::Stuck { .. } => {
                vec![self.open_as(OpenKind::Stuck { deployment: self.opened.id.clone() })]
            }
            Event::Resumed { .. } => vec![self.resumed()],
            Event::Left { step, how } => {
                let mut writes = self.handed.withdraw(*step);
                writes.extend(self.owe(&entry));
                writes.extend(matches!(how, Leaving::Skipped { .. }).then(|| self.resumed()));
                writes
            }
            Event::Taken { .. } | Event::PassedBy { .. } | Event::Turned { .. } | Event::Ended { .. } => {
                Vec::new()
            }
        };
        let begun = entry.event.step().and_then(|step| self.run.standing(step).begun_at());
        let took = begun.map(|begun| at.since(begun));
        self.run.apply(&entry)?;
        self.entries.push(entry.clone());
        pending.tell(&self.opened.id, Told { entry, span, took });
        pending.writes.extend(belongings);
        Ok(())
    }

    /// The assignment of a step, in place of what the step had before; and the step's span.
    pub(super) fn hand_out(
        &mut self,
        step: StepId,
        direction: Direction,
    ) -> Result<(Span, Vec<OwnedWrite>), DriverError> {
        let token = self.next_token();
        let work = assignment(self.run.plan_of(direction), step, direction)
            .ok_or(DriverError::Bug("a step begins that the plan does not have"))?;
        let environment = self.opened.key.clone();
        let key = keys::assignment(&work.host, &environment, token.epoch, token.seq);
        let span = info_span!("step", host = %work.host, %step, %direction);
        span::kind(&span, kind(work.action.as_ref()));
        let put = OwnedWrite::put(
            key.clone(),
            &Assignment {
                token: token.clone(),
                key: StepKey { deployment: self.opened.id.clone(), step, direction },
                environment,
                action: work.action,
                limit: work.limit,
                traceparent: traceparent(&span),
            },
        );
        let mut writes = self.handed.withdraw(step);
        writes.push(put);
        self.handed.set(step, Assigned { key, token, span: span.clone() });
        Ok((span, writes))
    }

    /// What hosts answered to the questions after the take-over.
    pub(super) fn take_in_answers(
        &mut self,
        pending: &mut Pending,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        while let Some(event) = self.heard.front() {
            if !fits(pending, event) {
                break;
            }
            if let Some(event) = self.heard.pop_front()
                && self.run.admits(&event, at)
            {
                self.record(pending, event, at)?;
            }
        }
        Ok(())
    }

    /// What hosts report. A report that comes too late or is not for this deployment is only removed.
    pub(super) fn take_in_reports(
        &mut self,
        pending: &mut Pending,
        reports: &[Stored],
        at: Timestamp,
    ) -> Result<(), DriverError> {
        for stored in reports {
            let report: Report = stored.read()?;
            let event = self.event_of(report).filter(|event| self.run.admits(event, at));
            if !event.as_ref().map_or(pending.has_room(), |event| fits(pending, event)) {
                break;
            }
            let delete = Owned::of_stored(&stored.key)
                .map(OwnedWrite::delete)
                .ok_or(DriverError::Bug("a report is not owned"))?;
            match event {
                Some(event) if !is_on(Mutant::ReportDropped) => self.record(pending, event, at)?,
                Some(_) | None => {}
            }
            pending.writes.push(delete);
        }
        Ok(())
    }

    fn event_of(&self, report: Report) -> Option<Event> {
        let StepKey { deployment, step, direction } = report.key;
        if !is_of(&deployment, &self.opened.id) {
            return None;
        }
        match report.outcome {
            Reported::Done(finding) => Some(Event::Done { step, direction, finding }),
            Reported::Failed(failure) => Some(Event::Failed { step, direction, failure: brief(failure) }),
            // An assignment of a deposed driver is refused as it should be: the question of its successor has fenced it.
            Reported::Refused { why } => self.is_own(step, &report.token).then(|| {
                let failure = StepFailure::new("the agent refused the step").why(why);
                Event::Failed { step, direction, failure }
            }),
        }
    }

    /// The end: the journal, the history, what is live, and the claim go together.
    pub(super) fn end(
        &mut self,
        pending: &mut Pending,
        verdict: Verdict,
        before: &Before,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        self.record(pending, Event::Ended { verdict }, at)?;
        let summary = ending::summary(&self.opened, &self.run, &self.entries, at, verdict);
        pending.writes.push(OwnedWrite::delete(keys::open(&self.opened.key)));
        pending.writes.extend(history::summary_writes(&summary));
        match verdict {
            Verdict::Succeeded if is_on(Mutant::LiveForgotten) => {}
            Verdict::Succeeded => {
                let live = Live::after(&summary, before.live.as_ref(), &before.past, at);
                pending.writes.push(OwnedWrite::put(keys::live(&self.opened.key), &live));
            }
            Verdict::RolledBack => {}
        }
        pending.writes.extend(withdrawn(self.handed.withdraw_all()));
        Ok(())
    }

    fn resumed(&self) -> OwnedWrite {
        self.open_as(OpenKind::Running { deployment: self.opened.id.clone(), wish: Wish::None })
    }
}

/// Whether `event` can be in the same transaction as what is there.
pub(super) fn fits(pending: &Pending, event: &Event) -> bool {
    pending.has_room() && event.step().is_none_or(|step| !pending.is_about(step))
}

/// The deletions of assignments that belong to a transaction.
fn withdrawn(deletions: Vec<OwnedWrite>) -> Vec<OwnedWrite> {
    if is_on(Mutant::NothingWithdrawn) { Vec::new() } else { deletions }
}

fn is_of(reported: &DeploymentId, driven: &DeploymentId) -> bool {
    reported == driven || is_on(Mutant::ReportOfOthers)
}
