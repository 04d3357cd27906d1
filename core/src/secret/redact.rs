//! Redacts secret values in text, by value, whatever program printed them.
//!
//! The rule, for every value except `ENVIRONMENT` and names declared public (T14):
//!
//! - A value of 8 bytes or more is masked wherever it stands.
//! - A value of 4 to 7 bytes is masked where it stands by itself: neither neighbour is a letter or a digit. So `hunter2`
//!   is masked in `password=hunter2` and not in `hunter22`.
//! - A shorter value is not masked: a log in which every `a` is masked is unreadable, and shows the value by its absence.
//! - A common word is not masked, whatever its length: `production`, `true`, `localhost`, a number of up to five digits
//!   as a port, one sign repeated as in the rule of a table.
//!
//! The same holds for the password in a URL by itself, and for its parts if it has signs that should have been
//! percent-encoded. A line of a longer value is masked by itself if it has 8 bytes or more. Each is masked also in the
//! forms in which programs print it: percent-encoded and JSON-escaped.
//!
//! What must stay true: time and memory are linear in values and text, whatever they are. A value of more than
//! [`PIECE_BYTES_MAX`] bytes is masked in pieces of that length, which also hides a value that a program cuts. Whoever
//! cuts a text before it is redacted marks where it is cut: [`Redactor::redact_cut`].

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use percent_encoding::percent_decode_str;

use crate::secret::Secret;
use crate::shortened::{Mark, first_mark, mark};

mod finder;
mod forms;

pub use finder::PIECE_BYTES_MAX;

use finder::{AnywhereFinder, WordFinder, joined};
use forms::{Forms, Masking, masking};

/// From this length on a value is masked wherever it stands.
pub const ANYWHERE_BYTES_MIN: usize = 8;

/// From this length on a value is masked where it stands by itself.
pub const BY_ITSELF_BYTES_MIN: usize = 4;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Replaces every known secret value in a text. A clone shares the values.
#[derive(Clone)]
pub struct Redactor {
    masks: Masks,
}

#[derive(Clone)]
enum Masks {
    Nothing,
    Found(Arc<Finders>),
    Everything,
}

struct Finders {
    anywhere: Option<AnywhereFinder>,
    by_itself: Option<WordFinder>,
}

/// A secret that is not masked everywhere. It has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakSecret {
    pub name: String,
    pub part: SecretPart,
    pub weakness: Weakness,
}

/// What of a secret is weak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretPart {
    Value,
    /// The password of a URL.
    Password,
}

/// Why a value is not masked everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    CommonWord,
    /// It is not masked.
    TooShort,
    /// It is masked only where it stands by itself.
    Short,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// A redactor of the values of `variables`, but for `ENVIRONMENT` and the names in `public`.
    ///
    /// Values of 256 KiB take some milliseconds: not for a thread on which others wait.
    pub fn new(variables: &BTreeMap<String, Secret>, public: &BTreeSet<String>) -> Self {
        let mut forms = Forms::default();
        for (_, value) in secrets(variables, public) {
            forms.add(value);
        }
        let anywhere = AnywhereFinder::new(&forms.anywhere);
        let by_itself = WordFinder::new(&forms.by_itself);
        let has_any = anywhere.is_some() || by_itself.is_some();
        let finders = || Masks::Found(Arc::new(Finders { anywhere, by_itself }));
        Self { masks: if has_any { finders() } else { Masks::Nothing } }
    }

    /// A redactor that knows no secret.
    pub fn none() -> Self {
        Self { masks: Masks::Nothing }
    }

    /// A redactor of everything, for text whose secrets are not known.
    pub fn of_everything() -> Self {
        Self { masks: Masks::Everything }
    }

    /// `text` with every secret replaced by `***`. Secrets that overlap or touch are one `***`.
    pub fn redact(&self, text: &str) -> String {
        let finders = match &self.masks {
            Masks::Nothing => return text.to_owned(),
            Masks::Everything if text.is_empty() => return String::new(),
            Masks::Everything => return MASK.to_owned(),
            Masks::Found(finders) => finders,
        };
        let anywhere = finders.anywhere.as_ref().map(|finder| finder.find(text.as_bytes()));
        let by_itself = finders.by_itself.as_ref().map(|finder| finder.find(text));
        let found = joined(anywhere.unwrap_or_default(), by_itself.unwrap_or_default());
        let mut clean = String::with_capacity(text.len());
        let mut shown = 0;
        for range in found {
            // A text that is UTF-8 begins and ends with whole letters, wherever it is found.
            clean.push_str(text.get(shown..range.start).unwrap_or_default());
            clean.push_str(MASK);
            shown = range.end;
        }
        clean.push_str(text.get(shown..).unwrap_or_default());
        clean
    }

    /// `text` redacted, if it may have been cut before ([`shortened`](crate::shortened)): what stands before a mark
    /// loses its end, as in [`Redactor::redact_beginning`].
    pub fn redact_cut(&self, text: &str) -> String {
        if !matches!(self.masks, Masks::Found(_)) {
            return self.redact(text);
        }
        let mut clean = String::new();
        let mut rest = text;
        while let Some(Mark { before, missing, after }) = first_mark(rest) {
            let shown = self.redact_beginning(before);
            let dropped = before.len().saturating_sub(shown.len()) as u64;
            clean.push_str(&shown);
            clean.push_str(&mark(missing.saturating_add(dropped)));
            rest = after;
        }
        clean.push_str(&self.redact(rest));
        clean
    }

    /// `text` redacted, if it is the beginning of a longer text. It loses its end, which may be the begin of a secret
    /// whose rest is not there.
    fn redact_beginning(&self, text: &str) -> String {
        let mut clean = self.redact(text);
        clean.truncate(clean.floor_char_boundary(clean.len().saturating_sub(PIECE_BYTES_MAX)));
        clean
    }
}

/// The secrets that are not masked everywhere, by name: what [`Redactor::new`] makes of the same arguments.
pub fn weak_secrets(variables: &BTreeMap<String, Secret>, public: &BTreeSet<String>) -> Vec<WeakSecret> {
    let mut weak = Vec::new();
    for (name, value) in secrets(variables, public) {
        let parts = [(SecretPart::Value, Some(value)), (SecretPart::Password, url_password(value))];
        for (part, text) in parts {
            let weakness = match text.map(masking) {
                None | Some(Masking::Anywhere) => continue,
                Some(Masking::ByItself) => Weakness::Short,
                Some(Masking::Nowhere(weakness)) => weakness,
            };
            weak.push(WeakSecret { name: name.clone(), part, weakness });
        }
    }
    weak
}

impl fmt::Display for WeakSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, part, weakness } = self;
        match part {
            SecretPart::Value => write!(f, "{name} {weakness}"),
            SecretPart::Password => write!(f, "the password in {name} {weakness}"),
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommonWord => f.write_str("is a common word or a small number, so logs show it"),
            Self::TooShort => {
                write!(f, "has fewer than {BY_ITSELF_BYTES_MIN} characters, so logs show it")
            }
            Self::Short => write!(
                f,
                "has fewer than {ANYWHERE_BYTES_MIN} characters, so logs hide it only where it stands by itself"
            ),
        }
    }
}

/// The variables whose values are masked.
fn secrets<'a>(
    variables: &'a BTreeMap<String, Secret>,
    public: &BTreeSet<String>,
) -> impl Iterator<Item = (&'a String, &'a str)> {
    variables
        .iter()
        .filter(|(name, value)| {
            *name != "ENVIRONMENT" && !public.contains(*name) && !value.expose().is_empty()
        })
        .map(|(name, value)| (name, value.expose()))
}

/// The password of `scheme://user:password@host`.
pub fn url_password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (_, password) = user_info.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// Whether the password of a URL has a `/`, `?` or `#`, so that programs take a part of it for host, port or path. It
/// should have been percent-encoded.
pub fn has_unencoded_password(url: &str) -> bool {
    forms::unencoded_password(url).is_some()
}

/// `text` with `%41` turned into `A`; what is not a valid escape stays.
pub fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests;
