//! The API for agents: the stream of a session ([`crate::sessions`]) and images ([`crate::sessions::images`]).

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lockstep_core::access::Identity;
use lockstep_core::id::HostId;
use lockstep_proto::wire;
use lockstep_proto::wire::session_server::Session;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Caller;
use crate::sessions::images::Images;
use crate::sessions::{ConnectingAgent, Sessions};

pub struct SessionApi {
    pub sessions: Arc<Sessions>,
    pub images: Arc<Images>,
}

#[tonic::async_trait]
impl Session for SessionApi {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;
    type TakeImageStream = ReceiverStream<Result<wire::ImagePart, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let Caller { identity: Identity::Agent(host), signed_by: Some(signed_by), .. } =
            Caller::from_request(&request)?
        else {
            return Err(Status::permission_denied("only an agent can open a session"));
        };
        let from = request.remote_addr().map(|from| from.ip().to_string()).unwrap_or_default();
        let guest = ConnectingAgent { host, signed_by, from };
        let outgoing = Sessions::attach(&self.sessions, guest, request.into_inner()).await?;
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn take_image(
        &self,
        request: Request<wire::ImageWanted>,
    ) -> Result<Response<Self::TakeImageStream>, Status> {
        let host = agent(&request)?;
        let wire::ImageWanted { image_id, transfer } = request.into_inner();
        let context = match transfer.as_str() {
            "" => Images::take(&self.images, &host, &image_id).await?,
            transfer => self.images.take_sent(&host, transfer)?,
        };
        Ok(Response::new(context))
    }

    async fn give_image(
        &self,
        request: Request<Streaming<wire::ImagePart>>,
    ) -> Result<Response<wire::ImageGiven>, Status> {
        let host = agent(&request)?;
        self.images.give(&host, request.into_inner()).await?;
        Ok(Response::new(wire::ImageGiven {}))
    }
}

fn agent<T>(request: &Request<T>) -> Result<HostId, Status> {
    match Caller::from_request(request)?.identity {
        Identity::Agent(host) => Ok(host),
        Identity::Nobody | Identity::Operator(_) | Identity::Coordinator(_) => {
            Err(Status::permission_denied("only an agent can open a session"))
        }
    }
}
