//! A host that the test plays: it has joined, has a session, and does what an agent does until it is told to hold a
//! step. It also says whatever an attacker would say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lockstep_core::id::Digest;
use lockstep_core::plan::Action;
use lockstep_core::record::observed::{ImageObservation, Observation};
use lockstep_core::run::journal::Finding;
use lockstep_proto::dial::{self, Credential};
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::session_client::SessionClient;
use lockstep_proto::wire::to_agent::Message as Order;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// What waits to be sent, and what waits to be looked at by a test.
const WAITING_MAX: usize = 64;

/// How long a coordinator may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) credential: Credential,
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<wire::FromAgent>,
    answers: tokio::sync::Mutex<mpsc::Receiver<Order>>,
    held: watch::Receiver<Option<wire::Assign>>,
}

#[derive(Default)]
struct Shared {
    holds: AtomicBool,
    reported: Mutex<Option<wire::Report>>,
    observed: Mutex<Option<wire::Observe>>,
}

impl Host {
    /// Joins with `token`, and opens a session.
    pub(crate) async fn open(coordinator: &str, token: &str, name: &str) -> Result<Self> {
        let joined = dial::join(coordinator, token, name, "127.0.0.1").await?;
        let channel = dial::connect(coordinator, &joined.credential).await?;
        let (outgoing, sending) = mpsc::channel(WAITING_MAX);
        outgoing.send(said(hello(name))).await?;
        let incoming = SessionClient::new(channel).attach(ReceiverStream::new(sending)).await?.into_inner();
        let (answer, answers) = mpsc::channel(WAITING_MAX);
        let (hold, held) = watch::channel(None);
        let shared = Arc::<Shared>::default();
        let serving =
            Serving { incoming, outgoing: outgoing.clone(), answer, hold, shared: Arc::clone(&shared) };
        tokio::spawn(serving.run());
        Ok(Self {
            name: name.to_owned(),
            id: joined.identity,
            credential: joined.credential,
            shared,
            outgoing,
            answers: tokio::sync::Mutex::new(answers),
            held,
        })
    }

    /// From here on it does not report that containers are started.
    pub(crate) fn hold(&self) {
        self.shared.holds.store(true, Ordering::SeqCst);
    }

    /// The step that it holds.
    pub(crate) async fn held(&self) -> Result<wire::Assign> {
        let mut held = self.held.clone();
        let held = tokio::time::timeout(ANSWER_LIMIT, held.wait_for(Option::is_some)).await??;
        held.clone().context("no step is held")
    }

    /// The last report that was accepted.
    pub(crate) fn reported(&self) -> Result<wire::Report> {
        let reported = self.shared.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.clone().context("it has reported nothing")
    }

    /// The last question about what is there.
    pub(crate) fn observed(&self) -> Result<wire::Observe> {
        let observed = self.shared.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.clone().context("it was asked nothing")
    }

    pub(crate) async fn say(&self, message: Said) -> Result<()> {
        Ok(self.outgoing.send(said(message)).await?)
    }

    /// Says something that has no answer, and waits until the coordinator has taken it in.
    pub(crate) async fn say_and_settle(&self, message: Said) -> Result<()> {
        self.say(message).await?;
        // Messages are handled one after the other, and this one is answered.
        self.ask_secrets("nobody/nowhere").await.map(drop)
    }

    /// Asks for all secrets of an environment.
    pub(crate) async fn ask_secrets(&self, environment: &str) -> Result<wire::Secrets> {
        let environment = environment.to_owned();
        let wanted = wire::SecretsWanted { request: 1, environment, version: 1, names: Vec::new() };
        let answer = self.ask(Said::SecretsWanted(wanted)).await?;
        let Order::Secrets(secrets) = answer else {
            bail!("a question for secrets is answered with {answer:?}")
        };
        Ok(secrets)
    }

    pub(crate) async fn ask(&self, message: Said) -> Result<Order> {
        let mut answers = self.answers.lock().await;
        self.say(message).await?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, answers.recv()).await?;
        answer.context("the session has ended")
    }
}

struct Serving {
    incoming: Streaming<wire::ToAgent>,
    outgoing: mpsc::Sender<wire::FromAgent>,
    answer: mpsc::Sender<Order>,
    hold: watch::Sender<Option<wire::Assign>>,
    shared: Arc<Shared>,
}

impl Serving {
    /// Every step is done at once, and every look finds the image.
    async fn run(mut self) -> Result<()> {
        while let Some(order) = self.incoming.message().await?.and_then(|message| message.message) {
            match order {
                Order::Assign(assign) => self.carry_out(assign).await?,
                Order::Observe(question) => {
                    let image = (!question.image.is_empty()).then(|| found(&question.image));
                    let seen = wire::Document::of_content(&Observation { image, ..Observation::default() });
                    let answer = wire::Observed { request: question.request, observation: Some(seen) };
                    *self.shared.observed.lock().unwrap_or_else(PoisonError::into_inner) = Some(question);
                    self.say(Said::Observed(answer)).await?;
                }
                Order::AskVitals(wire::AskVitals { request }) => {
                    self.say(Said::Vitals(wire::Vitals { request, ..wire::Vitals::default() })).await?;
                }
                Order::RunErrand(wire::RunErrand { request, .. }) => {
                    let why_not = "this host does nothing of the kind".to_owned();
                    self.say(Said::ErrandDone(wire::ErrandDone { request, why_not })).await?;
                }
                Order::Welcome(_) => {}
                answer @ (Order::Secrets(_)
                | Order::Login(_)
                | Order::Ask(_)
                | Order::FetchLog(_)
                | Order::LocalTakenIn(_)) => self.answer.send(answer).await?,
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, assign: wire::Assign) -> Result<()> {
        let action: Option<Action> =
            assign.action.as_ref().map(|action| action.read("assign.action")).transpose()?;
        if self.shared.holds.load(Ordering::SeqCst) && matches!(action, Some(Action::StartSlot { .. })) {
            self.hold.send_replace(Some(assign));
            return Ok(());
        }
        let wire::Assign { token, key, environment, .. } = assign;
        let outcome = Some(done());
        let report = wire::Report { token, key, environment, outcome };
        *self.shared.reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        self.say(Said::Report(report)).await
    }

    async fn say(&self, message: Said) -> Result<()> {
        Ok(self.outgoing.send(said(message)).await?)
    }
}

/// That a step is done.
pub(crate) fn done() -> wire::Outcome {
    wire::Outcome::of(&Ok(Finding { said: "done".to_owned(), ..Finding::default() }))
}

/// The first message of a session.
pub(crate) fn hello(instance: &str) -> Said {
    Said::Hello(wire::Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: "127.0.0.1".to_owned(),
        clock_ms: 0,
        instance: instance.to_owned(),
    })
}

pub(crate) fn said(message: Said) -> wire::FromAgent {
    wire::FromAgent { message: Some(message) }
}

/// The id of an image that every host has.
pub(crate) fn image_id(name: &str) -> Digest {
    Digest::of_content(name.as_bytes())
}

fn found(name: &str) -> ImageObservation {
    ImageObservation {
        id: image_id(name),
        manifest: None,
        commit: None,
        migrations: Vec::new(),
        size_bytes: 10_000_000,
    }
}
