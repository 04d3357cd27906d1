//! The coordinator's end of the wire, and an agent in a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep_agent::journal::Journal;
use lockstep_agent::program::directory::Directory;
use lockstep_agent::program::identity::Identity;
use lockstep_agent::program::settings::Settings;
use lockstep_core::agent::fence::Token;
use lockstep_core::id::StepId;
use lockstep_core::plan::Action;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_proto::dial::COORDINATOR_NAME;
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::session_server::{Session, SessionServer};
use lockstep_proto::wire::to_agent::Message as Order;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

const CLUSTER: &str = "cl_01JBQR2KXYZ987654321012345";
const ENVIRONMENT: &str = "notes/production";

/// Longer than the agent may take for anything here.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn do_key(step: u16) -> StepKey {
    key(step, Direction::Do)
}

pub(crate) fn undo_key(step: u16) -> StepKey {
    key(step, Direction::Undo)
}

fn key(step: u16, direction: Direction) -> StepKey {
    StepKey { deployment: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(), step: StepId(step), direction }
}

fn wire_token((epoch, seq): (u64, u64)) -> wire::Token {
    wire::Token { cluster: CLUSTER.to_owned(), epoch, seq }
}

/// An agent, and who it dials.
pub(crate) struct Bed {
    folder: tempfile::TempDir,
    sessions: mpsc::Receiver<Attached>,
    agent: Option<JoinHandle<anyhow::Result<()>>>,
    server: JoinHandle<()>,
}

/// One session, seen from the coordinator.
pub(crate) struct Attached {
    incoming: Streaming<wire::FromAgent>,
    outgoing: mpsc::Sender<Result<wire::ToAgent, Status>>,
}

/// A report, as told.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) key: StepKey,
    pub(crate) token: (u64, u64),
    pub(crate) outcome: Result<Finding, StepFailure>,
}

#[derive(Debug)]
pub(crate) enum Heard {
    Said(Said),
    /// The agent has left.
    Gone,
}

/// Who signs the two ends' certificates.
struct Authority {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = parameters.self_signed(&key).unwrap();
        Self { root, issuer: Issuer::new(parameters, key) }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue(COORDINATOR_NAME);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::from(key))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The connections to `listener` whose handshake went well.
fn secured(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> {
    TcpListenerStream::new(listener)
        .then(move |connection| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(connection?).await }
        })
        .filter(Result::is_ok)
}

struct Server {
    sessions: mpsc::Sender<Attached>,
}

#[tonic::async_trait]
impl Session for Server {
    type AttachStream = ReceiverStream<Result<wire::ToAgent, Status>>;
    type TakeImageStream = ReceiverStream<Result<wire::ImagePart, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (outgoing, sending) = mpsc::channel(16);
        let attached = Attached { incoming: request.into_inner(), outgoing };
        self.sessions.send(attached).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(sending)))
    }

    async fn take_image(
        &self,
        _: Request<wire::ImageWanted>,
    ) -> Result<Response<Self::TakeImageStream>, Status> {
        Err(Status::not_found("no other host is here"))
    }

    async fn give_image(
        &self,
        _: Request<Streaming<wire::ImagePart>>,
    ) -> Result<Response<wire::ImageGiven>, Status> {
        Err(Status::not_found("nobody waits for it"))
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinator = listener.local_addr().unwrap().to_string();
        let (sender, sessions) = mpsc::channel(1);
        let server = tonic::transport::Server::builder()
            .add_service(SessionServer::new(Server { sessions: sender }))
            .serve_with_incoming(secured(listener, authority.acceptor()));
        let server = tokio::spawn(async move { server.await.unwrap() });
        let directory = Directory::open(folder.path()).unwrap();
        let (certificate, key) = authority.issue("agent");
        directory.write(&directory.key(), &key.serialize_pem()).unwrap();
        directory.write(&directory.certificate(), &certificate.pem()).unwrap();
        directory.write(&directory.authority(), &authority.root.pem()).unwrap();
        let identity = Identity {
            cluster: CLUSTER.parse().unwrap(),
            host: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "127.0.0.1".to_owned(),
            coordinators: vec![coordinator],
        };
        identity.write(&directory).unwrap();
        drop(directory);
        let mut bed = Self { folder, sessions, agent: None, server };
        bed.start_agent();
        bed
    }

    pub(crate) fn start_agent(&mut self) {
        let directory = Directory::open(self.folder.path()).unwrap();
        let settings = Settings::read(&directory.settings()).unwrap();
        self.agent = Some(tokio::spawn(lockstep_agent::run(directory, settings)));
    }

    /// As by `kill -9`: nothing is told to end.
    pub(crate) async fn kill_agent(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled(), "the agent had ended before");
        // What it left behind in its tasks goes with them; only then is the directory free.
        let free = async {
            while Directory::open(self.folder.path()).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, free).await.expect("the agent's directory is free");
    }

    /// The agent as its own process, which can be asked to end.
    pub(crate) async fn start_agent_process(&mut self) -> Child {
        self.kill_agent().await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-agent"));
        command.arg("run").arg("--directory").arg(self.folder.path()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// From here on no coordinator is reachable.
    pub(crate) fn end_coordinator(&self) {
        self.server.abort();
    }

    /// The journal of an agent that has ended.
    pub(crate) async fn journal(&self) -> Journal {
        let directory = Directory::open(self.folder.path()).unwrap();
        Journal::open(&directory.journal()).await.unwrap()
    }

    pub(crate) fn steps(&self) -> PathBuf {
        self.folder.path().join("steps")
    }

    /// The agent's next session, before it is welcome.
    pub(crate) async fn connected(&mut self) -> Attached {
        let attached = tokio::time::timeout(LIMIT, self.sessions.recv()).await;
        let mut attached = attached.expect("the agent dials").unwrap();
        let first = attached.heard().await;
        let Heard::Said(Said::Hello(hello)) = first else { panic!("the agent began with {first:?}") };
        assert_eq!(hello.address, "127.0.0.1");
        attached
    }

    /// The agent's next session.
    pub(crate) async fn attached(&mut self) -> Attached {
        let attached = self.connected().await;
        attached.welcome(CLUSTER).await;
        attached
    }
}

impl Attached {
    async fn send(&self, order: Order) {
        self.outgoing.send(Ok(wire::ToAgent { message: Some(order) })).await.unwrap();
    }

    pub(crate) async fn welcome(&self, cluster: &str) {
        let welcome = wire::Welcome {
            cluster: cluster.to_owned(),
            coordinator: "c1".to_owned(),
            coordinators: Vec::new(),
            authority: String::new(),
        };
        self.send(Order::Welcome(welcome)).await;
    }

    pub(crate) async fn assign(&self, key: StepKey, token: (u64, u64), action: Option<&Action>) {
        self.assign_with_limit(key, token, action, Duration::from_secs(600)).await;
    }

    pub(crate) async fn assign_with_limit(
        &self,
        key: StepKey,
        token: (u64, u64),
        action: Option<&Action>,
        limit: Duration,
    ) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap();
        self.send(Order::Assign(assign(key, token, action.map(wire::Document::of_content), limit_ms))).await;
    }

    pub(crate) async fn send_unreadable_assignment(&self, key: StepKey, token: (u64, u64)) {
        let action = wire::Document { json: br#"{"kind":"action","version":9,"content":{}}"#.to_vec() };
        self.send(Order::Assign(assign(key, token, Some(action), 1000))).await;
    }

    /// What the agent says next.
    pub(crate) async fn heard(&mut self) -> Heard {
        let message = tokio::time::timeout(LIMIT, self.incoming.message()).await;
        match message.expect("the agent says something") {
            Ok(Some(message)) => Heard::Said(message.message.unwrap()),
            Ok(None) | Err(_) => Heard::Gone,
        }
    }

    /// The next of these, past what is said of health and progress.
    async fn next<T>(&mut self, wanted: impl Fn(&Said) -> Option<T>) -> T {
        loop {
            match self.heard().await {
                Heard::Said(Said::Health(_) | Said::Progress(_)) => {}
                Heard::Said(said) => {
                    return wanted(&said).unwrap_or_else(|| panic!("the agent said {said:?}"));
                }
                Heard::Gone => panic!("the agent has left"),
            }
        }
    }

    pub(crate) async fn report(&mut self) -> Reported {
        self.next(|said| {
            let Said::Report(report) = said else { return None };
            let token: Token = report.token.clone()?.try_into().unwrap();
            Some(Reported {
                key: report.key.clone()?.try_into().unwrap(),
                token: (token.epoch, token.seq),
                outcome: report.outcome.as_ref()?.read().unwrap(),
            })
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> wire::Refused {
        self.next(|said| {
            let Said::Refused(refused) = said else { return None };
            Some(refused.clone())
        })
        .await
    }

    pub(crate) async fn secrets_wanted(&mut self) -> wire::SecretsWanted {
        self.next(|said| {
            let Said::SecretsWanted(wanted) = said else { return None };
            Some(wanted.clone())
        })
        .await
    }

    pub(crate) async fn refuse_secrets(&self, request: u64, why: &str) {
        let result = Some(wire::secrets::Result::Refused(why.to_owned()));
        self.send(Order::Secrets(wire::Secrets { request, result })).await;
    }

    pub(crate) async fn ask(&mut self, token: (u64, u64), keys: &[StepKey]) -> Vec<wire::StepStanding> {
        let keys = keys.iter().cloned().map(Into::into).collect();
        let ask =
            wire::AskStanding { token: Some(wire_token(token)), environment: ENVIRONMENT.to_owned(), keys };
        self.send(Order::Ask(ask)).await;
        self.next(|said| {
            let Said::Standing(reply) = said else { return None };
            Some(reply.standings.clone())
        })
        .await
    }

    pub(crate) async fn vitals(&mut self, request: u64) -> wire::Vitals {
        self.send(Order::AskVitals(wire::AskVitals { request })).await;
        self.next(|said| {
            let Said::Vitals(vitals) = said else { return None };
            Some(*vitals)
        })
        .await
    }

    /// Waits until the step runs. The question has the assignment's own token, so it fences nothing out.
    pub(crate) async fn running(&mut self, key: &StepKey, token: (u64, u64)) {
        let running = async {
            loop {
                let standings = self.ask(token, std::slice::from_ref(key)).await;
                match &standings[0].standing {
                    Some(wire::step_standing::Standing::Running(true)) => return,
                    Some(wire::step_standing::Standing::Unheard(true)) => {}
                    other => panic!("the step is {other:?}"),
                }
            }
        };
        tokio::time::timeout(LIMIT, running).await.expect("the step runs");
    }

    pub(crate) async fn fetch_log(&mut self, key: &StepKey, tail: u32) -> Vec<String> {
        let fetch = wire::FetchLog {
            request: 7,
            environment: ENVIRONMENT.to_owned(),
            deployment: key.deployment.to_string(),
            step: key.step.0.into(),
            tail,
            ..wire::FetchLog::default()
        };
        self.send(Order::FetchLog(fetch)).await;
        let mut lines = Vec::new();
        loop {
            let reply = self
                .next(|said| {
                    let Said::Log(reply) = said else { return None };
                    Some(reply.clone())
                })
                .await;
            lines.extend(reply.lines);
            if reply.last {
                return lines;
            }
        }
    }
}

fn assign(key: StepKey, token: (u64, u64), action: Option<wire::Document>, limit_ms: u64) -> wire::Assign {
    wire::Assign {
        object_name: String::new(),
        token: Some(wire_token(token)),
        key: Some(key.into()),
        environment: ENVIRONMENT.to_owned(),
        action,
        limit_ms,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    }
}
