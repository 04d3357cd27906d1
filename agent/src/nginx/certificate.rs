//! Checks the certificate and the key of a site, before anything starts.

use std::path::Path;

use lockstep_core::plan::action::SiteTls;
use lockstep_core::run::journal::StepFailure;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// That both are there, can be read, and belong together.
///
/// # Errors
/// When nginx could not serve with them.
pub fn check(tls: &SiteTls) -> Result<(), StepFailure> {
    let SiteTls { certificate, key, redirect_from: _ } = tls;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| unusable(certificate, "certificate", &error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "certificate", "it has no certificate in PEM form"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        // What is wrong with a key is told without its text.
        .map_err(|_| unusable(key, "key", "it has no private key in PEM form"))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| {
        StepFailure::new(format!("the key {key} does not belong to the certificate {certificate}"))
            .why(error.to_string())
            .next("set a matching pair in deployment.yml: traffic.certificate and traffic.key")
    })?;
    Ok(())
}

fn read(file: &str) -> Result<Vec<u8>, StepFailure> {
    std::fs::read(Path::new(file)).map_err(|error| {
        StepFailure::new(format!("cannot read {file}"))
            .why(error.to_string())
            .next("put it there on the load balancer's host, or set another in deployment.yml: traffic.certificate, traffic.key")
    })
}

fn unusable(file: &str, what: &str, why: &str) -> StepFailure {
    StepFailure::new(format!("{file} is not a {what} that nginx can use"))
        .why(why.to_owned())
        .next(format!("set a {what} in PEM form in deployment.yml: traffic.{what}"))
}
