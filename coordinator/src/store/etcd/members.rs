//! The members of etcd, with one client each. Calls go to one member until it fails, and then to the next.
//!
//! What must stay true: every call has a time limit. A member is asked for its version, cluster and leader before it
//! gets a call. If the outcome of a call is unknown, only an idempotent call is sent again.

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, TlsOptions};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::failure::{Failure, MemberFailure, MemberFailures, Unanswered};
use super::version::{Judgement, judge};

/// How long a member may take to be connected to and to say how it is.
const GREETING_LIMIT: Duration = Duration::from_millis(1500);

/// Where etcd serves nothing but gRPC on a port, it ends connections on which it is asked for a sign of life more
/// often than every five seconds.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(6);
const SIGN_OF_LIFE_LIMIT: Duration = Duration::from_secs(2);

const NO_LEADER: &str = "it has no leader: most members are offline";

/// Whether a call may be sent again when a member may have done it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    IfUnsent,
    Always,
}

/// A member that is connected.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) endpoint: String,
    at: usize,
    /// Says so when the member failed and its connection is given up.
    pub(super) given_up: CancellationToken,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why a member is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It may be better in a moment.
    Down(MemberFailure),
    /// Somebody has to change something.
    Wrong(Wrong),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) endpoint: String,
    pub(super) what: WhatIsWrong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WhatIsWrong {
    Version { version: String, why: &'static str },
    OtherCluster { known: u64, found: u64 },
}

impl Unusable {
    pub(super) fn failure(self) -> MemberFailure {
        match self {
            Self::Down(failure) => failure,
            Self::Wrong(Wrong { endpoint, what }) => {
                let why = match what {
                    WhatIsWrong::Version { version, why } => format!("it is etcd {version}: {why}"),
                    WhatIsWrong::OtherCluster { known, found } => {
                        format!(
                            "it belongs to the etcd cluster {found:x}, but the others belong to {known:x}"
                        )
                    }
                };
                MemberFailure { endpoint, why }
            }
        }
    }
}

pub(super) struct Members {
    members: Vec<Member>,
    tls: TlsOptions,
    /// Whom calls go to.
    current: AtomicUsize,
    /// etcd's own id for its cluster, of the member that answered first.
    cluster: OnceLock<u64>,
}

struct Member {
    endpoint: String,
    // Held while it is connected to, so that of many calls at the same time one connects.
    connection: Mutex<Option<Connection>>,
}

impl Members {
    pub(super) fn new(endpoints: &[String], tls: TlsOptions) -> Self {
        let members = endpoints
            .iter()
            .map(|endpoint| Member { endpoint: endpoint.clone(), connection: Mutex::new(None) })
            .collect();
        Self { members, tls, current: AtomicUsize::new(0), cluster: OnceLock::new() }
    }

    /// Connects to every member that can be connected to.
    pub(super) async fn connect_all(&self) -> Vec<Result<Connection, Unusable>> {
        futures::future::join_all((0..self.members.len()).map(|at| self.connection_to(at))).await
    }

    /// A member that answers.
    ///
    /// # Errors
    /// When none does.
    pub(super) async fn connection(&self) -> Result<Connection, MemberFailures> {
        let mut failures = MemberFailures::default();
        for _ in &self.members {
            let at = self.current.load(Ordering::Relaxed);
            match self.connection_to(at).await {
                Ok(connection) => return Ok(connection),
                Err(unusable) => {
                    self.go_on_from(at);
                    failures.add(unusable.failure());
                }
            }
        }
        Err(failures)
    }

    /// Sends a call to one member after the other until one answers.
    ///
    /// # Errors
    /// When etcd refuses it, when no member answers, or when one may have done what may be done only once.
    pub(super) async fn call<T, F, Sent>(
        &self,
        repeat: Repeat,
        limit: Duration,
        send: F,
    ) -> Result<T, Unanswered>
    where
        F: Fn(Client) -> Sent + Send + Sync,
        Sent: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let mut failures = MemberFailures::default();
        let mut may_be_done = false;
        // The only one gets a second chance: it may have been started again since the last call.
        for _ in 0..self.members.len().max(2) {
            let connection = match self.connection().await {
                Ok(connection) => connection,
                Err(those) => {
                    failures.add_all(those);
                    break;
                }
            };
            let failure = match tokio::time::timeout(limit, send(connection.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::classify(&connection.endpoint, error),
                Err(_) => Failure::Lost(MemberFailure {
                    endpoint: connection.endpoint.clone(),
                    why: format!("no answer in {} ms", limit.as_millis()),
                }),
            };
            match failure {
                Failure::Refused(status) => return Err(Unanswered::Refused(status)),
                Failure::NotSent(failure) => failures.add(failure),
                Failure::Lost(failure) => {
                    failures.add(failure);
                    may_be_done = true;
                }
            }
            self.give_up(&connection).await;
            if may_be_done && repeat == Repeat::IfUnsent {
                break;
            }
        }
        Err(if may_be_done { Unanswered::Lost(failures) } else { Unanswered::NotSent(failures) })
    }

    /// The member failed: the next call goes to another, and this one is asked how it is before it gets one.
    pub(super) async fn give_up(&self, connection: &Connection) {
        let mut there = self.members[connection.at].connection.lock().await;
        // Another call may have connected anew meanwhile.
        if there.as_ref().is_some_and(|there| there.given_up == connection.given_up) {
            debug!(endpoint = connection.endpoint, "disconnected from a member of etcd");
            *there = None;
        }
        connection.given_up.cancel();
        self.go_on_from(connection.at);
    }

    fn go_on_from(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        // Not exchanged means that another call has gone on already.
        self.current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed)
            .unwrap_or_else(|now| now);
    }

    async fn connection_to(&self, at: usize) -> Result<Connection, Unusable> {
        let member = &self.members[at];
        let mut there = member.connection.lock().await;
        if let Some(connection) = &*there {
            return Ok(connection.clone());
        }
        let down = |why: String| Unusable::Down(MemberFailure { endpoint: member.endpoint.clone(), why });
        let client = match tokio::time::timeout(GREETING_LIMIT, self.greet(&member.endpoint)).await {
            Ok(greeted) => greeted?,
            Err(_) => return Err(down(format!("no answer in {} ms", GREETING_LIMIT.as_millis()))),
        };
        let connection =
            Connection { client, endpoint: member.endpoint.clone(), at, given_up: CancellationToken::new() };
        *there = Some(connection.clone());
        Ok(connection)
    }

    /// Connects, and asks the member how it is.
    async fn greet(&self, endpoint: &str) -> Result<Client, Unusable> {
        let down = |why: String| Unusable::Down(MemberFailure { endpoint: endpoint.to_owned(), why });
        let wrong = |what| Unusable::Wrong(Wrong { endpoint: endpoint.to_owned(), what });
        let failed = |error: etcd_client::Error| match Failure::classify(endpoint, error) {
            Failure::Refused(status) => down(status.message().to_owned()),
            Failure::Lost(failure) if failure.why == "etcdserver: no leader" => down(NO_LEADER.to_owned()),
            Failure::NotSent(failure) | Failure::Lost(failure) => Unusable::Down(failure),
        };
        let options = ConnectOptions::new()
            .with_tls(self.tls.clone())
            .with_connect_timeout(GREETING_LIMIT)
            .with_keep_alive(SIGN_OF_LIFE_EVERY, SIGN_OF_LIFE_LIMIT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        let client = Client::connect([endpoint], Some(options)).await.map_err(failed)?;
        let status = client.maintenance_client().status().await.map_err(failed)?;
        match judge(status.version()) {
            Judgement::Good => {}
            Judgement::Doubtful(why) => warn!(endpoint, version = status.version(), "etcd: {why}"),
            Judgement::Refused(why) => {
                return Err(wrong(WhatIsWrong::Version { version: status.version().to_owned(), why }));
            }
        }
        if let Some(header) = status.header() {
            let (found, known) = (header.cluster_id(), *self.cluster.get_or_init(|| header.cluster_id()));
            if found != known {
                return Err(wrong(WhatIsWrong::OtherCluster { known, found }));
            }
        }
        if status.leader() == 0 {
            return Err(down(NO_LEADER.to_owned()));
        }
        if status.is_learner() {
            return Err(down("it is a learner and serves no requests yet".to_owned()));
        }
        for error in status.errors() {
            warn!(endpoint, error, "etcd reports an error");
        }
        info!(endpoint, version = status.version(), "connected to etcd");
        Ok(client)
    }
}
