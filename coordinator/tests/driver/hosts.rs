//! Hosts that are only a script: what an agent and its session do, without Docker, nginx or a network.
//! They fence, remember each step by its key, and report through the store, as the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lockstep_coordinator::ports::agents::{
    AgentError, Agents, LogRequest, ObservationRequest, ProgressLine, QueriedStatus, SessionInfo, StepQuery,
};
use lockstep_coordinator::store::guarded::report;
use lockstep_coordinator::store::handover::{Assignment, Report, Reported};
use lockstep_coordinator::store::{Store, StoreError, keys};
use lockstep_core::agent::fence::{Token, TokenOrder, compare_token};
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::observed::{ImageObservation, Observation};
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::time::Timestamp;
use tokio::sync::{Notify, broadcast};

/// What the hosts do with steps of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Fails,
    /// Does it, and never says so.
    Nothing,
    /// Does it and knows that it did, and its report gets lost each time.
    Unreported,
    /// Says nothing until the test says otherwise.
    Waits,
}

pub(crate) struct Hosts {
    store: Arc<dyn Store>,
    // Shared between the agents' port and the sessions' task: it stands for what is out there.
    state: Mutex<State>,
    progress: broadcast::Sender<ProgressLine>,
}

#[derive(Default)]
struct State {
    scripts: BTreeMap<(&'static str, Direction), Does>,
    fences: BTreeMap<(HostId, EnvironmentKey), Token>,
    outcomes: BTreeMap<StepKey, Reported>,
    /// Every effect in its order: `start do`.
    effects: Vec<String>,
    absent: BTreeSet<HostId>,
    /// Hosts that answer questions and get no assignments: a session that is slow.
    slow: BTreeSet<HostId>,
    answered: usize,
    asked: Vec<ObservationRequest>,
    /// What hosts have of the environment, where it is not nothing.
    seen: BTreeMap<HostId, Observation>,
    /// What hosts have said of their instances.
    health: BTreeMap<HostId, Vec<InstanceHealth>>,
    /// Where the next look waits.
    gate: Option<Arc<Gate>>,
}

/// A look that has begun, and ends when the test says so.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) begun: Notify,
    pub(crate) end: Notify,
}

impl Hosts {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, state: Mutex::default(), progress: broadcast::channel(16).0 }
    }

    pub(crate) fn script(&self, action: &'static str, direction: Direction, does: Does) {
        self.state().scripts.insert((action, direction), does);
    }

    pub(crate) fn unscript(&self) {
        self.state().scripts.clear();
    }

    pub(crate) fn absent(&self, host: &HostId) {
        self.state().absent.insert(host.clone());
    }

    pub(crate) fn present(&self, host: &HostId) {
        self.state().absent.remove(host);
    }

    pub(crate) fn slow(&self, host: &HostId) {
        self.state().slow.insert(host.clone());
    }

    pub(crate) fn quick(&self, host: &HostId) {
        self.state().slow.remove(host);
    }

    /// From here on the host says that this is there.
    pub(crate) fn sees(&self, host: &HostId, observation: Observation) {
        self.state().seen.insert(host.clone(), observation);
    }

    pub(crate) fn says_health(&self, host: &HostId, instances: Vec<InstanceHealth>) {
        self.state().health.insert(host.clone(), instances);
    }

    /// The next look waits at the gate.
    pub(crate) fn hold_next_look(&self) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        self.state().gate = Some(gate.clone());
        gate
    }

    /// How many times a host was asked to look.
    pub(crate) fn questions(&self) -> usize {
        self.state().asked.len()
    }

    /// What a host was asked last to look at.
    pub(crate) fn last_question(&self) -> Option<ObservationRequest> {
        self.state().asked.last().cloned()
    }

    /// How many questions were answered.
    pub(crate) fn answered(&self) -> usize {
        self.state().answered
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        self.state().effects.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("a test that panicked has failed already")
    }

    /// What the holder of `host`'s session does, for ever.
    pub(crate) async fn serve(self: Arc<Self>, host: HostId) {
        let mut wakeups = self.store.watch(&keys::assignments_to(&host));
        loop {
            let assignments = self.store.list(&keys::assignments_to(&host)).await.expect("listed");
            for stored in assignments {
                let assignment: Assignment = stored.read().expect("an assignment");
                if let Some(outcome) = self.carry_out(&host, &assignment) {
                    let Assignment { token, key, environment, .. } = assignment;
                    self.tell(&host, &Report { token, key, environment, outcome }).await;
                }
            }
            tokio::select! {
                () = wakeups.changed() => {}
                // A host that was absent, or a script that was taken away, wakes nobody.
                () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
            }
        }
    }

    async fn tell(&self, host: &HostId, said: &Report) {
        loop {
            match report(&*self.store, host, said).await {
                Ok(_) => return,
                Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(error) => panic!("a report is refused: {error}"),
            }
        }
    }

    fn carry_out(&self, host: &HostId, assignment: &Assignment) -> Option<Reported> {
        let mut state = self.state();
        if state.absent.contains(host) || state.slow.contains(host) {
            return None;
        }
        let fence = (host.clone(), assignment.environment.clone());
        let admission = match compare_token(state.fences.get(&fence), &assignment.token) {
            Ok(admission) => admission,
            Err(refusal) => return Some(Reported::Refused { why: refusal.to_string() }),
        };
        state.fences.insert(fence, assignment.token.clone());
        let key = &assignment.key;
        let name = assignment.action.as_ref().map_or("nothing", |action| action.name());
        let script = state.scripts.get(&(name, key.direction)).copied();
        if script == Some(Does::Unreported) && state.outcomes.contains_key(key) {
            return None;
        }
        // The same message again is no other attempt.
        let is_retry = admission == TokenOrder::Newer
            && key.direction == Direction::Undo
            && matches!(state.outcomes.get(key), Some(Reported::Failed(_)));
        if let Some(outcome) = state.outcomes.get(key).filter(|_| !is_retry) {
            return Some(outcome.clone());
        }
        let undo = StepKey { direction: Direction::Undo, ..key.clone() };
        if key.direction == Direction::Do && state.outcomes.contains_key(&undo) {
            return Some(Reported::Refused { why: "it has been undone".to_owned() });
        }
        if script == Some(Does::Waits) {
            return None;
        }
        state.effects.push(format!("{name} {}", key.direction));
        let outcome = match script {
            Some(Does::Fails) => Reported::Failed(StepFailure::new(format!("{name} broke"))),
            Some(Does::Nothing | Does::Unreported | Does::Waits) | None => Reported::Done(Finding::default()),
        };
        if script == Some(Does::Nothing) {
            return None;
        }
        state.outcomes.insert(key.clone(), outcome.clone());
        (script != Some(Does::Unreported)).then_some(outcome)
    }
}

#[async_trait]
impl Agents for Hosts {
    async fn query_steps(
        &self,
        host: &HostId,
        question: StepQuery,
    ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError> {
        let mut state = self.state();
        if state.absent.contains(host) {
            return Err(AgentError::Absent { host: host.clone() });
        }
        let fence = (host.clone(), question.environment.clone());
        if let Err(refusal) = compare_token(state.fences.get(&fence), &question.token) {
            return Err(AgentError::Refused { host: host.clone(), why: refusal.to_string() });
        }
        state.fences.insert(fence, question.token);
        state.answered += 1;
        let standing = |key: &StepKey| match state.outcomes.get(key) {
            Some(Reported::Done(finding)) => QueriedStatus::Ended(Ok(finding.clone())),
            Some(Reported::Failed(failure)) => QueriedStatus::Ended(Err(failure.clone())),
            Some(Reported::Refused { .. }) | None => QueriedStatus::NeverReceived,
        };
        Ok(question.keys.iter().map(|key| (key.clone(), standing(key))).collect())
    }

    async fn observe(&self, host: &HostId, look: ObservationRequest) -> Result<Observation, AgentError> {
        let gate = self.state().gate.take();
        if let Some(gate) = gate {
            gate.begun.notify_one();
            gate.end.notified().await;
        }
        self.state().asked.push(look.clone());
        if self.state().absent.contains(host) {
            return Err(AgentError::Absent { host: host.clone() });
        }
        let seen = self.state().seen.get(host).cloned().unwrap_or_default();
        let image = look.image.map(|image| ImageObservation {
            id: Digest::of_content(image.as_bytes()),
            manifest: None,
            commit: None,
            migrations: Vec::new(),
            size_bytes: 1,
        });
        Ok(Observation { image, ..seen })
    }

    async fn fetch_log(&self, host: &HostId, _: LogRequest) -> Result<Vec<String>, AgentError> {
        Err(AgentError::Absent { host: host.clone() })
    }

    async fn run_task(&self, host: &HostId, _: HostTask) -> Result<(), AgentError> {
        Err(AgentError::Absent { host: host.clone() })
    }

    fn health(&self, _: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>> {
        self.state().health.clone()
    }

    fn session_of(&self, host: &HostId) -> Option<SessionInfo> {
        let seen = SessionInfo { at: Timestamp(0), version: "0.1.0".to_owned(), vitals: None };
        (!self.state().absent.contains(host)).then_some(seen)
    }

    fn progress(&self) -> broadcast::Receiver<ProgressLine> {
        self.progress.subscribe()
    }
}
