//! Certificates and roots, as a caller shows them, a coordinator sends them, or a file has them: PEM, or DER where an
//! input does not begin as PEM does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep::credential;
use lockstep_agent::program::enroll;
use lockstep_coordinator::identity::certificate::{self, IssuingName};
use lockstep_coordinator::identity::roots;
use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use lockstep_proto::dial::Credential;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

fuzz_target!(|input: &[u8]| {
    match std::str::from_utf8(input) {
        Ok(pem) if pem.starts_with("-----BEGIN") => {
            pem_is_read(pem);
            if let Ok(certificate) = CertificateDer::from_pem_slice(input) {
                certificate_is_read(&certificate);
            }
        }
        Ok(_) | Err(_) => certificate_is_read(&CertificateDer::from(input)),
    }
});

fn certificate_is_read(of: &CertificateDer<'_>) {
    let cluster: ClusterId = "cl_01JBQR2KXYZ987654321012345".parse().expect("an id");
    let identity = certificate::identity_of(of, &cluster);
    if certificate::serial(of).is_none() {
        assert_eq!(identity, Identity::Nobody);
        assert_eq!(certificate::validity(of), None);
    }
    if let Some(cluster) = certificate::cluster(of) {
        assert!(certificate::root_name(&cluster).ends_with(&cluster.to_string()));
    }
    for name in [IssuingName::of_subject(of), IssuingName::of_issuer(of)].into_iter().flatten() {
        assert!(name.to_string().contains(name.coordinator.as_str()));
    }
}

fn pem_is_read(pem: &str) {
    assert_eq!(roots::status(pem).is_some_and(|status| Some(status.pin) != roots::pin(pem)), false);
    let first = roots::first_in(pem);
    assert_eq!(roots::first_in(&first), first);
    enroll::validity(pem).ok();
    credential::validity(pem);
    let credential =
        Credential { key: String::new(), certificate: pem.to_owned(), authority: pem.to_owned() };
    lockstep_proto::dial::is_current(&credential, pem);
}
