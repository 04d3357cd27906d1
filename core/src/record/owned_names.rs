//! The names that an environment owns: of its objects on hosts, and of its sites at load balancers.
//!
//! What must stay true: a name has one owner. It is claimed in the transaction that opens a deployment, and released by
//! a later one when nothing live, pending or within reach of a rollback uses it. The name of the objects is never
//! released: what a host keeps of a removed environment is met again by the same environment only.

use alloc::collections::BTreeSet;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::HostId;
use crate::object_name::ObjectName;
use crate::spec::{EnvironmentSpec, HTTP_PORT, HTTPS_PORT};

/// What an environment owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedNames {
    pub objects: ObjectName,
    /// Docker volumes of an environment with a legacy name: `<app>-<env>-<source>` may be another environment's too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    pub sites: BTreeSet<SiteName>,
}

/// A name under which a load balancer's nginx serves an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteName {
    pub load_balancer: HostId,
    pub port: u16,
    /// In lower case, without a final dot.
    pub server_name: String,
}

/// One name that has one owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedName {
    Objects(ObjectName),
    Volume(String),
    Site(SiteName),
}

impl OwnedNames {
    /// What `key` owns with `objects`, for declarations that are each served by the host beside it.
    pub fn of<'a>(
        objects: ObjectName,
        used: impl IntoIterator<Item = (&'a EnvironmentSpec, &'a HostId)>,
    ) -> Self {
        let mut names = Self { objects, volumes: BTreeSet::new(), sites: BTreeSet::new() };
        for (spec, load_balancer) in used {
            names.sites.extend(site_names(spec, load_balancer));
            if names.objects.is_legacy() {
                names.volumes.extend(volumes(&names.objects, spec));
            }
        }
        names
    }

    /// What is left of them when the environment is removed: hosts keep its objects.
    pub fn of_removed(&self) -> Self {
        Self { objects: self.objects.clone(), volumes: BTreeSet::new(), sites: BTreeSet::new() }
    }

    /// Gives one of them up. That of the objects stays.
    pub fn remove(&mut self, name: &OwnedName) {
        match name {
            OwnedName::Objects(_) => {}
            OwnedName::Volume(volume) => {
                self.volumes.remove(volume);
            }
            OwnedName::Site(site) => {
                self.sites.remove(site);
            }
        }
    }

    /// Each of them by itself.
    pub fn each(&self) -> BTreeSet<OwnedName> {
        let volumes = self.volumes.iter().cloned().map(OwnedName::Volume);
        let sites = self.sites.iter().cloned().map(OwnedName::Site);
        [OwnedName::Objects(self.objects.clone())].into_iter().chain(volumes).chain(sites).collect()
    }
}

impl OwnedName {
    pub fn is_of_objects(&self) -> bool {
        matches!(self, Self::Objects(_))
    }
}

/// The names under which `load_balancer` serves a declaration.
pub fn site_names(spec: &EnvironmentSpec, load_balancer: &HostId) -> BTreeSet<SiteName> {
    let Some(address) = spec.site_address() else { return BTreeSet::new() };
    let ends_here = !spec.traffic.tls.is_off();
    // Who asks without TLS is redirected from the usual port.
    let redirect = (ends_here && address.listen_port == HTTPS_PORT).then_some(HTTP_PORT);
    let ports = [Some(address.listen_port), redirect].into_iter().flatten();
    let name = |port| SiteName {
        load_balancer: load_balancer.clone(),
        port,
        server_name: address.server_name.clone(),
    };
    ports.map(name).collect()
}

fn volumes(objects: &ObjectName, spec: &EnvironmentSpec) -> BTreeSet<String> {
    let declared = spec.processes.values().flat_map(|process| &process.volumes);
    declared.filter(|volume| !volume.is_host_path()).map(|volume| objects.volume(&volume.source)).collect()
}

impl fmt::Display for OwnedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Objects(name) => write!(f, "the name {name} of files and containers on hosts"),
            Self::Volume(volume) => write!(f, "the Docker volume {volume}"),
            Self::Site(SiteName { server_name, port, .. }) => write!(f, "{server_name} on port {port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::name::EnvironmentKey;

    fn host() -> HostId {
        "host_01JBQR2KXYZ987654321012345".parse().expect("an id")
    }

    fn spec(url: &str, tls: &str, volumes: &str) -> EnvironmentSpec {
        let health = r#"{"path":"/health","timeout":1,"interval":100,"consecutive":1}"#;
        let web = alloc::format!(
            r#"{{"role":"web","command":[],"port":8080,"health":{health},"volumes":{volumes},"memory_bytes":null,
            "cpu_milli":null,"user":null,"stop_signal":null,"stop_grace":1,"standby":"run"}}"#
        );
        let text = alloc::format!(
            r#"{{"key":"notes/production","description":null,"url":"{url}","branch":null,"mode":"production",
            "image":{{"repository":"notes"}},"processes":{{"web":{web}}},"database":null,
            "traffic":{{"body_limit":"10m","read_timeout":1,"tls":{tls}}},"networks":[],
            "deploy":{{"lock_timeout":1,"drain":1,"bake":1,"log_directory":null,"state_file":null}},
            "env":{{}},"required":[],"public":[],"hosts":{{"app":[],"lb":[],"db":[]}}}}"#
        );
        serde_json::from_str(&text).expect("a declaration")
    }

    fn sites(spec: &EnvironmentSpec) -> Vec<(String, u16)> {
        site_names(spec, &host()).into_iter().map(|site| (site.server_name, site.port)).collect()
    }

    #[test]
    fn a_site_is_claimed_without_case_and_final_dot() {
        for url in ["http://Notes.Example.", "http://notes.example", "http://NOTES.example.:80/"] {
            assert_eq!(sites(&spec(url, "\"off\"", "[]")), [("notes.example".into(), 80)], "{url}");
        }
    }

    #[test]
    fn a_site_with_tls_also_claims_the_port_that_redirects_to_it() {
        let tls = r#"{"existing":{"certificate":"/a","key":"/b"}}"#;
        let both = [("notes.example".into(), 80), ("notes.example".into(), 443)];
        assert_eq!(sites(&spec("https://notes.example", tls, "[]")), both);
        assert_eq!(sites(&spec("https://notes.example:8443", tls, "[]")), [("notes.example".into(), 8443)]);
    }

    #[test]
    fn volumes_are_claimed_only_under_a_legacy_name() {
        let volumes = r#"[{"source":"data","target":"/data","access":"read_write"},
            {"source":"/srv/x","target":"/x","access":"read_write"}]"#;
        let (spec, host) = (spec("http://notes.example", "\"off\"", volumes), host());
        let key: EnvironmentKey = "notes/production".parse().expect("a key");
        let legacy = OwnedNames::of(ObjectName::legacy(&key), [(&spec, &host)]);
        assert_eq!(legacy.volumes.into_iter().collect::<Vec<_>>(), ["notes-production-data"]);
        assert!(OwnedNames::of(ObjectName::encode(&key), [(&spec, &host)]).volumes.is_empty());
    }
}
