//! The certificate authority. A root signs one issuing authority for each coordinator, and these sign the
//! certificates.
//!
//! What must stay true: the root key stays in the files of the first coordinator. It signs only issuing authorities
//! and, once, the key of the next root. The key of an issuing authority never leaves its coordinator. Names come from
//! here and never from a request, so no caller can choose its identity. A leaf certificate is short-lived, and
//! back-dated a little because clocks differ.
//!
//! A new root, or an issuing authority under a new root, replaces the current one in three moves. After a crash
//! between two of them, the coordinator has either the current one or the new one. First everything is written into
//! one file ([`NextIssuing`]). Then one transaction records that it counts. Then it is put in place, and the file is
//! deleted. Nothing is signed with it before the transaction. After the transaction it is put in place at the next
//! look at the record, also at the next start ([`Authority::adopt_roots`]). Both roots are trusted from that
//! transaction until the retirement. Who trusts only the earlier root accepts certificates of the later one through
//! its bridge ([`Roots`]).

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use lockstep_core::name::CoordinatorName;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::dial::{COORDINATOR_NAME, Credential};
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use ulid::Ulid;

use crate::identity::certificate;
use crate::identity::certificate::IssuingName;
use crate::identity::roots;
use crate::identity::roots::{Retiring, Roots};
use crate::ports::private_files;
use crate::ports::private_files::PrivateError;

mod certificates;
mod next_issuing;
mod signing_keys;

pub use next_issuing::NextIssuing;
use next_issuing::NextRoot;
use signing_keys::SigningKeys;

/// A coordinator makes its own anew, so that it need not be good for long.
const COORDINATOR_LIFE: Millis = Millis::from_secs(24 * 3600);

/// Agents renew at a third of this, operators in its last third. Who is off for longer joins again: a host over
/// a holiday need not. What was removed or revoked is refused by the record and not by the clock.
pub const CLIENT_LIFE: Millis = Millis::from_secs(30 * 24 * 3600);

/// As long as the root: a coordinator that is removed is refused by the record and not by the clock.
const ISSUING_LIFE: Millis = ROOT_LIFE;

const ROOT_LIFE: Millis = Millis::from_secs(10 * 365 * 24 * 3600);

const ROOT_FILE: &str = "root.pem";
const ROOT_KEY_FILE: &str = "root.key";
const ISSUING_FILE: &str = "issuing.pem";
const ISSUING_KEY_FILE: &str = "issuing.key";
const NEXT_FILE: &str = "next.json";

/// Its files, and whether every coordinator has them.
pub(crate) const FILES: [(&str, bool); 5] = [
    (ROOT_FILE, true),
    (ROOT_KEY_FILE, false),
    (ISSUING_FILE, true),
    (ISSUING_KEY_FILE, true),
    (NEXT_FILE, false),
];

/// The name of the coordinator that makes a cluster.
const FIRST_COORDINATOR: &str = "coordinator-1";

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot use the files of the authority")]
    File(#[from] PrivateError),
    #[error("cannot create the directory of the authority")]
    Directory(#[source] std::io::Error),
    #[error("the authority has a key without a certificate, or a certificate without a key")]
    Half,
    #[error("the authority's certificate names no cluster: it is damaged, or was not made by Lockstep")]
    Nameless,
    #[error("{NEXT_FILE} of the authority is damaged, at column {column}")]
    Next { column: usize },
    #[error("the certificate request is invalid: {0}")]
    Request(rcgen::Error),
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot read a certificate that was just made")]
    Unreadable,
    #[error("{0} cannot get a certificate")]
    NoSubject(Identity),
    #[error(
        "this coordinator does not have the root key: join at the one that has it (lockstep coordinator list)"
    )]
    NoRootKey,
    #[error("the system provides no random numbers")]
    Chance,
}

/// A certificate as given.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM: the leaf, then what leads from it to a root.
    pub certificate: String,
    /// As [`certificate::serial`] reads it.
    pub serial: String,
    pub expires: Timestamp,
}

/// The certificate and key of this coordinator's own server.
pub struct ServerIdentity {
    /// Leaf first, roots last: whoever joins by a pin must see the one of its pin.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub expires: Timestamp,
}

pub struct Authority {
    directory: PathBuf,
    cluster: ClusterId,
    coordinator: CoordinatorName,
    held: watch::Sender<Arc<SigningKeys>>,
    /// Held while files change, so that one who changes them reads what the other has written.
    files: Mutex<()>,
}

impl Authority {
    /// Opens the authority in `directory`, or makes a cluster's first when there is none. It trusts its own root until
    /// [`Self::adopt_roots`] says more.
    ///
    /// # Errors
    /// When its files are damaged, or can be read by others.
    pub fn open(directory: &Path, cluster: &ClusterId, now: Timestamp) -> Result<Self, AuthorityError> {
        make_directory(directory)?;
        // The key is written first: alone it has signed nothing yet.
        if read_file(directory, ROOT_FILE)?.is_none() {
            let key = KeyPair::generate()?;
            let root = certificates::root(cluster, now)?.self_signed(&key)?.pem();
            private_files::write(&directory.join(ROOT_KEY_FILE), &key.serialize_pem())?;
            private_files::write(&directory.join(ROOT_FILE), &root)?;
        }
        match (read_file(directory, ISSUING_FILE)?, read_file(directory, ISSUING_KEY_FILE)?) {
            (Some(_), Some(_)) => {}
            (Some(_), None) => return Err(AuthorityError::Half),
            (None, Some(_) | None) => {
                let root = signing_keys::root_issuer(directory)?.ok_or(AuthorityError::Half)?;
                let (issuing, key) = new_issuing(first_coordinator(), &root, now)?;
                private_files::write(&directory.join(ISSUING_KEY_FILE), &key)?;
                private_files::write(&directory.join(ISSUING_FILE), &issuing)?;
            }
        }
        let held = SigningKeys::read(directory, None)?;
        Ok(Self {
            directory: directory.to_owned(),
            cluster: cluster.clone(),
            coordinator: held.name.coordinator.clone(),
            held: watch::Sender::new(Arc::new(held)),
            files: Mutex::default(),
        })
    }

    /// Puts what joining gave into `directory`, so that [`Self::open`] finds it. The root is written last: before
    /// it, nobody has joined.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn adopt(directory: &Path, credential: &Credential) -> Result<(), AuthorityError> {
        make_directory(directory)?;
        private_files::write(&directory.join(ISSUING_KEY_FILE), &credential.key)?;
        private_files::write(&directory.join(ISSUING_FILE), &credential.certificate)?;
        private_files::write(&directory.join(ROOT_FILE), &roots::first_in(&credential.authority))?;
        Ok(())
    }

    /// The cluster that the authority in `directory` is of; `None` if there is none.
    ///
    /// # Errors
    /// When its certificate is damaged.
    pub fn cluster_of(directory: &Path) -> Result<Option<ClusterId>, AuthorityError> {
        let Some(root) = read_file(directory, ROOT_FILE)? else {
            return Ok(None);
        };
        let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|_| AuthorityError::Nameless)?;
        certificate::cluster(&root).ok_or(AuthorityError::Nameless).map(Some)
    }

    /// Takes in what the record says: which roots are trusted, and which of this coordinator's authorities counts. What
    /// was prepared and counts is put in place.
    ///
    /// # Errors
    /// When files cannot be written, or are damaged.
    pub fn adopt_roots(&self, roots: Option<&Roots>, counts: Option<&str>) -> Result<(), AuthorityError> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match (NextIssuing::read(&self.directory)?, counts) {
            (Some(next), Some(counts)) if next.name()?.id == counts => Some(next),
            (Some(_) | None, Some(_) | None) => None,
        };
        if let Some(next) = &next {
            next.put_in_place(&self.directory)?;
        }
        if next.is_some() || roots.is_some_and(|roots| self.held().roots != *roots) {
            self.held.send_replace(Arc::new(SigningKeys::read(&self.directory, roots)?));
        }
        Ok(())
    }

    /// Another root and an issuing authority of it, written down; what was prepared before and did not come to count is
    /// used again.
    ///
    /// # Errors
    /// When the key of the root is elsewhere, or it cannot be written.
    pub fn prepare_root(&self, now: Timestamp) -> Result<(Roots, NextIssuing), AuthorityError> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let before = held.root_issuer.as_ref().ok_or(AuthorityError::NoRootKey)?;
        let there = NextIssuing::read(&self.directory)?.filter(|next| {
            next.root_key
                .as_ref()
                .is_some_and(|root| roots::pin(&root.replaces) == Some(held.root.pin.clone()))
        });
        let next = match there {
            Some(there) => there,
            None => {
                let key = KeyPair::generate()?;
                let root = certificates::root(&self.cluster, now)?.self_signed(&key)?.pem();
                let bridge = certificates::bridge(&self.cluster, now)?.signed_by(&key, before)?.pem();
                let root_key = NextRoot { key: key.serialize_pem(), replaces: held.root.pem.clone(), bridge };
                let issuer = Issuer::from_ca_cert_pem(&root, key)?;
                let (issuing, issuing_key) = new_issuing(self.coordinator.clone(), &issuer, now)?;
                let next = NextIssuing { root, root_key: Some(root_key), issuing, issuing_key };
                next.write(&self.directory)?;
                next
            }
        };
        let bridge = next.root_key.as_ref().map(|root| root.bridge.clone()).unwrap_or_default();
        let retiring = Retiring { root: held.root.pem.clone(), bridge, since: now };
        Ok((Roots { signing: next.root.clone(), retiring: Some(retiring) }, next))
    }

    /// What was prepared before and did not come to count, if it is of `root`.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn prepared(&self, root: &str) -> Result<Option<NextIssuing>, AuthorityError> {
        Ok(NextIssuing::read(&self.directory)?.filter(|next| roots::pin(&next.root) == roots::pin(root)))
    }

    /// Writes an issuing authority down that the coordinator with the root's key has signed.
    ///
    /// # Errors
    /// When it is another's, or cannot be written.
    pub fn prepare_issuing(
        &self,
        key: &KeyPair,
        issuing: String,
        root: String,
    ) -> Result<NextIssuing, AuthorityError> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let next = NextIssuing { root, root_key: None, issuing, issuing_key: key.serialize_pem() };
        if next.name()?.coordinator != self.coordinator {
            return Err(AuthorityError::Nameless);
        }
        next.write(&self.directory)?;
        Ok(next)
    }

    fn held(&self) -> Arc<SigningKeys> {
        Arc::clone(&self.held.borrow())
    }

    /// Changes whenever what signs does, or what is trusted.
    pub fn changes(&self) -> Changes {
        Changes(self.held.subscribe())
    }

    /// The roots that are trusted, PEM; the one that signs comes first.
    pub fn bundle(&self) -> String {
        self.held().roots.bundle()
    }

    /// The roots that are trusted.
    pub fn roots(&self) -> Roots {
        self.held().roots.clone()
    }

    /// The roots that are trusted.
    ///
    /// # Errors
    /// When one of them is damaged.
    pub fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        CertificateDer::pem_slice_iter(self.bundle().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| AuthorityError::Half)
    }

    /// The pin of the root that this coordinator's authority is of: what a token carries.
    pub fn pin(&self) -> String {
        self.held().root.pin.clone()
    }

    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    pub fn coordinator(&self) -> &CoordinatorName {
        &self.coordinator
    }

    /// The coordinator whose authority this is, and which of its authorities.
    pub fn name(&self) -> IssuingName {
        self.held().name.clone()
    }

    /// Whether other coordinators can join here.
    pub fn has_root_key(&self) -> bool {
        let held = self.held();
        held.root_issuer.is_some() && held.is_of_signing_root()
    }

    /// Whether what is signed here is of the root that signs.
    pub fn is_current(&self) -> bool {
        self.held().is_of_signing_root()
    }

    /// A certificate for whoever holds the key of `request` (PEM), as `identity`.
    ///
    /// # Errors
    /// When the request does not prove its key.
    pub fn issue(
        &self,
        request: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let life = match identity {
            Identity::Coordinator(_) => COORDINATOR_LIFE,
            Identity::Agent(_) | Identity::Operator(_) => CLIENT_LIFE,
            Identity::Nobody => return Err(AuthorityError::NoSubject(identity.clone())),
        };
        self.issue_for(request, identity, now, life)
    }

    /// As [`Authority::issue`], for this long.
    ///
    /// # Errors
    /// When the request does not prove its key.
    pub fn issue_for(
        &self,
        request: &str,
        identity: &Identity,
        now: Timestamp,
        life: Millis,
    ) -> Result<Issued, AuthorityError> {
        let held = self.held();
        let mut request = requested(request)?;
        // Only the key is taken from the request.
        request.params = certificates::leaf(&self.cluster, identity, now, life)?;
        let certificate = request.signed_by(&held.issuer)?;
        let serial = certificate::serial(certificate.der()).ok_or(AuthorityError::Unreadable)?;
        Ok(Issued {
            certificate: format!("{}{}", certificate.pem(), held.chain()),
            serial,
            expires: now + life,
        })
    }

    /// An issuing authority for `coordinator`, the name of it, and the root that it is of.
    ///
    /// # Errors
    /// When the root's key is elsewhere, or the request does not prove its key.
    pub fn issue_authority(
        &self,
        request: &str,
        coordinator: &CoordinatorName,
        now: Timestamp,
    ) -> Result<(IssuingName, Issued, String), AuthorityError> {
        let held = self.held();
        let root = held
            .root_issuer
            .as_ref()
            .filter(|_| held.is_of_signing_root())
            .ok_or(AuthorityError::NoRootKey)?;
        let mut request = requested(request)?;
        let name = issuing_name(coordinator.clone());
        request.params = certificates::issuing(&name, now)?;
        let certificate = request.signed_by(root)?;
        let serial = certificate::serial(certificate.der()).ok_or(AuthorityError::Unreadable)?;
        let issued = Issued { certificate: certificate.pem(), serial, expires: now + ISSUING_LIFE };
        Ok((name, issued, held.root.pem.clone()))
    }

    /// A fresh key and certificate for this coordinator's server.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn server_identity(&self, now: Timestamp) -> Result<ServerIdentity, AuthorityError> {
        let held = self.held();
        let (leaf, key) = self.own(&held, now)?;
        let key_der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| AuthorityError::Half)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(held.path()?);
        Ok(ServerIdentity { chain, key: key_der, expires: now + COORDINATOR_LIFE })
    }

    /// What this coordinator shows to the others.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client_credential(&self, now: Timestamp) -> Result<Credential, AuthorityError> {
        let held = self.held();
        let (leaf, key) = self.own(&held, now)?;
        Ok(Credential {
            key: key.serialize_pem(),
            certificate: format!("{}{}", leaf.pem(), held.chain()),
            authority: held.roots.bundle(),
        })
    }

    fn own(
        &self,
        held: &SigningKeys,
        now: Timestamp,
    ) -> Result<(rcgen::Certificate, KeyPair), AuthorityError> {
        let key = KeyPair::generate()?;
        let own = Identity::Coordinator(self.coordinator.clone());
        let mut parameters = certificates::leaf(&self.cluster, &own, now, COORDINATOR_LIFE)?;
        parameters.subject_alt_names.push(SanType::DnsName(COORDINATOR_NAME.try_into()?));
        Ok((parameters.signed_by(&key, &held.issuer)?, key))
    }
}

/// When an authority changes.
pub struct Changes(watch::Receiver<Arc<SigningKeys>>);

impl Changes {
    /// Waits until it has changed since this was asked last, or since it was made.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody has the authority any more: it will not change.
            std::future::pending::<()>().await;
        }
    }
}

/// A key, and a request (PEM) that proves it; whatever name it has is ignored.
///
/// # Errors
/// When no key can be made.
pub fn request() -> Result<(KeyPair, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?.pem()?;
    Ok((key, request))
}

fn first_coordinator() -> CoordinatorName {
    FIRST_COORDINATOR.parse().expect("a constant that is a name")
}

fn issuing_name(coordinator: CoordinatorName) -> IssuingName {
    IssuingName { coordinator, id: Ulid::generate().to_string() }
}

/// An issuing authority and its key, PEM.
fn new_issuing(
    coordinator: CoordinatorName,
    root: &Issuer<'static, KeyPair>,
    now: Timestamp,
) -> Result<(String, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let issuing = certificates::issuing(&issuing_name(coordinator), now)?.signed_by(&key, root)?;
    Ok((issuing.pem(), key.serialize_pem()))
}

fn requested(request: &str) -> Result<CertificateSigningRequestParams, AuthorityError> {
    CertificateSigningRequestParams::from_pem(request).map_err(AuthorityError::Request)
}

fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
    if directory.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(directory).map_err(AuthorityError::Directory)
}

fn read_file(directory: &Path, file: &str) -> Result<Option<String>, AuthorityError> {
    Ok(private_files::read(&directory.join(file))?)
}

#[cfg(test)]
mod tests;
