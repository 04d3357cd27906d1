//! Reads the identity in a certificate.

use data_encoding::HEXLOWER;
use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use lockstep_core::name::CoordinatorName;
use lockstep_core::time::{Millis, Timestamp};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;

/// How far a certificate is back-dated. A clock that was set as another zone's is some hours off: whoever has one is
/// connected all the same, and told of. A coordinator's certificate is good for at least as long in the other direction.
pub const BACKDATED: Millis = Millis::from_secs(16 * 3600);

/// Whom `certificate`, which has been verified, names in `cluster`. One that names nobody of ours, or
/// more than one, is nobody's.
pub fn identity_of(certificate: &CertificateDer<'_>, cluster: &ClusterId) -> Identity {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return Identity::Nobody;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Identity::Nobody;
    };
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => read(uri, cluster).unwrap_or(Identity::Nobody),
        (None | Some(_), _) => Identity::Nobody,
    }
}

/// The serial number of `certificate`, in hexadecimal; `None` when these bytes are no certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(HEXLOWER.encode(certificate.raw_serial()))
}

/// From when until when `certificate` is good, as it stands there; `None` when these bytes are no certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let moment = |seconds: i64| Some(Timestamp(u64::try_from(seconds).ok()?.checked_mul(1000)?));
    let validity = certificate.validity();
    Some((moment(validity.not_before.timestamp())?, moment(validity.not_after.timestamp())?))
}

/// What stands before the cluster in the root's name.
const ROOT_NAME: &str = "Lockstep ";

/// What stands before the coordinator in the name of an issuing authority.
const ISSUING_NAME: &str = "Lockstep coordinator ";

/// How the root of `cluster` is named.
pub fn root_name(cluster: &ClusterId) -> String {
    format!("{ROOT_NAME}{cluster}")
}

/// The cluster in the name of a root.
pub fn cluster(root: &CertificateDer<'_>) -> Option<ClusterId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(root).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok()?.strip_prefix(ROOT_NAME)?.parse().ok()
}

/// A coordinator's own authority: one for each time that a coordinator joined, so that a name can be given again
/// and what was signed before does not count again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuingName {
    pub coordinator: CoordinatorName,
    pub id: String,
}

impl IssuingName {
    /// Of the authority that `certificate` is of.
    pub fn of_subject(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Self::read(certificate.subject().iter_common_name().next()?.as_str().ok()?)
    }

    /// Of the authority that signed `certificate`.
    pub fn of_issuer(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Self::read(certificate.issuer().iter_common_name().next()?.as_str().ok()?)
    }

    fn read(name: &str) -> Option<Self> {
        let (coordinator, id) = name.strip_prefix(ISSUING_NAME)?.split_once(' ')?;
        Some(Self { coordinator: coordinator.parse().ok()?, id: id.to_owned() })
    }
}

impl std::fmt::Display for IssuingName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ISSUING_NAME}{} {}", self.coordinator, self.id)
    }
}

fn read(uri: &str, cluster: &ClusterId) -> Option<Identity> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(cluster.as_str())?;
    let (kind, name) = path.strip_prefix('/')?.split_once('/')?;
    match kind {
        "agent" => Some(Identity::Agent(name.parse().ok()?)),
        "operator" => Some(Identity::Operator(name.parse().ok()?)),
        "coordinator" => Some(Identity::Coordinator(name.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_cluster_or_kind_is_nobodys() {
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        let uri = |rest: &str| format!("spiffe://{rest}");
        let ours = uri("cl_01JBQR2KXYZ987654321012345/operator/anna");
        assert_eq!(read(&ours, &cluster), Some(Identity::Operator("anna".parse().unwrap())));
        for foreign in [
            "cl_01JBQR2KXYZ987654321012346/operator/anna",
            "cl_01JBQR2KXYZ987654321012345/root/anna",
            "cl_01JBQR2KXYZ987654321012345/operator/Anna",
            "cl_01JBQR2KXYZ987654321012345/operator",
        ] {
            assert_eq!(read(&uri(foreign), &cluster), None, "{foreign}");
        }
    }
}
