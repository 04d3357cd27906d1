//! The listening end: TLS 1.3, certificates of our authority or none, and a gate behind it.
//!
//! A caller without a certificate gets through the handshake, because whoever joins has none; what it
//! may call is the gate's affair. What must stay true: a handshake has a limit, so that half-open
//! connections do not pile up; no session is resumed; the server's certificate is renewed in place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use lockstep_core::time::Millis;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::authority::{Authority, AuthorityError, ServerIdentity};
use crate::clock::Clock;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Handshakes at a time; more wait in the system's queue.
const HANDSHAKES_MAX: usize = 256;

/// How often it is asked whether the server's certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// A certificate is renewed when less than this is left.
const RENEW_BEFORE: Millis = Millis::from_secs(16 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the server's certificate cannot be made")]
    Authority(#[from] AuthorityError),
    #[error("the server's certificate cannot be used")]
    Tls(#[from] rustls::Error),
    #[error("clients cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The server's certificate, which changes while it serves.
#[derive(Debug)]
pub struct ServerCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified(identity: ServerIdentity) -> Result<CertifiedKey, ServerError> {
    let key = rustls::crypto::ring::sign::any_supported_type(&identity.key)?;
    Ok(CertifiedKey::new(identity.chain, key))
}

/// What the server speaks.
///
/// # Errors
/// When its certificate cannot be made.
pub fn tls(
    authority: &Authority,
    clock: &dyn Clock,
) -> Result<(ServerConfig, Arc<ServerCertificate>), ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.root_der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let identity = authority.server_identity(clock.now())?;
    let certificate = Arc::new(ServerCertificate { current: ArcSwap::from_pointee(certified(identity)?) });
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<ServerCertificate>::clone(&certificate);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, certificate))
}

/// Renews the server's certificate at a third of its life, for ever.
pub async fn keep_valid(
    certificate: Arc<ServerCertificate>,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
) {
    let mut expires = clock.now();
    loop {
        if expires.since(clock.now()) < RENEW_BEFORE {
            let made = authority.server_identity(clock.now()).map_err(ServerError::from);
            match made.and_then(|identity| Ok((identity.expires, certified(identity)?))) {
                Ok((until, fresh)) => {
                    certificate.current.store(Arc::new(fresh));
                    expires = until;
                    info!(until = %expires, "the server's certificate is fresh");
                }
                Err(error) => warn!(%error, "the server's certificate cannot be renewed yet"),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Connections whose handshake is done.
pub fn accept(
    listener: TcpListener,
    config: ServerConfig,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (ready, accepted) = mpsc::channel(16);
    let handshakes = TaskTracker::new();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    // Ends when the server drops the stream: nobody receives any more.
    handshakes.clone().spawn(async move {
        while !ready.is_closed() {
            let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the places");
            let tcp = tokio::select! {
                tcp = listener.accept() => tcp,
                () = ready.closed() => return,
            };
            let (tcp, peer) = match tcp {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the peer has gone: the next may do better.
                    warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            handshakes.spawn(async move {
                let handshake = async {
                    tcp.set_nodelay(true)?;
                    acceptor.accept(tcp).await
                };
                match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                    Ok(Ok(stream)) => {
                        if ready.send(Ok(stream)).await.is_err() {
                            debug!(%peer, "the server ends: a connection comes too late");
                        }
                    }
                    Ok(Err(error)) => debug!(%peer, %error, "handshake failed"),
                    Err(_) => debug!(%peer, "handshake took too long"),
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(accepted)
}
