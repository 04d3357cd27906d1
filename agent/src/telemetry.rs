//! The log on standard error, and the trace context that comes with a step and goes on with it.

use std::error::Error;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::error;
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
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("lockstep-agent")))
        .try_init()?;
    std::panic::set_hook(Box::new(say_where));
    Ok(())
}

/// `error` with everything that it is because of.
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

/// What a panic says may hold a secret, so the log has only its place; a step's failure has the rest, redacted.
fn say_where(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(place, "bug: the program panicked");
}
