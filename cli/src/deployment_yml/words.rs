//! Errors of the YAML parser, in the words of deployment.yml instead of those of the Rust types.
//!
//! What must stay true: the position comes from the parser, and a misspelt key names the key that is most like it.

use std::borrow::Cow;

use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

use super::nearest;

/// An error in the file, as it is shown.
pub(super) struct Explanation {
    /// With its line, underlined.
    pub(super) diagnostic: String,
    pub(super) hint: Option<Hint>,
}

/// What the writer may have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    Nearest(String),
    /// Nothing is similar: every value that is allowed.
    Known(Vec<String>),
}

pub(super) fn explain(error: &Error) -> Explanation {
    let words = Words;
    let options = serde_saphyr::render_options! { formatter: &words, source_name: Some("deployment.yml") };
    let rendered = error.render_with_options(options);
    Explanation {
        diagnostic: rendered.trim_start_matches("error: ").to_owned(),
        hint: hint(error.without_snippet()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only two of the parser's mistakes are of names")]
fn hint(error: &Error) -> Option<Hint> {
    let (typed, known) = match error {
        Error::SerdeUnknownField { field, .. } if COORDINATOR_PATHS.contains(&field.as_str()) => return None,
        Error::SerdeUnknownField { field, expected, .. } => (field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => (variant, expected),
        _ => return None,
    };
    Some(match nearest(typed, known.iter().copied()) {
        Some(near) => Hint::Nearest(near),
        None => Hint::Known(known.iter().map(ToString::to_string).collect()),
    })
}

/// Keys of earlier versions.
const COORDINATOR_PATHS: [&str; 2] = ["log_directory", "state_file"];

struct Words;

impl MessageFormatter for Words {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's own words are good enough for the rest")]
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::SerdeUnknownField { field, .. } if COORDINATOR_PATHS.contains(&field.as_str()) => format!(
                "`{field}` cannot be declared: it names a path on the coordinator's machine, which an administrator sets under [export] in coordinator.toml"
            )
            .into(),
            Error::SerdeUnknownField { field, .. } => format!("unknown key `{field}`").into(),
            Error::SerdeUnknownVariant { variant, .. } => {
                format!("`{variant}` is not a value of this key").into()
            }
            Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing").into(),
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the key `{key}` is set twice").into()
            }
            Error::SerdeInvalidType { unexpected, expected, .. } => {
                format!("expected {expected}, found {}", found(unexpected)).into()
            }
            Error::InvalidScalar { ty, .. } => format!("expected {}", scalar(ty)).into(),
            Error::InvalidBooleanStrict { .. } => "expected true or false".into(),
            Error::Unexpected { expected, .. } => format!("expected {}", shape(expected)).into(),
            other => UserMessageFormatter.format_message(other),
        }
    }
}

/// The expected value, by the parser's name for it.
fn scalar(wanted: &str) -> Cow<'static, str> {
    match wanted {
        "u16" => "a whole number from 0 to 65535".into(),
        "u8" | "u32" | "u64" | "i64" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        other => format!("a valid {other}").into(),
    }
}

fn found(unexpected: &str) -> &str {
    match unexpected {
        "sequence" => "a list",
        "map" => "a map",
        "unit value" => "nothing",
        other => other,
    }
}

fn shape(wanted: &str) -> Cow<'static, str> {
    match wanted {
        "sequence start" => "a list, as in [one, two]".into(),
        "mapping start" => "a map, as in { key: value }".into(),
        "string scalar" | "scalar" => "text".into(),
        other => other.to_owned().into(),
    }
}
