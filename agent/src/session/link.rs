//! The stream to a coordinator, which is dialled again whenever it is lost.
//!
//! What must stay true: the queue of unsent messages is bounded. A lost stream loses its queue, because everything that
//! matters is in the journal and is sent again over the next stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use lockstep_proto::dial::{self, Credential, DialError};
use lockstep_proto::limits::{MESSAGE_BYTES_MAX, message_bytes};
use lockstep_proto::wire;
use lockstep_proto::wire::session_client::SessionClient;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::error;

/// The shortest and the longest wait before a coordinator is dialled again.
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A stream that lasted this long resets the backoff.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// How long a coordinator may take to accept the stream.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// The number of messages that the transport may hold.
const SENDING_MAX: usize = 16;

/// The number of unsent messages above which steps and host tasks have to wait.
const PENDING_MAX: usize = 64;

/// Which coordinators are dialled, and the identity of this process.
pub struct DialSettings {
    /// Dialled in turn. A change of the list takes effect with the next dial.
    pub coordinators: watch::Receiver<Vec<String>>,
    /// The certificate may be renewed between two dials.
    pub credential: watch::Receiver<Credential>,
    /// The address at which other hosts reach this one.
    pub address: String,
    /// Identifies this process.
    pub instance: String,
}

/// An event of the stream.
pub(super) enum LinkEvent {
    Up,
    Received(wire::ToAgent),
    /// Why there is no stream, and the wait until the next dial.
    Down {
        why: anyhow::Error,
        again_in: Duration,
    },
}

pub(super) struct Link {
    dialling: DialSettings,
    state: State,
    /// The number of dials since the last good stream.
    failures: u32,
    /// The coordinator that is dialled next. It advances after each stream or dial that has ended.
    turn: usize,
}

enum State {
    Waiting(Instant),
    Dialling(Pin<Box<dyn Future<Output = anyhow::Result<Stream>> + Send>>),
    Up(Box<Stream>),
}

struct Stream {
    /// The certificate chain with which it was dialled.
    certificate: String,
    incoming: Streaming<wire::ToAgent>,
    outgoing: mpsc::Sender<wire::FromAgent>,
    pending: VecDeque<wire::FromAgent>,
    since: Instant,
}

impl Link {
    pub(super) fn new(dialling: DialSettings) -> Self {
        Self { dialling, state: State::Waiting(Instant::now()), failures: 0, turn: 0 }
    }

    /// Waits for the next event. May be dropped at any moment and called again.
    pub(super) async fn next(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    let dialled = self.dial();
                    self.state = State::Dialling(Box::pin(dialled));
                }
                State::Dialling(stream) => match stream.as_mut().await {
                    Ok(stream) => {
                        self.state = State::Up(Box::new(stream));
                        return LinkEvent::Up;
                    }
                    Err(why) => return self.down(why),
                },
                State::Up(stream) => match stream.next().await {
                    Ok(message) => return LinkEvent::Received(message),
                    Err(why) => {
                        if stream.since.elapsed() >= GOOD_AFTER {
                            self.failures = 0;
                        }
                        return self.down(why);
                    }
                },
            }
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Queues `message`. Without a stream it is dropped.
    pub(super) fn send(&mut self, message: wire::FromAgent) {
        let bytes = message_bytes(&message);
        if bytes > MESSAGE_BYTES_MAX {
            // A coordinator would end the session, and so would the next one when it is sent again.
            error!(bytes, "bug: a message is too large to be sent; it is dropped");
            return;
        }
        match &mut self.state {
            State::Up(stream) => stream.pending.push_back(message),
            State::Waiting(_) | State::Dialling(_) => {}
        }
    }

    /// Whether the queue has room for more messages.
    pub(super) fn has_room(&self) -> bool {
        match &self.state {
            State::Up(stream) => stream.pending.len() < PENDING_MAX,
            State::Waiting(_) | State::Dialling(_) => true,
        }
    }

    /// Whether the queue is empty and the transport has sent everything.
    pub(super) fn is_drained(&self) -> bool {
        match &self.state {
            State::Up(stream) => {
                stream.pending.is_empty() && stream.outgoing.capacity() == stream.outgoing.max_capacity()
            }
            State::Waiting(_) | State::Dialling(_) => false,
        }
    }

    /// Drops the stream, as if it had been lost.
    pub(super) fn hang_up(&mut self, why: anyhow::Error) -> LinkEvent {
        self.down(why)
    }

    /// Whether this host has a certificate that the first of `roots` signed, and the stream was dialled with another
    /// one.
    pub(super) fn has_newer_certificate(&self, roots: &str) -> bool {
        match &self.state {
            State::Up(stream) => {
                let current = &self.dialling.credential.borrow().certificate;
                *current != stream.certificate
                    && !dial::is_of_first(&stream.certificate, roots)
                    && dial::is_of_first(current, roots)
            }
            State::Waiting(_) | State::Dialling(_) => false,
        }
    }

    /// Drops the stream and dials the same coordinator again at once.
    pub(super) fn redial(&mut self) {
        self.state = State::Waiting(Instant::now());
    }

    fn down(&mut self, why: anyhow::Error) -> LinkEvent {
        let again_in = backoff(self.failures, random_byte());
        self.failures = self.failures.saturating_add(1);
        self.turn = self.turn.wrapping_add(1);
        self.state = State::Waiting(Instant::now() + again_in);
        LinkEvent::Down { why, again_in }
    }

    fn dial(&self) -> impl Future<Output = anyhow::Result<Stream>> + Send + use<> {
        let DialSettings { coordinators, credential, address, instance } = &self.dialling;
        let coordinator = {
            let known = coordinators.borrow();
            known.get(self.turn % known.len().max(1)).cloned()
        };
        let credential = credential.borrow().clone();
        let hello = wire::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: address.clone(),
            clock_ms: crate::host::clock::now().0,
            instance: instance.clone(),
        };
        async move {
            let coordinator =
                coordinator.ok_or_else(|| anyhow::anyhow!("no address of a coordinator is known"))?;
            tokio::time::timeout(ATTACH_LIMIT, attach(coordinator, credential, hello))
                .await
                .map_err(|_| anyhow::anyhow!("the coordinator did not answer within {ATTACH_LIMIT:?}"))?
        }
    }
}

impl Stream {
    /// The next message. Sends the queue in the meantime.
    async fn next(&mut self) -> anyhow::Result<wire::ToAgent> {
        loop {
            tokio::select! {
                message = self.incoming.message() => {
                    return message
                        .map_err(|status| anyhow::anyhow!("the session failed: {}", status.message()))?
                        .ok_or_else(|| anyhow::anyhow!("the coordinator closed the session"));
                }
                permit = self.outgoing.reserve(), if !self.pending.is_empty() => {
                    let permit = permit.map_err(|_| anyhow::anyhow!("the connection was closed"))?;
                    if let Some(message) = self.pending.pop_front() {
                        permit.send(message);
                    }
                }
            }
        }
    }
}

async fn attach(coordinator: String, credential: Credential, hello: wire::Hello) -> anyhow::Result<Stream> {
    let channel = dial::connect(&coordinator, &credential).await.map_err(refused)?;
    let (outgoing, sending) = mpsc::channel(SENDING_MAX);
    outgoing.send(super::message::envelope(wire::from_agent::Message::Hello(hello))).await?;
    let incoming = SessionClient::new(channel)
        .attach(ReceiverStream::new(sending))
        .await
        .map_err(|status| anyhow::anyhow!("the coordinator refused this host: {}", status.message()))?;
    let incoming = incoming.into_inner();
    let certificate = credential.certificate;
    Ok(Stream { certificate, incoming, outgoing, pending: VecDeque::new(), since: Instant::now() })
}

/// The error of a failed dial, with the next command if only root on this host can fix it.
fn refused(error: DialError) -> anyhow::Error {
    match error {
        DialError::OtherAuthority { .. } => anyhow::anyhow!(
            "{error}; if the cluster retired its root while this host was offline, join again in an empty directory \
             with the command that `lockstep host token` prints"
        ),
        DialError::Unreachable { .. }
        | DialError::CertificateTime { .. }
        | DialError::CertificateRefused { .. }
        | DialError::Tls { .. }
        | DialError::Credential { .. }
        | DialError::Token(_)
        | DialError::Refused { .. } => error.into(),
    }
}

/// The wait after `failures`: doubled each time, and spread by `random` over its upper half, so that a thousand agents
/// do not reconnect at once.
fn backoff(failures: u32, random: u8) -> Duration {
    let whole = WAIT_MIN.saturating_mul(1 << failures.min(10)).min(WAIT_MAX);
    whole / 2 + whole / 2 * u32::from(random) / 255
}

/// A random name that distinguishes this process from another with the same identity.
///
/// # Errors
/// When the system provides no random numbers.
pub fn instance() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

fn random_byte() -> u8 {
    // Without a source of chance the waits are merely equal.
    getrandom::u32().map_or(u8::MAX, |number| number.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        assert_eq!(backoff(0, 255), WAIT_MIN);
        assert_eq!(backoff(0, 0), WAIT_MIN / 2);
        assert_eq!(backoff(3, 255), WAIT_MIN * 8);
        assert_eq!(backoff(u32::MAX, 255), WAIT_MAX);
        assert_eq!(backoff(u32::MAX, 0), WAIT_MAX / 2);
    }
}
