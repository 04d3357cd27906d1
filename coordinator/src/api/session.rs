//! The stream of an agent: taken on, and handed to [`crate::sessions`].

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lockstep_core::access::Identity;
use lockstep_proto::wire;
use lockstep_proto::wire::session_server::Session;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Caller;
use crate::sessions::{Guest, Sessions};

pub struct SessionApi {
    pub sessions: Arc<Sessions>,
}

#[tonic::async_trait]
impl Session for SessionApi {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let Caller { identity: Identity::Agent(host), signed_by: Some(signed_by), .. } =
            Caller::of(&request)?
        else {
            return Err(Status::permission_denied("only an agent attaches"));
        };
        let from = request.remote_addr().map(|from| from.ip().to_string()).unwrap_or_default();
        let guest = Guest { host, signed_by, from };
        let outgoing = Sessions::attach(&self.sessions, guest, request.into_inner()).await?;
        Ok(Response::new(Box::pin(outgoing)))
    }
}
