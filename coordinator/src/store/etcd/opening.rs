//! Checks before the store is opened: the files in the settings are certificates and a key, a member answers, and
//! every member is the one that the settings mean.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::EtcdStore;
use super::failure::MemberFailures;
use super::handshake::{Handshake, Pem, handshake};
use super::members::{Members, Unusable, WhatIsWrong, Wrong};
use crate::ports::private_files;
use crate::ports::private_files::PrivateError;
use crate::program::settings::EtcdSettings;

/// How long nobody is asked after nobody answered, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may be better in a moment.
    #[error("no member of etcd answers ({failures})")]
    Unreachable { failures: String },
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the key for etcd")]
    Key(#[source] PrivateError),
    #[error("{} has no {what} in PEM: correct store.etcd.{setting}", .path.display())]
    NotPem { path: PathBuf, what: &'static str, setting: &'static str },
    #[error(
        "the certificate at {endpoint} is not signed by the authority in {}: correct store.etcd.ca or \
         store.etcd.endpoints", .ca.display()
    )]
    OtherAuthority { endpoint: String, ca: PathBuf },
    #[error("the certificate at {endpoint} is invalid: {why}")]
    BadCertificate { endpoint: String, why: String },
    #[error("cannot use the files of store.etcd for TLS")]
    Tls(#[source] rustls::Error),
    #[error(
        "{endpoint} refuses the certificate in {} ({alert}): set store.etcd.certificate to one that is signed by the \
         authority of etcd", .certificate.display()
    )]
    CertificateRefused { endpoint: String, certificate: PathBuf, alert: String },
    #[error("{endpoint} is etcd {version}: {why}")]
    Version { endpoint: String, version: String, why: &'static str },
    #[error(
        "{endpoint} belongs to another etcd cluster ({found:x}) than the other members ({known:x}): \
         correct store.etcd.endpoints"
    )]
    OtherCluster { endpoint: String, known: u64, found: u64 },
}

impl EtcdStore {
    /// Opens the store as soon as a member answers; nothing, when `stop` says so before.
    ///
    /// # Errors
    /// As [`Self::open`], but for what may be better in a moment.
    pub async fn open_when_it_answers(
        settings: &EtcdSettings,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, OpenError> {
        let mut pause = PAUSE_FIRST;
        loop {
            let failures = match Self::open(settings).await {
                Ok(store) => return Ok(Some(store)),
                Err(OpenError::Unreachable { failures }) => failures,
                Err(error) => return Err(error),
            };
            warn!(
                again_in_s = pause.as_secs(),
                "waiting for etcd; the coordinator serves nothing yet ({failures})"
            );
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }
}

/// The members, at least one of them connected.
pub(super) async fn members(settings: &EtcdSettings) -> Result<Members, OpenError> {
    let pem = pem(settings)?;
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(&pem.ca))
        .identity(Identity::from_pem(&pem.certificate, &pem.key));
    let members = Members::new(&settings.endpoints, tls);
    let mut failures = MemberFailures::default();
    let mut answers = 0;
    for connected in members.connect_all().await {
        match connected {
            Ok(_) => answers += 1,
            Err(Unusable::Down(failure)) => {
                examine(&failure.endpoint, settings, &pem).await?;
                failures.add(failure);
            }
            Err(Unusable::Wrong(Wrong { endpoint, what })) => {
                return Err(match what {
                    WhatIsWrong::Version { version, why } => OpenError::Version { endpoint, version, why },
                    WhatIsWrong::OtherCluster { known, found } => {
                        OpenError::OtherCluster { endpoint, known, found }
                    }
                });
            }
        }
    }
    if answers == 0 {
        return Err(OpenError::Unreachable { failures: failures.to_string() });
    }
    if !failures.is_empty() {
        warn!("some members of etcd do not answer: {failures}");
    }
    Ok(members)
}

/// Whether there is no connection because the two ends do not trust each other.
async fn examine(endpoint: &str, settings: &EtcdSettings, pem: &Pem) -> Result<(), OpenError> {
    let endpoint = endpoint.to_owned();
    match handshake(&endpoint, pem).await.map_err(OpenError::Tls)? {
        Handshake::Unsuspicious => Ok(()),
        Handshake::OtherAuthority => Err(OpenError::OtherAuthority { endpoint, ca: settings.ca.clone() }),
        Handshake::BadCertificate(why) => Err(OpenError::BadCertificate { endpoint, why }),
        Handshake::WeAreRefused(alert) => {
            Err(OpenError::CertificateRefused { endpoint, certificate: settings.certificate.clone(), alert })
        }
    }
}

fn pem(settings: &EtcdSettings) -> Result<Pem, OpenError> {
    let EtcdSettings { ca, certificate, key: path, .. } = settings;
    let Some(key) = private_files::read(path).map_err(OpenError::Key)? else {
        return Err(OpenError::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() });
    };
    if PrivateKeyDer::from_pem_slice(key.as_bytes()).is_err() {
        return Err(OpenError::NotPem { path: path.clone(), what: "private key", setting: "key" });
    }
    Ok(Pem { ca: certificates(ca, "ca")?, certificate: certificates(certificate, "certificate")?, key })
}

fn certificates(path: &Path, setting: &'static str) -> Result<String, OpenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
    let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
    match found.next() {
        Some(Ok(_)) => Ok(text),
        Some(Err(_)) | None => Err(OpenError::NotPem { path: path.to_owned(), what: "certificate", setting }),
    }
}
