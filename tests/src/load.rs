//! A paced load: keep-alive connections that send requests at a steady rate
//! and write down every one that was not answered well.
//!
//! What must stay true, so that "0 failed" means something:
//! - Nothing is sent twice. A request that was refused, reset, late or answered
//!   with anything but 2xx is a failure.
//! - Only a connection that its server has closed *before* the next request
//!   was given to it is replaced without a failure: after `Connection: close`,
//!   or after an end of stream while it was idle.
//! - A stop lets what is in flight end, so each request has an outcome.
//!
//! Each connection waits for its answer, so a server that stands still gets
//! fewer requests than the rate, not a queue of them. Latency is counted from
//! the moment of sending.

mod tally;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::load::tally::Tally;
pub use crate::load::tally::{Counts, Failure, FailureKind, Latency, Report};

const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How much of what was missed is made up for; the rest is not sent at all.
const CATCH_UP: Duration = Duration::from_millis(50);
/// Without a rate, a server that is away would be asked in a tight loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);
const VERSION_HEADER: &str = "x-version";

#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    pub host_header: String,
    pub connections: usize,
    /// Over all connections; as fast as they are answered where it is not set.
    pub rate_per_second: Option<u32>,
    pub read_path: String,
    pub write_path: String,
    /// Each so many requests one is a POST; 0 for none.
    pub write_every: u64,
}

impl Settings {
    /// Connections that read `/` as fast as they are answered.
    pub fn as_fast_as_answered(address: SocketAddr, connections: usize) -> Settings {
        Settings {
            address,
            host_header: address.to_string(),
            connections,
            rate_per_second: None,
            read_path: "/".to_owned(),
            write_path: "/notes".to_owned(),
            write_every: 0,
        }
    }

    /// 32 connections that read `/`, and post to `/notes` one time in twenty.
    pub fn notes(address: SocketAddr, rate_per_second: u32) -> Settings {
        Settings {
            address,
            host_header: address.to_string(),
            connections: 32,
            rate_per_second: Some(rate_per_second),
            read_path: "/".to_owned(),
            write_path: "/notes".to_owned(),
            write_every: 20,
        }
    }
}

/// A load that runs until it is stopped or dropped, on a thread of its own, so
/// that whatever the test does cannot hold it up.
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Load {
    #[expect(clippy::let_underscore_must_use, reason = "nobody waits for the end of a load that was dropped")]
    pub fn start(settings: Settings) -> io::Result<Load> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let shared = Arc::new(Shared::new(settings));
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("load".to_owned()).spawn(move || {
            runtime.block_on(run(of_thread, stopped));
            let _ = end.send(());
        })?;
        Ok(Load { shared, stop, ended })
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.tally().counts()
    }

    /// As [`Load::stop`], for a caller that is not async.
    ///
    /// # Errors
    /// If no runtime can be started.
    pub fn stop_and_wait(self) -> std::io::Result<Report> {
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.stop()))
    }

    /// Ends it when every request has its outcome.
    pub async fn stop(self) -> Report {
        self.stop.send_replace(true);
        self.ended.await.expect("the thread of a load ends by sending, or by a bug");
        self.shared.tally().report()
    }
}

struct Shared {
    settings: Settings,
    // Written by the load's thread and read by the test's, a few ns at a time;
    // a channel would have to carry each of some thousand requests a second.
    tally: Mutex<Tally>,
    pace: Mutex<Pace>,
}

impl Shared {
    fn new(settings: Settings) -> Shared {
        let interval = settings.rate_per_second.map(|rate| Duration::from_secs(1) / rate.max(1));
        Shared {
            settings,
            tally: Mutex::new(Tally::new()),
            pace: Mutex::new(Pace { interval, next: Instant::now() }),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_turn(&self) -> Option<Instant> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.next_turn(Instant::now())
    }
}

struct Pace {
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// When the caller may send; nothing where there is no rate.
    fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let oldest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let turn = self.next.max(oldest);
        self.next = turn + interval;
        Some(turn)
    }
}

async fn run(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    for _ in 0..shared.settings.connections {
        connections.spawn(keep_sending(Arc::clone(&shared), stop.clone()));
    }
    connections.join_all().await;
}

async fn keep_sending(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connection = None;
    let mut pause_until = None;
    loop {
        let turn = shared.next_turn().or(pause_until.take());
        if !comes_before_stop(turn, &mut stop).await {
            return;
        }
        let number = shared.tally().begin();
        let begun = Instant::now();
        let outcome = match timeout(REQUEST_LIMIT, ask(&shared.settings, number, connection.take())).await {
            Ok(Ok(answer)) => {
                connection = answer.connection;
                shared.tally().answered(begun.elapsed(), &answer.version, answer.replaced);
                answer.failure
            }
            Ok(Err(lost)) => Some(lost),
            Err(_) => Some(Lost::new(
                FailureKind::TimedOut,
                format!("no answer within {} s", REQUEST_LIMIT.as_secs()),
            )),
        };
        if let Some(lost) = outcome {
            shared.tally().failed(lost.kind, lost.detail);
            pause_until = Some(Instant::now() + PAUSE_AFTER_FAILURE);
        }
    }
}

/// False when the load is to end; a load that was dropped ends as well.
async fn comes_before_stop(turn: Option<Instant>, stop: &mut watch::Receiver<bool>) -> bool {
    let Some(turn) = turn else {
        return !*stop.borrow() && stop.has_changed().is_ok();
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => false,
        () = sleep_until(turn) => true,
    }
}

/// A connection, and the task that moves its bytes: it ends with it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

struct Answer {
    connection: Option<Connection>,
    version: String,
    replaced: Replaced,
    failure: Option<Lost>,
}

/// Whether an idle connection turned out to be closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Yes,
    No,
}

struct Lost {
    kind: FailureKind,
    detail: String,
}

impl Lost {
    fn new(kind: FailureKind, detail: String) -> Lost {
        Lost { kind, detail }
    }
}

async fn ask(settings: &Settings, number: u64, connection: Option<Connection>) -> Result<Answer, Lost> {
    let (mut connection, replaced) = match connection {
        None => (connect(settings.address).await?, Replaced::No),
        Some(mut connection) => match connection.sender.ready().await {
            Ok(()) => (connection, Replaced::No),
            Err(_) => (connect(settings.address).await?, Replaced::Yes),
        },
    };
    let request = request(settings, number);
    let what = format!("{} {}", request.method(), request.uri());
    let lost = |error: hyper::Error| Lost::new(FailureKind::Reset, format!("{what}: {}", whole(&error)));
    let response = connection.sender.send_request(request).await.map_err(lost)?;
    let version = header(&response, VERSION_HEADER).unwrap_or("none").to_owned();
    let closes =
        header(&response, CONNECTION.as_str()).is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let status = response.status();
    let body = response.into_body().collect().await.map_err(lost)?;
    let failure = (!status.is_success()).then(|| {
        let body = body.to_bytes();
        let begin = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        Lost::new(FailureKind::Status, format!("{what}: {status}: {begin}"))
    });
    Ok(Answer { connection: (!closes).then_some(connection), version, replaced, failure })
}

#[expect(
    clippy::let_underscore_must_use,
    reason = "what goes wrong with a connection is answered to its request as well"
)]
async fn connect(address: SocketAddr) -> Result<Connection, Lost> {
    let refused =
        |error: io::Error| Lost::new(FailureKind::Refused, format!("connecting to {address}: {error}"));
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Lost::new(FailureKind::Reset, whole(&error)))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: driver })
}

fn request(settings: &Settings, number: u64) -> Request<Full<Bytes>> {
    let is_write = settings.write_every > 0 && number.is_multiple_of(settings.write_every);
    let (method, path, body) = if is_write {
        (Method::POST, &settings.write_path, Bytes::from(format!("note {number}")))
    } else {
        (Method::GET, &settings.read_path, Bytes::new())
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, &settings.host_header)
        .header(CONTENT_TYPE, "text/plain")
        .body(Full::new(body))
        .expect("paths and the host of a load are written by hand in its test")
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn whole(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
