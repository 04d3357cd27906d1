//! Certificates for servers of others that use mutual TLS: an authority, and one key that servers and clients share.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::bed::files::write_private;

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`, for servers on this machine and for clients.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn make(directory: &Path, name: &str) -> Result<Self> {
        Self::make_for(directory, name, &["127.0.0.1".to_owned(), "localhost".to_owned()])
    }

    /// As [`Certificates::make`], for servers that are reached by these names and addresses.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn make_for(directory: &Path, name: &str, reached_by: &[String]) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let authority_key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = parameters.self_signed(&authority_key)?;

        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(reached_by.to_vec())?;
        leaf.distinguished_name = named(&format!("{name}, member or client"));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = Issuer::from_ca_cert_pem(&authority.pem(), authority_key)?;
        let certificate = leaf.signed_by(&key, &issuer)?;

        let made = Self {
            authority: directory.join("authority.pem"),
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        fs::write(&made.authority, authority.pem())?;
        fs::write(&made.certificate, certificate.pem())?;
        write_private(&made.key, &key.serialize_pem())?;
        Ok(made)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
