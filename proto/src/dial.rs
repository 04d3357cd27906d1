//! How a client connects to a coordinator: TLS 1.3, with both ends authenticated.
//!
//! Agents and operators connect in the same way, so the code is here, beside the contract. What must stay true: a
//! secret is sent only to a server whose authority is known, by the certificate of the authority or, when joining, by
//! the pin in the token. A key is made where it is used and never leaves. No session is resumed, because a resumed
//! session skips the certificate.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper_util::rt::TokioIo;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::secret::Secret;
use lockstep_core::secret::join_token::{InvalidToken, JoinToken};
use lockstep_core::stored::decode;
use lockstep_core::time::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::wire;
use crate::wire::enroll_client::EnrollClient;

mod pin;
mod roots;

pub use pin::pin_of;
pub use roots::{is_current, is_of_first};

/// The name that every coordinator's certificate has, whatever its address.
pub const COORDINATOR_NAME: &str = "coordinator.lockstep";

/// The largest answer that an operator takes from a coordinator: a plan has some 3 KiB for each of its hosts.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// What a client proves itself with, and whom it trusts. PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub key: String,
    pub certificate: String,
    /// One root, or both while one takes the other's place; the one that signs comes first.
    pub authority: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// What joining gives.
#[derive(Clone)]
pub struct Joined {
    pub credential: Credential,
    pub cluster: String,
    /// The host's id, or the operator's name.
    pub identity: String,
    /// What the record calls the host; empty for an operator.
    pub name: String,
    /// `host:port` of every coordinator of the cluster.
    pub coordinators: Vec<String>,
    /// For a coordinator: the key to the secrets. Empty for others.
    pub secrets_key: Secret,
    /// What a host is for: app, lb, db.
    pub roles: Vec<String>,
}

/// Why there is no connection, or no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    #[error("no coordinator answers at {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("the certificate at {address} is signed by an unknown authority")]
    OtherAuthority { address: String },
    /// Either its certificate is an old one, or the clocks are apart.
    #[error("the certificate at {address} is valid {good}, but the clock of this machine says {now}")]
    CertificateTime { address: String, good: String, now: Timestamp },
    /// Told by the coordinator, after it has seen the certificate.
    #[error("the coordinator at {address} refused this certificate: {why}")]
    CertificateRefused { address: String, why: String },
    #[error("cannot open a TLS connection to {address}: {why}")]
    Tls { address: String, why: String },
    #[error("cannot use the credential: {why}")]
    Credential { why: String },
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error("the coordinator refused: {why}")]
    Refused {
        why: String,
        /// What the coordinator says that helps; `None` if it says nothing.
        next: Option<String>,
    },
}

/// Connects to the coordinator at `address` (`host:port`) as whom `credential` names.
///
/// # Errors
/// When it does not answer, is not the one that is trusted, refuses the certificate, or the credential is damaged.
pub async fn connect(address: &str, credential: &Credential) -> Result<Channel, DialError> {
    let unusable = |why: String| DialError::Credential { why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credential.authority.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let chain = CertificateDer::pem_slice_iter(credential.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    let config = client_config()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(error.to_string()))?;
    channel(address, config).await
}

/// Joins with a one-time token: makes a key, proves it, and gets a certificate.
/// `name` is the host's label; an operator's name stands with the token.
///
/// # Errors
/// When the token is damaged, or the coordinator is not the one of the token, or refuses it.
pub async fn join(address: &str, token: &str, name: &str, host_address: &str) -> Result<Joined, DialError> {
    let token: JoinToken = token.parse()?;
    let key = KeyPair::generate().map_err(|error| DialError::Credential { why: error.to_string() })?;
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(pin::PinVerifier::new(&token.pin));
    let config = client_config().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let channel = channel(address, config).await?;
    let request = wire::JoinRequest {
        token_id: token.id.clone(),
        token_secret: token.secret.expose().to_owned(),
        certificate_request: certificate_request(&key)?,
        name: name.to_owned(),
        address: host_address.to_owned(),
        clock_ms: clock_ms(),
    };
    let reply = EnrollClient::new(channel).join(request).await.map_err(|status| refused(&status))?;
    let wire::JoinReply { certificate, authority, cluster, identity, name, coordinators, secrets_key, roles } =
        reply.into_inner();
    if !CertificateDer::pem_slice_iter(authority.as_bytes())
        .flatten()
        .any(|root| pin_of(&root).is_some_and(|pin| pin == token.pin))
    {
        return Err(DialError::OtherAuthority { address: address.to_owned() });
    }
    let credential = Credential { key: key.serialize_pem(), certificate, authority };
    let secrets_key = Secret::new(secrets_key);
    Ok(Joined { credential, cluster, identity, name, coordinators, secrets_key, roles })
}

/// A new certificate for the same identity and the same key.
///
/// # Errors
/// As [`connect`], and when the coordinator refuses.
pub async fn renew(address: &str, credential: &Credential) -> Result<Credential, DialError> {
    let key = KeyPair::from_pem(&credential.key)
        .map_err(|error| DialError::Credential { why: error.to_string() })?;
    let channel = connect(address, credential).await?;
    let request = wire::RenewRequest { certificate_request: certificate_request(&key)? };
    let reply = EnrollClient::new(channel).renew(request).await.map_err(|status| refused(&status))?;
    let wire::JoinReply { certificate, authority, .. } = reply.into_inner();
    Ok(Credential { key: credential.key.clone(), certificate, authority })
}

fn refused(status: &tonic::Status) -> DialError {
    let next = decode::<Refusal>(status.details()).ok().map(|refusal| refusal.next);
    DialError::Refused { why: status.message().to_owned(), next }
}

/// A request that proves the key; whatever name it has is ignored.
fn certificate_request(key: &KeyPair) -> Result<String, DialError> {
    let unusable = |error: rcgen::Error| DialError::Credential { why: error.to_string() };
    let request = CertificateParams::default().serialize_request(key).map_err(unusable)?;
    request.pem().map_err(unusable)
}

fn client_config() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the cipher suites of TLS 1.3")
}

async fn channel(address: &str, mut config: ClientConfig) -> Result<Channel, DialError> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let target = address.to_owned();
    let dial = service_fn(move |_| {
        let (connector, target) = (connector.clone(), target.clone());
        async move { stream(&connector, &target).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://coordinator.lockstep")
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|error| cause(&error).unwrap_or_else(|| unreachable_because(address, &error)))
}

async fn stream(
    connector: &TlsConnector,
    address: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
    let tcp = TcpStream::connect(address).await.map_err(|error| unreachable_because(address, &error))?;
    // A call is a small message each way: it must not wait for more.
    tcp.set_nodelay(true).map_err(|error| unreachable_because(address, &error))?;
    let name = ServerName::try_from(COORDINATOR_NAME).expect("a constant that is a DNS name");
    let mut tls = connector.connect(name, tcp).await.map_err(|error| secure_error(address, &error))?;
    // With TLS 1.3 a client's handshake ends before the server has looked at its certificate. A server of HTTP/2
    // speaks first: until then nothing is sent, because a refusal is lost where the server closes with something unread.
    match tls.fill_buf().await {
        Ok([]) => Err(DialError::Unreachable {
            address: address.to_owned(),
            why: "it closed the connection".to_owned(),
        }),
        Ok(_) => Ok(tls),
        Err(error) => Err(secure_error(address, &error)),
    }
}

fn unreachable_because(address: &str, error: &dyn Error) -> DialError {
    DialError::Unreachable { address: address.to_owned(), why: error.to_string() }
}

fn secure_error(address: &str, error: &std::io::Error) -> DialError {
    let address = address.to_owned();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let time = |good: String| DialError::CertificateTime {
        address: address.clone(),
        good,
        now: Timestamp(clock_ms()),
    };
    match inner {
        // Authorities may have the same name: then it is the signature that is another's.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::ApplicationVerificationFailure,
        )) => DialError::OtherAuthority { address },
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            time(format!("until {}", moment(*not_after)))
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => time(format!("from {} on", moment(*not_before))),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::NotValidYet,
        )) => time("at another time".to_owned()),
        Some(rustls::Error::AlertReceived(alert)) => {
            DialError::CertificateRefused { address, why: reason(*alert) }
        }
        Some(other) => DialError::Tls { address, why: other.to_string() },
        None => DialError::Tls { address, why: error.to_string() },
    }
}

/// What a server means by an alert about a certificate.
fn reason(alert: AlertDescription) -> String {
    const ANOTHERS: [AlertDescription; 2] = [AlertDescription::UnknownCA, AlertDescription::DecryptError];
    if ANOTHERS.contains(&alert) {
        "it is signed by an authority that the coordinator does not trust".to_owned()
    } else if alert == AlertDescription::CertificateExpired {
        "it is not valid at this time by the coordinator's clock".to_owned()
    } else {
        format!("TLS alert {alert:?}")
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp(time.as_secs().saturating_mul(1000))
}

/// Our own error, from under the transport's.
fn cause(error: &tonic::transport::Error) -> Option<DialError> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(ours) = inner.downcast_ref::<DialError>() {
            return Some(ours.clone());
        }
        source = inner.source();
    }
    None
}

fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
