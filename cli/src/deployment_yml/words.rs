//! What the parser of YAML finds wrong, in the words of who wrote the file and not of who wrote the types.
//!
//! What must stay true: the place comes from the parser, and a key that is nearly one names its neighbour.

use std::borrow::Cow;

use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

use super::nearest;

/// A mistake in the file as it is told.
pub(super) struct Explanation {
    /// With its line, underlined.
    pub(super) diagnostic: String,
    pub(super) hint: Option<Hint>,
}

/// What could have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    Nearest(String),
    /// Nothing is near: all that may stand there.
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
        Error::SerdeUnknownField { field, expected, .. } => (field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => (variant, expected),
        _ => return None,
    };
    Some(match nearest(typed, known.iter().copied()) {
        Some(near) => Hint::Nearest(near),
        None => Hint::Known(known.iter().map(ToString::to_string).collect()),
    })
}

struct Words;

impl MessageFormatter for Words {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's own words are good enough for the rest")]
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::SerdeUnknownField { field, .. } => format!("there is no key `{field}` here").into(),
            Error::SerdeUnknownVariant { variant, .. } => {
                format!("`{variant}` is no value of this key").into()
            }
            Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing").into(),
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the key `{key}` stands here twice").into()
            }
            Error::SerdeInvalidType { unexpected, expected, .. } => {
                format!("this is {}, and not {expected}", found(unexpected)).into()
            }
            Error::InvalidScalar { ty, .. } => format!("this is {}", scalar(ty)).into(),
            Error::InvalidBooleanStrict { .. } => "this is neither true nor false".into(),
            Error::Unexpected { expected, .. } => format!("this is {}", shape(expected)).into(),
            other => UserMessageFormatter.format_message(other),
        }
    }
}

/// What a value is not, by the parser's name for it.
fn scalar(wanted: &str) -> Cow<'static, str> {
    match wanted {
        "u16" => "no whole number from 0 to 65535".into(),
        "u8" | "u32" | "u64" | "i64" => "no whole number".into(),
        "f32" | "f64" => "no number".into(),
        other => format!("not a valid {other}").into(),
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
        "sequence start" => "no list: write it as [one, two]".into(),
        "mapping start" => "no map: write it as { key: value }".into(),
        "string scalar" | "scalar" => "no text".into(),
        other => format!("not the expected {other}").into(),
    }
}
