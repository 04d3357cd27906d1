//! Why a deployment was reverted: for the error of the command that followed it, and for `lockstep show`.

use lockstep_core::health::Probe;
use lockstep_core::id::StepId;
use lockstep_core::record::history::{DeploymentSummary, FailedStep};
use lockstep_core::run::journal::{Entry, Event, RevertReason, StepFailure};

/// What continues the explanation begins with this.
const INDENT: &str = "       ";

/// Who cancelled the deployment; `None` if it was reverted for another reason.
pub(super) fn cancelled_by(summary: &DeploymentSummary) -> Option<&str> {
    summary.failure.as_ref()?.step.strip_prefix("cancelled by ")
}

/// The step whose failure made it revert, if that is what the entry says.
pub(super) fn failed_step(entry: &Entry) -> Option<StepId> {
    match &entry.event {
        Event::RevertStarted { because: RevertReason::StepFailed { step } } => Some(*step),
        Event::RevertStarted { because: RevertReason::LockTimeout | RevertReason::Cancelled { .. } }
        | Event::LockTaken { .. }
        | Event::Begun { .. }
        | Event::Done { .. }
        | Event::Failed { .. }
        | Event::Excluded { .. }
        | Event::Stuck { .. }
        | Event::Resumed { .. }
        | Event::UndoDeferred { .. }
        | Event::Ended { .. } => None,
    }
}

/// What failed, then the last output of the application, then the rest. `None` where the verdict says it all.
pub(super) fn explanation(summary: &DeploymentSummary) -> Option<String> {
    if cancelled_by(summary).is_some() {
        return None;
    }
    let FailedStep { step, host, failure } = summary.failure.as_ref()?;
    let StepFailure { what, why, tail, probes, certainty: _, next: _, migrated: _ } = failure;
    let unnamed = host.as_ref().filter(|host| !what.contains(host.as_str()));
    let on = unnamed.map(|host| format!(" on {host}")).unwrap_or_default();
    let first = format!("{step}{on}: {what}");
    let quoted = tail.iter().map(|line| format!("{INDENT}| {line}"));
    let because = why.iter().flat_map(|why| why.lines()).map(|line| format!("{INDENT}{line}"));
    let answers = answers(probes).into_iter().map(|answer| format!("{INDENT}{answer}"));
    let lines: Vec<String> = std::iter::once(first).chain(quoted).chain(because).chain(answers).collect();
    Some(lines.join("\n"))
}

/// The commands that help.
pub(super) fn next(summary: &DeploymentSummary, step: Option<StepId>) -> String {
    let DeploymentSummary { id, key, failure, .. } = summary;
    let own = failure.as_ref().and_then(|failed| failed.failure.next.clone());
    // A health check prints nothing itself: its probes and what the application printed are in the log of the deployment.
    let is_of_probes = failure.as_ref().is_some_and(|failed| !failed.failure.probes.is_empty());
    let log = step.map(|step| match is_of_probes {
        true => {
            format!("lockstep logs {key} --deployment {id}    # probes, and what the application printed")
        }
        false => {
            format!("lockstep logs {key} --deployment {id} --step {step}    # the whole log of the step")
        }
    });
    own.or(log).unwrap_or_else(|| format!("lockstep show {id}"))
}

/// The answers to probes; those that are alike are one line. Only the last are kept, so how often the first answer came
/// is not known.
fn answers(probes: &[Probe]) -> Vec<String> {
    let runs: Vec<&[Probe]> = probes.chunk_by(|one, other| one.answer == other.answer).collect();
    let times = |at: usize, count: usize| match (at, at + 1 == runs.len()) {
        (_, true) => format!("the last {count}"),
        (0, false) => format!("at least {count} times"),
        (_, false) => format!("{count} times"),
    };
    let line = |(at, alike): (usize, &&[Probe])| match alike {
        [only] => format!("probe: {only}"),
        [first, ..] => format!("probe: {}, {}", first.answer, times(at, alike.len())),
        [] => String::new(),
    };
    runs.iter().enumerate().map(line).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use lockstep_core::health::Answer;
    use lockstep_core::time::{Millis, Timestamp};
    use serde_json::json;

    use super::*;

    /// A deployment that was rolled back because of this failed step.
    pub(in crate::command::deployment) fn rolled_back(step: &str, host: Option<&str>) -> DeploymentSummary {
        serde_json::from_value(json!({
            "id": "dep_01JBQR2KXYZ987654321012345", "key": "notes/production", "kind": "deploy", "operator": "anna",
            "release": { "image": "notes:2", "commit": null, "migrations": [],
                         "image_id": format!("sha256:{}", "6b".repeat(32)) },
            "slot": "green", "secrets_version": null, "schema_before": null, "schema_after": null,
            "opened_at": 1_800_000_000_000_u64, "ended_at": 1_800_000_012_000_u64, "verdict": "rolled_back",
            "spec": {
                "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
                "mode": "production", "image": { "repository": "notes" }, "processes": {}, "database": null,
                "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
                "deploy": { "lock_timeout": 1_800_000, "drain": 0, "bake": 0, "log_directory": null, "state_file": null },
                "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
            },
            "failure": { "step": step, "host": host, "failure": {
                "certainty": "failed", "what": "notes:2 in green did not become healthy within 10.0 s",
                "why": "/health of 172.17.0.1:20001 is unhealthy: 500 after 2 ms", "tail": ["no DATABASE_URL"],
                "probes": [], "next": null,
            } },
            "steps": [],
            "receipt": { "requests": null, "requests_lost": null, "migrations_run": 0, "snapshot": null,
                         "switch_took": null },
        }))
        .unwrap()
    }

    fn probe(took: u64, status: u16) -> Probe {
        let answer = Answer::Http { status, declared: None, body: String::new() };
        Probe { at: Timestamp(took), took: Millis(took), answer }
    }

    #[test]
    fn the_output_of_the_application_comes_first_and_equal_answers_are_one_line() {
        let mut summary = rolled_back("health", Some("app-1"));
        let probes = [probe(7, 502)].into_iter().chain((1..=12).map(|took| probe(took, 500)));
        summary.failure.as_mut().unwrap().failure.probes = probes.collect();
        assert_eq!(
            explanation(&summary).unwrap().lines().collect::<Vec<_>>(),
            [
                "health on app-1: notes:2 in green did not become healthy within 10.0 s",
                "       | no DATABASE_URL",
                "       /health of 172.17.0.1:20001 is unhealthy: 500 after 2 ms",
                "       probe: 502 after 7 ms",
                "       probe: 500, the last 12",
            ]
        );
        let statuses = [502, 502, 503, 503, 503, 500, 500];
        let kept: Vec<Probe> = statuses.into_iter().map(|status| probe(1, status)).collect();
        assert_eq!(
            answers(&kept),
            ["probe: 502, at least 2 times", "probe: 503, 3 times", "probe: 500, the last 2"]
        );
    }

    #[test]
    fn the_next_command_shows_the_log_of_the_step_that_failed() {
        let mut summary = rolled_back("health", Some("app-1"));
        let next_command = next(&summary, Some(StepId(4)));
        let log = "lockstep logs notes/production --deployment dep_01JBQR2KXYZ987654321012345 --step s4 ";
        assert!(next_command.starts_with(log), "{next_command}");
        assert_eq!(next(&summary, None), "lockstep show dep_01JBQR2KXYZ987654321012345");
        summary.failure.as_mut().unwrap().failure.probes = vec![probe(7, 502)];
        let of_probes = next(&summary, Some(StepId(4)));
        assert!(!of_probes.contains("--step"), "the log of a health check is empty: {of_probes}");
        summary.failure.as_mut().unwrap().failure.next = Some("systemctl start docker".to_owned());
        assert_eq!(next(&summary, Some(StepId(4))), "systemctl start docker");
    }

    #[test]
    fn a_cancelled_deployment_has_nothing_to_explain() {
        let summary = rolled_back("cancelled by anna", None);
        assert_eq!(cancelled_by(&summary), Some("anna"));
        assert_eq!(explanation(&summary), None);
    }
}
