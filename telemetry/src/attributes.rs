//! What of a span may leave: these attributes and no others, under the names that the field has for them.

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// `<application>/<environment>`.
pub const ENVIRONMENT: &str = "deployment.environment.name";

pub const OUTCOME: &str = "lockstep.outcome";
pub const STEP_KIND: &str = "lockstep.step.kind";
pub const STEP_DIRECTION: &str = "lockstep.step.direction";

/// What a span calls it, and what a collector is told that it is called.
const LEAVE: &[(&str, &str)] = &[
    ("deployment", "deployment.id"),
    ("environment", ENVIRONMENT),
    ("host", "lockstep.host.id"),
    ("step", "lockstep.step.id"),
    ("kind", STEP_KIND),
    ("direction", STEP_DIRECTION),
    ("outcome", OUTCOME),
];

/// The span with what may leave of it.
pub(crate) fn leaving(span: SpanData) -> SpanData {
    let attributes = span.attributes.into_iter().filter_map(renamed).collect();
    SpanData { attributes, events: SpanEvents::default(), links: SpanLinks::default(), ..span }
}

fn renamed(attribute: KeyValue) -> Option<KeyValue> {
    let (_, name) = LEAVE.iter().find(|(ours, _)| *ours == attribute.key.as_str())?;
    Some(KeyValue::new(Key::from_static_str(name), attribute.value))
}
