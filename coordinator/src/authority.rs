//! The certificate authority: a root that signs one issuing authority for each coordinator, and the certificates
//! that those give.
//!
//! What must stay true: the root's key stays in the file of the first coordinator and signs nothing but issuing
//! authorities; the key of an issuing authority never leaves its coordinator; names come from here and never from
//! a request, so that nobody can ask to be somebody else; a leaf lives short and is back-dated a little, because
//! clocks differ.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use lockstep_core::name::CoordinatorName;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::dial::{COORDINATOR_NAME, Credential, pin_of};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use ulid::Ulid;

use crate::identity::{self, IssuingName};
use crate::private::{self, PrivateError};

/// How far a certificate is back-dated. A clock that was set as another zone's is some hours off: whoever has one is
/// connected all the same, and told of. A coordinator's certificate is good for at least as long in the other direction.
pub const BACKDATED: Millis = Millis::from_secs(16 * 3600);

/// A coordinator makes its own anew, so that it need not be good for long.
const COORDINATOR_LIFE: Millis = Millis::from_secs(24 * 3600);

/// Agents renew at a third of this, operators in its last third. Who is off for longer joins again: a host over
/// a holiday need not. What was removed or revoked is refused by the record and not by the clock.
const CLIENT_LIFE: Millis = Millis::from_secs(30 * 24 * 3600);

/// As long as the root: a coordinator that is removed is refused by the record and not by the clock.
const ISSUING_LIFE: Millis = ROOT_LIFE;

const ROOT_LIFE: Millis = Millis::from_secs(10 * 365 * 24 * 3600);

const SERIAL_BYTES: usize = 16;

const ROOT_FILE: &str = "root.pem";
const ROOT_KEY_FILE: &str = "root.key";
const ISSUING_FILE: &str = "issuing.pem";
const ISSUING_KEY_FILE: &str = "issuing.key";

/// Its files, and whether every coordinator has them.
pub(crate) const FILES: [(&str, bool); 4] =
    [(ROOT_FILE, true), (ROOT_KEY_FILE, false), (ISSUING_FILE, true), (ISSUING_KEY_FILE, true)];

/// The name of the coordinator that makes a cluster.
const FIRST_COORDINATOR: &str = "coordinator-1";

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the authority's files cannot be used")]
    File(#[from] PrivateError),
    #[error("the authority's directory cannot be made")]
    Directory(#[source] std::io::Error),
    #[error("the authority has a key without a certificate, or a certificate without a key")]
    Half,
    #[error("the authority's certificate names no cluster: it is damaged, or not of Lockstep")]
    Nameless,
    #[error("the request for a certificate is not one: {0}")]
    Request(rcgen::Error),
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("a certificate that was just made cannot be read")]
    Unreadable,
    #[error("{0} gets no certificate")]
    NoSubject(Identity),
    #[error(
        "this coordinator does not have the root's key: join at the one that has (lockstep coordinator list)"
    )]
    NoRootKey,
    #[error("the system gives no random numbers")]
    Chance,
}

/// A certificate as given.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM: the leaf, then the authority that signed it, unless that is the root.
    pub certificate: String,
    /// As [`identity::serial`] reads it.
    pub serial: String,
    pub expires: Timestamp,
}

/// The certificate and key of this coordinator's own server.
pub struct ServerIdentity {
    /// Leaf first, the root last: whoever joins by a pin must see it.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub expires: Timestamp,
}

pub struct Authority {
    cluster: ClusterId,
    root: String,
    root_der: CertificateDer<'static>,
    pin: String,
    /// Where this coordinator has it.
    root_issuer: Option<Issuer<'static, KeyPair>>,
    name: IssuingName,
    issuing: String,
    issuing_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of an authority, in both its forms.
struct Read {
    pem: String,
    der: CertificateDer<'static>,
}

impl Read {
    fn new(pem: String) -> Result<Self, AuthorityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Half)?;
        Ok(Self { pem, der })
    }
}

impl Authority {
    /// Opens the authority in `directory`, or makes a cluster's first when there is none.
    ///
    /// # Errors
    /// When its files are damaged, or can be read by others.
    pub fn open(directory: &Path, cluster: &ClusterId, now: Timestamp) -> Result<Self, AuthorityError> {
        make_directory(directory)?;
        let (root, root_key) = match (of(directory, ROOT_FILE)?, of(directory, ROOT_KEY_FILE)?) {
            (Some(root), Some(key)) => (root, Some(KeyPair::from_pem(&key)?)),
            // The key of a coordinator that has joined is its issuing authority's.
            (Some(root), None) => (root, None),
            // The key is written first: alone it has signed nothing yet.
            (None, Some(_) | None) => {
                let key = KeyPair::generate()?;
                let root = root_parameters(cluster, now)?.self_signed(&key)?.pem();
                private::write(&directory.join(ROOT_KEY_FILE), &key.serialize_pem())?;
                private::write(&directory.join(ROOT_FILE), &root)?;
                (root, Some(key))
            }
        };
        let root = Read::new(root)?;
        let pin = pin_of(&root.der).ok_or(AuthorityError::Half)?;
        let root_issuer = root_key.map(|key| Issuer::from_ca_cert_pem(&root.pem, key)).transpose()?;
        let (issuing, key) = issuing(directory, root_issuer.as_ref(), now)?;
        let name = IssuingName::of_subject(&issuing.der).ok_or(AuthorityError::Nameless)?;
        let issuer = Issuer::from_ca_cert_pem(&issuing.pem, key)?;
        Ok(Self {
            cluster: cluster.clone(),
            root: root.pem,
            root_der: root.der,
            pin,
            root_issuer,
            name,
            issuing: issuing.pem,
            issuing_der: issuing.der,
            issuer,
        })
    }

    /// Puts what joining gave into `directory`, so that [`Self::open`] finds it. The root is written last: before
    /// it, nobody has joined.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn adopt(directory: &Path, credential: &Credential) -> Result<(), AuthorityError> {
        make_directory(directory)?;
        private::write(&directory.join(ISSUING_KEY_FILE), &credential.key)?;
        private::write(&directory.join(ISSUING_FILE), &credential.certificate)?;
        private::write(&directory.join(ROOT_FILE), &credential.authority)?;
        Ok(())
    }

    /// The cluster that the authority in `directory` is of; nothing when there is none.
    ///
    /// # Errors
    /// When its certificate is damaged.
    pub fn cluster_of(directory: &Path) -> Result<Option<ClusterId>, AuthorityError> {
        let Some(root) = of(directory, ROOT_FILE)? else {
            return Ok(None);
        };
        let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|_| AuthorityError::Nameless)?;
        identity::cluster(&root).ok_or(AuthorityError::Nameless).map(Some)
    }

    /// PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root_der
    }

    /// What a token carries.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The coordinator whose authority this is, and which of its authorities.
    pub fn name(&self) -> &IssuingName {
        &self.name
    }

    /// Whether other coordinators can join here.
    pub fn has_root_key(&self) -> bool {
        self.root_issuer.is_some()
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
        let mut request = requested(request)?;
        // Only the key is taken from the request.
        request.params = self.leaf(identity, now, life)?;
        let certificate = request.signed_by(&self.issuer)?;
        let serial = identity::serial(certificate.der()).ok_or(AuthorityError::Unreadable)?;
        Ok(Issued {
            certificate: format!("{}{}", certificate.pem(), self.issuing),
            serial,
            expires: now + life,
        })
    }

    /// An issuing authority for a coordinator that joins as `coordinator`, and the name of it.
    ///
    /// # Errors
    /// When the root's key is elsewhere, or the request does not prove its key.
    pub fn issue_authority(
        &self,
        request: &str,
        coordinator: &CoordinatorName,
        now: Timestamp,
    ) -> Result<(IssuingName, Issued), AuthorityError> {
        let root = self.root_issuer.as_ref().ok_or(AuthorityError::NoRootKey)?;
        let mut request = requested(request)?;
        let name = issuing_name(coordinator.clone());
        request.params = issuing_parameters(&name, now)?;
        let certificate = request.signed_by(root)?;
        let serial = identity::serial(certificate.der()).ok_or(AuthorityError::Unreadable)?;
        Ok((name, Issued { certificate: certificate.pem(), serial, expires: now + ISSUING_LIFE }))
    }

    /// A fresh key and certificate for this coordinator's server.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn server_identity(&self, now: Timestamp) -> Result<ServerIdentity, AuthorityError> {
        let (leaf, key) = self.own(now)?;
        let key_der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| AuthorityError::Half)?;
        Ok(ServerIdentity {
            chain: vec![leaf.der().clone(), self.issuing_der.clone(), self.root_der.clone()],
            key: key_der,
            expires: now + COORDINATOR_LIFE,
        })
    }

    /// What this coordinator shows to the others.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client_credential(&self, now: Timestamp) -> Result<Credential, AuthorityError> {
        let (leaf, key) = self.own(now)?;
        Ok(Credential {
            key: key.serialize_pem(),
            certificate: format!("{}{}", leaf.pem(), self.issuing),
            authority: self.root.clone(),
        })
    }

    fn own(&self, now: Timestamp) -> Result<(rcgen::Certificate, KeyPair), AuthorityError> {
        let key = KeyPair::generate()?;
        let own = Identity::Coordinator(self.name.coordinator.clone());
        let mut parameters = self.leaf(&own, now, COORDINATOR_LIFE)?;
        parameters.subject_alt_names.push(SanType::DnsName(COORDINATOR_NAME.try_into()?));
        Ok((parameters.signed_by(&key, &self.issuer)?, key))
    }

    fn leaf(
        &self,
        identity: &Identity,
        now: Timestamp,
        life: Millis,
    ) -> Result<CertificateParams, AuthorityError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.not_before = moment(Timestamp(now.0.saturating_sub(BACKDATED.0)));
        parameters.not_after = moment(now + life);
        parameters.serial_number = Some(serial()?);
        parameters.subject_alt_names = vec![SanType::URI(uri(&self.cluster, identity).as_str().try_into()?)];
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match identity {
            Identity::Coordinator(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Identity::Agent(_) | Identity::Operator(_) | Identity::Nobody => {
                vec![ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        Ok(parameters)
    }
}

fn root_parameters(cluster: &ClusterId, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, identity::root_name(cluster));
    parameters.not_before = moment(Timestamp(now.0.saturating_sub(BACKDATED.0)));
    parameters.not_after = moment(now + ROOT_LIFE);
    parameters.serial_number = Some(serial()?);
    // An issuing authority, then a leaf.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn issuing_parameters(name: &IssuingName, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name.to_string());
    parameters.not_before = moment(Timestamp(now.0.saturating_sub(BACKDATED.0)));
    parameters.not_after = moment(now + ISSUING_LIFE);
    parameters.serial_number = Some(serial()?);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn first_coordinator() -> CoordinatorName {
    FIRST_COORDINATOR.parse().expect("a constant that is a name")
}

fn issuing_name(coordinator: CoordinatorName) -> IssuingName {
    IssuingName { coordinator, id: Ulid::generate().to_string() }
}

/// The issuing authority in `directory`; the first coordinator's is made when there is none.
fn issuing(
    directory: &Path,
    root: Option<&Issuer<'static, KeyPair>>,
    now: Timestamp,
) -> Result<(Read, KeyPair), AuthorityError> {
    match (of(directory, ISSUING_FILE)?, of(directory, ISSUING_KEY_FILE)?) {
        (Some(pem), Some(key)) => Ok((Read::new(pem)?, KeyPair::from_pem(&key)?)),
        (Some(_), None) => Err(AuthorityError::Half),
        // The key is written first: alone it has signed nothing yet.
        (None, Some(_) | None) => {
            let root = root.ok_or(AuthorityError::Half)?;
            let key = KeyPair::generate()?;
            let pem =
                issuing_parameters(&issuing_name(first_coordinator()), now)?.signed_by(&key, root)?.pem();
            private::write(&directory.join(ISSUING_KEY_FILE), &key.serialize_pem())?;
            private::write(&directory.join(ISSUING_FILE), &pem)?;
            Ok((Read::new(pem)?, key))
        }
    }
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

fn of(directory: &Path, file: &str) -> Result<Option<String>, AuthorityError> {
    Ok(private::read(&directory.join(file))?)
}

/// How a certificate names its owner: <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>.
pub fn uri(cluster: &ClusterId, identity: &Identity) -> String {
    match identity {
        Identity::Nobody => format!("spiffe://{cluster}/nobody"),
        Identity::Agent(host) => format!("spiffe://{cluster}/agent/{host}"),
        Identity::Operator(name) => format!("spiffe://{cluster}/operator/{name}"),
        Identity::Coordinator(id) => format!("spiffe://{cluster}/coordinator/{id}"),
    }
}

fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| AuthorityError::Chance)?;
    // RFC 5280: a serial number is positive. With this bit it is also always as long.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_769_596_200_000);

    fn authority(directory: &Path) -> Authority {
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        Authority::open(directory, &cluster, NOW).unwrap()
    }

    fn names(issued: &Issued) -> (Identity, bool) {
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        (identity::of(&der, &cluster), parsed.is_ca())
    }

    #[test]
    fn an_authority_that_is_opened_again_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authority");
        assert_eq!(authority(&path).pin(), authority(&path).pin());
    }

    #[test]
    fn a_request_that_asks_to_be_somebody_else_gets_only_its_own_name() {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority(&directory.path().join("authority"));
        let host = Identity::Agent("host_01JBQR2KXYZ987654321012345".parse().unwrap());
        let mut hostile = CertificateParams::new(vec!["coordinator.lockstep".to_owned()]).unwrap();
        let admin = uri(authority.cluster(), &Identity::Operator("admin".parse().unwrap()));
        hostile.subject_alt_names.push(SanType::URI(admin.as_str().try_into().unwrap()));
        hostile.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let request = hostile.serialize_request(&key).unwrap().pem().unwrap();
        let issued = authority.issue(&request, &host, NOW).unwrap();
        assert_eq!(names(&issued), (host, false));
        assert!(!issued.certificate.contains("coordinator"));
        assert!(authority.issue("not a request", &Identity::Nobody, NOW).is_err());
    }
}
