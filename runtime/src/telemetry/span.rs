//! Attributes of a span for a collector. The log does not show them.

use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Sets the outcome of `span`.
pub fn outcome(span: &Span, outcome: &'static str) {
    span.set_attribute("outcome", outcome);
}

/// Sets the kind of step of `span`.
pub fn kind(span: &Span, kind: &'static str) {
    span.set_attribute("kind", kind);
}

/// Marks `span` as failed. The reason is only in the log: it may have the output of a program.
pub fn fail(span: &Span) {
    span.set_status(Status::error(""));
}
