//! The summary of a deployment that has ended, computed from its plan and its journal.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::id::StepId;
use lockstep_core::plan::Action;
use lockstep_core::record::history::{DeploymentSummary, FailedStep, Receipt, StepTime};
use lockstep_core::run::engine::Run;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{
    Direction, Entry, Event, Finding, Migrated, RevertReason, StepFailure, TrafficCount,
};
use lockstep_core::time::Timestamp;

/// The most times of one kind of step that a summary has.
const TIMES_OF_A_KIND_MAX: usize = 100;

/// The summary of a deployment that ends at `at` as `verdict`. `opened` is what was recorded of it when
/// it was opened, `entries` its journal.
pub(super) fn summary(
    opened: &DeploymentSummary,
    run: &Run,
    entries: &[Entry],
    at: Timestamp,
    verdict: Verdict,
) -> DeploymentSummary {
    let findings = || findings(entries);
    let (schema_after, applied) = schema_after(opened, run, entries);
    let (requests, requests_lost) = counted(counts(entries));
    DeploymentSummary {
        serving: run.effective_plan().serving.clone(),
        excluded: run.effective_plan().excluded.clone(),
        schema_after,
        ended_at: Some(at),
        verdict: Some(verdict),
        failure: failed_step(opened, run, entries),
        steps: some_of_each_kind(step_times(run, entries)),
        receipt: Receipt {
            requests,
            requests_lost,
            migrations_run: u32::try_from(applied).unwrap_or(u32::MAX),
            snapshot: findings().filter_map(|finding| finding.snapshot.as_deref()).next_back().cloned(),
            switch_took: findings().filter_map(|finding| finding.switch_took).next_back(),
            reloads: reloads(entries),
        },
        ..opened.clone()
    }
}

/// The version of the schema after all of `entries`, `None` if nobody knows it, and how many migrations were applied.
fn schema_after(opened: &DeploymentSummary, run: &Run, entries: &[Entry]) -> (Option<u64>, usize) {
    let (mut version, mut applied) = (opened.schema_before, 0);
    for entry in entries {
        let migrated = if let Event::Done { finding, .. } = &entry.event {
            finding.migrated.as_ref()
        } else if let Some(failure) = failed_migration(run, &entry.event) {
            // It may have failed before it looked at the database, or before it could look again.
            version = None;
            failure.migrated.as_ref()
        } else {
            None
        };
        if let Some(Migrated { applied: some, schema_version }) = migrated {
            version = Some(*schema_version);
            applied += some.len();
        }
    }
    (version, applied)
}

fn failed_migration<'run>(run: &Run, event: &'run Event) -> Option<&'run StepFailure> {
    let Event::Failed { step, direction: Direction::Do, failure } = event else { return None };
    let step = run.plan().step(*step)?;
    matches!(step.action, Action::Migrate(_)).then_some(failure)
}

/// Why the deployment is or was reverted, according to the journal.
pub(crate) fn failed_step(opened: &DeploymentSummary, run: &Run, entries: &[Entry]) -> Option<FailedStep> {
    let because = entries.iter().find_map(|entry| {
        let Event::RevertStarted { because } = &entry.event else { return None };
        Some(because)
    })?;
    Some(match because {
        RevertReason::StepFailed { step } => FailedStep {
            step: run
                .plan()
                .step(*step)
                .map_or_else(|| step.to_string(), |step| step.action.name().to_owned()),
            host: run.plan().step(*step).map(|step| step.host_name.clone()),
            failure: first_failure(entries, *step)
                .cloned()
                .unwrap_or_else(|| StepFailure::new(format!("{step} failed"))),
        },
        RevertReason::LockTimeout => FailedStep {
            step: "lock time-out".to_owned(),
            host: None,
            failure: time_is_over(opened, entries),
        },
        RevertReason::Cancelled { by } => FailedStep {
            step: format!("cancelled by {by}"),
            host: None,
            failure: StepFailure::new(format!("{by} cancelled the deployment")),
        },
    })
}

/// The lock's time begins by the clock of who opened it, and is over by the clock of who drives.
fn time_is_over(opened: &DeploymentSummary, entries: &[Entry]) -> StepFailure {
    let limit = opened.spec.deploy.lock_timeout;
    let has_begun = entries.iter().any(|entry| entry.event.step().is_some());
    let Some(Entry { event: Event::LockTaken { by }, at, .. }) = entries.first().filter(|_| !has_begun)
    else {
        return StepFailure::new(format!("the deployment took longer than its lock_timeout of {limit}"));
    };
    let opened_at = opened.opened_at;
    StepFailure::new(format!(
        "the lock_timeout of {limit} ended before the first step began, so nothing was changed"
    ))
    .why(format!(
        "it was opened at {opened_at}, and {by} began to drive it at {at}: no coordinator was running meanwhile, or \
             the clock of a coordinator is wrong"
    ))
    .next("check the clock on every coordinator: timedatectl")
}

/// The failure that made it revert; an undo of the same step may have failed later.
fn first_failure(entries: &[Entry], of: StepId) -> Option<&StepFailure> {
    entries.iter().find_map(|entry| {
        let Event::Failed { step, direction: Direction::Do, failure } = &entry.event else { return None };
        (*step == of).then_some(failure)
    })
}

/// What each step has found.
fn findings(entries: &[Entry]) -> impl DoubleEndedIterator<Item = &Finding> + Clone {
    findings_by_direction(entries)
        .filter(|(direction, _)| *direction == Direction::Do)
        .map(|(_, finding)| finding)
}

/// How often nginx was reloaded, for a step or for its undo.
fn reloads(entries: &[Entry]) -> u32 {
    let reloaded = findings_by_direction(entries).filter(|(_, finding)| finding.reloaded);
    u32::try_from(reloaded.count()).unwrap_or(u32::MAX)
}

/// The requests that nginx has counted after each step, and after each undo.
fn counts(entries: &[Entry]) -> impl DoubleEndedIterator<Item = TrafficCount> {
    findings_by_direction(entries).filter_map(|(_, finding)| finding.traffic)
}

fn findings_by_direction(
    entries: &[Entry],
) -> impl DoubleEndedIterator<Item = (Direction, &Finding)> + Clone {
    entries.iter().filter_map(|entry| {
        let Event::Done { direction, finding, .. } = &entry.event else { return None };
        Some((*direction, finding))
    })
}

/// What nginx answered and lost between the first count and the last.
fn counted(mut counts: impl DoubleEndedIterator<Item = TrafficCount>) -> (Option<u64>, Option<u64>) {
    match (counts.next(), counts.next_back()) {
        (Some(first), Some(last)) => {
            (Some(last.requests.saturating_sub(first.requests)), Some(last.lost.saturating_sub(first.lost)))
        }
        (Some(_) | None, None) | (None, Some(_)) => (None, None),
    }
}

/// Of steps of one kind on very many hosts so many that stand for all: evenly from the fastest to the slowest. A
/// summary must fit into a value, and what is left out stands in the journal.
fn some_of_each_kind(times: Vec<StepTime>) -> Vec<StepTime> {
    let mut of_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, time) in times.iter().enumerate() {
        of_kind.entry(&time.name).or_default().push(number);
    }
    let mut kept = BTreeSet::new();
    for mut numbers in of_kind.into_values() {
        if numbers.len() > TIMES_OF_A_KIND_MAX {
            numbers.sort_by_key(|number| times[*number].took);
            let last = numbers.len() - 1;
            numbers = (0..TIMES_OF_A_KIND_MAX)
                .map(|place| numbers[place * last / (TIMES_OF_A_KIND_MAX - 1)])
                .collect();
        }
        kept.extend(numbers);
    }
    times.into_iter().enumerate().filter(|(number, _)| kept.contains(number)).map(|(_, time)| time).collect()
}

fn step_times(run: &Run, entries: &[Entry]) -> Vec<StepTime> {
    let mut begun: BTreeMap<StepId, Timestamp> = BTreeMap::new();
    let mut times = Vec::new();
    for entry in entries {
        if let Event::Begun { step, direction: Direction::Do } = &entry.event {
            begun.insert(*step, entry.at);
        }
        if let Event::Done { step, direction: Direction::Do, .. } = &entry.event
            && let (Some(since), Some(planned)) = (begun.get(step), run.plan().step(*step))
        {
            times.push(StepTime {
                name: planned.action.name().to_owned(),
                host: planned.host_name.clone(),
                took: entry.at.since(*since),
            });
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::time::Millis;

    #[test]
    fn the_times_that_stand_for_many_have_the_same_ends_and_the_same_middle() {
        let time = |name: &str, took| StepTime {
            name: name.to_owned(),
            host: "app-1".parse().unwrap(),
            took: Millis(took),
        };
        let mut all: Vec<StepTime> = (0..=1000).rev().map(|took| time("start", took)).collect();
        all.push(time("switch", 7));
        let kept = some_of_each_kind(all);
        assert_eq!(kept.iter().filter(|one| one.name == "switch").count(), 1);
        let mut starts: Vec<u64> =
            kept.iter().filter(|one| one.name == "start").map(|one| one.took.0).collect();
        assert_eq!((starts.first(), starts.last()), (Some(&1000), Some(&0)), "in their order");
        starts.sort_unstable();
        assert_eq!(starts.len(), TIMES_OF_A_KIND_MAX);
        assert!((495..=505).contains(&starts[TIMES_OF_A_KIND_MAX / 2]), "{starts:?}");
    }
}
