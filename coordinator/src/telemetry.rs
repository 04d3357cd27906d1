//! The log on standard error, and the trace context that goes along with every step.

use std::error::Error;
use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Begins the log. `filter` is written as <https://docs.rs/tracing-subscriber> has it.
///
/// # Errors
/// When `filter` cannot be understood, or a log was begun before.
pub fn begin(filter: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let lines = fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let provider = SdkTracerProvider::builder().build();
    tracing_subscriber::registry()
        .with(EnvFilter::try_new(filter)?)
        .with(lines)
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("lockstep-coordinator")))
        .try_init()?;
    Ok(())
}
