//! The log and the telemetry of a service: lines on standard error and, if a collector is configured, traces and
//! metrics by OTLP.
//!
//! Modules in reading order: the destination ([`settings`]), what is exported and how ([`export`], [`attributes`],
//! [`span`]), and the log of a collector that does not answer ([`collector`]). What must stay true: nothing is exported
//! without a setting; nothing waits for a collector; and only the attributes named in [`attributes`] are exported,
//! never a line of the log, because a line may have the output of a program.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

mod attributes;
mod collector;
mod export;
pub mod settings;
pub mod span;

pub use attributes::{ENVIRONMENT, OUTCOME, STEP_DIRECTION, STEP_KIND};
use export::Exports;
pub use settings::Otlp;

/// The boundaries of every duration, in seconds: from a switch of milliseconds to a migration of half an hour.
pub const SECONDS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0];

/// How long the end of a service waits for its last spans and metrics.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The prefix of the crates whose spans are exported. Spans of libraries would be traces of the exporter itself.
const OURS: &str = "lockstep";

/// Why logging or telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error("the log filter {filter:?} is not valid")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("logging is already initialized")]
    Again(#[from] tracing_subscriber::util::TryInitError),
    #[error("cannot export to telemetry.otlp")]
    Export(#[from] export::ExportError),
}

/// The running telemetry. It is ended with the service, so that the last spans are sent.
pub struct Telemetry(Option<Exports>);

/// Begins the log of `service`, and its export if `otlp` is set. `filter` applies to the log alone, in the format of
/// `Targets` in <https://docs.rs/tracing-subscriber>: `info`, or `warn,lockstep_agent=debug`. With `otlp` a runtime must
/// be entered, and live until [`Telemetry::end`].
///
/// # Errors
/// When `filter` is not valid, the collector's authority cannot be read, or a log was begun before.
pub fn begin(service: &'static str, filter: &str, otlp: Option<&Otlp>) -> Result<Telemetry, BeginError> {
    let exports = otlp.map(|otlp| Exports::to(otlp, service)).transpose()?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let filter: Targets =
        filter.parse().map_err(|source| BeginError::Filter { filter: filter.to_owned(), source })?;
    let lines = fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(filter);
    // Without a collector there are spans all the same: a caller's trace goes on with the steps.
    let provider =
        exports.as_ref().map_or_else(|| SdkTracerProvider::builder().build(), |exports| exports.traces());
    let spans = tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_tracer(provider.tracer(service))
        .with_filter(
            filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with(OURS))
                .and(LevelFilter::INFO),
        );
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    if let Some(exports) = &exports {
        opentelemetry::global::set_meter_provider(exports.metrics());
    }
    Ok(Telemetry(exports))
}

impl Telemetry {
    /// Sends the remaining spans and metrics, for two seconds at most.
    pub fn end(self) {
        let Self(Some(exports)) = self else { return };
        let (done, is_done) = std::sync::mpsc::channel();
        let sending = std::thread::Builder::new().name("telemetry-end".to_owned()).spawn(move || {
            exports.end(END_LIMIT);
            // Nobody listens when it took too long.
            done.send(()).ok();
        });
        if sending.is_err() || is_done.recv_timeout(END_LIMIT).is_err() {
            tracing::warn!(
                "the last traces and metrics may be lost: the collector did not take them in time"
            );
        }
    }
}
