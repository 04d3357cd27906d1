//! Which root a certificate belongs to, as far as its owner can tell without verification. It decides when to ask for
//! another certificate, and never whom to trust.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;

use super::Credential;

/// Whether `credential` is what the cluster would give that trusts `roots` (PEM, the one that signs first). A cluster
/// that says nothing leaves it as it is.
pub fn is_current(credential: &Credential, roots: &str) -> bool {
    roots.is_empty()
        || (has_same_certificates(&credential.authority, roots)
            && is_of_first(&credential.certificate, roots))
}

/// Whether two PEM texts have the same certificates in the same order. Their line breaks may differ: a coordinator that
/// joined with an earlier version has its root without the last one.
fn has_same_certificates(one: &str, other: &str) -> bool {
    match (certificates(one), certificates(other)) {
        (Some(one), Some(other)) => one == other,
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

/// The certificates in `pem`; `None` if one of them is damaged.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()
}

/// Whether `chain` (PEM, the leaf first, then its issuing authority) is of the first of `roots`.
pub fn is_of_first(chain: &str, roots: &str) -> bool {
    let Some(Ok(root)) = CertificateDer::pem_slice_iter(roots.as_bytes()).next() else { return false };
    let Some(Ok(issuing)) = CertificateDer::pem_slice_iter(chain.as_bytes()).nth(1) else { return false };
    signer(&issuing).is_some_and(|signer| own_key(&root) == Some(signer))
}

/// The identifier of the key that signed `certificate`.
fn signer(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    certificate.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(signer) = extension.parsed_extension() else {
            return None;
        };
        Some(signer.key_identifier.as_ref()?.0.to_vec())
    })
}

/// The identifier of the key in `certificate`.
fn own_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    certificate.iter_extensions().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(own) = extension.parsed_extension() else { return None };
        Some(own.0.to_vec())
    })
}
