//! The attributes of a span that are exported, under the names of the OpenTelemetry conventions. No others are.

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// `<application>/<environment>`.
pub const ENVIRONMENT: &str = "deployment.environment.name";

pub const OUTCOME: &str = "lockstep.outcome";
pub const STEP_KIND: &str = "lockstep.step.kind";
pub const STEP_DIRECTION: &str = "lockstep.step.direction";

/// The exported attributes: the name in a span, and the name for a collector.
const EXPORTED: &[(&str, &str)] = &[
    ("deployment", "deployment.id"),
    ("environment", ENVIRONMENT),
    ("host", "lockstep.host.id"),
    ("step", "lockstep.step.id"),
    ("kind", STEP_KIND),
    ("direction", STEP_DIRECTION),
    ("outcome", OUTCOME),
];

/// The span with its exported attributes only.
pub(crate) fn exported(span: SpanData) -> SpanData {
    let attributes = span.attributes.into_iter().filter_map(renamed).collect();
    SpanData { attributes, events: SpanEvents::default(), links: SpanLinks::default(), ..span }
}

fn renamed(attribute: KeyValue) -> Option<KeyValue> {
    let (_, name) = EXPORTED.iter().find(|(ours, _)| *ours == attribute.key.as_str())?;
    Some(KeyValue::new(Key::from_static_str(name), attribute.value))
}
