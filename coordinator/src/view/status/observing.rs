//! Asks hosts for the observed state of many environments at once.
//!
//! What must stay true: no host answers more than a few questions at a time, so the last of many environments has as
//! much time as the first. A host that did not answer in time is not waited for again by the other environments. Hosts
//! that were not asked or did not answer are named, and nothing is assumed of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::observed::Observation;
use lockstep_core::view::environment::{DatabaseSeen, DatabaseStatus};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::ports::agents::{AgentError, Agents, DatabaseObservation, ObservationRequest};

/// How long an agent may take until a status is given without it.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// How long a database may take until a status is given without it.
const DATABASE_LIMIT: Duration = Duration::from_secs(5);

/// How many looks one host has to answer at a time.
const OF_A_HOST: usize = 8;

/// What one status asks of the hosts.
pub(super) struct HostObserver {
    hosts: BTreeMap<HostId, Asked>,
}

/// What one host is asked.
struct Asked {
    room: Semaphore,
    /// It let a look's time pass.
    is_silent: AtomicBool,
}

impl HostObserver {
    pub(super) fn at(hosts: &[Host]) -> Self {
        let asked = |host: &Host| {
            let asked = Asked { room: Semaphore::new(OF_A_HOST), is_silent: AtomicBool::new(false) };
            (host.id.clone(), asked)
        };
        Self { hosts: hosts.iter().map(asked).collect() }
    }

    /// What `hosts` see of an environment, and which of them say nothing.
    pub(super) async fn observe(
        &self,
        agents: &dyn Agents,
        environment: &EnvironmentKey,
        hosts: &[&Host],
    ) -> (BTreeMap<HostId, Observation>, Vec<String>) {
        let questions = hosts.iter().map(|host| self.observe_host(agents, environment, host));
        let mut observed = BTreeMap::new();
        let mut unseen = Vec::new();
        for (host, seen) in hosts.iter().zip(join_all(questions).await) {
            match seen {
                Ok(observation) => {
                    observed.insert(host.id.clone(), observation);
                }
                Err(why) => unseen.push(format!("{}: {why}", host.name)),
            }
        }
        (observed, unseen)
    }

    /// What `host` sees of an environment, or why it does not say.
    pub(super) async fn observe_host(
        &self,
        agents: &dyn Agents,
        environment: &EnvironmentKey,
        host: &Host,
    ) -> Result<Observation, String> {
        let Some(asked) = self.hosts.get(&host.id) else { return Err("the host has just joined".to_owned()) };
        let silent = || format!("its agent did not answer within {} s", LOOK_LIMIT.as_secs());
        let _room = asked.room.acquire().await.map_err(|_| silent())?;
        if asked.is_silent.load(Ordering::Relaxed) {
            return Err(silent());
        }
        let question = ObservationRequest::of(environment.clone());
        match tokio::time::timeout(LOOK_LIMIT, agents.observe(&host.id, question)).await {
            Ok(Ok(observation)) => Ok(observation),
            Ok(Err(error)) => Err(in_words(&error)),
            Err(_) => {
                asked.is_silent.store(true, Ordering::Relaxed);
                Err(silent())
            }
        }
    }
}

/// Who it is stands before it: people know a host by its name, and not by its id.
fn in_words(error: &AgentError) -> String {
    match error {
        AgentError::Absent { .. } => "its agent is not connected".to_owned(),
        AgentError::NoAnswer { .. } => "its agent did not answer in time".to_owned(),
        AgentError::Refused { why, .. } => format!("its agent refused: {why}"),
    }
}

/// The database of what is live, as the host sees it that takes its snapshots. `None` if there is none to ask.
pub(super) async fn observe_database(
    context: &Context,
    hosts: &[Host],
    live: Option<&LiveRelease>,
) -> Option<DatabaseStatus> {
    let live = live?;
    let (database, secrets_version) = (live.spec.database.as_ref()?, live.secrets_version?);
    let roles = live.roles();
    let name = roles.db.first().or(roles.app.first())?;
    let host = hosts.iter().find(|host| host.name == *name)?;
    let url_from = database.url_from.clone();
    let question = ObservationRequest {
        database: Some(DatabaseObservation { url_from, secrets_version, addresses: Vec::new() }),
        ..ObservationRequest::of(live.spec.key.clone())
    };
    let answer = tokio::time::timeout(DATABASE_LIMIT, context.agents.observe(&host.id, question)).await;
    let seen = match answer {
        Ok(Ok(Observation { schema: Some(schema), .. })) => DatabaseSeen::Schema(schema),
        Ok(Ok(Observation { foreign_schema: Some(because), .. })) => DatabaseSeen::Foreign { because },
        Ok(Ok(Observation { problems, .. })) => DatabaseSeen::Unknown { why: problems.join("; ") },
        Ok(Err(error)) => DatabaseSeen::Unknown { why: in_words(&error) },
        Err(_) => DatabaseSeen::Unknown { why: format!("no answer within {} s", DATABASE_LIMIT.as_secs()) },
    };
    Some(DatabaseStatus { host: host.name.clone(), seen })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use lockstep_core::agent::host_task::HostTask;
    use lockstep_core::health::InstanceHealth;
    use lockstep_core::run::journal::StepKey;
    use tokio::sync::broadcast;
    use tokio::time::Instant;

    use super::*;
    use crate::ports::agents::{AgentError, LogRequest, ProgressLine, QueriedStatus, SessionInfo, StepQuery};

    /// One host that takes its time.
    struct Slow {
        takes: Duration,
        questions: AtomicUsize,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Slow {
        fn taking(takes: Duration) -> Self {
            let count = AtomicUsize::default;
            Self { takes, questions: count(), now: count(), most: count() }
        }
    }

    fn absent(host: &HostId) -> AgentError {
        AgentError::Absent { host: host.clone() }
    }

    #[async_trait]
    impl Agents for Slow {
        async fn query_steps(
            &self,
            host: &HostId,
            _: StepQuery,
        ) -> Result<Vec<(StepKey, QueriedStatus)>, AgentError> {
            Err(absent(host))
        }

        async fn observe(&self, _: &HostId, _: ObservationRequest) -> Result<Observation, AgentError> {
            self.questions.fetch_add(1, Ordering::Relaxed);
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(self.takes).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            Ok(Observation::default())
        }

        async fn fetch_log(&self, host: &HostId, _: LogRequest) -> Result<Vec<String>, AgentError> {
            Err(absent(host))
        }

        async fn run_task(&self, host: &HostId, _: HostTask) -> Result<(), AgentError> {
            Err(absent(host))
        }

        fn health(&self, _: &EnvironmentKey) -> BTreeMap<HostId, Vec<InstanceHealth>> {
            BTreeMap::new()
        }

        fn session_of(&self, _: &HostId) -> Option<SessionInfo> {
            None
        }

        fn progress(&self) -> broadcast::Receiver<ProgressLine> {
            broadcast::channel(1).1
        }
    }

    fn host() -> Host {
        Host {
            id: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "172.17.0.1".to_owned(),
            roles: BTreeSet::new(),
        }
    }

    /// So many environments at once on one host: how many it was seen in, and what was said instead.
    async fn observe_all(agents: &Slow, environments: usize) -> (usize, BTreeSet<String>) {
        let (host, hosts) = (host(), [host()]);
        let observer = HostObserver::at(&hosts);
        let keys: Vec<EnvironmentKey> =
            (0..environments).map(|number| format!("notes/n{number}").parse().unwrap()).collect();
        let questions = keys.iter().map(|key| async {
            let mine = [&host];
            observer.observe(agents, key, &mine).await
        });
        let all = join_all(questions).await;
        let seen = all.iter().filter(|(observed, _)| !observed.is_empty()).count();
        (seen, all.into_iter().flat_map(|(_, unseen)| unseen).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_has_few_looks_to_answer_at_a_time_and_answers_all() {
        let agents = Slow::taking(Duration::from_millis(100));
        let (seen, unseen) = observe_all(&agents, 500).await;
        assert_eq!((seen, unseen.len()), (500, 0), "{unseen:?}");
        assert_eq!(agents.most.load(Ordering::Relaxed), OF_A_HOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_answer_is_waited_for_once() {
        let agents = Slow::taking(Duration::from_secs(3600));
        let begun = Instant::now();
        let (seen, unseen) = observe_all(&agents, 500).await;
        assert_eq!(begun.elapsed(), LOOK_LIMIT);
        assert_eq!(seen, 0, "something was claimed that nobody saw");
        assert_eq!(unseen, ["app-1: its agent did not answer within 2 s".to_owned()].into());
        assert_eq!(agents.questions.load(Ordering::Relaxed), OF_A_HOST);
    }
}
