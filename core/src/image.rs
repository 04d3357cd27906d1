//! Names of images and registries, as Docker parses them, and logins to registries.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::secret::Secret;

/// The registry of an image whose name has none.
const DEFAULT: &str = "docker.io";

/// The name of a registry: the part of an image's name before the first slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryName(String);

/// Why a text is not a registry's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the name of a registry: write the part of an image's name before the first slash, as in ghcr.io or 10.0.0.5:5000"
)]
pub struct InvalidRegistry {
    pub text: String,
}

/// Where a host looks for the image of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageLookup {
    /// The registry decides, if the name is one of a registry.
    #[default]
    Registry,
    /// Only what is on the host counts: nobody else is asked.
    ThisHost,
}

impl ImageLookup {
    pub fn is_registry(&self) -> bool {
        *self == Self::Registry
    }
}

/// A login to a registry. It has no serialized form, so it cannot be stored in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub registry: RegistryName,
    pub username: String,
    pub password: Secret,
}

impl RegistryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether images of this registry may leave it out of their names.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The registry that `image` names; `None` if its name leaves it out.
    pub fn named_by(image: &str) -> Option<Self> {
        image.split_once('/').and_then(|(first, _)| first.parse().ok())
    }

    /// The registry of `image`.
    pub fn of_image(image: &str) -> Self {
        Self::named_by(image).unwrap_or_else(|| Self(DEFAULT.to_owned()))
    }
}

impl FromStr for RegistryName {
    type Err = InvalidRegistry;
    fn from_str(text: &str) -> Result<Self, InvalidRegistry> {
        let invalid = || InvalidRegistry { text: text.to_owned() };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let is_host = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
        // Docker takes any other first part of a name for a folder of its own registry.
        let is_registry = host.contains('.') || port.is_some() || host == "localhost";
        if is_host && is_port && is_registry { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for RegistryName {
    type Error = InvalidRegistry;
    fn try_from(text: String) -> Result<Self, InvalidRegistry> {
        text.parse()
    }
}

impl From<RegistryName> for String {
    fn from(name: RegistryName) -> String {
        name.0
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `image` without its tag and its digest.
pub fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // What follows the port of a registry has a slash in it.
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => name,
    }
}

/// The tag of `image`; `None` if it is named by digest.
pub fn tag(image: &str) -> Option<&str> {
    if image.contains('@') {
        return None;
    }
    match image[repository(image).len()..].strip_prefix(':') {
        Some(tag) => Some(tag),
        None => Some("latest"),
    }
}

/// The name under which a registry gives exactly this manifest, whatever the tag of `image` has become.
pub fn pinned(image: &str, manifest: &Digest) -> String {
    format!("{}@{manifest}", repository(image))
}

/// Whether two names are of one repository of one registry: Docker's own may be left out.
pub fn same_repository(one: &str, other: &str) -> bool {
    RegistryName::of_image(one) == RegistryName::of_image(other)
        && familiar(repository(one)) == familiar(repository(other))
}

fn familiar(repository: &str) -> &str {
    let rest = repository.strip_prefix("docker.io/").unwrap_or(repository);
    rest.strip_prefix("library/").unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_no_part_of_a_repository_of_another() {
        for other in ["docker.io/ghcr.io/acme/shop:1", "library/ghcr.io/acme/shop:1"] {
            assert!(!same_repository(other, "ghcr.io/acme/shop"), "{other}");
        }
        assert!(same_repository("docker.io/library/shop:1", "shop"));
    }

    #[test]
    fn a_registry_is_what_docker_takes_for_one() {
        for (image, registry) in [
            ("notes:1", None),
            ("anna/notes:1", None),
            ("ghcr.io/anna/notes:1", Some("ghcr.io")),
            ("10.0.0.5:5000/notes", Some("10.0.0.5:5000")),
            ("localhost/notes", Some("localhost")),
            ("Notes.Example/notes", None),
        ] {
            let named = RegistryName::named_by(image);
            assert_eq!(named.as_ref().map(RegistryName::as_str), registry, "{image}");
        }
        assert_eq!(RegistryName::of_image("anna/notes:1").as_str(), "docker.io");
        for bad in ["", "ghcr", "https://ghcr.io", "ghcr.io/anna", "ghcr.io:x", "ghcr.io:70000", "a b.c"] {
            assert!(bad.parse::<RegistryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_pinned_by_its_manifest_and_keeps_its_port() {
        let manifest = Digest::of_content(b"");
        for (image, repository_of_it, tag_of_it) in [
            ("notes", "notes", Some("latest")),
            ("notes:1", "notes", Some("1")),
            ("10.0.0.5:5000/notes", "10.0.0.5:5000/notes", Some("latest")),
            ("10.0.0.5:5000/notes:1", "10.0.0.5:5000/notes", Some("1")),
            ("10.0.0.5:5000/notes:1@sha256:00", "10.0.0.5:5000/notes", None),
        ] {
            assert_eq!(repository(image), repository_of_it, "{image}");
            assert_eq!(tag(image), tag_of_it, "{image}");
            assert_eq!(pinned(image, &manifest), format!("{repository_of_it}@{manifest}"));
        }
        assert!(same_repository("docker.io/library/nginx:1", "nginx@sha256:00"));
        assert!(!same_repository("ghcr.io/nginx", "nginx"));
    }
}
