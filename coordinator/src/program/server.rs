//! The TLS server: TLS 1.3, with or without a client certificate of our authority.
//!
//! A caller without a certificate completes the handshake, because a joining host has none. The gate decides what it
//! may call. What must stay true: a handshake has a time limit, so half-open connections do not pile up. No session is
//! resumed. The certificate of the server and the trusted roots are replaced between two connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use lockstep_core::time::{Millis, Timestamp};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::identity::authority::{Authority, AuthorityError, ServerIdentity};
use crate::ports::clock::Clock;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Handshakes at a time; more wait in the system's queue.
const HANDSHAKES_MAX: usize = 256;

/// How often it is asked whether the server's certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// A certificate is renewed when less than this is left.
const RENEW_BEFORE: Millis = Millis::from_secs(16 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot make the certificate of the server")]
    Authority(#[from] AuthorityError),
    #[error("cannot use the certificate of the server")]
    Tls(#[from] rustls::Error),
    #[error("cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What the server speaks: whom it trusts and what it shows change while it serves.
pub type CurrentTls = ArcSwap<ServerConfig>;

/// What the server speaks from here on, and until when its certificate is good.
///
/// # Errors
/// When its certificate cannot be made.
pub fn tls(authority: &Authority, clock: &dyn Clock) -> Result<(ServerConfig, Timestamp), ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority.trusted()? {
        roots.add(root)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let ServerIdentity { chain, key, expires } = authority.server_identity(clock.now())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, expires))
}

/// Renews the server's certificate at a third of its life, and whenever the authority changes, for ever.
pub async fn keep_current(speaking: Arc<CurrentTls>, authority: Arc<Authority>, clock: Arc<dyn Clock>) {
    let mut changes = authority.changes();
    let mut expires = clock.now();
    loop {
        match tls(&authority, &*clock) {
            Ok((fresh, until)) => {
                speaking.store(Arc::new(fresh));
                expires = until;
                info!(until = %expires, "renewed the certificate of the server");
            }
            Err(error) => warn!(%error, "cannot renew the certificate of the server yet"),
        }
        loop {
            tokio::select! {
                () = changes.changed() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if expires.since(clock.now()) < RENEW_BEFORE {
                break;
            }
        }
    }
}

/// Connections whose handshake is done.
pub fn accept(
    listener: TcpListener,
    speaking: Arc<CurrentTls>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (ready, accepted) = mpsc::channel(16);
    let handshakes = TaskTracker::new();
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
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (acceptor, ready) = (TlsAcceptor::from(speaking.load_full()), ready.clone());
            handshakes.spawn(async move {
                let handshake = async {
                    tcp.set_nodelay(true)?;
                    acceptor.accept(tcp).await
                };
                match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                    Ok(Ok(stream)) => {
                        if ready.send(Ok(stream)).await.is_err() {
                            debug!(%peer, "dropped a connection: the server is stopping");
                        }
                    }
                    Ok(Err(error)) => debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => debug!(%peer, "a TLS handshake took too long"),
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(accepted)
}
