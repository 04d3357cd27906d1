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
        if is_host && is_port && names_registry(host, port) {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid())
        }
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

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the name of an image: write REPOSITORY:TAG, as in notes:1 or ghcr.io/anna/notes:1, or its id"
)]
pub struct InvalidImage {
    pub text: String,
}

/// How long a name is without tag and digest, and how long a tag.
const REPOSITORY_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// How many hexadecimal digits a digest has at least, and an id, which may be cut.
const DIGEST_DIGITS_MIN: usize = 32;
const ID_DIGITS: core::ops::RangeInclusive<usize> = 4..=64;

/// Checks the name or the id of an image by Docker's grammar
/// (<https://pkg.go.dev/github.com/distribution/reference>). A name becomes a part of a path of Docker's API, so what
/// is no name would ask for something else there.
///
/// # Errors
/// When it is neither.
pub fn check_image(image: &str) -> Result<(), InvalidImage> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let path = repository(name);
    let tag = name[path.len()..].strip_prefix(':');
    let (domain, path) = match path.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first.len() + 1, rest),
        Some(_) | None => (0, path),
    };
    let is_name = domain + path.len() <= REPOSITORY_MAX
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if is_name || is_id(image) { Ok(()) } else { Err(InvalidImage { text: image.to_owned() }) }
}

/// Docker takes any other first part of a name for a folder of its own registry.
fn names_registry(host: &str, port: Option<&str>) -> bool {
    host.contains('.') || port.is_some() || host == "localhost"
}

/// `host`, `host.example` or `host:port`: what Docker takes for a registry and not for a folder.
fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        let is_alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && is_alphanumeric(label.bytes().next())
            && is_alphanumeric(label.bytes().last())
    };
    names_registry(host, port)
        && host.split('.').all(is_label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Small letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators =
        text.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit());
    text.as_bytes().first().is_some_and(is_inner)
        && text.as_bytes().last().is_some_and(is_inner)
        && separators.into_iter().all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        !algorithm.is_empty()
            && algorithm
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'_' | b'-'))
            && digits.len() >= DIGEST_DIGITS_MIN
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    ID_DIGITS.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
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
    fn a_name_of_an_image_is_what_docker_takes_for_one() {
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        let long = "a".repeat(255);
        let good = [
            "notes",
            "notes:1",
            "anna/notes:1.0_rc-2",
            "ghcr.io/anna/notes:1",
            "10.0.0.5:5000/notes",
            "localhost/a/b/c",
            "Notes.Example/notes",
            "notes--2/a__b.c:V1",
            "docker.io/library/nginx",
            &digest,
            &"ab".repeat(6),
            &long,
        ];
        for image in good {
            assert_eq!(check_image(image), Ok(()), "{image}");
        }
        assert_eq!(check_image(&format!("ghcr.io/notes:1@{digest}")), Ok(()));
        let bad = [
            "",
            ":1",
            "notes:",
            "notes:-1",
            "Notes:1",
            "../../containers/json#:1",
            "../_ping#:1",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a?b",
            "a#b",
            "a b",
            "a%2fb",
            "notes:1?x=1",
            "notes:1/../x",
            "a___b",
            "a..b",
            "-a",
            "a-",
            "ä",
            "notes@sha256:00",
            "notes@",
            ".host/a",
            "a\n",
            "http://host/a",
            "ghcr.io:x/a",
            "ghcr.io:/a",
        ];
        for image in bad {
            assert!(check_image(image).is_err(), "{image}");
        }
        assert!(check_image(&format!("{long}a")).is_err());
        assert!(check_image(&format!("notes:{}", "1".repeat(129))).is_err());
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
