//! The session with a coordinator: one loop that owns its state and handles one event after another.
//!
//! What must stay true: a lost session does not affect running steps. An outcome is reported again to every coordinator
//! to which this host connects, until a stream has lasted long enough after the report for it to have arrived. No
//! message of a coordinator can end this loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use lockstep_core::agent::fence::Token;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::ClusterId;
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::run::journal::StepKey;
use lockstep_proto::wire;
use lockstep_runtime::systemd::Watchdog;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::health::HealthReport;
use crate::host::vitals::Vitals;
use crate::journal::object_names::ObjectNames;
use crate::journal::{Ended, Journal};
use crate::local_rollback::LocalRollbacks;
use crate::program::telemetry;
use crate::session::coordinators::Coordinators;
use crate::session::requests::OpenRequests;
use crate::session::secrets::{SecretSet, SecretsRequest};
use crate::worker::{Answer, Worker, WorkerEvent};

pub mod coordinators;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host_tasks;
pub mod images;
mod link;
mod message;
pub mod requests;
pub mod secrets;

pub use host_tasks::HostTasks;
pub use link::{DialSettings, instance};
pub use message::{LogRequest, LogSource};

use link::{Link, LinkEvent};
use message::{Order, UnreadableMessage};

/// A report counts as arrived when its stream has lasted this long after it: longer than the transport takes to notice
/// a dead connection.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// How often the journal is checked for local rollbacks.
const LOCAL_CHECK_EVERY: Duration = Duration::from_secs(2);

/// The state of the loop.
pub struct Session {
    cluster: ClusterId,
    link: Link,
    coordinators: Coordinators,
    /// The roots that the cluster trusts, as a coordinator last sent them.
    roots: watch::Sender<String>,
    worker: Worker,
    secrets: OpenRequests<SecretsRequest, SecretSet>,
    logins: OpenRequests<RegistryName, Option<Login>>,
    host_tasks: HostTasks,
    journal: Arc<Journal>,
    object_names: ObjectNames,
    local_rollbacks: LocalRollbacks,
    vitals: Vitals,
    /// When the journal is checked for local rollbacks.
    local_check: Interval,
    worker_events: mpsc::Receiver<WorkerEvent>,
    health: mpsc::Receiver<HealthReport>,
    /// The last report of each environment, for the next coordinator.
    last_health: BTreeMap<EnvironmentKey, Vec<InstanceHealth>>,
    /// Reports that were sent over this stream and have not settled, oldest first.
    unsettled: VecDeque<(Instant, Token, StepKey)>,
}

/// What a session needs.
pub struct SessionContext {
    pub cluster: ClusterId,
    pub dialling: DialSettings,
    pub coordinators: Coordinators,
    pub roots: watch::Sender<String>,
    pub worker: Worker,
    pub host_tasks: HostTasks,
    pub journal: Arc<Journal>,
    pub object_names: ObjectNames,
    pub local_rollbacks: LocalRollbacks,
    pub worker_events: mpsc::Receiver<WorkerEvent>,
    pub health: mpsc::Receiver<HealthReport>,
}

enum SessionEvent {
    Link(LinkEvent),
    Worker(WorkerEvent),
    Health(HealthReport),
    /// A host task has a message to send.
    Task(wire::FromAgent),
    /// [`SETTLED_AFTER`] has passed since the oldest report.
    Settle,
    /// A task of the worker has ended, and the worker has handled that.
    WorkerTaskExited,
    /// It is time to check for local rollbacks.
    CheckLocalRollbacks,
}

impl Session {
    pub fn new(context: SessionContext) -> Self {
        let SessionContext { cluster, dialling, coordinators, roots, .. } = context;
        let SessionContext { worker, host_tasks, journal, object_names, .. } = context;
        let SessionContext { local_rollbacks, worker_events, health, .. } = context;
        let mut local_check = interval(LOCAL_CHECK_EVERY);
        local_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            cluster,
            vitals: Vitals::new(dialling.credential.clone()),
            link: Link::new(dialling),
            coordinators,
            roots,
            worker,
            secrets: OpenRequests::default(),
            logins: OpenRequests::default(),
            host_tasks,
            journal,
            object_names,
            local_rollbacks,
            local_check,
            worker_events,
            health,
            last_health: BTreeMap::new(),
            unsettled: VecDeque::new(),
        }
    }

    /// Runs for ever. The loop turns at least once in [`LOCAL_CHECK_EVERY`].
    pub async fn run(mut self) -> std::convert::Infallible {
        let mut watchdog = Watchdog::asked_for();
        loop {
            let event = self.next().await;
            self.handle_event(event).await;
            self.redial_if_root_changed();
            watchdog.turned();
        }
    }

    async fn next(&mut self) -> SessionEvent {
        // What makes more to say waits while too much is unsaid.
        let has_room = self.link.has_room();
        let settles = self.unsettled.front().map(|(at, ..)| *at + SETTLED_AFTER);
        tokio::select! {
            event = self.link.next() => SessionEvent::Link(event),
            () = self.worker.next_exit() => SessionEvent::WorkerTaskExited,
            Some(event) = self.worker_events.recv(), if has_room => SessionEvent::Worker(event),
            Some(report) = self.health.recv(), if has_room => SessionEvent::Health(report),
            message = self.host_tasks.next(), if has_room => SessionEvent::Task(message),
            () = sleep_until(settles) => SessionEvent::Settle,
            _ = self.local_check.tick() => SessionEvent::CheckLocalRollbacks,
        }
    }

    async fn handle_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Link(LinkEvent::Up) => self.handle_link_up().await,
            SessionEvent::Link(LinkEvent::Down { why, again_in }) => self.handle_link_down(&why, again_in),
            SessionEvent::Link(LinkEvent::Received(message)) => match message::read(message) {
                Ok(order) => self.handle_order(order).await,
                Err(UnreadableMessage { invalid, answer }) => {
                    warn!(%invalid, "cannot read a message from the coordinator");
                    if let Some(answer) = answer {
                        self.link.send(*answer);
                    }
                }
            },
            SessionEvent::Worker(event) => self.report_worker_event(event),
            SessionEvent::Health(report) => self.report_health(report),
            SessionEvent::Task(message) => self.link.send(message),
            SessionEvent::Settle => self.settle().await,
            SessionEvent::WorkerTaskExited => {}
            SessionEvent::CheckLocalRollbacks => self.report_local_rollbacks().await,
        }
    }

    async fn handle_link_up(&mut self) {
        info!("attached to the coordinator");
        self.unsettled.clear();
        match self.journal.unsettled().await {
            Ok(ended) => ended.iter().for_each(|ended| self.report(ended)),
            // They are said again when the coordinator asks for them.
            Err(error) => {
                error!(why = telemetry::chain(&error), "cannot read the outcomes that are not reported yet")
            }
        }
        for request in self.secrets.unanswered() {
            self.link.send(message::secrets_wanted(request));
        }
        for request in self.logins.unanswered() {
            self.link.send(message::login_wanted(request));
        }
        for (environment, instances) in &self.last_health {
            self.link.send(message::health(environment, instances));
        }
    }

    /// Reports local rollbacks again and again until a coordinator has adopted them.
    async fn report_local_rollbacks(&mut self) {
        if !self.link.is_up() {
            return;
        }
        match self.local_rollbacks.unreported().await {
            Ok(all) => all.iter().for_each(|rollback| self.link.send(message::local_rollback(rollback))),
            Err(error) => error!(why = telemetry::chain(&error), "cannot read the local rollbacks"),
        }
    }

    fn handle_link_down(&mut self, why: &anyhow::Error, again_in: Duration) {
        let again_in_ms = u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX);
        warn!(why = format!("{why:#}"), again_in_ms, "no session with a coordinator");
        self.unsettled.clear();
        self.host_tasks.drop_all();
    }

    /// The certificate of this session becomes invalid when its root is retired. So the session reconnects with a newer
    /// certificate in time, at a moment at which no coordinator waits for an answer.
    fn redial_if_root_changed(&mut self) {
        if self.host_tasks.is_idle() && self.link.has_newer_certificate(&self.roots.borrow()) {
            info!("the cluster has another signing root: reconnecting with a certificate that it signed");
            self.link.redial();
            self.unsettled.clear();
        }
    }

    async fn handle_order(&mut self, order: Order) {
        match order {
            Order::Welcome { cluster, coordinator, coordinators, roots } => {
                self.handle_welcome(&cluster, &coordinator, (coordinators, roots));
            }
            Order::Assign { assignment, objects } => {
                let (token, key) = (assignment.token.clone(), assignment.key.clone());
                let environment = assignment.environment.clone();
                let answer = match self.learn_name(&environment, &objects).await {
                    Ok(()) => self.worker.assign(*assignment).await,
                    Err(why) => Answer::Refused(why),
                };
                match answer {
                    Answer::Later => {}
                    Answer::Ended(outcome) => self.report(&Ended { token, key, environment, outcome }),
                    Answer::Refused(why) => {
                        warn!(deployment = %key.deployment, %environment, step = %key.step, why, "assignment refused");
                        self.link.send(message::refused(token, key, &environment, why));
                    }
                }
            }
            Order::QueryStatuses { token, environment, keys } => {
                let answer = match self.worker.query_statuses(&token, &environment, &keys).await {
                    Ok(statuses) => message::statuses(token, &environment, statuses),
                    Err(why) => {
                        warn!(%environment, why, "status query refused");
                        // A refusal is of a step: the first that was asked about stands for all.
                        let Some(first) = keys.into_iter().next() else { return };
                        message::refused(token, first, &environment, why)
                    }
                };
                self.link.send(answer);
            }
            Order::Secrets { request, given } => self.secrets.deliver(request, |_| given),
            Order::Login { request, given } => self.logins.deliver(request, |registry| {
                Ok(given?.map(|(username, password)| Login { registry, username, password }))
            }),
            Order::RunHostTask { request, task } => self.host_tasks.run(request, task),
            Order::Observe { request, objects } => {
                if let Err(why) = self.learn_name(&request.environment, &objects).await {
                    warn!(environment = %request.environment, why, "an observation may look at the wrong files");
                }
                self.host_tasks.observe(request);
            }
            Order::FetchLog(wanted) => self.host_tasks.fetch_log(wanted),
            Order::Vitals { request } => self.link.send(message::vitals(request, self.vitals.read())),
            Order::LocalRollbackAdopted { seq } => self.local_rollbacks.mark_adopted(seq).await,
        }
    }

    /// Remembers what the environment's objects are called here, before anything looks for them.
    async fn learn_name(&mut self, environment: &EnvironmentKey, objects: &ObjectName) -> Result<(), String> {
        let learned = self.object_names.learn(&self.journal, environment, objects).await;
        learned.map_err(|error| telemetry::chain(&error))
    }

    fn handle_welcome(
        &mut self,
        cluster: &str,
        coordinator: &str,
        (coordinators, roots): (Vec<String>, String),
    ) {
        if cluster == self.cluster.as_str() {
            info!(coordinator, "session accepted");
            self.coordinators.learn(coordinators);
            self.roots.send_replace(roots);
            return;
        }
        let why = anyhow!("the coordinator belongs to cluster {cluster}, and this host to {}", self.cluster);
        if let LinkEvent::Down { why, again_in } = self.link.hang_up(why) {
            self.handle_link_down(&why, again_in);
        }
    }

    fn report_worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Progress { key, environment, line } => {
                self.link.send(message::progress(key, &environment, line));
            }
            WorkerEvent::SecretsWanted { of, reply } => {
                let request = self.secrets.add(of, reply);
                self.link.send(message::secrets_wanted(request));
            }
            WorkerEvent::LoginWanted { registry, reply } => {
                let request = self.logins.add(registry, reply);
                self.link.send(message::login_wanted(request));
            }
            WorkerEvent::Ended(ended) => self.report(&ended),
        }
    }

    /// Reports the outcome if a coordinator is connected. Otherwise the journal keeps it for the next one.
    fn report(&mut self, ended: &Ended) {
        if self.link.is_up() {
            self.link.send(message::report(ended));
            self.unsettled.push_back((Instant::now(), ended.token.clone(), ended.key.clone()));
        }
    }

    fn report_health(&mut self, report: HealthReport) {
        let HealthReport { environment, instances } = report;
        // What it says is redacted by the coordinator.
        let instances: Vec<InstanceHealth> = instances.into_iter().map(InstanceHealth::bounded).collect();
        self.link.send(message::health(&environment, &instances));
        self.last_health.insert(environment, instances);
    }

    /// Marks the oldest report as arrived if the queue is empty.
    async fn settle(&mut self) {
        let Some((_, token, key)) = self.unsettled.pop_front() else { return };
        if !self.link.is_drained() {
            self.unsettled.push_front((Instant::now(), token, key));
            return;
        }
        if let Err(error) = self.journal.settle(&key, &token).await {
            // It is said once more to the next coordinator, which does not mind.
            warn!(why = telemetry::chain(&error), "cannot mark an outcome as reported");
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
