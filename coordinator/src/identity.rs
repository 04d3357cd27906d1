//! From a certificate to whom it names.

use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Whom `certificate`, which has been verified, names in `cluster`. One that names nobody of ours, or
/// more than one, is nobody's.
pub fn of(certificate: &CertificateDer<'_>, cluster: &ClusterId) -> Identity {
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
    Some(certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The cluster in the name of an authority, after `before`.
pub fn cluster(certificate: &CertificateDer<'_>, before: &str) -> Option<ClusterId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok()?.strip_prefix(before)?.parse().ok()
}

fn read(uri: &str, cluster: &ClusterId) -> Option<Identity> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(cluster.as_str())?;
    let (kind, name) = path.strip_prefix('/')?.split_once('/')?;
    match kind {
        "agent" => Some(Identity::Agent(name.parse().ok()?)),
        "operator" => Some(Identity::Operator(name.parse().ok()?)),
        "coordinator" => Some(Identity::Coordinator(name.to_owned())),
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
