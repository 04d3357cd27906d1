//! Issues certificates, for a token or to renew a certificate that is about to expire.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_core::access::{EnvironmentPattern, Identity, OperatorRole};
use lockstep_core::host::{Host, HostRole};
use lockstep_core::id::HostId;
use lockstep_core::name::{CoordinatorName, HostName, OperatorName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::stored::encode;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::coordinator::RootKey;
use lockstep_proto::wire;
use lockstep_proto::wire::enroll_server::Enroll;
use tonic::{Code, Request, Response, Status};
use tracing::{info, warn};
use ulid::Ulid;

use crate::api::Caller;
use crate::identity::authority::{Authority, AuthorityError, Issued};
use crate::identity::operators::{self, Operator, OperatorStanding};
use crate::identity::roots;
use crate::identity::tokens;
use crate::identity::tokens::{TokenError, TokenHolder};
use crate::ports::clock::Clock;
use crate::record::audit;
use crate::record::audit::Change;
use crate::record::coordinators;
use crate::record::coordinators::Coordinator;
use crate::record::hosts;
use crate::record::vault::Vault;
use crate::store::{Committed, Guard, Store, StoreError, Write, keys};

/// Clocks further apart than this would make certificates that are not valid yet.
const SKEW_MAX: Millis = Millis::from_secs(300);

/// How long the certificate of a machine is good: for one run.
const MACHINE_LIFE: Millis = Millis::from_secs(2 * 3600);

/// How many of them count at a time.
const MACHINE_LOGINS_MAX: usize = 500;

/// How often a transaction is made anew when another came between.
const ATTEMPTS_MAX: usize = 5;

pub struct EnrollApi {
    pub store: Arc<dyn Store>,
    pub authority: Arc<Authority>,
    pub clock: Arc<dyn Clock>,
    pub vault: Arc<Vault>,
}

/// Who joins: the transaction that lets it in, and what it is told.
struct JoinAttempt {
    identity: Identity,
    guards: Vec<Guard>,
    writes: Vec<Write>,
    issued: Issued,
    /// Of a host.
    name: String,
    roles: BTreeSet<HostRole>,
}

#[tonic::async_trait]
impl Enroll for EnrollApi {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let request = request.into_inner();
        let now = self.clock.now();
        refuse_skew(Timestamp(request.clock_ms), now)?;
        for _ in 0..ATTEMPTS_MAX {
            let presented = tokens::present(&*self.store, &request.token_id, &request.token_secret, now)
                .await
                .map_err(refused_token)?;
            let joining = match presented.admits.clone() {
                TokenHolder::Host { name, roles } => self.host(&request, name, roles, now).await?,
                TokenHolder::Operator { name, environments, role } => {
                    refuse_reserved(&name, "lockstep operator add NAME")?;
                    self.operator(&request, name, (environments, role), now).await?
                }
                TokenHolder::Machine { name } => {
                    refuse_reserved(&name, "lockstep token create NAME --env ENV")?;
                    self.machine(&request, name, now).await?
                }
                TokenHolder::Coordinator { name } => self.coordinator(&request, name, now).await?,
            };
            let JoinAttempt { identity, mut guards, mut writes, issued, name, roles } = joining;
            let (guard, spent) = presented.spending();
            guards.push(guard);
            writes.extend(spent);
            match self.store.commit(guards, writes).await.map_err(|error| unavailable(&error))? {
                Committed::Yes { .. } => {
                    info!(%identity, name, address = request.address, "joined");
                    self.note_login(&identity, issued.expires, now).await;
                    let secrets_key = match &identity {
                        Identity::Coordinator(_) => self.vault.key().expose().to_owned(),
                        Identity::Nobody | Identity::Agent(_) | Identity::Operator(_) => String::new(),
                    };
                    let reply = self.reply(&identity, issued).await?;
                    return Ok(Response::new(wire::JoinReply {
                        name,
                        secrets_key,
                        roles: roles.iter().map(HostRole::to_string).collect(),
                        ..reply
                    }));
                }
                // The token was used, or the name was taken, in this moment: looked at again, it is said.
                Committed::No => {}
            }
        }
        Err(Status::aborted("another host joined at the same time: try again"))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let identity = Caller::from_request(&request)?.identity;
        let request = &request.get_ref().certificate_request;
        let now = self.clock.now();
        let issued = match &identity {
            Identity::Operator(name) => self.renew_operator(request, name, now).await?,
            Identity::Agent(_) | Identity::Coordinator(_) | Identity::Nobody => {
                self.issue(request, &identity, now)?
            }
        };
        Ok(Response::new(self.reply(&identity, issued).await?))
    }
}

impl EnrollApi {
    fn issue(&self, request: &str, identity: &Identity, now: Timestamp) -> Result<Issued, Status> {
        self.authority.issue(request, identity, now).map_err(authority_failed)
    }

    async fn reply(&self, identity: &Identity, issued: Issued) -> Result<wire::JoinReply, Status> {
        let identity = match identity {
            Identity::Agent(host) => host.to_string(),
            Identity::Operator(name) => name.to_string(),
            Identity::Coordinator(name) => name.to_string(),
            Identity::Nobody => String::new(),
        };
        let coordinators =
            coordinators::addresses(&*self.store).await.map_err(|error| unavailable(&error))?;
        Ok(wire::JoinReply {
            certificate: issued.certificate,
            authority: self.authority.bundle(),
            cluster: self.authority.cluster().to_string(),
            identity,
            name: String::new(),
            coordinators,
            secrets_key: String::new(),
            roles: Vec::new(),
        })
    }

    async fn host(
        &self,
        request: &wire::JoinRequest,
        name: Option<HostName>,
        roles: Vec<HostRole>,
        now: Timestamp,
    ) -> Result<JoinAttempt, Status> {
        let name: HostName = match name {
            Some(name) => name,
            None => request.name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?,
        };
        if request.address.parse::<std::net::IpAddr>().is_err() {
            return Err(Status::invalid_argument(format!("{:?} is not an IP address", request.address)));
        }
        let there = hosts::named(&*self.store, &name).await.map_err(|error| unavailable(&error))?;
        if there.is_some() {
            return Err(Status::already_exists(format!(
                "a host named {name} already exists: choose another name, or remove it: lockstep host forget {name}"
            )));
        }
        let id: HostId =
            format!("host_{}", Ulid::generate()).parse().expect("a prefix and a ULID are a host's id");
        let all = [HostRole::App, HostRole::Lb, HostRole::Db];
        let roles = if roles.is_empty() { BTreeSet::from(all) } else { roles.into_iter().collect() };
        let identity = Identity::Agent(id.clone());
        let issued = self.issue(&request.certificate_request, &identity, now)?;
        let host = Host { id, name, address: request.address.clone(), roles };
        let (guards, writes) = hosts::joining(&host, &self.authority.name());
        let Host { name, roles, .. } = host;
        Ok(JoinAttempt { identity, guards, writes, issued, name: name.to_string(), roles })
    }

    async fn coordinator(
        &self,
        request: &wire::JoinRequest,
        name: Option<CoordinatorName>,
        now: Timestamp,
    ) -> Result<JoinAttempt, Status> {
        let name: CoordinatorName = match name {
            Some(name) => name,
            None => request.name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?,
        };
        if request.address.parse::<std::net::SocketAddr>().is_err() {
            return Err(Status::invalid_argument(format!(
                "{:?} is not an IP address with a port",
                request.address
            )));
        }
        if coordinators::find(&*self.store, &name).await.map_err(|error| unavailable(&error))?.is_some() {
            return Err(Status::already_exists(format!(
                "a coordinator named {name} already exists: choose another name, or remove it: lockstep coordinator remove {name}"
            )));
        }
        let request_of_key = &request.certificate_request;
        let (authority, issued, root) =
            self.authority.issue_authority(request_of_key, &name, now).map_err(authority_failed)?;
        let coordinator = Coordinator {
            name: name.clone(),
            address: request.address.clone(),
            authority: authority.id,
            root: roots::pin(&root),
            earlier: None,
            root_key: RootKey::Elsewhere,
            joined: now,
        };
        let (guard, write) = coordinators::joining(&coordinator);
        Ok(JoinAttempt {
            identity: Identity::Coordinator(name.clone()),
            guards: vec![guard],
            writes: vec![write],
            issued,
            name: name.to_string(),
            roles: BTreeSet::new(),
        })
    }

    async fn operator(
        &self,
        request: &wire::JoinRequest,
        name: OperatorName,
        (environments, role): (EnvironmentPattern, OperatorRole),
        now: Timestamp,
    ) -> Result<JoinAttempt, Status> {
        let identity = Identity::Operator(name.clone());
        let issued = self.issue(&request.certificate_request, &identity, now)?;
        let found = operators::find_guarded(&*self.store, &name).await;
        let (before, unchanged) = found.map_err(|error| unavailable(&error))?;
        if before.as_ref().is_some_and(Operator::is_active_machine) {
            return Err(Status::already_exists(format!(
                "a machine is named {name} now: add the operator with another name, or first: lockstep token revoke {name}"
            )));
        }
        // On another machine of the same operator the certificate goes on to count.
        let certificates = before.map(|operator| operator.certificates).unwrap_or_default();
        let operator = Operator {
            name,
            environments,
            role,
            certificate_expires: issued.expires,
            certificates,
            standing: OperatorStanding::Active,
            machine: None,
        }
        .with(&issued, now);
        Ok(JoinAttempt {
            identity,
            guards: vec![unchanged],
            writes: vec![Write::put(keys::operator(&operator.name), &operator)],
            issued,
            name: String::new(),
            roles: BTreeSet::new(),
        })
    }

    /// A machine keeps nothing: it gets a certificate for one run.
    async fn machine(
        &self,
        request: &wire::JoinRequest,
        name: OperatorName,
        now: Timestamp,
    ) -> Result<JoinAttempt, Status> {
        let found = operators::find_guarded(&*self.store, &name).await;
        let (operator, unchanged) = found.map_err(|error| unavailable(&error))?;
        let machine = operator.and_then(|operator| operator.machine.clone().map(|limits| (operator, limits)));
        let (operator, limits) = match machine {
            Some((operator, limits)) if operator.standing == OperatorStanding::Active => (operator, limits),
            Some((operator, limits)) => {
                let create = limits.create_command(&name, &operator.environments);
                return Err(revoked(&name, format!("{create}    # run by an admin: another token like it")));
            }
            None => return Err(revoked(&name, "lockstep token list    # run by an admin".to_owned())),
        };
        let identity = Identity::Operator(name.clone());
        let ends = (now + MACHINE_LIFE).min(limits.expires);
        let issued = self
            .authority
            .issue_for(&request.certificate_request, &identity, now, ends.since(now))
            .map_err(authority_failed)?;
        let operator = operator.with(&issued, now);
        if operator.certificates.len() > MACHINE_LOGINS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{name} has logged in {MACHINE_LOGINS_MAX} times within {MACHINE_LIFE}: try again later"
            )));
        }
        Ok(JoinAttempt {
            identity,
            guards: vec![unchanged],
            writes: vec![Write::put(keys::operator(&operator.name), &operator)],
            issued,
            name: String::new(),
            roles: BTreeSet::new(),
        })
    }

    /// A certificate counts when it is written down with its operator.
    async fn renew_operator(
        &self,
        request: &str,
        name: &OperatorName,
        now: Timestamp,
    ) -> Result<Issued, Status> {
        for _ in 0..ATTEMPTS_MAX {
            let found = operators::find_guarded(&*self.store, name).await;
            let (operator, unchanged) = found.map_err(|error| unavailable(&error))?;
            let operator = operator
                .filter(|operator| operator.standing == OperatorStanding::Active)
                .ok_or_else(|| Status::unauthenticated(format!("the operator {name} has been revoked")))?;
            if operator.machine.is_some() {
                return Err(Status::permission_denied(format!("{name} logs in again with its token")));
            }
            let issued = self.issue(request, &Identity::Operator(name.clone()), now)?;
            let write = Write::put(keys::operator(name), &operator.with(&issued, now));
            let committed = self.store.commit(vec![unchanged], vec![write]).await;
            match committed.map_err(|error| unavailable(&error))? {
                Committed::Yes { .. } => return Ok(issued),
                // A revocation may have come between: looked at again, it is said.
                Committed::No => {}
            }
        }
        Err(Status::aborted(format!("the operator {name} was changed meanwhile: try again")))
    }

    /// The token is spent and the certificate made: what cannot be written down here changes neither.
    async fn note_login(&self, identity: &Identity, expires: Timestamp, now: Timestamp) {
        let Identity::Operator(operator) = identity else { return };
        let said = format!("{operator} has a certificate until {expires}");
        let change = Change { operator: operator.clone(), verb: "log in", environment: None, said };
        if let Err(error) = audit::append(&*self.store, now, change).await {
            warn!(%operator, %error, "cannot write a login to the audit log");
        }
    }
}

fn refuse_skew(theirs: Timestamp, ours: Timestamp) -> Result<(), Status> {
    let apart = ours.since(theirs).max(theirs.since(ours));
    if apart <= SKEW_MAX {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the clocks differ by {apart}: it is {theirs} on this machine and {ours} on the coordinator; set the clock, then join again"
    )))
}

pub(super) fn authority_failed(error: AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) | AuthorityError::NoSubject(_) => {
            Status::invalid_argument(error.to_string())
        }
        AuthorityError::NoRootKey => Status::failed_precondition(error.to_string()),
        AuthorityError::File(_)
        | AuthorityError::Directory(_)
        | AuthorityError::Half
        | AuthorityError::Nameless
        | AuthorityError::Next { .. }
        | AuthorityError::Make(_)
        | AuthorityError::Unreadable
        | AuthorityError::Chance => {
            warn!(%error, "cannot make a certificate");
            Status::internal("cannot make a certificate: see the log of the coordinator")
        }
    }
}

fn revoked(name: &OperatorName, next: String) -> Status {
    let why = "an administrator revoked it".to_owned();
    unauthenticated(&Refusal { what: format!("the token of {name} has been revoked"), why, next })
}

/// A token of an earlier version may be for a name that nobody can have.
fn refuse_reserved(name: &OperatorName, create: &str) -> Result<(), Status> {
    operators::reserved(name).map_or(Ok(()), |why| {
        Err(unauthenticated(&Refusal {
            what: format!("nobody can be named {name}: {why}"),
            why: why.to_owned(),
            next: format!("{create}    # run by an admin: with another name"),
        }))
    })
}

fn unauthenticated(refusal: &Refusal) -> Status {
    Status::with_details(Code::Unauthenticated, refusal.what.clone(), encode(refusal).into())
}

fn refused_token(error: TokenError) -> Status {
    match error {
        TokenError::Unknown | TokenError::Expired { .. } => Status::unauthenticated(error.to_string()),
        TokenError::MachineExpired { ref name, .. } => unauthenticated(&Refusal {
            what: error.to_string(),
            why: "a token is good until its end, and can be renewed".to_owned(),
            next: format!("lockstep token renew {name}    # run by an admin: the machine keeps its token"),
        }),
        TokenError::Chance => Status::internal(error.to_string()),
        TokenError::Store(error) => unavailable(&error),
    }
}

fn unavailable(error: &StoreError) -> Status {
    warn!(%error, "the store does not answer");
    Status::unavailable("the store does not answer: try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine keeps its token, so whoever renews it needs only its name.
    #[test]
    fn an_expired_token_of_a_machine_comes_with_the_command_that_renews_it() {
        let name = "ci".parse().unwrap();
        let status = refused_token(TokenError::MachineExpired { name, at: Timestamp(0) });
        assert_eq!(status.code(), Code::Unauthenticated);
        let refusal: Refusal = lockstep_core::stored::decode(status.details()).unwrap();
        assert!(refusal.next.starts_with("lockstep token renew ci "), "{refusal:?}");
    }

    #[test]
    fn a_token_for_a_name_that_the_history_uses_lets_nobody_in() {
        for name in ["root", "lockstep"] {
            let status = refuse_reserved(&name.parse().unwrap(), "lockstep operator add NAME").unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            let refusal: Refusal = lockstep_core::stored::decode(status.details()).unwrap();
            assert!(refusal.next.starts_with("lockstep operator add NAME"), "{refusal:?}");
        }
        assert!(refuse_reserved(&"anna".parse().unwrap(), "").is_ok());
    }

    #[test]
    fn clocks_that_are_apart_are_refused_with_both_times() {
        let ours = Timestamp(1_800_000_000_000);
        assert!(refuse_skew(Timestamp(ours.0 + SKEW_MAX.0), ours).is_ok());
        for theirs in [Timestamp(ours.0 + SKEW_MAX.0 + 1), Timestamp(ours.0 - SKEW_MAX.0 - 1)] {
            let refused = refuse_skew(theirs, ours).unwrap_err();
            let words = refused.message();
            assert!(words.contains(&theirs.to_string()) && words.contains(&ours.to_string()), "{words}");
            assert!(words.contains("set the clock"), "{words}");
        }
    }
}
