//! One look at a health endpoint: a request, its answer or why there is none.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use lockstep_core::health::{Answer, Probe};
use lockstep_core::time::Millis;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

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
    pub limit: Duration,
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

async fn request(ask: &Ask<'_>) -> Result<(u16, HeaderMap, Bytes), String> {
    let words = |error: &dyn std::error::Error| crate::telemetry::chain(error);
    let tcp = TcpStream::connect((ask.address, ask.port)).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|error| words(&error))?;
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
