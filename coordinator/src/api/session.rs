//! The stream of an agent: taken on, and handed to [`crate::sessions`].

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lockstep_core::access::Identity;
use lockstep_proto::wire;
use lockstep_proto::wire::session_server::Session;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Caller;
use crate::sessions::Sessions;

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
        let Identity::Agent(host) = Caller::of(&request)?.identity else {
            return Err(Status::permission_denied("only an agent attaches"));
        };
        let outgoing = Sessions::attach(&self.sessions, host, request.into_inner()).await?;
        Ok(Response::new(Box::pin(outgoing)))
    }
}
