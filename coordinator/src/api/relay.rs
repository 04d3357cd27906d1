//! The API for other coordinators. They reach the agents that are connected here, and the root key if it is here.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::access::Identity;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::id::HostId;
use lockstep_core::stored::StoredDocument;
use lockstep_proto::wire::relay_server::Relay;
use lockstep_proto::wire::{self, Document, followed};
use lockstep_proto::{Invalid, convert};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tracing::info;

use super::Caller;
use super::enroll::authority_failed;
use crate::identity::authority::Authority;
use crate::ports::agents::{
    Agents, LogRequest, ObservationRequest, ProgressLine, QueriedStatuses, StepQuery,
};
use crate::ports::clock::Clock;
use crate::sessions::Sessions;
use crate::sessions::peers::{next_line, refusal};

/// Changes that come this close after another go out together.
const TOGETHER: Duration = Duration::from_millis(200);

/// When agents were seen, and what they said of their machines then, goes out so often.
const SIGHTINGS_EVERY: Duration = Duration::from_secs(10);

/// What waits to be sent to one coordinator.
const WAITING_MAX: usize = 16;

pub struct RelayApi {
    pub sessions: Arc<Sessions>,
    pub authority: Arc<Authority>,
    pub clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl Relay for RelayApi {
    type FollowStream = BoxStream<wire::Followed>;

    async fn follow(&self, _: Request<wire::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let (sender, stream) = mpsc::channel(WAITING_MAX);
        let sessions = Arc::clone(&self.sessions);
        // Ends when the other coordinator does not listen any more, or this one ends.
        self.sessions.spawn(follow_sessions(sessions, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn ask(&self, request: Request<wire::Relayed>) -> Result<Response<Document>, Status> {
        let (host, question): (_, StepQuery) = read(request)?;
        let standings = self.sessions.query_steps(&host, question).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(Document::of_content(&QueriedStatuses(standings))))
    }

    async fn observe(&self, request: Request<wire::Relayed>) -> Result<Response<Document>, Status> {
        let (host, question): (_, ObservationRequest) = read(request)?;
        let observation = self.sessions.observe(&host, question).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(Document::of_content(&observation)))
    }

    async fn fetch_log(&self, request: Request<wire::Relayed>) -> Result<Response<wire::LogReply>, Status> {
        let (host, wanted): (_, LogRequest) = read(request)?;
        let lines = self.sessions.fetch_log(&host, wanted).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(wire::LogReply { request: 0, lines, last: true }))
    }

    async fn run_errand(
        &self,
        request: Request<wire::Relayed>,
    ) -> Result<Response<wire::ErrandDone>, Status> {
        let (host, task): (_, HostTask) = read(request)?;
        self.sessions.run_task(&host, task).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(wire::ErrandDone { request: 0, why_not: String::new() }))
    }

    async fn sign_authority(
        &self,
        request: Request<wire::SignAuthorityRequest>,
    ) -> Result<Response<wire::SignAuthorityReply>, Status> {
        let Identity::Coordinator(name) = Caller::from_request(&request)?.identity else {
            return Err(Status::permission_denied("only a coordinator can get an authority"));
        };
        let request = request.into_inner().certificate_request;
        let issued = self.authority.issue_authority(&request, &name, self.clock.now());
        let (_, issued, root) = issued.map_err(authority_failed)?;
        info!(coordinator = %name, "signed an authority for another coordinator");
        Ok(Response::new(wire::SignAuthorityReply { certificate: issued.certificate, root }))
    }
}

fn read<T: StoredDocument>(request: Request<wire::Relayed>) -> Result<(HostId, T), Status> {
    let wire::Relayed { host, question } = request.into_inner();
    let host = host.parse().map_err(|error| Invalid::because("host", error))?;
    Ok((host, convert::required(question.as_ref(), "question")?))
}

async fn follow_sessions(sessions: Arc<Sessions>, to: mpsc::Sender<Result<wire::Followed, Status>>) {
    let mut changes = sessions.changes();
    let mut lines = sessions.progress();
    let mut sightings = interval(SIGHTINGS_EVERY);
    sightings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    changes.mark_changed();
    loop {
        let followed = tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(TOGETHER).await;
                changes.mark_unchanged();
                followed::Followed::Connections(sessions.connections())
            }
            _ = sightings.tick(), if sessions.count() > 0 => {
                followed::Followed::Connections(sessions.connections())
            }
            line = next_line(&mut lines) => {
                let Some(ProgressLine { environment, key, line }) = line else { return };
                let environment = environment.to_string();
                followed::Followed::Progress(wire::Progress { key: Some(key.into()), environment, line })
            }
            () = to.closed() => return,
            () = sessions.closing() => return,
        };
        if to.send(Ok(wire::Followed { followed: Some(followed) })).await.is_err() {
            return;
        }
    }
}
