//! The grant of an environment: what it may use outside of its own containers. It is stored policy, which only
//! administrators of all environments write. A declaration that wants more is refused.
//!
//! What must stay true: a path is granted as it is written, and not what is below it. A container could put a symbolic
//! link into a folder that it may write, and Docker would follow it to any place of the host.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::name::{EnvironmentKey, HostName};
use crate::spec::{EnvironmentSpec, HostRoles, Tls, VolumeAccess};

/// What an environment may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentGrant {
    pub resources: BTreeSet<Resource>,
}

/// One thing outside of an environment's containers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resource {
    Host(HostName),
    /// A host name of its site, in lower case and without a final dot.
    SiteName(String),
    /// A path of a host in its containers.
    HostPath(HostPath),
    /// A network of Docker that exists without it.
    Network(String),
    /// Where its snapshots are.
    SnapshotDirectory(String),
    /// A certificate or a key on a load balancer.
    CertificateFile(String),
}

/// A path of a host, and what a container may do there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPath {
    pub path: String,
    pub access: VolumeAccess,
}

/// What a declaration needs beyond the grant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widening {
    pub resources: BTreeSet<Resource>,
}

/// The hash of a widening, by which an administrator says that it is meant: twelve hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WideningHash(String);

/// Why a text is not the hash of a widening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the hash of a grant: write twelve hexadecimal digits, as `lockstep plan` prints them"
)]
pub struct InvalidWideningHash {
    pub text: String,
}

impl EnvironmentGrant {
    /// What an environment gets that was live before there were grants: all that it uses but paths of hosts, which an
    /// administrator must confirm.
    pub fn of_live(live: &EnvironmentSpec, hosts: &[HostName]) -> Self {
        let mut resources = required(live, hosts);
        resources.retain(|resource| !matches!(resource, Resource::HostPath(_)));
        Self { resources }
    }

    /// What the first deployment of a new environment grants, by an administrator: the hosts and names that it declares.
    pub fn of_first(spec: &EnvironmentSpec, hosts: &[HostName]) -> Self {
        let mut resources = required(spec, hosts);
        resources.retain(|resource| matches!(resource, Resource::Host(_) | Resource::SiteName(_)));
        Self { resources }
    }

    /// What of `needed` is not granted.
    pub fn missing(&self, needed: &BTreeSet<Resource>) -> Widening {
        let is_missing =
            |resource: &&Resource| !self.resources.iter().any(|granted| granted.covers(resource));
        Widening { resources: needed.iter().filter(is_missing).cloned().collect() }
    }

    pub fn widened_by(&self, widening: &Widening) -> Self {
        Self { resources: self.resources.union(&widening.resources).cloned().collect() }
    }
}

impl Resource {
    fn covers(&self, needed: &Resource) -> bool {
        match (self, needed) {
            (Self::HostPath(granted), Self::HostPath(needed)) => {
                let is_enough = granted.access == VolumeAccess::ReadWrite || granted.access == needed.access;
                granted.path == needed.path && is_enough
            }
            (granted, needed) => granted == needed,
        }
    }

    /// The option of `lockstep env grant` that grants it.
    fn option(&self) -> String {
        match self {
            Self::Host(name) => format!("--host {name}"),
            Self::SiteName(name) => format!("--site-name {name}"),
            Self::HostPath(HostPath { path, access: VolumeAccess::ReadOnly }) => format!("--path {path}:ro"),
            Self::HostPath(HostPath { path, access: VolumeAccess::ReadWrite }) => format!("--path {path}"),
            Self::Network(name) => format!("--network {name}"),
            Self::SnapshotDirectory(path) => format!("--snapshot-directory {path}"),
            Self::CertificateFile(path) => format!("--certificate-file {path}"),
        }
    }
}

impl Widening {
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The hash by which it is accepted for `key`.
    pub fn hash(&self, key: &EnvironmentKey) -> WideningHash {
        let options: Vec<String> = self.resources.iter().map(Resource::option).collect();
        let digest = Digest::of_content(format!("{key}\n{}", options.join("\n")).as_bytes());
        WideningHash(digest.hex()[..12].to_string())
    }

    /// The command that grants it.
    pub fn command(&self, key: &EnvironmentKey) -> String {
        format!("lockstep env grant {key} {}", options(&self.resources))
    }
}

/// The options of `lockstep env grant` that grant them.
pub fn options<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> String {
    resources.into_iter().map(Resource::option).collect::<Vec<_>>().join(" ")
}

/// What a declaration uses outside of its containers. `hosts` are those that it is deployed to where it names none.
pub fn required(spec: &EnvironmentSpec, hosts: &[HostName]) -> BTreeSet<Resource> {
    let HostRoles { app, lb, db } = &spec.hosts;
    let named: Vec<&HostName> = app.iter().chain(lb).chain(db).collect();
    let hosts = if named.is_empty() { hosts.iter().collect() } else { named };
    let mut needed: BTreeSet<Resource> = hosts.into_iter().cloned().map(Resource::Host).collect();
    needed.extend(spec.site_address().map(|address| Resource::SiteName(address.server_name)));
    needed.extend(spec.networks.iter().cloned().map(Resource::Network));
    let volumes = spec.processes.values().flat_map(|process| &process.volumes);
    needed.extend(volumes.filter(|volume| volume.is_host_path()).map(|volume| {
        Resource::HostPath(HostPath { path: normal_path(&volume.source), access: volume.access })
    }));
    let snapshot = spec.database.as_ref().and_then(|database| database.snapshot.as_ref());
    needed.extend(snapshot.map(|snapshot| Resource::SnapshotDirectory(normal_path(&snapshot.directory))));
    if let Tls::Existing { certificate, key } = &spec.traffic.tls {
        needed.extend([certificate, key].map(|path| Resource::CertificateFile(normal_path(path))));
    }
    needed
}

/// An absolute path with single slashes, without `.` and a slash at its end.
pub fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host {name}"),
            Self::SiteName(name) => write!(f, "host name {name}"),
            Self::HostPath(HostPath { path, access: VolumeAccess::ReadOnly }) => {
                write!(f, "{path} of its hosts, to read")
            }
            Self::HostPath(HostPath { path, access: VolumeAccess::ReadWrite }) => {
                write!(f, "{path} of its hosts, to read and write")
            }
            Self::Network(name) => write!(f, "Docker network {name}"),
            Self::SnapshotDirectory(path) => write!(f, "snapshots in {path}"),
            Self::CertificateFile(path) => write!(f, "{path} of the load balancer, as certificate or key"),
        }
    }
}

impl fmt::Display for Widening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.resources.iter().map(ToString::to_string).collect();
        f.write_str(&words.join("; "))
    }
}

impl fmt::Display for WideningHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WideningHash {
    type Err = InvalidWideningHash;
    fn from_str(text: &str) -> Result<Self, InvalidWideningHash> {
        let is_hash = text.len() == 12 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hash { Ok(Self(text.to_string())) } else { Err(InvalidWideningHash { text: text.to_string() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, access: VolumeAccess) -> Resource {
        Resource::HostPath(HostPath { path: path.to_string(), access })
    }

    fn grant(resources: &[Resource]) -> EnvironmentGrant {
        EnvironmentGrant { resources: resources.iter().cloned().collect() }
    }

    fn is_granted(granted: &Resource, needed: &Resource) -> bool {
        grant(core::slice::from_ref(granted)).missing(&[needed.clone()].into()).is_empty()
    }

    #[test]
    fn a_path_is_granted_and_not_what_is_below_it() {
        assert!(is_granted(
            &path("/srv/app", VolumeAccess::ReadWrite),
            &path("/srv/app", VolumeAccess::ReadWrite)
        ));
        for other in ["/srv/app/x", "/srv", "/srv/apple", "/"] {
            assert!(
                !is_granted(
                    &path("/srv/app", VolumeAccess::ReadWrite),
                    &path(other, VolumeAccess::ReadWrite)
                ),
                "{other}"
            );
        }
    }

    #[test]
    fn who_may_write_may_read_and_not_the_other_way_round() {
        assert!(is_granted(
            &path("/srv/app", VolumeAccess::ReadWrite),
            &path("/srv/app", VolumeAccess::ReadOnly)
        ));
        assert!(!is_granted(
            &path("/srv/app", VolumeAccess::ReadOnly),
            &path("/srv/app", VolumeAccess::ReadWrite)
        ));
    }

    #[test]
    fn a_path_in_other_words_is_the_same_path() {
        for words in ["/srv/app", "/srv//app/", "/srv/./app", "//srv/app/."] {
            assert_eq!(normal_path(words), "/srv/app", "{words}");
        }
        assert_eq!(normal_path("/"), "/");
    }

    #[test]
    fn a_widening_is_accepted_only_as_it_was_shown() {
        let (one, other) = ("shop/prod".parse().expect("a key"), "shop/test".parse().expect("a key"));
        let widening = |paths: &[&str]| Widening {
            resources: paths.iter().map(|text| path(text, VolumeAccess::ReadWrite)).collect(),
        };
        let hash = widening(&["/srv/a"]).hash(&one);
        assert_eq!(widening(&["/srv/a"]).hash(&one), hash);
        assert_ne!(widening(&["/srv/a"]).hash(&other), hash);
        assert_ne!(widening(&["/srv/a", "/"]).hash(&one), hash);
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    /// A declaration that uses one thing of each kind.
    fn spec() -> EnvironmentSpec {
        let web = r#"{"role":"web","command":[],"port":8080,"memory_bytes":null,"cpu_milli":null,"user":null,
            "stop_signal":null,"stop_grace":1,"standby":"run",
            "health":{"path":"/health","timeout":1,"interval":100,"consecutive":1},
            "volumes":[{"source":"data","target":"/data","access":"read_write"},
                {"source":"/srv//x/","target":"/x","access":"read_only"}]}"#;
        let text = format!(
            r#"{{"key":"shop/prod","description":null,"url":"https://Shop.example.","branch":null,"mode":"production",
            "image":{{"repository":"shop"}},"processes":{{"web":{web}}},
            "database":{{"url_from":"DATABASE_URL","migrations":null,"snapshot":{{"directory":"/var/backups/shop","keep":1}}}},
            "traffic":{{"body_limit":"10m","read_timeout":1,
                "tls":{{"existing":{{"certificate":"/etc/tls/cert.pem","key":"/etc/tls/key.pem"}}}}}},
            "networks":["backend"],
            "deploy":{{"lock_timeout":1,"drain":1,"bake":1,"log_directory":null,"state_file":null}},
            "env":{{}},"required":[],"public":[],"hosts":{{"app":["app-1"],"lb":["lb-1"],"db":["db-1"]}}}}"#
        );
        serde_json::from_str(&text).expect("a declaration")
    }

    fn in_words(resources: &BTreeSet<Resource>) -> Vec<String> {
        resources.iter().map(ToString::to_string).collect()
    }

    const HOSTS_AND_NAME: [&str; 4] = ["host app-1", "host db-1", "host lb-1", "host name shop.example"];
    const PATH: &str = "/srv/x of its hosts, to read";
    const OTHERS: [&str; 4] = [
        "Docker network backend",
        "snapshots in /var/backups/shop",
        "/etc/tls/cert.pem of the load balancer, as certificate or key",
        "/etc/tls/key.pem of the load balancer, as certificate or key",
    ];

    #[test]
    fn all_that_is_outside_of_its_containers_is_required() {
        let all: Vec<&str> = HOSTS_AND_NAME.iter().chain([&PATH]).chain(&OTHERS).copied().collect();
        assert_eq!(in_words(&required(&spec(), &[])), all);
        let on_the_only_one = EnvironmentSpec { hosts: HostRoles::default(), ..spec() };
        let only = "only".parse().expect("a name");
        assert_eq!(in_words(&required(&on_the_only_one, &[only]))[0], "host only");
    }

    #[test]
    fn a_first_deployment_grants_hosts_and_names_only() {
        assert_eq!(in_words(&EnvironmentGrant::of_first(&spec(), &[]).resources), HOSTS_AND_NAME);
    }

    #[test]
    fn what_was_live_is_granted_but_for_paths_of_hosts() {
        let all: Vec<&str> = HOSTS_AND_NAME.iter().chain(&OTHERS).copied().collect();
        assert_eq!(in_words(&EnvironmentGrant::of_live(&spec(), &[]).resources), all);
    }

    #[test]
    fn the_command_names_each_resource_once() {
        let widening = Widening {
            resources: [
                path("/srv/a", VolumeAccess::ReadOnly),
                Resource::Host("app-2".parse().expect("a name")),
                Resource::Network("backend".to_string()),
            ]
            .into(),
        };
        let key = "shop/prod".parse().expect("a key");
        assert_eq!(
            widening.command(&key),
            "lockstep env grant shop/prod --host app-2 --path /srv/a:ro --network backend"
        );
    }
}
