//! The content of one transaction of a driver: journal entries that follow from each other, with everything they
//! change.
//!
//! An entry is applied to the drive state as soon as it is drafted, so entries that follow from it fit into the same
//! transaction: the outcome of a step and the intent of the next. Until the transaction is written, the drive state is
//! ahead of the record, and nothing else happens. A driver that cannot write it exits and drops its state.

use lockstep_core::id::StepId;
use lockstep_core::record::claim::{ClaimKind, OperatorRequest};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::run::engine::assignment;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Deferral, Direction, Event, StepFailure, StepKey};
use lockstep_core::time::Timestamp;
use lockstep_mutant::{Mutant, is_on};
use lockstep_proto::trace::traceparent;
use lockstep_runtime::telemetry::span;
use tracing::{Span, info_span};

use super::drive_state::DriveState;
use super::ending;
use super::entry_log::shorten_failure;
use super::entry_metrics::kind;
use super::exit::DriverError;
use super::pending_transaction::{Assigned, JournaledEntry, PendingTransaction};
use crate::record::history;
use crate::store::guarded::OwnedWrite;
use crate::store::handover::{Assignment, Report, Reported};
use crate::store::{Owned, Stored, keys};

/// What the record says when a deployment ends.
#[derive(Default)]
pub(super) struct PriorState {
    pub(super) live: Option<LiveRelease>,
    /// The deployments that ended earlier.
    pub(super) past: Vec<DeploymentSummary>,
}

impl DriveState {
    /// Adds `event` to the journal, with all that belongs to it.
    pub(super) fn append_entry(
        &mut self,
        pending: &mut PendingTransaction,
        event: Event,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        let entry = self.entry(event, at);
        let mut span = Span::current();
        let belongings = match &entry.event {
            Event::Begun { step, direction } => {
                let (begun, writes) = self.assign(*step, *direction)?;
                span = begun;
                writes
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => {
                span = self.assigned.span(*step).unwrap_or(span);
                withdrawn(self.assigned.withdraw(*step))
            }
            Event::Stuck { .. } => {
                vec![self.claim_with(ClaimKind::Stuck { deployment: self.opened.id.clone() })]
            }
            Event::Resumed { .. } => vec![self.resumed()],
            Event::UndoDeferred { step, how } => {
                let mut writes = self.assigned.withdraw(*step);
                writes.extend(self.add_pending_undo(&entry));
                writes.extend(matches!(how, Deferral::Skipped { .. }).then(|| self.resumed()));
                writes
            }
            Event::LockTaken { .. }
            | Event::Excluded { .. }
            | Event::RevertStarted { .. }
            | Event::Ended { .. } => Vec::new(),
        };
        let begun = entry.event.step().and_then(|step| self.run.step_status(step).begun_at());
        let took = begun.map(|begun| at.since(begun));
        self.run.apply(&entry)?;
        self.entries.push(entry.clone());
        pending.append(&self.opened.id, JournaledEntry { entry, span, took });
        pending.writes.extend(belongings);
        Ok(())
    }

    /// The assignment of a step, in place of what the step had before; and the step's span.
    pub(super) fn assign(
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
        let mut writes = self.assigned.withdraw(step);
        writes.push(put);
        self.assigned.set(step, Assigned { key, token, span: span.clone() });
        Ok((span, writes))
    }

    /// What hosts answered to the questions after the take-over.
    pub(super) fn add_answers(
        &mut self,
        pending: &mut PendingTransaction,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        while let Some(event) = self.answers.front() {
            if !fits(pending, event) {
                break;
            }
            if let Some(event) = self.answers.pop_front()
                && self.run.accepts(&event, at)
            {
                self.append_entry(pending, event, at)?;
            }
        }
        Ok(())
    }

    /// What hosts report. A report that comes too late or is not for this deployment is only removed.
    pub(super) fn add_reports(
        &mut self,
        pending: &mut PendingTransaction,
        reports: &[Stored],
        at: Timestamp,
    ) -> Result<(), DriverError> {
        for stored in reports {
            let report: Report = stored.read()?;
            let event = self.event_of(report).filter(|event| self.run.accepts(event, at));
            if !event.as_ref().map_or(pending.has_room(), |event| fits(pending, event)) {
                break;
            }
            let delete = Owned::of_stored(&stored.key)
                .map(OwnedWrite::delete)
                .ok_or(DriverError::Bug("a report is not owned"))?;
            match event {
                Some(event) if !is_on(Mutant::ReportDropped) => self.append_entry(pending, event, at)?,
                Some(_) | None => {}
            }
            pending.writes.push(delete);
        }
        Ok(())
    }

    fn event_of(&self, report: Report) -> Option<Event> {
        let StepKey { deployment, step, direction } = report.key;
        // None is written any more, but a version that did not compare them with what is assigned may have left some.
        if deployment != self.opened.id {
            return None;
        }
        match report.outcome {
            Reported::Done(finding) => Some(Event::Done { step, direction, finding }),
            Reported::Failed(failure) => {
                Some(Event::Failed { step, direction, failure: shorten_failure(failure) })
            }
            // An assignment of a deposed driver is refused as it should be: the question of its successor has fenced it.
            Reported::Refused { why } => self.is_own(step, &report.token).then(|| {
                let failure = StepFailure::new("the agent refused the step").why(why);
                Event::Failed { step, direction, failure }
            }),
        }
    }

    /// The end: the journal, the history, what is live, and the claim go together.
    pub(super) fn end_deployment(
        &mut self,
        pending: &mut PendingTransaction,
        verdict: Verdict,
        before: &PriorState,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        self.append_entry(pending, Event::Ended { verdict }, at)?;
        let summary = ending::summary(&self.opened, &self.run, &self.entries, at, verdict);
        pending.writes.push(OwnedWrite::delete(keys::open(&self.opened.key)));
        pending.writes.extend(history::summary_writes(&summary));
        match verdict {
            Verdict::Succeeded if is_on(Mutant::LiveForgotten) => {}
            Verdict::Succeeded => {
                let live = LiveRelease::after(&summary, before.live.as_ref(), &before.past, at);
                let key = keys::live(&self.opened.key);
                pending.writes.push(match live {
                    Some(live) => OwnedWrite::put(key, &live),
                    None => OwnedWrite::delete(key),
                });
            }
            Verdict::RolledBack => {}
        }
        pending.writes.extend(withdrawn(self.assigned.withdraw_all()));
        Ok(())
    }

    fn resumed(&self) -> OwnedWrite {
        self.claim_with(ClaimKind::Running {
            deployment: self.opened.id.clone(),
            request: OperatorRequest::None,
        })
    }
}

/// Whether `event` can be in the same transaction as what is there.
pub(super) fn fits(pending: &PendingTransaction, event: &Event) -> bool {
    pending.has_room() && event.step().is_none_or(|step| !pending.is_about(step))
}

/// The deletions of assignments that belong to a transaction.
fn withdrawn(deletions: Vec<OwnedWrite>) -> Vec<OwnedWrite> {
    if is_on(Mutant::NothingWithdrawn) { Vec::new() } else { deletions }
}
