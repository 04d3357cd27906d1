//! The sessions of the agents that are connected to this coordinator: at most one for each host.
//!
//! What must stay true: assignments are read from the store and sent until their report is stored, so a lost
//! connection loses nothing. A report is stored before the next message is read. A host gets the values
//! of secrets, or the login of a registry, only if a step or a question that is open on it uses them. What it says is
//! redacted before it is stored, sent on or shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use lockstep_core::access::Identity;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::{ClusterId, HostId};
use lockstep_core::image::{ImageLookup, RegistryName};
use lockstep_core::name::{CoordinatorName, EnvironmentKey};
use lockstep_core::object_name::ObjectName;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::StepKey;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::stored;
use lockstep_proto::wire;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::identity::authority::Authority;
use crate::identity::certificate::IssuingName;
use crate::ports::agents::{
    AgentError, Agents, DatabaseObservation, LogRequest, LogSource, ObservationRequest, ProgressLine,
    QueriedStatus, SessionInfo, StepQuery,
};
use crate::ports::clock::Clock;
use crate::record::coordinators::AgentSessionRecord;
use crate::record::refusals::Refusals;
use crate::record::vault::Vault;
use crate::record::{environments, hosts};
use crate::sessions::presence::Presence;
use crate::store::{Committed, Guard, LeaseId, Revision, Store, StoreError, Stored, Write, keys};

pub mod images;
pub mod peers;
pub mod presence;
mod pulse;
mod questions;
mod redaction;
mod revocation;
mod session;

use questions::{Answer, PendingQuestion, QuestionUses, Questions};
use redaction::Redactors;
use revocation::Cut;

/// How long an agent may take for an answer that somebody waits for.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long a new stream may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// Each text of a hello: they are recorded.
const HELLO_BYTES_MAX: usize = 256;

/// How often assignments are looked for without a wake-up.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a transaction is made anew when another came between.
const ATTEMPTS_MAX: usize = 5;

/// What waits to be sent to one agent.
const OUTGOING_MAX: usize = 64;

/// Lines of progress that a slow reader may be behind.
pub(crate) const PROGRESS_MAX: usize = 256;

/// What the sessions of a coordinator are made of.
pub struct SessionContext {
    pub store: Arc<dyn Store>,
    pub refusals: Arc<Refusals>,
    pub vault: Arc<Vault>,
    pub clock: Arc<dyn Clock>,
    pub authority: Arc<Authority>,
    pub cluster: ClusterId,
    pub coordinator: CoordinatorName,
    pub presence: Presence,
}

/// Who is connected, and what was asked of whom.
pub struct Sessions {
    context: SessionContext,
    next_request: AtomicU64,
    // Held for a look-up or a change, never across an await: calls, sessions and drivers all come here.
    connected: Mutex<BTreeMap<HostId, Connected>>,
    /// What the objects of environments are called: recorded once, and never another.
    object_names: Mutex<BTreeMap<EnvironmentKey, ObjectName>>,
    redactors: Redactors,
    progress: broadcast::Sender<ProgressLine>,
    /// Counts what [`Self::connections`] has had of changes.
    changes: watch::Sender<u64>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

/// Who dials, as its certificate says.
#[derive(Debug)]
pub struct ConnectingAgent {
    pub host: HostId,
    pub signed_by: IssuingName,
    /// The address that it dials from; empty where nobody knows.
    pub from: String,
}

/// That a host's session is here, as the record has it.
struct SessionPlace {
    lease: LeaseId,
    revision: Revision,
}

/// What is sent to one agent. In boxes: a channel has room for many, and most of the time there is none.
type Outgoing = mpsc::Sender<Result<Box<wire::ToAgent>, Box<Status>>>;

/// One host's session.
struct Connected {
    cut: Cut,
    sighting: SessionInfo,
    outgoing: Outgoing,
    waiting: Questions,
    health: BTreeMap<EnvironmentKey, Vec<InstanceHealth>>,
    /// Has the session look at what is there for its host.
    recheck: Arc<Notify>,
}

impl Sessions {
    pub fn new(context: SessionContext) -> Arc<Self> {
        let redactors = Redactors::new(context.store.clone(), context.vault.clone());
        Arc::new(Self {
            context,
            redactors,
            next_request: AtomicU64::new(1),
            connected: Mutex::new(BTreeMap::new()),
            object_names: Mutex::new(BTreeMap::new()),
            progress: broadcast::Sender::new(PROGRESS_MAX),
            changes: watch::Sender::new(0),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Takes a stream on. The second session of one identity is refused: a host that was cloned with
    /// its key must not get half of the work.
    ///
    /// # Errors
    /// When the agent does not say hello, or is connected already.
    pub async fn attach(
        this: &Arc<Self>,
        agent: ConnectingAgent,
        mut incoming: Streaming<wire::FromAgent>,
    ) -> Result<impl Stream<Item = Result<wire::ToAgent, Status>> + use<>, Status> {
        let hello = tokio::time::timeout(HELLO_LIMIT, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the agent sent no hello in time"))??;
        let Some(wire::from_agent::Message::Hello(hello)) = hello.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("a session must begin with hello"));
        };
        if [&hello.version, &hello.address, &hello.instance].iter().any(|text| text.len() > HELLO_BYTES_MAX) {
            return Err(Status::invalid_argument("the agent's hello is too long"));
        }
        let (outgoing, to_agent) = mpsc::channel(OUTGOING_MAX);
        let place = this.take_place(&agent, &hello).await?;
        let ConnectingAgent { host, signed_by, .. } = agent;
        let revoked = CancellationToken::new();
        let cut = Cut { signed_by, revoked: revoked.clone() };
        let recheck = this.enter(&host, &hello, outgoing.clone(), cut);
        info!(%host, version = hello.version, address = hello.address, "agent connected");
        let session = session::AgentSession {
            sessions: Arc::clone(this),
            host,
            outgoing,
            place,
            recheck,
            pulse: pulse::Pulse::default(),
            noted: Instant::now(),
            revoked,
            open: BTreeMap::new(),
        };
        this.tracker.spawn(session.run(incoming));
        Ok(ReceiverStream::new(to_agent).map(|message| message.map(|message| *message).map_err(|end| *end)))
    }

    /// What the objects of an environment are called on hosts.
    async fn object_name(&self, environment: &EnvironmentKey) -> Result<ObjectName, StoreError> {
        let known = || self.object_names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known().get(environment) {
            return Ok(name.clone());
        }
        let Some(names) = environments::names(&*self.context.store, environment).await? else {
            // Whatever there is before a name was claimed is of a version that knew only this one.
            return Ok(ObjectName::legacy(environment));
        };
        known().insert(environment.clone(), names.content.objects.clone());
        Ok(names.content.objects)
    }

    /// Looks for assignments without a wake-up, for ever: a watch is only a hint. One look serves all
    /// sessions, because there are many of them and most of the time nothing for any.
    pub async fn keep_looking(&self) -> std::convert::Infallible {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let there = self.context.store.list(&keys::all_assignments()).await;
            let connected = self.lock();
            match there {
                Ok(there) => {
                    let hosts = there.iter().filter_map(|stored| keys::assigned_host(&stored.key));
                    for session in hosts.filter_map(|host| connected.get(&host)) {
                        session.recheck.notify_one();
                    }
                }
                // Each finds out for itself what it can be for its host without the record.
                Err(error) => {
                    debug!(%error, "cannot look for assignments");
                    connected.values().for_each(|session| session.recheck.notify_one());
                }
            }
        }
    }

    /// Ends every session, for a coordinator that ends.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Makes it known that the session of `host` is here. An agent that moves takes its place along; another with
    /// the same identity gets none.
    async fn take_place(&self, agent: &ConnectingAgent, hello: &wire::Hello) -> Result<SessionPlace, Status> {
        let ConnectingAgent { host, from, .. } = agent;
        let key = keys::host_presence(host);
        let own = AgentSessionRecord {
            coordinator: self.context.coordinator.clone(),
            instance: hello.instance.clone(),
        };
        for _ in 0..ATTEMPTS_MAX {
            let lease = self.context.presence.lease().ok_or_else(out_of_reach)?;
            let seen = self.context.store.get(key.key()).await.map_err(|error| unreadable(&error))?;
            let there = seen.as_ref().map(Stored::read::<AgentSessionRecord>).transpose();
            if let Some(there) = there.map_err(|error| unreadable(&error))?
                && (hello.instance.is_empty() || there.instance != hello.instance)
                && self.is_held(&there, host)
            {
                self.note_second(agent, hello).await;
                warn!(%host, from, at = %there.coordinator, "refused a second session with the same identity");
                // No more than is sure: an agent that was killed and is back may meet its own last session.
                let said = format!(
                    "refuse session of {host}: from {from}, while it is already connected to {}",
                    there.coordinator
                );
                let caller = Identity::Agent(host.clone());
                self.context.refusals.note(&caller, "refuse session", "refuse session", said).await;
                return Err(Status::already_exists(format!(
                    "{host} is already connected to {}: another machine may have a copy of its key",
                    there.coordinator
                )));
            }
            let write = Write::put_leased(key.clone(), stored::encode(&own), lease);
            // Who was refused was perhaps this one; another is refused again.
            let writes =
                vec![write, Write::delete(keys::host_second(host)), hosts::signed(host, &agent.signed_by)];
            let taken = self.context.store.commit(vec![Guard::as_seen(&key, seen.as_ref())], writes).await;
            match taken.map_err(|error| unreadable(&error))? {
                Committed::Yes { revision } => return Ok(SessionPlace { lease, revision }),
                // It attached to another coordinator in this moment: looked at again, it is said.
                Committed::No => {}
            }
        }
        Err(Status::aborted("the host opens sessions too fast: try again"))
    }

    async fn note_second(&self, ConnectingAgent { host, from, .. }: &ConnectingAgent, hello: &wire::Hello) {
        let now = self.context.clock.now();
        let second = (hello.instance.as_str(), from.clone());
        if let Err(error) = hosts::note_second(&*self.context.store, host, second, now).await {
            // It is refused all the same, and noted when it comes again.
            debug!(%host, %error, "cannot record a second session");
        }
    }

    /// Whether a place is still somebody's: this coordinator knows its own sessions better than the record does.
    fn is_held(&self, there: &AgentSessionRecord, host: &HostId) -> bool {
        there.coordinator != self.context.coordinator
            || self.lock().get(host).is_some_and(|session| !session.outgoing.is_closed())
    }

    async fn leave_place(&self, host: &HostId, place: &SessionPlace) {
        let key = keys::host_presence(host);
        let guard = Guard::Unchanged((&key).into(), place.revision);
        // Not committed means that the host has its place elsewhere.
        if let Err(error) = self.context.store.commit(vec![guard], vec![Write::delete(key)]).await {
            debug!(%host, %error, "cannot release the session of the host; it ends with its lease");
        }
    }

    fn enter(&self, host: &HostId, hello: &wire::Hello, outgoing: Outgoing, cut: Cut) -> Arc<Notify> {
        let recheck = Arc::new(Notify::new());
        let mut connected = self.lock();
        let entry = Connected {
            cut,
            sighting: SessionInfo {
                at: self.context.clock.now(),
                version: hello.version.clone(),
                vitals: None,
            },
            outgoing,
            waiting: Questions::default(),
            health: BTreeMap::new(),
            recheck: Arc::clone(&recheck),
        };
        connected.insert(host.clone(), entry);
        drop(connected);
        self.changed();
        recheck
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The agent may have dialled again before the end of its last stream was noticed: what is there then is
    /// another session, and stays.
    fn leave(&self, host: &HostId, outgoing: &Outgoing) {
        let mut connected = self.lock();
        if connected.get(host).is_some_and(|there| there.outgoing.same_channel(outgoing)) {
            connected.remove(host);
        }
        drop(connected);
        self.changed();
    }

    /// Who is connected, for the other coordinators.
    pub fn connections(&self) -> wire::Connections {
        let connection = |(host, session): (&HostId, &Connected)| wire::Connection {
            host: host.to_string(),
            version: session.sighting.version.clone(),
            seen_ms: session.sighting.at.0,
            vitals: session.sighting.vitals.as_ref().map(wire::Document::of_content),
            health: session
                .health
                .iter()
                .map(|(environment, instances)| report(environment, instances))
                .collect(),
        };
        wire::Connections { connections: self.lock().iter().map(connection).collect() }
    }

    /// How many agents are connected.
    pub fn count(&self) -> u64 {
        u64::try_from(self.lock().len()).unwrap_or(u64::MAX)
    }

    /// Changes whenever [`Self::connections`] may.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Runs `task` until it ends by itself; [`Self::close`] waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits until this coordinator ends.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Connected>> {
        // Every change is one insertion or removal: the map is whole also after a panic elsewhere.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a question and waits for its answer.
    async fn question(
        &self,
        host: &HostId,
        (waiting, uses): (PendingQuestion, QuestionUses),
        message: wire::to_agent::Message,
        limit: Duration,
    ) -> Result<Answer, AgentError> {
        let absent = || AgentError::Absent { host: host.clone() };
        let (sender, answer) = oneshot::channel();
        let outgoing = {
            let mut connected = self.lock();
            let session = connected.get_mut(host).ok_or_else(absent)?;
            session.waiting.put(waiting.clone(), uses, sender);
            session.outgoing.clone()
        };
        outgoing.send(Ok(Box::new(wire::ToAgent { message: Some(message) }))).await.map_err(|_| absent())?;
        let answered = tokio::time::timeout(limit, answer).await;
        if let Some(session) = self.lock().get_mut(host) {
            session.waiting.forget(&waiting);
        }
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            // The session ended with the question open.
            Ok(Err(_)) => Err(absent()),
            Err(_) => Err(AgentError::NoAnswer { host: host.clone() }),
        }
    }

    fn request(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }
}

#[async_trait]
impl Agents for Sessions {
    async fn query_steps(
        &self,
        host: &HostId,
        question: StepQuery,
    ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError> {
        let StepQuery { token, environment, keys } = question;
        let waiting = PendingQuestion::for_token(&environment, &token);
        let message = wire::to_agent::Message::Ask(wire::AskStanding {
            token: Some(token.into()),
            environment: environment.to_string(),
            keys: keys.into_iter().map(wire::StepKey::from).collect(),
        });
        let asked = (waiting, QuestionUses::default());
        match self.question(host, asked, message, ANSWER_LIMIT).await? {
            Answer::Standings(standings) => Ok(standings),
            Answer::Observed(_) | Answer::Log(_) | Answer::Done(_) => Err(answer_mismatch(host)),
        }
    }

    async fn observe(&self, host: &HostId, question: ObservationRequest) -> Result<Observation, AgentError> {
        let ObservationRequest { environment, image, lookup, migrations_path, database } = question;
        let object_name = self.object_name(&environment).await.map_err(|error| AgentError::Refused {
            host: host.clone(),
            why: format!("the names of {environment} cannot be read: {error}"),
        })?;
        let request = self.request();
        let uses = QuestionUses {
            secrets: database.as_ref().map(|database| (environment.clone(), database.secrets())),
            login: image.as_deref().filter(|_| lookup.is_registry()).map(RegistryName::of_image),
        };
        let (database_url_from, secrets_version, addresses) = database.map_or_else(
            || (String::new(), 0, Vec::new()),
            |DatabaseObservation { url_from, secrets_version, addresses }| {
                (url_from, secrets_version, addresses)
            },
        );
        let message = wire::to_agent::Message::Observe(wire::Observe {
            request,
            environment: environment.to_string(),
            image: image.unwrap_or_default(),
            migrations_path: migrations_path.unwrap_or_default(),
            database_url_from,
            secrets_version,
            addresses,
            object_name: object_name.to_string(),
            only_on_this_host: lookup == ImageLookup::ThisHost,
        });
        let asked = (PendingQuestion::Request(request), uses);
        match self.question(host, asked, message, ANSWER_LIMIT).await? {
            Answer::Observed(seen) if seen.quotes() => {
                let used = Some(secrets_version).filter(|version| *version > 0);
                let redactors = self.redactors.of_newest_and(&environment, used).await;
                Ok(redactors.iter().fold(*seen, Observation::redacted))
            }
            Answer::Observed(seen) => Ok(*seen),
            Answer::Standings(_) | Answer::Log(_) | Answer::Done(_) => Err(answer_mismatch(host)),
        }
    }

    async fn fetch_log(&self, host: &HostId, wanted: LogRequest) -> Result<Vec<String>, AgentError> {
        let request = self.request();
        let mut fetch = wire::FetchLog {
            request,
            environment: wanted.environment.to_string(),
            tail: wanted.tail.unwrap_or_default(),
            ..wire::FetchLog::default()
        };
        match &wanted.of {
            LogSource::Step { deployment, step } => {
                fetch.deployment = deployment.to_string();
                fetch.step = step.0.into();
            }
            LogSource::Live { process, secrets_version } => {
                fetch.process = process.as_ref().map(ToString::to_string).unwrap_or_default();
                fetch.secrets_version = secrets_version.unwrap_or_default();
            }
        }
        let message = wire::to_agent::Message::FetchLog(fetch);
        let asked = (PendingQuestion::Request(request), QuestionUses::default());
        match self.question(host, asked, message, ANSWER_LIMIT).await? {
            Answer::Log(lines) => {
                let redactor = match &wanted.of {
                    LogSource::Step { deployment, .. } => self.redactors.of_deployment(deployment).await,
                    LogSource::Live { secrets_version, .. } => {
                        self.redactors.of_version(&wanted.environment, *secrets_version).await
                    }
                };
                redacted_lines(lines, redactor)
                    .await
                    .map_err(|why| AgentError::Refused { host: host.clone(), why })
            }
            Answer::Observed(_) | Answer::Standings(_) | Answer::Done(_) => Err(answer_mismatch(host)),
        }
    }

    async fn run_task(&self, host: &HostId, task: HostTask) -> Result<(), AgentError> {
        let request = self.request();
        let limit = Duration::from_millis(task.limit().0);
        let document = Some(wire::Document::of_content(&task));
        let message = wire::to_agent::Message::RunErrand(wire::RunErrand { request, errand: document });
        let uses = QuestionUses { login: task.registry(), ..QuestionUses::default() };
        match self.question(host, (PendingQuestion::Request(request), uses), message, limit).await? {
            Answer::Done(done) => done.map_err(|why| AgentError::Refused { host: host.clone(), why }),
            Answer::Observed(_) | Answer::Standings(_) | Answer::Log(_) => Err(answer_mismatch(host)),
        }
    }

    fn health(&self, environment: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>> {
        self.lock()
            .iter()
            .filter_map(|(host, session)| Some((host.clone(), session.health.get(environment)?.clone())))
            .collect()
    }

    fn session_of(&self, host: &HostId) -> Option<SessionInfo> {
        self.lock().get(host).map(|session| session.sighting.clone())
    }

    fn unreachable_of(&self, hosts: &BTreeSet<HostId>) -> Vec<HostId> {
        // Asked at every turn of a driver: they are locked once.
        let connected = self.lock();
        hosts.iter().filter(|host| !connected.contains_key(host)).cloned().collect()
    }

    fn progress(&self) -> broadcast::Receiver<ProgressLine> {
        self.progress.subscribe()
    }
}

fn report(environment: &EnvironmentKey, instances: &[InstanceHealth]) -> wire::HealthReport {
    let instances = instances
        .iter()
        .map(|instance| serde_json::to_vec(instance).expect("a health report is numbers and text"))
        .collect();
    wire::HealthReport { environment: environment.to_string(), instances }
}

/// Some megabytes, while sessions and drivers share the few threads that wait.
async fn redacted_lines(lines: Vec<String>, redactor: Redactor) -> Result<Vec<String>, String> {
    let clean = move || lines.iter().map(|line| redactor.redact_cut(line)).collect();
    tokio::task::spawn_blocking(clean).await.map_err(|error| error.to_string())
}

fn out_of_reach() -> Status {
    Status::unavailable("this coordinator cannot reach the store: try another one")
}

fn unreadable(error: &StoreError) -> Status {
    warn!(%error, "cannot record a session");
    Status::unavailable("the store does not answer: try again")
}

fn answer_mismatch(host: &HostId) -> AgentError {
    AgentError::Refused { host: host.clone(), why: "its answer does not match the question".to_owned() }
}
