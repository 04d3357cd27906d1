//! The other coordinators: which hosts are connected to them, and how to reach those hosts.
//!
//! What must stay true: before a question is asked, the record says which coordinator has the session of the host.
//! Other knowledge about their hosts can be a moment old, and is dropped with their coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::HostId;
use lockstep_core::name::{CoordinatorName, EnvironmentKey};
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::StepKey;
use lockstep_core::time::Timestamp;
use lockstep_proto::dial;
use lockstep_proto::wire::relay_client::RelayClient;
use lockstep_proto::wire::{self, followed};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tracing::{debug, info};

use crate::identity::authority::Authority;
use crate::ports::agents::{
    AgentError, Agents, LogRequest, ObservationRequest, ProgressLine, QueriedStatus, QueriedStatuses,
    SessionInfo, StepQuery,
};
use crate::ports::clock::Clock;
use crate::record::coordinators;
use crate::sessions::{ANSWER_LIMIT, PROGRESS_MAX, Sessions};
use crate::store::{Store, keys};

/// How often the others are looked for without a wake-up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What another coordinator may take longer than its agent.
const RELAY_MORE: Duration = Duration::from_secs(2);
const RELAY_LIMIT: Duration = ANSWER_LIMIT.saturating_add(RELAY_MORE);

pub struct Peers {
    own: CoordinatorName,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    sessions: Arc<Sessions>,
    // Held for a look-up or a change, never across an await.
    followed: Mutex<BTreeMap<CoordinatorName, PeerState>>,
    progress: broadcast::Sender<ProgressLine>,
}

/// Another coordinator while it is heard.
struct PeerState {
    channel: Channel,
    hosts: BTreeMap<HostId, Connection>,
}

struct Connection {
    sighting: SessionInfo,
    health: BTreeMap<EnvironmentKey, Vec<InstanceHealth>>,
}

/// Where a host's session is.
enum SessionPlace {
    Here,
    There(Box<RelayClient<Channel>>),
    Nowhere,
}

impl Peers {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        authority: Arc<Authority>,
        sessions: Arc<Sessions>,
    ) -> Arc<Self> {
        let own = authority.coordinator().clone();
        let progress = broadcast::Sender::new(PROGRESS_MAX);
        Arc::new(Self { own, store, clock, authority, sessions, followed: Mutex::default(), progress })
    }

    /// Follows every other coordinator that is alive, for ever.
    pub async fn run(self: Arc<Self>) -> std::convert::Infallible {
        let mut wakeups = self.store.watch(&keys::coordinators());
        let mut lines = self.sessions.progress();
        let mut tasks = JoinSet::new();
        let mut following = BTreeSet::new();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                line = lines.recv() => {
                    if let Ok(line) = line {
                        self.say(line);
                    }
                    continue;
                }
                Some(ended) = tasks.join_next() => {
                    if let Ok(name) = ended {
                        following.remove(&name);
                    }
                    continue;
                }
                () = wakeups.changed() => {}
                _ = looks.tick() => {}
            }
            match coordinators::alive(&*self.store).await {
                Ok(alive) => {
                    for coordinator in alive {
                        if coordinator.name != self.own && following.insert(coordinator.name.clone()) {
                            let this = Arc::clone(&self);
                            tasks.spawn(async move {
                                let name = coordinator.name.clone();
                                this.follow(coordinator.name, &coordinator.address).await;
                                name
                            });
                        }
                    }
                }
                Err(error) => debug!(%error, "cannot look for other coordinators"),
            }
        }
    }

    /// Until it is not heard any more; as another whenever the authority changes, because what the earlier one signed
    /// will not be taken one day.
    async fn follow(&self, name: CoordinatorName, address: &str) {
        let mut authority = self.authority.changes();
        let heard = loop {
            tokio::select! {
                heard = self.listen(&name, address) => break heard,
                () = authority.changed() => {}
            }
        };
        match heard {
            Ok(()) => debug!(coordinator = %name, "another coordinator ended the connection"),
            Err(error) => {
                debug!(coordinator = %name, why = format!("{error:#}"), "lost the connection to another coordinator")
            }
        }
        if self.lock().remove(&name).is_some() {
            info!(coordinator = %name, "another coordinator is disconnected");
        }
    }

    async fn listen(&self, name: &CoordinatorName, address: &str) -> anyhow::Result<()> {
        let credential = self.authority.client_credential(self.clock.now())?;
        let channel = dial::connect(address, &credential).await?;
        let mut stream = RelayClient::new(channel.clone()).follow(wire::FollowRequest {}).await?.into_inner();
        {
            let mut followed = self.lock();
            // What it said over the connection before holds until it says more.
            let hosts = followed.remove(name).map(|before| before.hosts).unwrap_or_default();
            followed.insert(name.clone(), PeerState { channel, hosts });
        }
        info!(coordinator = %name, address, "connected to another coordinator");
        while let Some(message) = stream.message().await? {
            match message.followed {
                Some(followed::Followed::Connections(wire::Connections { connections })) => {
                    let hosts = connections
                        .into_iter()
                        .map(connection)
                        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
                    if let Some(followed) = self.lock().get_mut(name) {
                        followed.hosts = hosts;
                    }
                }
                Some(followed::Followed::Progress(wire::Progress { key, environment, line })) => {
                    let key = key.context("progress without a key")?.try_into()?;
                    self.say(ProgressLine { environment: environment.parse()?, key, line });
                }
                None => {}
            }
        }
        Ok(())
    }

    fn say(&self, line: ProgressLine) {
        // Nobody may be watching: progress is for those who do.
        self.progress.send(line).map_or_else(|_| (), |_| ());
    }

    async fn place(&self, host: &HostId) -> SessionPlace {
        if self.sessions.session_of(host).is_some() {
            return SessionPlace::Here;
        }
        let holder = match coordinators::with_session_of(&*self.store, host).await {
            Ok(holder) => holder,
            Err(error) => {
                debug!(%host, %error, "cannot read which coordinator has the session");
                None
            }
        };
        let followed = self.lock();
        match holder.and_then(|holder| followed.get(&holder)) {
            Some(followed) => SessionPlace::There(Box::new(RelayClient::new(followed.channel.clone()))),
            None => SessionPlace::Nowhere,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CoordinatorName, PeerState>> {
        // Every change is one insertion or removal: the map is whole also after a panic elsewhere.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Agents for Peers {
    async fn query_steps(
        &self,
        host: &HostId,
        question: StepQuery,
    ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError> {
        match self.place(host).await {
            SessionPlace::Here => self.sessions.query_steps(host, question).await,
            SessionPlace::Nowhere => Err(absent(host)),
            SessionPlace::There(mut relay) => {
                let reply = relay.ask(relayed(host, wire::Document::of_content(&question))).await;
                let document = answered(host, reply)?;
                let QueriedStatuses(standings) =
                    document.read("standings").map_err(|error| unreadable_answer(host, &error))?;
                Ok(standings)
            }
        }
    }

    async fn observe(&self, host: &HostId, question: ObservationRequest) -> Result<Observation, AgentError> {
        match self.place(host).await {
            SessionPlace::Here => self.sessions.observe(host, question).await,
            SessionPlace::Nowhere => Err(absent(host)),
            SessionPlace::There(mut relay) => {
                let reply = relay.observe(relayed(host, wire::Document::of_content(&question))).await;
                answered(host, reply)?.read("observation").map_err(|error| unreadable_answer(host, &error))
            }
        }
    }

    async fn fetch_log(&self, host: &HostId, wanted: LogRequest) -> Result<Vec<String>, AgentError> {
        match self.place(host).await {
            SessionPlace::Here => self.sessions.fetch_log(host, wanted).await,
            SessionPlace::Nowhere => Err(absent(host)),
            SessionPlace::There(mut relay) => {
                let reply = relay.fetch_log(relayed(host, wire::Document::of_content(&wanted))).await;
                Ok(answered(host, reply)?.lines)
            }
        }
    }

    async fn run_task(&self, host: &HostId, task: HostTask) -> Result<(), AgentError> {
        match self.place(host).await {
            SessionPlace::Here => self.sessions.run_task(host, task).await,
            SessionPlace::Nowhere => Err(absent(host)),
            SessionPlace::There(mut relay) => {
                let mut request = relayed(host, wire::Document::of_content(&task));
                request.set_timeout(Duration::from_millis(task.limit().0) + RELAY_MORE);
                answered(host, relay.run_errand(request).await).map(|_| ())
            }
        }
    }

    fn health(&self, environment: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>> {
        let mut health = BTreeMap::new();
        for followed in self.lock().values() {
            for (host, connection) in &followed.hosts {
                if let Some(instances) = connection.health.get(environment) {
                    health.insert(host.clone(), instances.clone());
                }
            }
        }
        health.extend(self.sessions.health(environment));
        health
    }

    fn session_of(&self, host: &HostId) -> Option<SessionInfo> {
        let there = || {
            let followed = self.lock();
            followed.values().find_map(|peer| peer.hosts.get(host)).map(|there| there.sighting.clone())
        };
        self.sessions.session_of(host).or_else(there)
    }

    fn unreachable_of(&self, hosts: &BTreeSet<HostId>) -> Vec<HostId> {
        let mut absent = self.sessions.unreachable_of(hosts);
        absent.retain(|host| self.session_of(host).is_none());
        absent
    }

    fn progress(&self) -> broadcast::Receiver<ProgressLine> {
        self.progress.subscribe()
    }
}

fn relayed(host: &HostId, question: wire::Document) -> Request<wire::Relayed> {
    let mut request = Request::new(wire::Relayed { host: host.to_string(), question: Some(question) });
    request.set_timeout(RELAY_LIMIT);
    request
}

/// What another coordinator said, with its refusals as those of the agent.
fn answered<T>(host: &HostId, reply: Result<Response<T>, Status>) -> Result<T, AgentError> {
    let status = match reply {
        Ok(reply) => return Ok(reply.into_inner()),
        Err(status) => status,
    };
    Err(if status.code() == Code::NotFound {
        absent(host)
    } else if status.code() == Code::FailedPrecondition {
        AgentError::Refused { host: host.clone(), why: status.message().to_owned() }
    } else {
        // It may have been asked and may even have answered.
        AgentError::NoAnswer { host: host.clone() }
    })
}

/// How [`answered`] reads it.
pub fn refusal(error: &AgentError) -> Status {
    match error {
        AgentError::Absent { .. } => Status::not_found(error.to_string()),
        AgentError::NoAnswer { .. } => Status::deadline_exceeded(error.to_string()),
        AgentError::Refused { why, .. } => Status::failed_precondition(why.clone()),
    }
}

fn absent(host: &HostId) -> AgentError {
    AgentError::Absent { host: host.clone() }
}

fn unreadable_answer(host: &HostId, error: &lockstep_proto::Invalid) -> AgentError {
    AgentError::Refused { host: host.clone(), why: format!("cannot read its answer: {error}") }
}

fn connection(wire: wire::Connection) -> anyhow::Result<(HostId, Connection)> {
    let wire::Connection { host, version, health, seen_ms, vitals } = wire;
    let mut environments = BTreeMap::new();
    for wire::HealthReport { environment, instances } in health {
        let instances: Result<_, _> = instances.iter().map(|one| serde_json::from_slice(one)).collect();
        environments.insert(environment.parse()?, instances?);
    }
    let vitals = vitals.map(|vitals| vitals.read("connection.vitals")).transpose()?;
    let sighting = SessionInfo { at: Timestamp(seen_ms), version, vitals };
    Ok((host.parse()?, Connection { sighting, health: environments }))
}

/// The lines of one coordinator's own agents, for another.
pub async fn next_line(lines: &mut broadcast::Receiver<ProgressLine>) -> Option<ProgressLine> {
    loop {
        match lines.recv().await {
            Ok(line) => return Some(line),
            // Older lines were overwritten anyway.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
