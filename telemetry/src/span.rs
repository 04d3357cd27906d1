//! What a span is told beyond its fields: for a collector, and not for the log.

use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// How what `span` is about came out, in one word of few.
pub fn outcome(span: &Span, outcome: &'static str) {
    span.set_attribute("outcome", outcome);
}

/// What kind of step `span` is about.
pub fn kind(span: &Span, kind: &'static str) {
    span.set_attribute("kind", kind);
}

/// What `span` is about went wrong. Why stands in the log: it may be what a program printed.
pub fn fail(span: &Span) {
    span.set_status(Status::error(""));
}
