//! The keys that sign and the roots that are trusted at one moment, read and used together.

use std::path::Path;

use lockstep_proto::dial::pin_of;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{AuthorityError, ISSUING_FILE, ISSUING_KEY_FILE, ROOT_FILE, ROOT_KEY_FILE, read_file};
use crate::identity::certificate::IssuingName;
use crate::identity::roots::{Roots, with_line_end};

pub(super) struct SigningKeys {
    /// That signed the issuing authority.
    pub(super) root: Root,
    /// Where this coordinator has its key.
    pub(super) root_issuer: Option<Issuer<'static, KeyPair>>,
    pub(super) name: IssuingName,
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// PEM.
    issuing: String,
    pub(super) roots: Roots,
}

pub(super) struct Root {
    pub(super) pem: String,
    pub(super) pin: String,
}

impl SigningKeys {
    /// What is in `directory`; `trusted` is what the record says, if it says anything.
    pub(super) fn read(directory: &Path, trusted: Option<&Roots>) -> Result<Self, AuthorityError> {
        let pem = with_line_end(&read_file(directory, ROOT_FILE)?.ok_or(AuthorityError::Half)?);
        let pin = pin_of(&certificate(&pem)?).ok_or(AuthorityError::Half)?;
        let root_issuer = root_issuer(directory)?;
        let issuing = read_file(directory, ISSUING_FILE)?.ok_or(AuthorityError::Half)?;
        let key = read_file(directory, ISSUING_KEY_FILE)?.ok_or(AuthorityError::Half)?;
        let name = IssuingName::of_subject(&certificate(&issuing)?).ok_or(AuthorityError::Nameless)?;
        let issuer = Issuer::from_ca_cert_pem(&issuing, KeyPair::from_pem(&key)?)?;
        let roots = trusted.cloned().unwrap_or_else(|| Roots { signing: pem.clone(), retiring: None });
        Ok(Self { root: Root { pem, pin }, root_issuer, name, issuer, issuing, roots })
    }

    pub(super) fn is_of_signing_root(&self) -> bool {
        self.roots.pin().as_deref() == Some(&self.root.pin)
    }

    /// What follows a leaf, up to but without a root that is trusted.
    pub(super) fn chain(&self) -> String {
        format!("{}{}", self.issuing, self.bridge())
    }

    /// What follows a leaf, and the roots to which it leads.
    pub(super) fn path(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        let retiring = self.roots.retiring.as_ref().filter(|_| self.is_of_signing_root());
        let retiring = retiring.map_or("", |retiring| &retiring.root);
        let path = format!("{}{}{}{retiring}", self.issuing, self.root.pem, self.bridge());
        CertificateDer::pem_slice_iter(path.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| AuthorityError::Half)
    }

    /// For those who trust only the root that retires.
    fn bridge(&self) -> &str {
        let retiring = self.roots.retiring.as_ref().filter(|_| self.is_of_signing_root());
        retiring.map_or("", |retiring| &retiring.bridge)
    }
}

/// The root in `directory`, if its key is there.
pub(super) fn root_issuer(directory: &Path) -> Result<Option<Issuer<'static, KeyPair>>, AuthorityError> {
    let (Some(root), Some(key)) = (read_file(directory, ROOT_FILE)?, read_file(directory, ROOT_KEY_FILE)?)
    else {
        // The key of a coordinator that has joined is its issuing authority's.
        return Ok(None);
    };
    let key = KeyPair::from_pem(&key)?;
    // Who died while another root was put in place has the key of the one and the certificate of the other.
    if !is_of(&certificate(&root)?, &key) {
        return Ok(None);
    }
    Ok(Some(Issuer::from_ca_cert_pem(&root, key)?))
}

fn is_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Half)
}
