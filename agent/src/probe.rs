//! One probe of an HTTP endpoint: a request, and its answer or why there is none.
//!
//! Over TLS the certificate is not verified: only nginx on this machine is probed that way, over loopback, and a secret
//! shows which endpoint answered. A probe does not check whether browsers trust the certificate.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use lockstep_core::health::{Answer, Probe, declared_health};
use lockstep_core::run::limits::{BODY_BYTES_SHOWN, DECLARED_BYTES_MAX};
use lockstep_core::secret::redact::PIECE_BYTES_MAX;
use lockstep_core::shortened::mark;
use lockstep_core::time::Millis;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::host::clock;

/// The maximum size of a body that is read.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// More cookies than browsers take of one site.
const HEADERS_MAX: usize = 1000;

/// How much of a body is kept until it is redacted: a secret may be where it is cut.
const BODY_BYTES_KEPT: usize = BODY_BYTES_SHOWN + PIECE_BYTES_MAX;

/// The target and the parameters of a probe.
#[derive(Debug, Clone)]
pub struct ProbeRequest<'a> {
    pub address: &'a str,
    pub port: u16,
    pub host: &'a str,
    pub path: &'a str,
    /// An additional header. nginx reports the endpoint to requests with the right one.
    pub header: Option<(&'a str, &'a str)>,
    pub scheme: Scheme,
    pub reads: Reads,
    pub limit: Duration,
}

/// How much of an answer the probe waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Status and headers: a body may be large or never end.
    Headers,
    /// The body as well.
    Body,
}

/// The protocol of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// With any certificate.
    Https,
}

/// A probe, with parts of the answer that are not stored in it.
pub struct ProbeAnswer {
    pub probe: Probe,
    pub headers: HeaderMap,
    /// The schema version that the application reports.
    pub schema_version: Option<u64>,
}

/// Sends one probe.
pub async fn send_probe(ask: &ProbeRequest<'_>) -> ProbeAnswer {
    let at = clock::now();
    let begun = Instant::now();
    let received = match timeout(ask.limit, request(ask)).await {
        Ok(received) => received,
        Err(_) => Err(format!(
            "no answer within {}",
            Millis(u64::try_from(ask.limit.as_millis()).unwrap_or(u64::MAX))
        )),
    };
    let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    let answered = |answer, headers, schema_version| ProbeAnswer {
        probe: Probe { at, took, answer },
        headers,
        schema_version,
    };
    match received {
        Ok(Received { status, headers, body }) => {
            let (answer, schema_version) = judge_body(status, &body);
            answered(answer, headers, schema_version)
        }
        Err(why) => answered(Answer::Nothing { why }, HeaderMap::new(), None),
    }
}

/// The answer for a status and a body, and the schema version that the body declares.
fn judge_body(status: u16, body: &Body) -> (Answer, Option<u64>) {
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::Begin(bytes) if bytes.trim_ascii_start().starts_with(b"{") => {
            let why = format!(
                "{status} with JSON of more than {} KiB, which is too large to read",
                BODY_BYTES_MAX / 1024
            );
            return (Answer::Nothing { why }, None);
        }
        Body::Begin(bytes) => bytes,
    };
    let json: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json.get(name).cloned());
    let declared = match &json {
        Some(serde_json::Value::String(text)) => declared_in_words(text),
        Some(_) => field("status").and_then(|value| value.as_str().map(declared_status)),
        None => std::str::from_utf8(bytes).ok().and_then(declared_in_words),
    };
    let schema_version = field("schema_version").and_then(|value| value.as_u64());
    let (kept, more) = bytes.split_at(bytes.len().min(BODY_BYTES_KEPT));
    let mut body = String::from_utf8_lossy(kept).trim_end().to_owned();
    if !more.is_empty() {
        body.push_str(&mark(more.len() as u64));
    }
    (Answer::Http { status, declared, body }, schema_version)
}

/// A body that is nothing but a known word declares what JSON with that status does. Any other text declares nothing.
fn declared_in_words(body: &str) -> Option<String> {
    let word = body.trim().to_lowercase();
    declared_health(&word).map(|_| word)
}

/// A status is a word. What is too long for one may have anything in it, and is not kept. Another than the known ones
/// keeps its letters: a redactor does not find a secret in others.
fn declared_status(text: &str) -> String {
    let word = text.to_lowercase();
    match text.len() {
        0..=DECLARED_BYTES_MAX if declared_health(&word).is_some() => word,
        0..=DECLARED_BYTES_MAX => text.to_owned(),
        length => format!("({length} bytes)"),
    }
}

/// An HTTP response.
struct Received {
    status: u16,
    headers: HeaderMap,
    body: Body,
}

/// The part of a body that was read.
enum Body {
    Whole(Vec<u8>),
    /// The body continues.
    Begin(Vec<u8>),
}

fn describe_error(error: &dyn std::error::Error) -> String {
    crate::program::telemetry::chain(error)
}

async fn request(ask: &ProbeRequest<'_>) -> Result<Received, String> {
    let tcp = TcpStream::connect((ask.address, ask.port)).await.map_err(|error| describe_error(&error))?;
    match ask.scheme {
        Scheme::Http => exchange(ask, tcp).await,
        Scheme::Https => {
            let name = ServerName::try_from(ask.host.to_owned()).map_err(|error| describe_error(&error))?;
            let tls = unverified().connect(name, tcp).await.map_err(|error| describe_error(&error))?;
            exchange(ask, tls).await
        }
    }
}

async fn exchange<Stream>(ask: &ProbeRequest<'_>, stream: Stream) -> Result<Received, String>
where
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| describe_error(&error))?;
    let mut request = Request::get(ask.path).header(HOST, ask.host);
    if let Some((name, value)) = ask.header {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| describe_error(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| describe_error(&error))?;
        let (parts, body) = response.into_parts();
        let body = match ask.reads {
            Reads::Headers => Body::Begin(Vec::new()),
            Reads::Body => read(body).await.map_err(|error| describe_error(&error))?,
        };
        Ok(Received { status: parts.status.as_u16(), headers: parts.headers, body })
    };
    tokio::pin!(exchange);
    tokio::select! {
        received = &mut exchange => received,
        // A server may close as soon as it has answered: the answer is there all the same, whole or not. The connection
        // is dropped before this arm runs, so that the exchange waits for nothing that does not come.
        ended = connection => match (exchange.await, ended) {
            (Ok(received), _) => Ok(received),
            (Err(_), Err(error)) => Err(describe_error(&error)),
            (Err(why), Ok(())) => Err(why),
        },
    }
}

async fn read(mut body: Incoming) -> Result<Body, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            bytes.extend_from_slice(&data[..BODY_BYTES_MAX - bytes.len()]);
            return Ok(Body::Begin(bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Body::Whole(bytes))
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

/// Accepts any certificate.
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

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::health::Health;
    use lockstep_core::secret::Secret;
    use lockstep_core::secret::redact::Redactor;
    use lockstep_core::time::Timestamp;
    use std::collections::{BTreeMap, BTreeSet};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A pipe for so many bytes at a time cuts everything into pieces.
    #[tokio::test]
    async fn an_answer_may_come_byte_by_byte() {
        let (ours, mut servers) = tokio::io::duplex(1);
        let server = tokio::spawn(async move {
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(servers.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 16\r\n\r\n{\"status\": \"up\"}";
            servers.write_all(answer).await.unwrap();
        });
        let ask = ProbeRequest {
            address: "127.0.0.1",
            port: 80,
            host: "127.0.0.1",
            path: "/",
            header: None,
            scheme: Scheme::Http,
            reads: Reads::Body,
            limit: Duration::from_secs(10),
        };
        let received = exchange(&ask, ours).await.unwrap();
        server.await.unwrap();
        let (answer, _) = judge_body(received.status, &received.body);
        let body = "{\"status\": \"up\"}".to_owned();
        assert_eq!(answer, Answer::Http { status: 200, declared: Some("up".to_owned()), body });
    }

    #[test]
    fn no_part_of_a_secret_is_shown_where_a_body_is_cut() {
        let secret = "s3cr3t-".repeat(20);
        let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new(secret.clone()))]);
        let redactor = Redactor::new(&variables, &BTreeSet::new());
        for begin in (0..BODY_BYTES_KEPT + 10).step_by(7) {
            let body = format!("{}{secret}{}", "x".repeat(begin), "y".repeat(1000));
            let (answer, _) = judge_body(500, &Body::Whole(body.into_bytes()));
            let probe = Probe { at: Timestamp(0), took: Millis(0), answer }.redacted(&redactor);
            let Answer::Http { body: shown, .. } = probe.answer else { panic!("an answer") };
            assert!(!shown.contains("s3cr"), "{begin}: {shown}");
            assert!(shown.len() <= BODY_BYTES_SHOWN, "{begin}: {shown}");
            assert!(begin < 10 || shown.starts_with('x'), "{begin}: {shown}");
        }
    }

    /// A redactor does not find it in other letters.
    #[test]
    fn a_secret_in_the_place_of_a_status_is_not_shown_in_small_letters() {
        let secret = "Correct-Horse-Battery";
        let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new(secret.to_owned()))]);
        let redactor = Redactor::new(&variables, &BTreeSet::new());
        let body = format!("{{\"status\": \"{secret}\"}}").into_bytes();
        let (answer, _) = judge_body(200, &Body::Whole(body));
        let probe = Probe { at: Timestamp(0), took: Millis(0), answer }.redacted(&redactor);
        assert_eq!(probe.health(), Health::Unhealthy);
        let shown = probe.to_string().to_lowercase();
        assert!(!shown.contains("horse"), "{shown}");
    }

    #[test]
    fn a_word_declares_what_json_with_that_status_does() {
        let health = |body: &str| {
            let (answer, _) = judge_body(200, &Body::Whole(body.as_bytes().to_vec()));
            Probe { at: Timestamp(0), took: Millis(0), answer }.health()
        };
        for unhealthy in [
            "unhealthy",
            "Unhealthy\n",
            " DOWN ",
            "\"unhealthy\"",
            "{\"status\": \"error\"}",
            "{\"status\": \"on fire\"}",
        ] {
            assert_eq!(health(unhealthy), Health::Unhealthy, "{unhealthy}");
        }
        assert_eq!(health("Degraded"), Health::Degraded);
        for healthy in ["Healthy", "ok", "", "hello", "<h1>error</h1>", "not down", "{\"error\": null}", "42"]
        {
            assert_eq!(health(healthy), Health::Healthy, "{healthy}");
        }
    }

    #[test]
    fn a_status_that_is_no_word_is_not_kept() {
        let status = |text: &str| {
            let body = serde_json::to_vec(&serde_json::json!({ "status": text })).unwrap();
            match judge_body(200, &Body::Whole(body)).0 {
                Answer::Http { declared, .. } => declared,
                Answer::Nothing { why } => panic!("{why}"),
            }
        };
        assert_eq!(status("UP").as_deref(), Some("up"));
        assert_eq!(status(&"x".repeat(500_000)).as_deref(), Some("(500000 bytes)"));
    }
}
