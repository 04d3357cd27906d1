//! Every method of every service: who may call it, and a call of it that aims at what belongs to somebody else.
//!
//! Who may call is written here once more, and not read from the table of the coordinator: that table is what is tried.

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use lockstep_core::access::OperatorRole;
use lockstep_proto::wire;
use lockstep_proto::wire::enroll_client::EnrollClient;
use lockstep_proto::wire::relay_client::RelayClient;
use lockstep_proto::wire::session_client::SessionClient;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use crate::cluster::Aim;
use crate::host::{hello, said};

mod control;

/// What a call is answered with, as the bytes of the first message.
pub(crate) type Answer = Result<Vec<u8>, Status>;

pub(crate) struct Method {
    pub(crate) path: &'static str,
    pub(crate) callers: Callers,
    pub(crate) call: fn(Channel, &Aim) -> BoxFuture<'static, Answer>,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Callers {
    /// What is refused is what they send.
    Anyone(Refusal),
    AnyCertificate,
    /// What is refused to one that aims at what is not its own.
    Agents(Refusal),
    Coordinators,
    Operators(OperatorRole, Reach, Machines),
    AdministratorsOfAll,
}

/// Code and words of a refusal.
pub(crate) type Refusal = (Code, &'static str);

/// What a method is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Environment,
    /// What all operators may see. It says nothing of environments that are not the caller's.
    Cluster,
}

/// Whether a token of a machine can be good for a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machines {
    May,
    MayNot,
}

/// The table.
pub(crate) fn all() -> Vec<Method> {
    let mut methods = vec![
        Method {
            path: "/lockstep.v1.Enroll/Join",
            callers: Callers::Anyone((Code::Unauthenticated, "token")),
            call: |channel, aim| {
                let request = aim.join_with_guessed_token();
                answered(async move { EnrollClient::new(channel).join(request).await })
            },
        },
        Method {
            path: "/lockstep.v1.Enroll/Renew",
            callers: Callers::AnyCertificate,
            call: |channel, aim| {
                let request = wire::RenewRequest { certificate_request: aim.certificate_request.clone() };
                answered(async move { EnrollClient::new(channel).renew(request).await })
            },
        },
    ];
    methods.extend(session());
    methods.extend(relay());
    methods.extend(control::deployments());
    methods.extend(control::environments());
    methods.extend(control::cluster());
    methods
}

fn session() -> [Method; 3] {
    [
        Method {
            path: "/lockstep.v1.Session/Attach",
            // It has a session: this is another machine with a copy of its key.
            callers: Callers::Agents((Code::AlreadyExists, "is already connected to coordinator-1")),
            call: |channel, _| {
                let messages = stream::iter([said(hello("copy"))]).chain(stream::pending());
                streamed(async move { SessionClient::new(channel).attach(messages).await })
            },
        },
        Method {
            path: "/lockstep.v1.Session/TakeImage",
            callers: Callers::Agents((Code::PermissionDenied, "not assigned to this host")),
            call: |channel, aim| {
                let request = wire::ImageWanted { image_id: aim.image_id.clone(), transfer: String::new() };
                streamed(async move { SessionClient::new(channel).take_image(request).await })
            },
        },
        Method {
            path: "/lockstep.v1.Session/GiveImage",
            callers: Callers::Agents((Code::NotFound, "no host waits for this image")),
            call: |channel, _| {
                let part = wire::ImagePart { transfer: "01".to_owned(), bytes: b"evil".to_vec(), last: true };
                let parts = stream::iter([part]);
                answered(async move { SessionClient::new(channel).give_image(parts).await })
            },
        },
    ]
}

/// A call between coordinators.
macro_rules! relay {
    ($method:ident, $call:ident, $answered:ident, |$aim:ident| $request:expr) => {
        Method {
            path: concat!("/lockstep.v1.Relay/", stringify!($method)),
            callers: Callers::Coordinators,
            call: |channel, $aim| {
                let request = $request;
                $answered(async move { RelayClient::new(channel).$call(request).await })
            },
        }
    };
}

fn relay() -> [Method; 6] {
    [
        relay!(Follow, follow, streamed, |_aim| wire::FollowRequest {}),
        relay!(Ask, ask, answered, |aim| aim.relayed()),
        relay!(Observe, observe, answered, |aim| aim.relayed()),
        relay!(FetchLog, fetch_log, answered, |aim| aim.relayed()),
        relay!(RunErrand, run_errand, answered, |aim| aim.relayed()),
        relay!(SignAuthority, sign_authority, answered, |aim| wire::SignAuthorityRequest {
            certificate_request: aim.certificate_request.clone()
        }),
    ]
}

pub(crate) fn answered<T: Message>(
    call: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
) -> BoxFuture<'static, Answer> {
    async move { Ok(call.await?.into_inner().encode_to_vec()) }.boxed()
}

/// The first message of a stream.
pub(crate) fn streamed<T: Message + Default + Send + 'static>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'static,
) -> BoxFuture<'static, Answer> {
    async move {
        let first = call.await?.into_inner().message().await?;
        Ok(first.map(|message| message.encode_to_vec()).unwrap_or_default())
    }
    .boxed()
}
