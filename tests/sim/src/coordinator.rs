//! A coordinator: the real drivers, on a link to the store, a clock, and agents behind the network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_coordinator::context::Context;
use lockstep_coordinator::drive::Drivers;
use lockstep_coordinator::ports::agents::{
    AgentError, Agents, LogRequest, ObservationRequest, ProgressLine, QueriedStatus, SessionInfo, StepQuery,
};
use lockstep_coordinator::ports::secrets::FixedSecrets;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::Site;
use lockstep_core::plan::hba::{DatabaseRole, Transport};
use lockstep_core::record::observed::{HbaObservation, ImageObservation, LocalHba, Observation};
use lockstep_core::release::{Schema, SchemaState};
use lockstep_core::run::journal::StepKey;
use lockstep_core::time::Timestamp;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::link::Link;
use crate::message::ToAgent;
use crate::reality::Reality;
use crate::world::{World, wait};

/// How long an agent may take for an answer that somebody waits for.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The agents as the drivers of one process of a coordinator reach them.
struct Reach {
    link: Link,
    progress: broadcast::Sender<ProgressLine>,
}

impl World {
    /// What the process of a coordinator that runs at this moment works with.
    pub fn parts(self: &Arc<Self>, coordinator: usize) -> Context {
        let (incarnation, clock) = {
            let state = self.lock();
            let there = &state.coordinators[coordinator];
            (there.process.incarnation, there.clock.clone())
        };
        let link = Link { world: Arc::clone(self), coordinator, incarnation };
        let reach = Reach { link: link.clone(), progress: broadcast::channel(1).0 };
        Context {
            store: Arc::new(link),
            agents: Arc::new(reach),
            secrets: Arc::new(FixedSecrets::of("DATABASE_URL")),
            clock,
            kept_images: Arc::default(),
            unclaimed_names: Arc::default(),
            cluster: self.cluster.clone(),
            coordinator: format!("c{}", coordinator + 1),
            logs: PathBuf::new(),
            state_files: None,
        }
    }

    pub fn start_coordinator(self: &Arc<Self>, coordinator: usize) {
        {
            let process = &mut self.lock().coordinators[coordinator].process;
            process.incarnation += 1;
            process.is_up = true;
        }
        self.tell(|| format!("c{} starts", coordinator + 1));
        let drivers = Drivers::new(self.parts(coordinator));
        let task = tokio::spawn(drivers.run(CancellationToken::new()));
        self.lock().coordinators[coordinator].process.tasks.push(task.abort_handle());
    }

    pub fn crash_coordinator(self: &Arc<Self>, coordinator: usize) {
        let restart_ms = self.chance(|rng| rng.u64(100..20_000));
        let connected = {
            let mut state = self.lock();
            let there = &mut state.coordinators[coordinator];
            there.process.incarnation += 1;
            there.process.is_up = false;
            there.frozen_until = None;
            there.process.tasks.drain(..).for_each(|task| task.abort());
            std::mem::take(&mut there.connected)
        };
        self.deposes(0);
        self.holds_up(restart_ms + 13_000);
        self.tell(|| format!("c{} is dead", coordinator + 1));
        for (_, session) in connected {
            let noticed_ms = self.chance(|rng| if rng.bool() { 5 } else { rng.u64(100..8_000) });
            self.lose_session(session, noticed_ms);
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(restart_ms).await;
            world.start_coordinator(coordinator);
        });
    }

    pub fn freeze_coordinator(self: &Arc<Self>, coordinator: usize, ms: u64) {
        let connected = {
            let mut state = self.lock();
            let there = &mut state.coordinators[coordinator];
            there.frozen_until = Some(Instant::now() + Duration::from_millis(ms));
            there.connected.clone()
        };
        self.deposes(ms);
        self.holds_up(ms + 13_000);
        self.tell(|| format!("c{} is frozen for {ms} ms", coordinator + 1));
        for (_, session) in connected {
            let noticed_ms = self.chance(|rng| rng.u64(3_000..10_000));
            if noticed_ms < ms {
                self.lose_session(session, noticed_ms);
            }
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(ms).await;
            let there = &mut world.lock().coordinators[coordinator];
            if there.frozen_until.is_some_and(|until| until <= Instant::now()) {
                there.frozen_until = None;
            }
        });
    }
}

#[async_trait]
impl Agents for Reach {
    async fn query_steps(
        &self,
        host: &HostId,
        question: StepQuery,
    ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError> {
        let world = &self.link.world;
        self.link.gate().await;
        let absent = || AgentError::Absent { host: host.clone() };
        let number = world.host_of(host).ok_or_else(absent)?;
        // Whichever coordinator has the session: how it gets there is not simulated.
        let session = world.lock().hosts[number].session.ok_or_else(absent)?;
        let (reply, answer) = oneshot::channel();
        world.send_to_agent(session, ToAgent::Ask(question, Arc::new(std::sync::Mutex::new(Some(reply)))));
        let answered = tokio::time::timeout(ANSWER_LIMIT, answer).await;
        self.link.gate().await;
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(absent()),
            Err(_) => Err(AgentError::NoAnswer { host: host.clone() }),
        }
    }

    async fn observe(&self, host: &HostId, look: ObservationRequest) -> Result<Observation, AgentError> {
        let world = &self.link.world;
        self.link.gate().await;
        wait(2).await;
        self.link.gate().await;
        let absent = || AgentError::Absent { host: host.clone() };
        let number = world.host_of(host).ok_or_else(absent)?;
        let now = world.now();
        let state = world.lock();
        if state.hosts[number].session.is_none() {
            return Err(absent());
        }
        let reality = &state.reality;
        let image = look.image.and_then(|name| reality.image_named(&name)).map(|image| ImageObservation {
            id: image.id.clone(),
            manifest: None,
            commit: None,
            migrations: image.migrations.clone(),
            size_bytes: 1,
        });
        // The last host is the one with nginx and the database.
        let is_last = number + 1 == state.hosts.len();
        let addresses = look.database.as_ref().map_or_else(Vec::new, |database| database.addresses.clone());
        let schema = look
            .database
            .filter(|_| is_last)
            .map(|_| Schema { version: reality.database.version, state: SchemaState::Clean });
        Ok(Observation {
            image,
            schema,
            admission: (is_last && !addresses.is_empty()).then(|| admission(reality, &addresses)),
            site: reality.nginx.site.as_ref().map(Site::digest).filter(|_| is_last),
            traffic: reality.nginx.target().filter(|_| is_last),
            containers: reality.containers[number].iter().map(|there| there.seen(now)).collect(),
            ..Observation::default()
        })
    }

    async fn fetch_log(&self, host: &HostId, _: LogRequest) -> Result<Vec<String>, AgentError> {
        Err(AgentError::Absent { host: host.clone() })
    }

    async fn run_task(&self, host: &HostId, _: HostTask) -> Result<(), AgentError> {
        Err(AgentError::Absent { host: host.clone() })
    }

    fn health(&self, _: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>> {
        BTreeMap::new()
    }

    fn session_of(&self, host: &HostId) -> Option<SessionInfo> {
        let number = self.link.world.host_of(host)?;
        self.link.world.lock().hosts[number].session.map(|_| SessionInfo {
            at: Timestamp(0),
            version: "0.1.0".to_owned(),
            vitals: None,
        })
    }

    fn progress(&self) -> broadcast::Receiver<ProgressLine> {
        self.progress.subscribe()
    }
}

/// Whom the database lets in: those that a plan has let in.
fn admission(reality: &Reality, addresses: &[String]) -> HbaObservation {
    let lines = reality.database.lines.clone();
    let is_let_in = |address: &&String| lines.iter().any(|line| line.address == **address);
    let admitted = addresses.iter().filter(is_let_in).cloned().collect();
    let role =
        DatabaseRole { database: "notes".to_owned(), user: "notes".to_owned(), transport: Transport::Any };
    HbaObservation::Here(LocalHba { port: 5432, role, lines, admitted })
}
