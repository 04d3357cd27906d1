//! A coordinator's driver over the memory store, with hosts that are a script and a clock that jumps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::context::Context;
use lockstep_coordinator::drive::Drivers;
use lockstep_coordinator::planning;
use lockstep_coordinator::planning::grants::{self, Authority, GrantChange};
use lockstep_coordinator::planning::{
    DeployError, DeployRequest, PlanRequest, RequestedOperation, Requester, StartRequest,
};
use lockstep_coordinator::ports::clock::Clock;
use lockstep_coordinator::ports::secrets::FixedSecrets;
use lockstep_coordinator::record::vault::{SecretsSource, Vault};
use lockstep_coordinator::record::{environments, history};
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::{Store, Write, keys};
use lockstep_core::host::{Host, HostRole};
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::grant::Resource;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::engine::Run;
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Entry, Event};
use lockstep_core::secret::Secret;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::time::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hosts::Hosts;

/// The longest that anything may take, on the clock that jumps.
pub(crate) const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// How often it is looked whether something has come to pass.
const ASK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct JumpingClock(Instant);

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.0.elapsed().as_millis()).expect("a test is short");
        Timestamp(1_769_596_200_000 + passed)
    }
}

pub(crate) struct Fixture {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) parts: Context,
    pub(crate) logs: tempfile::TempDir,
    sessions: JoinSet<()>,
}

/// What `look` finds, as soon as it does: files follow the record.
pub(crate) async fn found<T>(look: impl Fn() -> Option<T>) -> T {
    let wait = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it is there in the end")
}

pub(crate) fn host_id() -> HostId {
    "host_01JBQR2KXYZ987654321012345".parse().expect("a host's id")
}

pub(crate) fn environment() -> EnvironmentKey {
    "notes/production".parse().expect("a key")
}

pub(crate) fn anna() -> Requester {
    Requester {
        operator: "anna".parse().expect("a name"),
        hostname: "ws".to_owned(),
        pid: 7,
        authority: Authority::Administrator,
    }
}

/// What a refusal says.
/// Anna sets one secret.
pub(crate) async fn set_secret(vault: &Vault, name: &str, value: &str, at: u64) {
    let values = BTreeMap::from([(name.to_owned(), Secret::new(value.to_owned()))]);
    let by = (anna().operator, Timestamp(at));
    vault.import(&environment(), values, SecretsSource::Set, by).await.expect("set");
}

pub(crate) fn refused(result: Result<impl std::fmt::Debug, DeployError>) -> Refusal {
    match result {
        Err(DeployError::Refused(refusal) | DeployError::NotGranted(refusal)) => refusal,
        other => panic!("it is not refused: {other:?}"),
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(JumpingClock(Instant::now()));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let hosts = Arc::new(Hosts::new(store.clone()));
        let logs = tempfile::tempdir().expect("a directory");
        let host = Host {
            id: host_id(),
            name: "app-1".parse().expect("a name"),
            address: "172.17.0.1".to_owned(),
            roles: [HostRole::App, HostRole::Lb, HostRole::Db].into(),
        };
        store.commit(vec![], joined(&host)).await.expect("the host joins");
        let mut sessions = JoinSet::new();
        sessions.spawn(hosts.clone().serve(host_id()));
        let parts = Context {
            store: store.clone(),
            agents: hosts.clone(),
            secrets: Arc::new(FixedSecrets::default()),
            clock,
            kept_images: Arc::default(),
            unclaimed_names: Arc::default(),
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().expect("a cluster's id"),
            coordinator: "c1".to_owned(),
            logs: logs.path().to_owned(),
            state_files: Some(logs.path().join("state")),
        };
        let fixture = Self { store, hosts, parts, logs, sessions };
        fixture.grant_snapshots(&environment()).await;
        fixture
    }

    /// Another host joins, at an address of its own.
    /// With secrets that have values.
    pub(crate) async fn with_vault() -> (Self, Arc<Vault>) {
        let mut fixture = Self::new().await;
        let file = fixture.logs.path().join("secrets.key");
        let vault = Arc::new(Vault::open(fixture.store.clone(), &file).expect("a vault"));
        fixture.parts.secrets = vault.clone();
        (fixture, vault)
    }

    pub(crate) async fn join(&mut self, name: &str, number: u8) -> HostId {
        self.join_as(name, number, &[HostRole::App, HostRole::Lb, HostRole::Db]).await
    }

    /// Another host joins with some roles only.
    pub(crate) async fn join_as(&mut self, name: &str, number: u8, roles: &[HostRole]) -> HostId {
        let id: HostId = format!("host_{number:026}").parse().expect("a host's id");
        let address = format!("172.17.0.{number}");
        let host = Host {
            id: id.clone(),
            name: name.parse().expect("a name"),
            address,
            roles: roles.iter().copied().collect(),
        };
        self.store.commit(vec![], joined(&host)).await.expect("the host joins");
        self.sessions.spawn(self.hosts.clone().serve(id.clone()));
        self.grant(&environment(), Resource::Host(host.name)).await;
        id
    }

    /// A coordinator's drivers; they end when what is returned is dropped.
    pub(crate) fn drivers(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Drivers::new(self.parts.clone()).run(CancellationToken::new()));
        tasks
    }

    pub(crate) fn ask(spec: EnvironmentSpec, image: &str) -> PlanRequest {
        let environment = spec.key.clone();
        let deploy = DeployRequest::of(spec, image.to_owned());
        PlanRequest { environment, what: RequestedOperation::Deploy(Box::new(deploy)) }
    }

    pub(crate) async fn plan(&self, ask: &PlanRequest) -> Result<Plan, DeployError> {
        Ok(planning::plan(&self.parts, ask, &anna()).await?.plan)
    }

    /// Lets an environment have its snapshots where its declaration says.
    pub(crate) async fn grant_snapshots(&self, environment: &EnvironmentKey) {
        self.grant(environment, Resource::SnapshotDirectory("/var/backups/notes".to_owned())).await;
    }

    pub(crate) async fn grant(&self, environment: &EnvironmentKey, resource: Resource) {
        let change = GrantChange { granted: vec![resource], ..GrantChange::default() };
        grants::change_grant(&*self.store, environment, &change).await.expect("a grant");
    }

    pub(crate) async fn start(&self, image: &str) -> Result<(DeploymentId, Plan), DeployError> {
        let start = StartRequest::of(Self::ask(spec(), image));
        planning::start(&self.parts, &start, &anna()).await
    }

    /// Opens a deployment of another declaration and waits until it has ended.
    pub(crate) async fn deploy_as(&self, spec: EnvironmentSpec, image: &str) -> DeploymentSummary {
        let start = StartRequest::of(Self::ask(spec, image));
        let (id, plan) = planning::start(&self.parts, &start, &anna()).await.expect("it starts");
        // It asks, as the store may be mute.
        let wait = async {
            while environments::open(&*self.store, &plan.key).await.expect("read").is_some() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it ends");
        history::summary(&*self.store, &id).await.expect("read").expect("it is in the history")
    }

    /// Opens a deployment and waits until it has ended.
    pub(crate) async fn deploy(&self, image: &str) -> DeploymentSummary {
        let (id, _) = self.start(image).await.expect("it starts");
        self.ended(&id).await
    }

    pub(crate) async fn open(&self) -> Option<Claim> {
        environments::open(&*self.store, &environment()).await.expect("read").map(|seen| seen.content)
    }

    /// Waits until nothing is open, and says how `id` ended.
    pub(crate) async fn ended(&self, id: &DeploymentId) -> DeploymentSummary {
        self.until(|open| open.is_none()).await;
        history::summary(&*self.store, id).await.expect("read").expect("it is in the history")
    }

    /// Waits until what is open is as wanted.
    pub(crate) async fn until(&self, is_so: impl Fn(Option<&Claim>) -> bool) {
        let wait = async {
            let mut wakeups = self.store.watch(&keys::environment(&environment()));
            while !is_so(self.open().await.as_ref()) {
                wakeups.changed().await;
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            panic!("it does not come to that; it is {:?}", self.open().await);
        }
    }

    /// Waits until the step of this number has begun.
    pub(crate) async fn until_begun(&self, id: &DeploymentId, number: u16) {
        let mut wakeups = self.store.watch(&keys::journal(id));
        let is_it = |entry: &Entry| matches!(entry.event, Event::Begun { step, .. } if step.0 == number);
        while !history::journal(&*self.store, id).await.expect("read").iter().any(is_it) {
            wakeups.changed().await;
        }
    }

    /// What must be so after every deployment, however it went.
    pub(crate) async fn check_ended(&self, summary: &DeploymentSummary, verdict: Verdict) {
        assert_eq!(summary.verdict, Some(verdict), "{:?}", summary.failure);
        let entries = history::journal(&*self.store, &summary.id).await.expect("the journal is read");
        let plan = history::plan(&*self.store, &summary.id).await.expect("read").expect("it is there");
        Run::replay(plan, Timestamp(u64::MAX), &entries).expect("the journal can be replayed");
        let left = self.store.list(&keys::assignments_to(&host_id())).await.expect("listed");
        assert!(left.is_empty(), "assignments are left: {left:?}");
        // A report that came twice may still be there; the next deployment removes it.
        let live = environments::live(&*self.store, &environment()).await.expect("read");
        let is_live = live.is_some_and(|live| live.deployment == summary.id);
        assert_eq!(is_live, verdict == Verdict::Succeeded, "what is live is not what the verdict says");
    }

    pub(crate) async fn shut_down(mut self) {
        self.sessions.shutdown().await;
    }
}

/// What is in the record of a host that has joined.
fn joined(host: &Host) -> Vec<Write> {
    let name = Write::put_bytes(keys::host_name(&host.name), host.id.as_str().to_owned());
    vec![Write::put(keys::host_spec(&host.id), host), name]
}

pub(crate) fn spec() -> EnvironmentSpec {
    serde_json::from_value(serde_json::json!({
        "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
        "mode": "staging", "image": { "repository": "notes" },
        "processes": { "web": {
            "role": "web", "command": [], "port": 8080,
            "health": { "path": "/health", "timeout": 60_000, "interval": 500, "consecutive": 3 },
            "volumes": [], "memory_bytes": null, "cpu_milli": null, "user": null, "stop_signal": null,
            "stop_grace": 10_000, "standby": "run",
        } },
        "database": null,
        "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
        "deploy": { "lock_timeout": 1_800_000, "drain": 1_000, "bake": 1_000, "log_directory": null, "state_file": null },
        "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
    }))
    .expect("a declaration")
}
