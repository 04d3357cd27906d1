//! The name of everything that an environment has on hosts: files, containers, volumes, nginx's objects.
//!
//! What must stay true: two environments never have the same name, and nginx, Docker, systemd and PostgreSQL accept
//! every name. So it is made of lower-case letters, digits and underscores, begins with a letter, and is short enough
//! for nginx's hash tables as they are by default.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::name::EnvironmentKey;

/// The longest encoded name, in bytes. nginx's table of variables, as it is by default, takes 46 on 64 bit: those of a
/// site add at most 10 (`NGX_HASH_ELT_SIZE` in <https://github.com/nginx/nginx/blob/master/src/core/ngx_hash.c>).
pub const OBJECT_NAME_LENGTH_MAX: usize = 36;

/// What stands in a longer name in the place of what was cut off, in hexadecimal digits: 80 bits. The record gives each
/// name to one environment, so that two keys that were made to have one digest are refused.
const DIGEST_LENGTH: usize = 20;

/// Between the cut name and its digest. No encoded name has three underscores in a row.
const CUT: &str = "___";

/// The name of an environment's objects on hosts.
///
/// Environments that were first deployed by a version before this encoding keep their earlier name, `<app>-<env>`: a
/// volume of Docker cannot be renamed. Only such a name has a hyphen and no underscore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

/// Why a text is not the name of an environment's objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name of objects on a host")]
pub struct InvalidObjectName {
    pub text: String,
}

impl ObjectName {
    /// The name of an environment that no host has objects of yet: `<app>_<env>`, with two underscores for a hyphen.
    ///
    /// No name of an operator's choice begins or ends with a hyphen, so a single underscore is the border between
    /// application and environment. A name that would be too long is cut, and ends with a digest of the whole.
    pub fn encode(key: &EnvironmentKey) -> Self {
        let part = |name: &str| name.replace('-', "__");
        let whole = format!("{}_{}", part(key.application.as_str()), part(key.environment.as_str()));
        if whole.len() <= OBJECT_NAME_LENGTH_MAX {
            return Self(whole);
        }
        let kept = whole[..OBJECT_NAME_LENGTH_MAX - CUT.len() - DIGEST_LENGTH].trim_end_matches('_');
        let digest = Digest::of_content(format!("{key}").as_bytes());
        Self(format!("{kept}{CUT}{}", &digest.hex()[..DIGEST_LENGTH]))
    }

    /// The name that earlier versions gave: `<app>-<env>`. Two environments may have the same.
    pub fn legacy(key: &EnvironmentKey) -> Self {
        Self(format!("{}-{}", key.application, key.environment))
    }

    pub fn is_legacy(&self) -> bool {
        !self.0.contains('_')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a Docker volume that a declaration calls `source`.
    pub fn volume(&self, source: &str) -> String {
        // A dot is in no encoded name, so that no two of them run into each other as legacy names do.
        let border = if self.is_legacy() { '-' } else { '.' };
        format!("{}{border}{source}", self.0)
    }
}

impl TryFrom<String> for ObjectName {
    type Error = InvalidObjectName;
    fn try_from(text: String) -> Result<Self, InvalidObjectName> {
        let has_only =
            |border: char| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == border);
        let begins_and_ends = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric());
        let is_encoded = text.len() <= OBJECT_NAME_LENGTH_MAX && text.contains('_') && has_only('_');
        let is_legacy = text.contains('-') && has_only('-');
        if begins_and_ends && (is_encoded || is_legacy) {
            Ok(Self(text))
        } else {
            Err(InvalidObjectName { text })
        }
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;
    fn from_str(text: &str) -> Result<Self, InvalidObjectName> {
        Self::try_from(text.to_owned())
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> String {
        name.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::name::NAME_LENGTH_MAX;

    fn encoded(key: &str) -> String {
        ObjectName::encode(&key.parse().expect("a key")).into()
    }

    #[test]
    fn a_short_name_can_be_read() {
        assert_eq!(encoded("notes/production"), "notes_production");
        assert_eq!(encoded("shop-eu/prod"), "shop__eu_prod");
    }

    #[test]
    fn what_had_one_name_before_has_two() {
        assert_eq!(
            ObjectName::legacy(&"sn-a/b".parse().expect("a key")),
            ObjectName::legacy(&"sn/a-b".parse().expect("a key"))
        );
        assert_ne!(encoded("sn-a/b"), encoded("sn/a-b"));
    }

    #[test]
    fn volumes_of_two_environments_have_two_names() {
        let volume = |key: &str, source| ObjectName::encode(&key.parse().expect("a key")).volume(source);
        assert_ne!(volume("sn/a", "b-c"), volume("sn/a-b", "c"));
        assert_eq!(volume("notes/production", "data"), "notes_production.data", "it exists on hosts");
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for name in ["notes_production", "notes-production", "shop__eu_prod"] {
            assert!(name.parse::<ObjectName>().is_ok(), "{name}");
        }
        let long = format!("a_{}", "b".repeat(OBJECT_NAME_LENGTH_MAX));
        for text in [
            "", "notes", "../etc_x", "a_b/c", "a_b.c", "a_B", "_a_b", "1_a", "a_b_", "a-b_c", "a_b\n",
            "a_b;", &long,
        ] {
            assert!(text.parse::<ObjectName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_ends_with_a_digest() {
        let long = |last: &str| {
            encoded(&format!("{}/{}{last}", "a".repeat(NAME_LENGTH_MAX), "b".repeat(NAME_LENGTH_MAX - 1)))
        };
        assert_eq!(long("b").len(), OBJECT_NAME_LENGTH_MAX);
        assert_ne!(long("b"), long("c"));
    }

    /// Every key of the names below, which have all that an encoding could confuse.
    #[test]
    fn no_two_keys_of_short_names_have_one_name() {
        let mut names: Vec<String> = Vec::new();
        for length in 1..=5_u32 {
            for number in 0..3_u32.pow(length) {
                let letter = |place| ["a", "-", "1"][(number / 3_u32.pow(place) % 3) as usize];
                let name: String = (0..length).map(letter).collect();
                if name.parse::<crate::name::ApplicationName>().is_ok() {
                    names.push(name);
                }
            }
        }
        let mut seen = BTreeMap::new();
        for application in &names {
            for environment in &names {
                let key = format!("{application}/{environment}");
                if let Some(other) = seen.insert(encoded(&key), key.clone()) {
                    panic!("{key} and {other} are both {}", encoded(&key));
                }
            }
        }
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[a-z]([a-z0-9-]{0,30}[a-z0-9])?").expect("a pattern")
    }

    proptest! {
        #[test]
        fn every_program_accepts_every_name(application in name(), environment in name()) {
            let name = encoded(&format!("{application}/{environment}"));
            prop_assert!(name.len() <= OBJECT_NAME_LENGTH_MAX);
            prop_assert!(name.starts_with(|first: char| first.is_ascii_lowercase()));
            prop_assert!(name.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit()));
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            let name: ObjectName = name.parse().expect("an encoded name can be read");
            prop_assert!(!name.is_legacy());
        }

        #[test]
        fn a_name_that_is_not_cut_says_its_key(application in name(), environment in name()) {
            let name = encoded(&format!("{application}/{environment}"));
            prop_assume!(!name.contains(CUT));
            let border = name.char_indices().find(|(at, letter)| {
                *letter == '_' && !name[..*at].ends_with('_') && !name[at + 1..].starts_with('_')
            });
            let (at, _) = border.expect("a border");
            prop_assert_eq!(name[..at].replace("__", "-"), application);
            prop_assert_eq!(name[at + 1..].replace("__", "-"), environment);
        }

        #[test]
        fn two_keys_have_two_names(one in (name(), name()), other in (name(), name())) {
            prop_assume!(one != other);
            let encoded = |(application, environment): (String, String)| encoded(&format!("{application}/{environment}"));
            prop_assert_ne!(encoded(one), encoded(other));
        }
    }
}
