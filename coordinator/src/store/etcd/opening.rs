//! What must be so before the store is opened: the files of the settings are certificates and a key, a member
//! answers, and no member is something else than the settings say.

use std::io;
use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use super::failure::Troubles;
use super::members::{Members, Unusable, WhatIsWrong, Wrong};
use crate::private::{self, PrivateError};
use crate::settings::EtcdSettings;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may be better in a moment.
    #[error("no member of etcd answers ({troubles})")]
    Unreachable { troubles: String },
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("etcd's key cannot be used")]
    Key(#[source] PrivateError),
    #[error("{} has no {what} in PEM: correct store.etcd.{setting}", .path.display())]
    NotPem { path: PathBuf, what: &'static str, setting: &'static str },
    #[error(
        "{endpoint} is not the etcd that is meant: its certificate is not of the authority in {}: \
         correct store.etcd.ca or store.etcd.endpoints", .ca.display()
    )]
    OtherAuthority { endpoint: String, ca: PathBuf },
    #[error(
        "{endpoint} refuses the certificate in {} ({alert}): have one made by etcd's authority, and put it in \
         store.etcd.certificate", .certificate.display()
    )]
    CertificateRefused { endpoint: String, certificate: PathBuf, alert: String },
    #[error("{endpoint} is etcd {version}: {why}")]
    Version { endpoint: String, version: String, why: &'static str },
    #[error(
        "{endpoint} is of another etcd cluster ({found:x}) than the other members ({known:x}): \
         correct store.etcd.endpoints"
    )]
    OtherCluster { endpoint: String, known: u64, found: u64 },
}

/// The members, at least one of them connected.
pub(super) async fn members(settings: &EtcdSettings) -> Result<Members, OpenError> {
    let members = Members::new(&settings.endpoints, tls(settings)?);
    let mut troubles = Troubles::default();
    let mut answers = 0;
    for connected in members.connect_all().await {
        match connected {
            Ok(_) => answers += 1,
            Err(Unusable::Down(trouble)) => {
                warn!(endpoint = trouble.endpoint, why = trouble.why, "this member of etcd does not answer");
                troubles.add(trouble);
            }
            Err(Unusable::Wrong(wrong)) => return Err(refusal(wrong, settings)),
        }
    }
    if answers == 0 {
        return Err(OpenError::Unreachable { troubles: troubles.to_string() });
    }
    Ok(members)
}

fn refusal(wrong: Wrong, settings: &EtcdSettings) -> OpenError {
    let Wrong { endpoint, what } = wrong;
    match what {
        WhatIsWrong::OtherAuthority => OpenError::OtherAuthority { endpoint, ca: settings.ca.clone() },
        WhatIsWrong::WeAreRefused(alert) => {
            OpenError::CertificateRefused { endpoint, certificate: settings.certificate.clone(), alert }
        }
        WhatIsWrong::Version { version, why } => OpenError::Version { endpoint, version, why },
        WhatIsWrong::OtherCluster { known, found } => OpenError::OtherCluster { endpoint, known, found },
    }
}

fn tls(settings: &EtcdSettings) -> Result<TlsOptions, OpenError> {
    let EtcdSettings { ca, certificate, key, .. } = settings;
    let key_text = match private::read(key).map_err(OpenError::Key)? {
        Some(text) => text,
        None => return Err(OpenError::Read { path: key.clone(), source: io::ErrorKind::NotFound.into() }),
    };
    PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|_| OpenError::NotPem {
        path: key.clone(),
        what: "private key",
        setting: "key",
    })?;
    let (ca, certificate) = (certificates(ca, "ca")?, certificates(certificate, "certificate")?);
    Ok(TlsOptions::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(certificate, key_text)))
}

fn certificates(path: &Path, setting: &'static str) -> Result<String, OpenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
    let some = CertificateDer::pem_slice_iter(text.as_bytes()).next().is_some_and(|first| first.is_ok());
    match some {
        true => Ok(text),
        false => Err(OpenError::NotPem { path: path.to_owned(), what: "certificate", setting }),
    }
}
