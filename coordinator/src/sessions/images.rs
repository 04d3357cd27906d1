//! Transfers of images that no registry has, from a host or an operator that has one to a host that needs it.
//!
//! What must stay true: a host gets an image only while it has an assignment that names it, and only from the host
//! that was asked to give it. An image from an operator goes only to the host that was asked to take it. Parts are
//! passed on as they arrive and never collected. An interrupted transfer never counts as complete.

use std::pin::pin;
use std::sync::Arc;

use lockstep_core::agent::host_task::HostTask;
use lockstep_core::host::HostRole;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::image::ImageLookup;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Action;
use lockstep_proto::wire;
use lockstep_proto::wire::image_sent::Sent;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use crate::ports::agents::{AgentError, Agents, ObservationRequest};
use crate::ports::clock::Clock;
use crate::record::hosts;
use crate::sessions::Sessions;
use crate::store::handover::Assignment;
use crate::store::{Store, StoreError, keys};

mod transfers;

use transfers::{Part, Transfers};

pub struct Images {
    store: Arc<dyn Store>,
    agents: Arc<dyn Agents>,
    clock: Arc<dyn Clock>,
    sessions: Arc<Sessions>,
    /// Where hosts reach this coordinator; empty where it is the only one.
    address: String,
    transfers: Transfers,
}

impl Images {
    pub fn new(
        (store, clock): (Arc<dyn Store>, Arc<dyn Clock>),
        agents: Arc<dyn Agents>,
        sessions: Arc<Sessions>,
        address: String,
    ) -> Arc<Self> {
        Arc::new(Self { store, agents, clock, sessions, address, transfers: Transfers::default() })
    }

    /// The image, as it comes from a host that has it.
    ///
    /// # Errors
    /// When `host` has nothing to do with it, or no connected host has this image.
    pub async fn take(this: &Arc<Self>, host: &HostId, image: &str) -> Result<ReceiverStream<Part>, Status> {
        let image: Digest =
            image.parse().map_err(|_| Status::invalid_argument("this is not the id of an image"))?;
        let environment = this.work_with(host, &image).await?;
        let from = this.holder(host, &environment, &image).await?;
        let transfer = this.clock.ulid().to_string();
        let (begin, begun) = oneshot::channel();
        info!(%host, %from, %environment, image = image.short(), "sending an image between hosts");
        let images = Arc::clone(this);
        this.sessions.spawn(async move {
            let (_begun, parts, taken) = images.transfers.ask(&transfer, &from);
            if begin.send(taken).is_err() {
                return;
            }
            let task =
                HostTask::Give { image_id: image, transfer: transfer.clone(), to: images.address.clone() };
            if let Err(error) = images.agents.run_task(&from, task).await {
                warn!(%from, %error, "cannot send an image between hosts");
                // Who waited for it may have gone: that is why it was not sent, then.
                parts.send(Err(Status::aborted(error.to_string()))).await.ok();
            }
        });
        let taken = begun.await.map_err(|_| Status::unavailable("this coordinator is stopping"))?;
        Ok(ReceiverStream::new(taken))
    }

    /// What an operator sends to `host`, which was asked to take it.
    ///
    /// # Errors
    /// When nothing is sent to it by that name.
    pub fn take_sent(&self, host: &HostId, transfer: &str) -> Result<ReceiverStream<Part>, Status> {
        if let Some(parts) = self.transfers.taken_by(host, transfer) {
            return Ok(ReceiverStream::new(parts));
        }
        warn!(%host, "refused a host an image that is not sent to it");
        Err(Status::permission_denied("no image of that name is sent to this host"))
    }

    /// Passes what an operator sends on to `host`, until that has all of it.
    ///
    /// # Errors
    /// When it breaks, or the host does not take it, or has another image then.
    pub async fn send(
        &self,
        host: &HostId,
        (image, image_id): (String, Digest),
        incoming: Streaming<wire::ImageSent>,
    ) -> Result<(), Status> {
        let transfer = self.clock.ulid().to_string();
        let (begun, parts) = self.transfers.send(&transfer, host);
        info!(%host, image = image_id.short(), "an operator sends an image");
        let task = HostTask::Take { image, image_id, transfer, from: self.address.clone() };
        let mut taking = pin!(self.agents.run_task(host, task));
        let refused = |error: AgentError| Status::aborted(error.to_string());
        let passed = tokio::select! {
            // One that has it needs nothing more.
            taken = &mut taking => return taken.map_err(refused),
            passed = pass_on(incoming, parts) => passed,
        };
        let taken = taking.await;
        drop(begun);
        passed.and(taken.map_err(refused))
    }

    /// Passes on what `host` was asked for.
    ///
    /// # Errors
    /// When nobody waits for it, or it breaks.
    pub async fn give(&self, host: &HostId, mut incoming: Streaming<wire::ImagePart>) -> Result<(), Status> {
        let broken = || Status::aborted("the transfer was interrupted");
        let mut part = incoming.message().await?.ok_or_else(broken)?;
        let to = self
            .transfers
            .given_by(host, &part.transfer)
            .ok_or_else(|| Status::not_found("no host waits for this image"))?;
        loop {
            let is_last = part.last;
            to.send(Ok(part)).await.map_err(|_| Status::aborted("no host waits for this image any more"))?;
            if is_last {
                return Ok(());
            }
            part = incoming.message().await?.ok_or_else(broken)?;
        }
    }

    /// The environment for which `host` is to have the image.
    async fn work_with(&self, host: &HostId, image: &Digest) -> Result<EnvironmentKey, Status> {
        let there = self.store.list(&keys::assignments_to(host)).await.map_err(|error| unreadable(&error))?;
        for stored in there {
            let Assignment { environment, action, .. } = stored.read().map_err(|error| unreadable(&error))?;
            if let Some(Action::PresentImage(present)) = action
                && present.image_id == *image
            {
                return Ok(environment);
            }
        }
        warn!(%host, image = image.short(), "refused a host an image that is not assigned to it");
        Err(Status::permission_denied("this image is not assigned to this host"))
    }

    /// A host that has the image: they are asked one by one.
    async fn holder(
        &self,
        wanting: &HostId,
        environment: &EnvironmentKey,
        image: &Digest,
    ) -> Result<HostId, Status> {
        let hosts = hosts::list(&*self.store).await.map_err(|error| unreadable(&error))?;
        let question = ObservationRequest {
            image: Some(image.to_string()),
            lookup: ImageLookup::ThisHost,
            ..ObservationRequest::of(environment.clone())
        };
        for host in hosts.iter().filter(|host| host.id != *wanting && host.roles.contains(&HostRole::App)) {
            // One that does not answer is no source.
            if let Ok(seen) = self.agents.observe(&host.id, question.clone()).await
                && seen.image.is_some_and(|found| found.id == *image)
            {
                return Ok(host.id.clone());
            }
        }
        Err(Status::not_found("no connected host has this image"))
    }
}

/// Ends with the last part; the receiver takes what ends without for broken.
async fn pass_on(mut incoming: Streaming<wire::ImageSent>, to: mpsc::Sender<Part>) -> Result<(), Status> {
    loop {
        let sent = incoming.message().await?.and_then(|message| message.sent);
        let Some(Sent::Part(part)) = sent else {
            return Err(Status::aborted("the transfer was interrupted"));
        };
        let is_last = part.last;
        to.send(Ok(part)).await.map_err(|_| Status::aborted("the host stopped receiving the image"))?;
        if is_last {
            return Ok(());
        }
    }
}

fn unreadable(error: &StoreError) -> Status {
    warn!(%error, "cannot read which host gets an image");
    Status::unavailable("the store does not answer: try again")
}
