//! A secret value. Its `Debug` hides it, and it has no `Display` and no `Serialize`. So it cannot get into a log, an
//! error, a journal or the store by accident.

use alloc::string::String;
use core::fmt;

pub mod join_token;
pub mod redact;

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the one place that must hand it on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
