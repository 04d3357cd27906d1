//! One look at a health endpoint: a request, its answer or why there is none.
//!
//! Over TLS no certificate is verified: only nginx on this machine is asked so, on loopback, and whence its answer
//! came is known by a secret. Whether users' browsers trust it is not what is asked.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use lockstep_core::health::{Answer, Probe};
use lockstep_core::time::Millis;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::clock;

/// What of a body is read at all.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What of a body is kept and shown.
const BODY_SHOWN: usize = 300;

/// Where and how to ask.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub address: &'a str,
    pub port: u16,
    pub host: &'a str,
    pub path: &'a str,
    /// Sent along, if there is one: what makes nginx say whence its answer came.
    pub header: Option<(&'a str, &'a str)>,
    pub scheme: Scheme,
    pub limit: Duration,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// With whatever certificate there is.
    Https,
}

/// An answer with what the probe itself does not keep.
pub struct Answered {
    pub probe: Probe,
    pub headers: HeaderMap,
    /// The schema version that the application says it sees.
    pub schema_version: Option<u64>,
}

/// Asks once.
pub async fn ask(ask: &Ask<'_>) -> Answered {
    let at = clock::now();
    let begun = Instant::now();
    let (answer, headers, schema_version) = match timeout(ask.limit, request(ask)).await {
        Ok(Ok((status, headers, body))) => {
            let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let field = |name: &str| json.as_ref().and_then(|json| json.get(name).cloned());
            let declared = field("status").and_then(|value| value.as_str().map(str::to_lowercase));
            let schema = field("schema_version").and_then(|value| value.as_u64());
            let body: String = String::from_utf8_lossy(&body).chars().take(BODY_SHOWN).collect();
            (Answer::Http { status, declared, body: body.trim().to_owned() }, headers, schema)
        }
        Ok(Err(why)) => (Answer::Nothing { why }, HeaderMap::new(), None),
        Err(_) => {
            let why = format!(
                "no answer within {}",
                Millis(u64::try_from(ask.limit.as_millis()).unwrap_or(u64::MAX))
            );
            (Answer::Nothing { why }, HeaderMap::new(), None)
        }
    };
    let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    Answered { probe: Probe { at, took, answer }, headers, schema_version }
}

fn words(error: &dyn std::error::Error) -> String {
    crate::telemetry::chain(error)
}

async fn request(ask: &Ask<'_>) -> Result<(u16, HeaderMap, Bytes), String> {
    let tcp = TcpStream::connect((ask.address, ask.port)).await.map_err(|error| words(&error))?;
    match ask.scheme {
        Scheme::Http => exchange(ask, tcp).await,
        Scheme::Https => {
            let name = ServerName::try_from(ask.host.to_owned()).map_err(|error| words(&error))?;
            let tls = unverified().connect(name, tcp).await.map_err(|error| words(&error))?;
            exchange(ask, tls).await
        }
    }
}

async fn exchange<Stream>(ask: &Ask<'_>, stream: Stream) -> Result<(u16, HeaderMap, Bytes), String>
where
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    let mut request = Request::get(ask.path).header(HOST, ask.host);
    if let Some((name, value)) = ask.header {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| words(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        let (parts, body) = response.into_parts();
        let limited = http_body_util::Limited::new(body, BODY_BYTES_MAX);
        let body = limited.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((parts.status.as_u16(), parts.headers, body))
    };
    tokio::select! {
        answered = exchange => answered,
        // The connection is driven beside the exchange; alone it ends only by breaking.
        broken = connection => Err(broken.err().map_or_else(|| "the connection was closed".to_owned(), |error| words(&error))),
    }
}

fn unverified() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the versions that rustls offers")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified { schemes }))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Takes what is shown.
#[derive(Debug)]
struct Unverified {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
