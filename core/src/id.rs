//! Identifiers. They are made outside, because chance is I/O; here they are only checked.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct InvalidId {
    pub what: &'static str,
    pub text: String,
}

/// 26 characters of Crockford's base 32, as <https://github.com/ulid/spec> has them.
fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.bytes().all(|b| {
            (b.is_ascii_digit() || b.is_ascii_uppercase()) && !matches!(b, b'I' | b'L' | b'O' | b'U')
        })
}

/// Of the digits of a digest, how many are shown to people.
const SHORT_LENGTH: usize = 7;

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $type:ident, $what:literal, $is:expr) => {
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
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                let is: fn(&str) -> bool = $is;
                if is(&text) { Ok(Self(text)) } else { Err(InvalidId { what: $what, text }) }
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(
    /// One run of a plan: `dep_<ULID>`.
    DeploymentId,
    "a deployment's id (dep_ and 26 characters)",
    |text| text.strip_prefix("dep_").is_some_and(is_ulid)
);
text_id!(
    /// A machine with an agent, from join to removal: `host_<ULID>`.
    HostId,
    "a host's id (host_ and 26 characters)",
    |text| text.strip_prefix("host_").is_some_and(is_ulid)
);
text_id!(
    /// The identity of a cluster of coordinators, made once with its store: `cl_<ULID>`.
    ClusterId,
    "a cluster's id (cl_ and 26 characters)",
    |text| text.strip_prefix("cl_").is_some_and(is_ulid)
);
text_id!(
    /// Content by its digest: `sha256:` and 64 hexadecimal digits.
    Digest,
    "a digest (sha256: and 64 hexadecimal digits)",
    |text| text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && is_hex(hex))
);

impl DeploymentId {
    /// The ULID without its prefix; the seed's `lock_<ULID>` is made from it.
    pub fn ulid(&self) -> &str {
        &self.0["dep_".len()..]
    }
}

impl Digest {
    /// The digest of `content`, by SHA-256.
    pub fn of_content(content: &[u8]) -> Self {
        use sha2::Digest as _;
        let mut text = "sha256:".to_owned();
        HEXLOWER.encode_append(&sha2::Sha256::digest(content), &mut text);
        Self(text)
    }

    /// The hexadecimal digits alone.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first seven digits: a version for people, and the seed's `version` where there is no commit.
    pub fn short(&self) -> &str {
        &self.hex()[..SHORT_LENGTH]
    }

    /// Whether `text` can be the [`Self::short`] of a digest.
    pub fn is_short(text: &str) -> bool {
        text.len() == SHORT_LENGTH && is_hex(text)
    }
}

/// A step of one plan: `s1`, `s2` …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u16);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("s{}", self.0))
    }
}

impl FromStr for StepId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix('s')
            .and_then(|number| number.parse().ok())
            .map(StepId)
            .ok_or_else(|| InvalidId { what: "a step (s1, s2 …)", text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_not_guessed() {
        assert!("dep_01JBQR2KXYZ987654321012345".parse::<DeploymentId>().is_ok());
        for bad in [
            "",
            "dep_",
            "dep_01JBQR2KXYZ9876543210123",
            "01JBQR2KXYZ987654321012345",
            "dep_01JBQR2KXYI987654321012345",
        ] {
            assert!(bad.parse::<DeploymentId>().is_err(), "{bad}");
        }
        assert_eq!("s7".parse(), Ok(StepId(7)));
        assert!("7".parse::<StepId>().is_err());
    }

    #[test]
    fn a_digest_is_sha256() {
        let empty = Digest::of_content(b"");
        assert_eq!(empty.as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(empty.short(), "e3b0c44");
    }
}
