//! The metrics of the agent and their names, and what the log may show of an error. Log, traces and export are shared
//! with the coordinator ([`lockstep_runtime::telemetry`]).

use std::error::Error;
use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::time::Duration;

use lockstep_runtime::telemetry::{OUTCOME, SECONDS, STEP_DIRECTION, STEP_KIND};
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tracing::error;

/// The name of the service, of its tracer and of its meter.
pub const SERVICE: &str = "lockstep-agent";

/// Without an exporter it records nothing.
static STEP_DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter(SERVICE)
        .f64_histogram("lockstep.agent.step.duration")
        .with_unit("s")
        .with_description("How long a step took on its host")
        .with_boundaries(SECONDS.to_vec())
        .build()
});

/// Records the duration of a step with an outcome. The histogram also counts the steps.
pub(crate) fn step_ended(kind: &'static str, direction: &'static str, outcome: &'static str, took: Duration) {
    let attributes = [
        KeyValue::new(STEP_KIND, kind),
        KeyValue::new(STEP_DIRECTION, direction),
        KeyValue::new(OUTCOME, outcome),
    ];
    STEP_DURATION.record(took.as_secs_f64(), &attributes);
}

/// Logs the location of a panic without its message.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(log_panic_location));
}

/// `error` with its chain of sources.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        // Some libraries repeat their source in what they say.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = error.source();
    }
    text
}

/// The message of a panic may have a secret, so the log has only its location. The failure of a step has the message,
/// redacted.
fn log_panic_location(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(place, "bug: the program panicked");
}
