//! The simulated hosts: everything that a coordinator sees of a host is there, and nothing that it does not see.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::health::Health;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::plan::{Action, ContainerSpec};
use lockstep_core::record::observed::{
    ContainerObservation, ContainerRunState, ImageObservation, Observation,
};
use lockstep_core::run::journal::Finding;
use lockstep_core::slot::Slot;
use lockstep_proto::dial::{self, Credential};
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::session_client::SessionClient;
use lockstep_proto::wire::to_agent::Message as Order;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::operator::Operator;

/// How many join or dial at a time.
const AT_A_TIME: usize = 16;

/// What waits to be sent.
const SENDING_MAX: usize = 16;

/// A host that has joined.
pub(crate) struct Joined {
    name: String,
    address: String,
    credential: Credential,
}

/// What a host remembers of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: its own work is not to be measured.
    Nothing,
    /// The containers and the slot with the traffic of each environment, for those who look.
    Containers,
}

/// Hosts with a session; it ends with this.
pub(crate) struct Connected {
    pub(crate) names: Vec<String>,
    _sessions: JoinSet<Result<()>>,
}

/// Lets so many hosts join, each with a token of its own.
pub(crate) async fn join(operator: &Operator, coordinator: &str, count: usize) -> Result<Vec<Joined>> {
    stream::iter(0..count)
        .map(|number| async move {
            let name = format!("h{number:04}");
            let address = format!("10.{}.{}.1", number / 250, number % 250);
            let token = operator.host_token(&name).await?;
            let joined = dial::join(coordinator, &token, &name, &address)
                .await
                .with_context(|| format!("{name} cannot join"))?;
            Ok(Joined { name, address, credential: joined.credential })
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

/// Gives each a session, and answers for it from then on.
pub(crate) async fn connect(coordinator: &str, joined: Vec<Joined>, memory: Memory) -> Result<Connected> {
    let names = joined.iter().map(|host| host.name.clone()).collect();
    let streams: Vec<Stream> = stream::iter(joined)
        .map(|host| async move {
            let name = host.name.clone();
            Stream::attach(coordinator, host).await.with_context(|| format!("{name} gets no session"))
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let mut sessions = JoinSet::new();
    for stream in streams {
        sessions.spawn(stream.serve(memory));
    }
    Ok(Connected { names, _sessions: sessions })
}

/// One session.
struct Stream {
    incoming: Streaming<wire::ToAgent>,
    outgoing: mpsc::Sender<wire::FromAgent>,
}

impl Stream {
    async fn attach(coordinator: &str, host: Joined) -> Result<Self> {
        let channel = dial::connect(coordinator, &host.credential).await?;
        let (outgoing, sending) = mpsc::channel(SENDING_MAX);
        let hello = wire::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: host.address,
            clock_ms: 0,
            instance: host.name,
        };
        outgoing.send(said(Said::Hello(hello))).await?;
        let incoming = SessionClient::new(channel).attach(ReceiverStream::new(sending)).await?.into_inner();
        let mut stream = Self { incoming, outgoing };
        match stream.heard().await? {
            Some(Order::Welcome(_)) => Ok(stream),
            other => bail!("a session began with {other:?}"),
        }
    }

    async fn heard(&mut self) -> Result<Option<Order>> {
        Ok(self.incoming.message().await?.and_then(|message| message.message))
    }

    /// Every step is done at once, and every look finds the image.
    async fn serve(mut self, memory: Memory) -> Result<()> {
        let outcome = wire::Outcome::of(&Ok(Finding { said: "done".to_owned(), ..Finding::default() }));
        let mut environments: BTreeMap<String, Observation> = BTreeMap::new();
        while let Some(order) = self.heard().await? {
            let answer = match order {
                Order::Assign(assign) => {
                    if memory == Memory::Containers {
                        remember(&mut environments, &assign)?;
                    }
                    let wire::Assign { token, key, environment, .. } = assign;
                    Said::Report(wire::Report { token, key, environment, outcome: Some(outcome.clone()) })
                }
                Order::Observe(wire::Observe { request, environment, image, .. }) => {
                    let image = image_called(&image);
                    let seen = environments.get(&environment).cloned().unwrap_or_default();
                    let seen = wire::Document::of_content(&Observation { image, ..seen });
                    Said::Observed(wire::Observed { request, observation: Some(seen) })
                }
                Order::AskVitals(wire::AskVitals { request }) => {
                    Said::Vitals(wire::Vitals { request, ..wire::Vitals::default() })
                }
                Order::Welcome(_) | Order::LocalTakenIn(_) => continue,
                Order::Secrets(_)
                | Order::Ask(_)
                | Order::FetchLog(_)
                | Order::Login(_)
                | Order::RunErrand(_) => {
                    bail!("nothing of the kind is asked here")
                }
            };
            self.outgoing.send(said(answer)).await?;
        }
        Ok(())
    }
}

/// What a step changes of what a look sees.
fn remember(environments: &mut BTreeMap<String, Observation>, assign: &wire::Assign) -> Result<()> {
    let Some(action) = &assign.action else { return Ok(()) };
    let action: Action = action.read("assign.action")?;
    let key = assign.key.as_ref().context("an assignment without a key")?;
    let deployment: DeploymentId = key.deployment.parse()?;
    let seen = environments.entry(assign.environment.clone()).or_default();
    if let Action::StartSlot { slot, containers } = &action {
        seen.containers.retain(|container| container.slot != *slot);
        seen.containers.extend(containers.iter().map(|spec| started(spec, &deployment)));
    } else if let Action::StopSlot { slot } = &action {
        seen.containers.retain(|container| container.slot != *slot);
    } else if let Action::SwitchTraffic(switch) = &action {
        seen.traffic = Some(switch.to);
    }
    Ok(())
}

fn started(spec: &ContainerSpec, deployment: &DeploymentId) -> ContainerObservation {
    let slot = match spec.slot {
        Slot::Blue => "blue",
        Slot::Green => "green",
    };
    ContainerObservation {
        name: format!("ls-{}-{slot}", spec.process),
        slot: spec.slot,
        process: spec.process.clone(),
        deployment: deployment.clone(),
        spec: Digest::of_content(deployment.as_str().as_bytes()),
        image_id: spec.image_id.clone(),
        running: ContainerRunState::Yes,
        health: Health::Healthy,
        restarts: None,
    }
}

fn said(message: Said) -> wire::FromAgent {
    wire::FromAgent { message: Some(message) }
}

/// `None` if none is asked for.
fn image_called(name: &str) -> Option<ImageObservation> {
    (!name.is_empty()).then(|| ImageObservation {
        id: Digest::of_content(name.as_bytes()),
        manifest: None,
        commit: None,
        migrations: Vec::new(),
        size_bytes: 10_000_000,
    })
}
