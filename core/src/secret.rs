//! A secret value. Its `Debug` hides it, and it has no `Display` and no `Serialize`. So it cannot get into a log, an
//! error, a journal or the store by accident.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::name::EnvironmentKey;

pub mod join_token;
pub mod limits;
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

/// What an operator runs where the value of `name` is missing or wrong.
pub fn set_command(environment: &EnvironmentKey, name: &str) -> String {
    format!(
        "lockstep secret set {environment} {name} < FILE    # or add it to the .env file, which the next deployment imports"
    )
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
