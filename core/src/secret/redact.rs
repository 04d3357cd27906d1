//! Redacts secret values in text, by value, whatever program printed them.
//!
//! These are redacted (T14): every value of 8 characters or more, except `ENVIRONMENT` and names declared public; and
//! the password inside a URL by itself. Each is redacted also in the forms in which programs print it: percent-encoded
//! and JSON-escaped.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::secret::Secret;

/// Shorter values are ordinary words; replacing them would make a log unreadable and reveal them by their absence.
pub const REDACTED_LENGTH_MIN: usize = 8;

/// All but what RFC 3986 calls unreserved: programs escape these when a value becomes a part of a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Replaces every known secret value in a text.
#[derive(Clone)]
pub struct Redactor {
    patterns: Option<AhoCorasick>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// A redactor of the values of `variables`, but for `ENVIRONMENT` and the names in `public`.
    pub fn new(variables: &BTreeMap<String, Secret>, public: &BTreeSet<String>) -> Self {
        let mut values = BTreeSet::new();
        for (name, value) in variables {
            if name != "ENVIRONMENT" && !public.contains(name) {
                forms_of(value.expose(), &mut values);
            }
        }
        let values: Vec<String> = values.into_iter().collect();
        let patterns = (!values.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&values)
                .expect("a few hundred values are far from the automaton's limit of 2^31 states")
        });
        Self { patterns }
    }

    /// A redactor that knows no secret.
    pub fn none() -> Self {
        Self { patterns: None }
    }

    /// `text` with every secret replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        match &self.patterns {
            None => text.to_owned(),
            Some(patterns) => {
                let mut clean = String::with_capacity(text.len());
                patterns.replace_all_with(text, &mut clean, |_, _, clean| {
                    clean.push_str(MASK);
                    true
                });
                clean
            }
        }
    }
}

fn forms_of(value: &str, forms: &mut BTreeSet<String>) {
    if value.len() >= REDACTED_LENGTH_MIN {
        add_encodings(value, forms);
    }
    // A password is hidden by itself however short it is: programs print it without its URL.
    if let Some(password) = url_password(value) {
        add_encodings(password, forms);
        add_encodings(&percent_decoded(password), forms);
    }
    for line in value.lines() {
        // A log has lines: a key of several lines would never match as a whole.
        if line.len() >= REDACTED_LENGTH_MIN && line.len() < value.len() {
            add_encodings(line, forms);
        }
    }
}

fn add_encodings(value: &str, forms: &mut BTreeSet<String>) {
    if value.is_empty() {
        return;
    }
    let percent = utf8_percent_encode(value, RESERVED).to_string();
    let json = serde_json::to_string(value).unwrap_or_default();
    forms.insert(value.to_owned());
    forms.insert(percent);
    let escaped = json.trim_matches('"');
    if !escaped.is_empty() {
        forms.insert(escaped.to_owned());
    }
}

/// The password of `scheme://user:password@host`.
pub fn url_password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (_, password) = user_info.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// `text` with `%41` turned into `A`; what is not a valid escape stays.
pub fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(variables: &[(&str, &str)]) -> Redactor {
        let variables =
            variables.iter().map(|(n, v)| ((*n).to_owned(), Secret::new((*v).to_owned()))).collect();
        Redactor::new(&variables, &BTreeSet::from(["PUBLIC_URL".to_owned()]))
    }

    #[test]
    fn a_value_is_hidden_in_every_form_in_which_programs_print_it() {
        let redactor = redactor(&[
            ("JWT_SECRET", "top/secret\"value"),
            ("DATABASE_URL", "postgres://notes:p%40ss@db:5432/notes"),
            ("SHORT", "abc"),
            ("ENVIRONMENT", "production"),
            ("PUBLIC_URL", "https://notes.example"),
        ]);
        for (text, clean) in [
            ("a top/secret\"value b", "a *** b"),
            (r#"{"s":"top/secret\"value"}"#, r#"{"s":"***"}"#),
            ("top%2Fsecret%22value", "***"),
            ("postgres://notes:p%40ss@db:5432/notes", "***"),
            ("password p%40ss refused, also p@ss", "password *** refused, also ***"),
            ("abc production https://notes.example", "abc production https://notes.example"),
        ] {
            assert_eq!(redactor.redact(text), clean);
        }
    }

    #[test]
    fn what_is_no_escape_is_not_decoded() {
        assert_eq!(percent_decoded("p%40ss%+f%4%zz%"), "p@ss%+f%4%zz%");
    }

    #[test]
    fn an_escape_that_is_no_text_leaves_all_as_it_is() {
        assert_eq!(percent_decoded("%40%ff"), "%40%ff");
    }

    #[test]
    fn a_multi_line_key_is_hidden_line_by_line() {
        let redactor = redactor(&[("KEY", "-----BEGIN-----\nMIIEvQIBADAN\n-----END-----")]);
        assert_eq!(redactor.redact("read MIIEvQIBADAN"), "read ***");
    }
}
