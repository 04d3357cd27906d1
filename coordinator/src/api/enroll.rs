//! From a one-time token, or from a certificate that is about to end, to a certificate.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_core::access::Identity;
use lockstep_core::id::HostId;
use lockstep_core::name::{HostName, OperatorName};
use lockstep_core::record::{Host, HostRole};
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::wire;
use lockstep_proto::wire::enroll_server::Enroll;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use ulid::Ulid;

use crate::api::Caller;
use crate::authority::{Authority, AuthorityError, Issued};
use crate::clock::Clock;
use crate::hosts;
use crate::operators::{Operator, OperatorStanding};
use crate::store::{Committed, Guard, Store, StoreError, Write, keys};
use crate::tokens::{self, Admits, Presented, TokenError};

/// Clocks further apart than this would make certificates that are not valid yet.
const SKEW_MAX: Millis = Millis::from_secs(300);

pub struct EnrollApi {
    pub store: Arc<dyn Store>,
    pub authority: Arc<Authority>,
    pub clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl Enroll for EnrollApi {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let request = request.into_inner();
        let now = self.clock.now();
        refuse_skew(Timestamp(request.clock_ms), now)?;
        let presented = tokens::present(&*self.store, &request.token_id, &request.token_secret, now)
            .await
            .map_err(refused_token)?;
        let reply = match presented.admits.clone() {
            Admits::Host { name, roles } => {
                let host = self.new_host(&request, name, roles).await?;
                let identity = Identity::Agent(host.id.clone());
                let issued = self.issue(&request.certificate_request, &identity, now)?;
                let key = keys::host_spec(&host.id);
                self.spend(&presented, vec![Guard::absent(&key)], Write::put(key, &host)).await?;
                info!(host = %host.name, id = %host.id, address = host.address, "host joined");
                wire::JoinReply { name: host.name.to_string(), ..self.reply(&identity, issued) }
            }
            Admits::Operator { name, environments, role } => {
                let identity = Identity::Operator(name.clone());
                let issued = self.issue(&request.certificate_request, &identity, now)?;
                let operator = Operator {
                    name: name.clone(),
                    environments,
                    role,
                    certificate_expires: issued.expires,
                    standing: OperatorStanding::Active,
                };
                self.spend(&presented, Vec::new(), Write::put(keys::operator(&name), &operator)).await?;
                info!(operator = %name, %role, "operator joined");
                self.reply(&identity, issued)
            }
        };
        Ok(Response::new(reply))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let identity = Caller::of(&request)?.identity;
        let issued = self.issue(&request.get_ref().certificate_request, &identity, self.clock.now())?;
        if let Identity::Operator(name) = &identity {
            self.note_expiry(name, issued.expires).await.map_err(|error| unavailable(&error))?;
        }
        Ok(Response::new(self.reply(&identity, issued)))
    }
}

impl EnrollApi {
    fn issue(&self, request: &str, identity: &Identity, now: Timestamp) -> Result<Issued, Status> {
        self.authority.issue(request, identity, now).map_err(|error| match error {
            AuthorityError::Request(_) | AuthorityError::NoSubject(_) => {
                Status::invalid_argument(error.to_string())
            }
            AuthorityError::File(_)
            | AuthorityError::Directory(_)
            | AuthorityError::Half
            | AuthorityError::Make(_)
            | AuthorityError::Chance => {
                warn!(%error, "no certificate can be made");
                Status::internal("no certificate can be made: the coordinator's log says why")
            }
        })
    }

    fn reply(&self, identity: &Identity, issued: Issued) -> wire::JoinReply {
        let identity = match identity {
            Identity::Agent(host) => host.to_string(),
            Identity::Operator(name) => name.to_string(),
            Identity::Coordinator(id) => id.clone(),
            Identity::Nobody => String::new(),
        };
        wire::JoinReply {
            certificate: issued.certificate,
            authority: self.authority.root().to_owned(),
            cluster: self.authority.cluster().to_string(),
            identity,
            name: String::new(),
        }
    }

    async fn new_host(
        &self,
        request: &wire::JoinRequest,
        name: Option<HostName>,
        roles: Vec<HostRole>,
    ) -> Result<Host, Status> {
        let name: HostName = match name {
            Some(name) => name,
            None => request.name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?,
        };
        if request.address.parse::<std::net::IpAddr>().is_err() {
            return Err(Status::invalid_argument(format!("{:?} is not an address", request.address)));
        }
        let there = hosts::named(&*self.store, &name).await.map_err(|error| unavailable(&error))?;
        if there.is_some() {
            return Err(Status::already_exists(format!(
                "there is a host {name} already: choose another name, or lockstep host remove {name}"
            )));
        }
        let id: HostId =
            format!("host_{}", Ulid::generate()).parse().expect("a prefix and a ULID are a host's id");
        let all = [HostRole::App, HostRole::Lb, HostRole::Db];
        let roles = if roles.is_empty() { BTreeSet::from(all) } else { roles.into_iter().collect() };
        Ok(Host { id, name, address: request.address.clone(), roles })
    }

    /// Writes who joined and spends the token, in one transaction.
    async fn spend(&self, presented: &Presented, mut guards: Vec<Guard>, write: Write) -> Result<(), Status> {
        let (guard, delete) = presented.spending();
        guards.push(guard);
        match self.store.commit(guards, vec![write, delete]).await {
            Ok(Committed::Yes { .. }) => Ok(()),
            Ok(Committed::No) => Err(refused_token(TokenError::Unknown)),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn note_expiry(&self, name: &OperatorName, expires: Timestamp) -> Result<(), StoreError> {
        let key = keys::operator(name);
        if let Some(stored) = self.store.get(key.key()).await? {
            let operator = Operator { certificate_expires: expires, ..stored.read()? };
            // A change that came between (a revocation) wins over the note.
            self.store
                .commit(vec![Guard::as_seen(&key, Some(&stored))], vec![Write::put(key, &operator)])
                .await?;
        }
        Ok(())
    }
}

fn refuse_skew(theirs: Timestamp, ours: Timestamp) -> Result<(), Status> {
    let apart = ours.since(theirs).max(theirs.since(ours));
    if apart <= SKEW_MAX {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "clocks differ by {apart}: it is {theirs} there and {ours} here; set the clock, then join again"
    )))
}

fn refused_token(error: TokenError) -> Status {
    match error {
        TokenError::Unknown | TokenError::Expired { .. } => Status::unauthenticated(error.to_string()),
        TokenError::Chance => Status::internal(error.to_string()),
        TokenError::Store(error) => unavailable(&error),
    }
}

fn unavailable(error: &StoreError) -> Status {
    warn!(%error, "the store does not answer");
    Status::unavailable("the store does not answer")
}
