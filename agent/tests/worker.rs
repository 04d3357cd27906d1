//! The worker alone: what becomes of a step whose session goes away, as it does when the agent stops.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use lockstep_agent::executor::Executors;
use lockstep_agent::journal::Journal;
use lockstep_agent::journal::assignment::Assignment;
use lockstep_agent::journal::object_names::ObjectNames;
use lockstep_agent::journal::step_log::StepLogs;
use lockstep_agent::program::directory::Directory;
use lockstep_agent::program::identity::Identity;
use lockstep_agent::program::settings::Settings;
use lockstep_agent::session::images::TransferClient;
use lockstep_agent::worker::{Answer, Worker, WorkerContext, WorkerEvent};
use lockstep_core::agent::fence::Token;
use lockstep_core::id::{Digest, StepId};
use lockstep_core::plan::Action;
use lockstep_core::plan::action::{DatabaseRef, PresentImage, TakeSnapshot};
use lockstep_core::run::journal::{Direction, StepKey};
use lockstep_core::time::Millis;
use lockstep_proto::dial::Credential;
use tokio::sync::{mpsc, watch};

/// Longer than the worker may take for anything here.
const LIMIT: Duration = Duration::from_secs(20);

const CLUSTER: &str = "cl_01JBQR2KXYZ987654321012345";

/// A worker, and the session's end of its channel.
struct Bed {
    worker: Worker,
    journal: Arc<Journal>,
    session: mpsc::Receiver<WorkerEvent>,
    _folder: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let identity = Identity {
            cluster: CLUSTER.parse().unwrap(),
            host: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "127.0.0.1".to_owned(),
            coordinators: vec!["127.0.0.1:7443".to_owned()],
        };
        let settings = Settings::read(&directory.settings()).unwrap();
        let journal = Arc::new(Journal::open(&directory.journal()).await.unwrap());
        let (worker_events, session) = mpsc::channel(8);
        let credential =
            Credential { key: String::new(), certificate: String::new(), authority: String::new() };
        let worker = Worker::new(WorkerContext {
            journal: Arc::clone(&journal),
            executors: Arc::new(Executors::new(&directory, &settings, &identity, ObjectNames::default())),
            logs: StepLogs::new(directory.steps()),
            worker_events,
            transfer_client: TransferClient {
                coordinators: watch::Sender::new(Vec::new()).subscribe(),
                credential: watch::Sender::new(credential).subscribe(),
            },
        });
        Self { worker, journal, session, _folder: folder }
    }

    async fn assign(&mut self, action: Action) {
        let assignment = Assignment {
            token: Token { cluster: CLUSTER.parse().unwrap(), epoch: 1, seq: 2 },
            key: key(),
            environment: "notes/production".parse().unwrap(),
            action: Some(action),
            limit: Millis::from_secs(600),
            traceparent: String::new(),
        };
        assert_eq!(self.worker.assign(assignment).await, Answer::Later);
    }

    async fn assert_stays_open(mut self) {
        tokio::time::timeout(LIMIT, self.worker.next_exit()).await.expect("the step's task ends");
        assert_eq!(self.journal.unsettled().await.unwrap(), []);
        let interrupted = self.journal.interrupt().await.unwrap();
        assert_eq!(interrupted.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key()]);
    }
}

fn key() -> StepKey {
    let deployment = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
    StepKey { deployment, step: StepId(1), direction: Direction::Do }
}

/// Work that needs secrets.
fn snapshot() -> Action {
    let database = DatabaseRef { url_from: "DATABASE_URL".to_owned(), secrets_version: 3 };
    Action::TakeSnapshot(TakeSnapshot { database, directory: "/nonexistent".to_owned() })
}

/// Work that may need a login.
fn pull() -> Action {
    let digest = Digest::of_content(b"notes");
    Action::PresentImage(PresentImage {
        image: "registry.invalid/notes:1".to_owned(),
        image_id: digest.clone(),
        manifest: Some(digest),
    })
}

#[tokio::test]
async fn a_step_that_asks_for_secrets_while_the_agent_stops_stays_open() {
    let mut bed = Bed::new().await;
    bed.session.close();
    bed.assign(snapshot()).await;
    bed.assert_stays_open().await;
}

#[tokio::test]
async fn a_step_that_waits_for_secrets_when_the_agent_stops_stays_open() {
    let mut bed = Bed::new().await;
    bed.assign(snapshot()).await;
    let WorkerEvent::SecretsWanted { reply, .. } = bed.session.recv().await.unwrap() else {
        panic!("the step does not ask for secrets")
    };
    drop(reply);
    bed.assert_stays_open().await;
}

#[tokio::test]
async fn a_step_that_asks_for_a_login_while_the_agent_stops_stays_open() {
    let mut bed = Bed::new().await;
    bed.session.close();
    bed.assign(pull()).await;
    bed.assert_stays_open().await;
}

#[tokio::test]
async fn a_step_that_waits_for_a_login_when_the_agent_stops_stays_open() {
    let mut bed = Bed::new().await;
    bed.assign(pull()).await;
    let WorkerEvent::LoginWanted { reply, .. } = bed.session.recv().await.unwrap() else {
        panic!("the step does not ask for a login")
    };
    drop(reply);
    bed.assert_stays_open().await;
}
