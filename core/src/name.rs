//! Names that operators choose: parsed once, right for ever.
//!
//! The alphabet is what store keys, host names and file names take: lower-case letters, digits and hyphens, a letter
//! first, no hyphen last. What an environment is called on hosts follows from its key: [`crate::object_name`].

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const NAME_LENGTH_MAX: usize = 32;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid name for {what}: use 1 to {NAME_LENGTH_MAX} lower-case letters, digits and hyphens, begin with a letter, and do not end with a hyphen"
)]
pub struct InvalidName {
    pub what: &'static str,
    pub text: String,
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_LENGTH_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                if is_name(&text) { Ok(Self(text)) } else { Err(InvalidName { what: $what, text }) }
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// What is deployed.
    ApplicationName,
    "an application"
);
name!(
    /// One installation of an application, within that application.
    EnvironmentName,
    "an environment"
);
name!(
    /// The label of a host. A host *is* its [`crate::id::HostId`]; the name may move to another.
    HostName,
    "a host"
);
name!(
    /// One process of an application: `web`, `worker` …
    ProcessName,
    "a process"
);
name!(
    /// One of the coordinators of a cluster.
    CoordinatorName,
    "a coordinator"
);
name!(
    /// A person or a machine that commands Lockstep.
    OperatorName,
    "an operator"
);

/// `<app>/<env>`: the key of an environment, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentKey {
    pub application: ApplicationName,
    pub environment: EnvironmentName,
}

impl EnvironmentKey {
    pub fn new(application: ApplicationName, environment: EnvironmentName) -> Self {
        Self { application, environment }
    }
}

impl fmt::Display for EnvironmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.environment)
    }
}

impl FromStr for EnvironmentKey {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (application, environment) = text
            .split_once('/')
            .ok_or_else(|| InvalidName { what: "an environment (<app>/<env>)", text: text.to_owned() })?;
        Ok(Self { application: application.parse()?, environment: environment.parse()? })
    }
}

impl TryFrom<String> for EnvironmentKey {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<EnvironmentKey> for String {
    fn from(key: EnvironmentKey) -> String {
        format!("{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_docker_nginx_and_files_all_take() {
        for good in ["a", "togather", "app-1", "a2"] {
            assert!(good.parse::<ApplicationName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "A", "a_b", "a/b", "a-", "-a", "a.b", "ä", "a b", &"a".repeat(33)] {
            assert!(bad.parse::<ApplicationName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_environments_never_share_a_key() {
        let key: EnvironmentKey = "notes/production".parse().expect("a key");
        assert_eq!(format!("{key}"), "notes/production");
        assert!("notes".parse::<EnvironmentKey>().is_err());
        assert!("a/b/c".parse::<EnvironmentKey>().is_err());
    }
}
