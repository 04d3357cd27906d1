//! The cluster that is attacked: a real coordinator, hosts that the test plays, and two environments. The attackers
//! have what is of `mine/production`. In `theirs/production` there is something of everything: secrets, a grant, ports,
//! a release that is live, and a deployment in the middle of its steps, with a plan and the lock.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::id::ClusterId;
use lockstep_core::record::grant::Resource;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::time::Millis;
use lockstep_proto::dial::{self, Credential, DialError};
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::plan_request::What;
use lockstep_proto::wire::watch_event::Event;
use lockstep_tests::bed::declaration::one_web_process;
use lockstep_tests::bed::program::process::{Process, built};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::host::{Host, image_id};
use crate::party::{self, Party, now};
use crate::record::StoredRecord;

pub(crate) const MINE: &str = "mine/production";
pub(crate) const THEIRS: &str = "theirs/production";

/// A secret of [`THEIRS`].
pub(crate) const SECRET: &str = "7Jq-their-secret-value";

/// The password of a registry.
pub(crate) const PASSWORD: &str = "9Wx-password-of-registry";

/// Longer than the tests run, on a machine that has much else to do.
const HELD_FOR: Millis = Millis::from_secs(600);

/// How soon the coordinator is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) runtime: Runtime,
    pub(crate) address: String,
    pub(crate) aim: Aim,
    /// The host of [`MINE`], which is the attacker's.
    pub(crate) mine: Host,
    /// The host of [`THEIRS`].
    pub(crate) theirs: Host,
    pub(crate) record: StoredRecord,
    administrator: ControlClient<Channel>,
    channels: BTreeMap<Party, Channel>,
    credentials: BTreeMap<Party, Credential>,
    forgotten_host: String,
    // The last two: what uses them ends before.
    _coordinator: Process,
    directory: TempDir,
}

/// What the attacks aim at.
pub(crate) struct Aim {
    /// The deployment of [`THEIRS`] that is in progress.
    pub(crate) open: String,
    /// One of [`THEIRS`] that has ended.
    pub(crate) earlier: String,
    /// The declaration of [`THEIRS`].
    pub(crate) spec: wire::Document,
    /// The image that is deployed to [`THEIRS`].
    pub(crate) image_id: String,
    /// The host of [`THEIRS`], as a resource of a grant.
    pub(crate) host_of_others: wire::Document,
    pub(crate) certificate_request: String,
    /// The id of a token that waits for an operator.
    pub(crate) token_id: String,
    host: String,
}

impl Aim {
    /// The id of a token is no secret; the rest is guessed.
    pub(crate) fn join_with_guessed_token(&self) -> wire::JoinRequest {
        wire::JoinRequest {
            token_id: self.token_id.clone(),
            token_secret: "A".repeat(26),
            certificate_request: self.certificate_request.clone(),
            name: "evil".to_owned(),
            address: "127.0.0.1".to_owned(),
            clock_ms: now().map_or(0, |now| now.0),
        }
    }

    /// A question for the agent of [`THEIRS`], as coordinators pass it on.
    pub(crate) fn relayed(&self) -> wire::Relayed {
        wire::Relayed { host: self.host.clone(), question: None }
    }
}

impl Cluster {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let directory = tempfile::tempdir()?;
        let (coordinator, address) = start_coordinator(directory.path())?;
        let building = Building { directory: directory.path(), address: &address };
        let built = runtime.block_on(building.build())?;
        let Built { aim, mine, theirs, record, administrator, channels, credentials, forgotten_host } = built;
        Ok(Self {
            runtime,
            address,
            aim,
            mine,
            theirs,
            record,
            administrator,
            channels,
            credentials,
            forgotten_host,
            _coordinator: coordinator,
            directory,
        })
    }

    /// A connection as `party`.
    pub(crate) async fn channel(&self, party: Party) -> Result<Channel, DialError> {
        match (self.channels.get(&party), self.credentials.get(&party)) {
            (Some(channel), _) => Ok(channel.clone()),
            (None, Some(credential)) => dial::connect(&self.address, credential).await,
            (None, None) => Err(DialError::Credential { why: format!("{party:?} has none") }),
        }
    }

    /// The calls of an operator.
    pub(crate) async fn control(&self, party: Party) -> Result<ControlClient<Channel>> {
        Ok(ControlClient::new(self.channel(party).await?))
    }

    /// The calls of the administrator of everything.
    pub(crate) fn administrator(&self) -> ControlClient<Channel> {
        self.administrator.clone()
    }

    /// What the coordinator calls a party with a certificate.
    pub(crate) fn identity(&self, party: Party) -> Result<String> {
        Ok(match party {
            Party::Nobody | Party::Stranger => bail!("{party:?} has no certificate of this cluster"),
            // Whom its certificate names.
            Party::RemovedCoordinator => "operator admin".to_owned(),
            Party::Coordinator => "coordinator coordinator-1".to_owned(),
            Party::Host => format!("agent {}", self.mine.id),
            Party::ForgottenHost => format!("agent {}", self.forgotten_host),
            Party::RevokedOperator
            | Party::ReaderOfAll
            | Party::DeployerOfAll
            | Party::Reader
            | Party::Deployer
            | Party::Administrator
            | Party::Machine => format!("operator {}", party.name()),
        })
    }

    /// The key of the secrets, which only its file has.
    pub(crate) fn secrets_key(&self) -> Result<String> {
        let key =
            fs::read_to_string(self.directory.path().join("coordinator/secrets.key"))?.trim().to_owned();
        ensure!(key.len() > 20, "the file of the key has {} bytes", key.len());
        Ok(key)
    }

    /// The newest lines of the audit log, newest first.
    pub(crate) async fn audit(&self) -> Result<Vec<wire::AuditRecord>> {
        let request = wire::EnvironmentRef { environment: String::new(), limit: 10_000 };
        Ok(self.administrator().audit(request).await?.into_inner().records)
    }
}

/// Starts a coordinator below `directory`, and gives where it listens.
fn start_coordinator(directory: &Path) -> Result<(Process, String)> {
    let own = directory.join("coordinator");
    fs::DirBuilder::new().mode(0o700).create(&own)?;
    let mut command = Command::new(built("lockstep-coordinator")?);
    command.arg("--directory").arg(&own).args(["--listen", "127.0.0.1:0"]);
    let mut process = Process::start(&mut command, &directory.join("coordinator.log"))?;
    let address = own.join("address");
    process.wait_until("the coordinator is ready", READY_LIMIT, || Ok(address.exists()))?;
    Ok((process, fs::read_to_string(address)?.trim().to_owned()))
}

struct Building<'a> {
    directory: &'a Path,
    address: &'a str,
}

struct Built {
    aim: Aim,
    mine: Host,
    theirs: Host,
    record: StoredRecord,
    administrator: ControlClient<Channel>,
    channels: BTreeMap<Party, Channel>,
    credentials: BTreeMap<Party, Credential>,
    forgotten_host: String,
}

impl Building<'_> {
    async fn build(&self) -> Result<Built> {
        let own = self.directory.join("coordinator");
        let joined =
            dial::join(self.address, fs::read_to_string(own.join("operator.token"))?.trim(), "", "").await?;
        let cluster: ClusterId = joined.cluster.parse()?;
        let credential = joined.credential;
        let mut control = ControlClient::new(dial::connect(self.address, &credential).await?);

        let mine = self.host(&mut control, "app-1").await?;
        let theirs = self.host(&mut control, "app-2").await?;
        let mut credentials = self.operators(&mut control).await?;
        credentials.insert(Party::Host, mine.credential.clone());
        credentials.insert(Party::Coordinator, party::as_coordinator(&own, &cluster)?);
        credentials.insert(Party::Stranger, party::as_stranger(self.directory, &cluster, &credential)?);
        let removed = party::as_removed_coordinator(self.directory, &cluster, &credential)?;
        credentials.insert(Party::RemovedCoordinator, removed);
        let (forgotten_host, gone) = self.forgotten_host(&mut control).await?;
        credentials.insert(Party::ForgottenHost, gone);
        // A host that no environment has: what would be lost if anybody could forget it.
        let idle = host_token(&mut control, "idle-1").await?;
        dial::join(self.address, &idle, "idle-1", "127.0.0.1").await?;

        let aim = fill(&mut control, &mine, &theirs).await?;
        let mut channels = BTreeMap::from([(Party::Nobody, anonymous(self.address, &credential).await?)]);
        for (party, credential) in &credentials {
            // The stranger gets no connection at all.
            if *party != Party::Stranger {
                channels.insert(*party, dial::connect(self.address, credential).await?);
            }
        }
        let record = StoredRecord::open(&own).await?;
        Ok(Built { aim, mine, theirs, record, administrator: control, channels, credentials, forgotten_host })
    }

    async fn host(&self, control: &mut ControlClient<Channel>, name: &str) -> Result<Host> {
        let token = host_token(control, name).await?;
        Host::open(self.address, &token, name).await
    }

    async fn forgotten_host(&self, control: &mut ControlClient<Channel>) -> Result<(String, Credential)> {
        let token = host_token(control, "gone-1").await?;
        let joined = dial::join(self.address, &token, "gone-1", "127.0.0.1").await?;
        control.remove_host(wire::HostRef { host: "gone-1".to_owned() }).await?;
        Ok((joined.identity, joined.credential))
    }

    /// Everybody with a name and a role.
    async fn operators(&self, control: &mut ControlClient<Channel>) -> Result<BTreeMap<Party, Credential>> {
        let mut credentials = BTreeMap::new();
        for party in Party::ALL {
            let Some((role, of_all)) = party.rights() else { continue };
            let name = party.name().to_owned();
            let token = if party == Party::Machine {
                let verbs = ["plan", "deploy", "rollback", "secrets"].map(str::to_owned).to_vec();
                let environment = MINE.to_owned();
                let life_ms = 24 * 3_600_000;
                let request =
                    wire::MachineTokenRequest { name, environment, verbs, life_ms, ..Default::default() };
                control.create_machine_token(request).await?
            } else {
                let environments = if of_all { "*" } else { MINE }.to_owned();
                control
                    .add_operator(wire::AddOperatorRequest { name, environments, role: role.to_string() })
                    .await?
            };
            let joined = dial::join(self.address, &token.into_inner().token, "", "").await?;
            credentials.insert(party, joined.credential);
        }
        let name = Party::RevokedOperator.name().to_owned();
        control.revoke_operator(wire::OperatorRef { name }).await?;
        Ok(credentials)
    }
}

async fn host_token(control: &mut ControlClient<Channel>, name: &str) -> Result<String> {
    let request = wire::HostTokenRequest { name: name.to_owned(), roles: Vec::new() };
    Ok(control.create_host_token(request).await?.into_inner().token)
}

/// TLS without a certificate of the client.
async fn anonymous(address: &str, trusted: &Credential) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&trusted.authority))
        .domain_name(dial::COORDINATOR_NAME);
    Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?)
}

/// Deploys to both environments; the second deployment of [`THEIRS`] stands still in the middle.
async fn fill(control: &mut ControlClient<Channel>, mine: &Host, theirs: &Host) -> Result<Aim> {
    for (environment, value) in [(MINE, "of-mine-and-no-secret-here"), (THEIRS, SECRET)] {
        let values = HashMap::from([("TOKEN".to_owned(), value.to_owned())]);
        let request =
            wire::ImportSecretsRequest { environment: environment.to_owned(), values, replace: true };
        control.import_secrets(request).await?;
    }
    let login = wire::RegistryLoginRequest {
        registry: "registry.example".to_owned(),
        username: "puller".to_owned(),
        password: PASSWORD.to_owned(),
    };
    control.log_in_to_registry(login).await?;
    for image in ["mine:1", "mine:2"] {
        deployed(control, deploy(&declared(MINE, mine)?, image)).await?;
    }
    let spec = declared(THEIRS, theirs)?;
    let earlier = deployed(control, deploy(&spec, "theirs:1")).await?;
    theirs.hold();
    let open = control.start(deploy(&spec, "theirs:2")).await?.into_inner().deployment;
    let held = theirs.held().await?;
    ensure!(held.limit_ms > HELD_FOR.0, "the step that is held ends in {} ms", held.limit_ms);
    // Of somebody who has not logged in yet.
    let waiting = wire::AddOperatorRequest {
        name: "waiting".to_owned(),
        environments: "*".to_owned(),
        role: "admin".to_owned(),
    };
    let token = control.add_operator(waiting).await?.into_inner().token;
    let (_, certificate_request) = lockstep_coordinator::identity::authority::request()?;
    Ok(Aim {
        open,
        earlier,
        spec: wire::Document::of_content(&spec),
        image_id: image_id("theirs:2").to_string(),
        host_of_others: wire::Document::of_content(&Resource::Host(theirs.name.parse()?)),
        certificate_request,
        token_id: token.split('.').nth(2).context("a token without an id")?.to_owned(),
        host: theirs.id.clone(),
    })
}

/// The declaration of an environment on one host; nothing in it ends while the tests run.
pub(crate) fn declared(environment: &str, host: &Host) -> Result<EnvironmentSpec> {
    let mut spec = one_web_process(environment, std::slice::from_ref(&host.name))?;
    // The limit of the step that is held grows with it.
    spec.processes.values_mut().for_each(|process| process.stop_grace = HELD_FOR);
    Ok(spec)
}

pub(crate) fn deploy(spec: &EnvironmentSpec, image: &str) -> wire::StartRequest {
    let ask = wire::DeployAsk {
        spec: Some(wire::Document::of_content(spec)),
        image: image.to_owned(),
        ..wire::DeployAsk::default()
    };
    let plan = wire::PlanRequest { environment: spec.key.to_string(), what: Some(What::Deploy(ask)) };
    wire::StartRequest { plan: Some(plan), ..wire::StartRequest::default() }
}

/// Starts a deployment, and watches until it has ended well.
async fn deployed(control: &mut ControlClient<Channel>, request: wire::StartRequest) -> Result<String> {
    let deployment = control.start(request).await?.into_inner().deployment;
    let reference = wire::DeploymentRef { deployment: deployment.clone(), environment: String::new() };
    let mut events =
        control.watch(wire::WatchRequest { deployment: Some(reference), after_seq: 0 }).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Summary(summary)) = event.event {
            let summary: DeploymentSummary = summary.read("summary")?;
            ensure!(summary.verdict == Some(Verdict::Succeeded), "it ended otherwise: {:?}", summary.failure);
            return Ok(deployment);
        }
    }
    None.context("it was watched, and its end was not told")
}
