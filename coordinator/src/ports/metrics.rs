//! The metrics of the coordinator and their names. Log, traces and export are shared with the agent
//! ([`lockstep_runtime::telemetry`]).
//!
//! Attributes have few values: kinds, outcomes and environments, and never an id.

use std::sync::LazyLock;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Millis;
use lockstep_runtime::telemetry::{ENVIRONMENT, OUTCOME, SECONDS, STEP_DIRECTION, STEP_KIND};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};

/// The name of the service, of its tracer and of its meter.
pub const SERVICE: &str = "lockstep-coordinator";

const OPERATION: &str = "lockstep.operation";

struct Instruments {
    deployments: Counter<u64>,
    deployment_duration: Histogram<f64>,
    step_duration: Histogram<f64>,
    stuck: Counter<u64>,
    takeovers: Counter<u64>,
}

/// They measure nothing where nothing is exported.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter(SERVICE);
    Instruments {
        deployments: meter
            .u64_counter("lockstep.deployments")
            .with_unit("{deployment}")
            .with_description("Deployments that have ended")
            .build(),
        deployment_duration: meter
            .f64_histogram("lockstep.deployment.duration")
            .with_unit("s")
            .with_description("Time from the opening of a deployment to its end")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        step_duration: meter
            .f64_histogram("lockstep.step.duration")
            .with_unit("s")
            .with_description("Time from the intent of a step to its outcome, as recorded by the coordinator")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        stuck: meter
            .u64_counter("lockstep.deployments.stuck")
            .with_unit("{deployment}")
            .with_description("Deployments that became stuck because an undo failed")
            .build(),
        takeovers: meter
            .u64_counter("lockstep.lock.takeovers")
            .with_unit("{takeover}")
            .with_description("Deployments that this coordinator took over from another driver")
            .build(),
    }
});

/// How an outcome is called in metrics and traces.
pub(crate) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded => "succeeded",
        Verdict::RolledBack => "rolled_back",
    }
}

/// Counts a deployment that has ended.
pub(crate) fn deployment_ended(key: &EnvironmentKey, kind: OperationKind, verdict: Verdict, took: Millis) {
    let attributes = [
        environment(key),
        KeyValue::new(OPERATION, kind.as_str()),
        KeyValue::new(OUTCOME, verdict_name(verdict)),
    ];
    INSTRUMENTS.deployments.add(1, &attributes);
    INSTRUMENTS.deployment_duration.record(seconds(took), &attributes);
}

/// Measures a step that has an outcome.
pub(crate) fn step_ended(kind: &'static str, direction: Direction, outcome: &'static str, took: Millis) {
    let attributes = [
        KeyValue::new(STEP_KIND, kind),
        KeyValue::new(STEP_DIRECTION, direction.as_str()),
        KeyValue::new(OUTCOME, outcome),
    ];
    INSTRUMENTS.step_duration.record(seconds(took), &attributes);
}

pub(crate) fn stuck(key: &EnvironmentKey) {
    INSTRUMENTS.stuck.add(1, &[environment(key)]);
}

pub(crate) fn taken_over(key: &EnvironmentKey) {
    INSTRUMENTS.takeovers.add(1, &[environment(key)]);
}

/// Has `connected` asked for the number of agents whenever metrics leave.
pub(crate) fn watch_agents(connected: impl Fn() -> u64 + Send + Sync + 'static) {
    global::meter(SERVICE)
        .u64_observable_gauge("lockstep.agents.connected")
        .with_unit("{agent}")
        .with_description("Agents connected to this coordinator")
        .with_callback(move |observer| observer.observe(connected(), &[]))
        .build();
}

fn environment(key: &EnvironmentKey) -> KeyValue {
    KeyValue::new(ENVIRONMENT, key.to_string())
}

fn seconds(took: Millis) -> f64 {
    std::time::Duration::from_millis(took.0).as_secs_f64()
}
