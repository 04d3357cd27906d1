//! Trace propagation: W3C Trace Context in the metadata of a call, or as text in a message.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header: <https://www.w3.org/TR/trace-context/#traceparent-header>.
const TRACEPARENT: &str = "traceparent";

/// The context of `span`; empty when nothing records it.
pub fn traceparent(span: &Span) -> String {
    let mut text = OneHeader(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut text);
    text.0.unwrap_or_default()
}

/// Makes `span` a part of the trace that `traceparent` names; anything else leaves it a root.
pub fn follow(span: &Span, traceparent: &str) {
    if traceparent.is_empty() {
        return;
    }
    let header = OneHeader(Some(traceparent.to_owned()));
    let context = TraceContextPropagator::new().extract(&header);
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(%error, "the span has no place in its caller's trace");
    }
}

/// Puts a context into a call's metadata, where there is one that can be sent.
pub fn carry(traceparent: &str, metadata: &mut MetadataMap) {
    if let Ok(value) = traceparent.parse()
        && !traceparent.is_empty()
    {
        metadata.insert(MetadataKey::from_static(TRACEPARENT), value);
    }
}

/// The context in a call's metadata; empty when there is none.
pub fn extract(metadata: &MetadataMap) -> &str {
    metadata.get(TRACEPARENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

struct OneHeader(Option<String>);

impl Injector for OneHeader {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

impl Extractor for OneHeader {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}
