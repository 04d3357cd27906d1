//! The gate of the API. It authenticates the caller and checks the access table before any method runs.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use lockstep_core::access::machine::MachineLimits;
use lockstep_core::access::{self, EnvironmentPattern, Identity, METHODS, OperatorRights, OperatorRole};
use lockstep_core::id::ClusterId;
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::stored::encode;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{info, warn};

use crate::identity::certificate::IssuingName;
use crate::identity::{certificate, operators};
use crate::planning::grants::Authority;
use crate::record::refusals::Refusals;
use crate::record::{coordinators, hosts};
use crate::store::{Store, StoreError};

pub mod control;
mod cut;
pub mod enroll;
pub mod relay;
pub mod session;

/// Who calls, as far as the record knows: in the extensions of every request that passed.
#[derive(Debug, Clone)]
pub struct Caller {
    pub identity: Identity,
    /// Whose authority signed the certificate; `None` without a certificate.
    pub signed_by: Option<IssuingName>,
    /// Nothing for those who are no operators.
    rights: Option<OperatorRights>,
}

impl Caller {
    /// An operator with these rights.
    #[cfg(test)]
    pub(crate) fn of(identity: Identity, rights: OperatorRights) -> Self {
        Self { identity, signed_by: None, rights: Some(rights) }
    }

    /// The caller of `request`.
    ///
    /// # Errors
    /// Never behind the gate.
    pub fn from_request<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Status::internal("the call did not pass the gate"))
    }

    /// The operator who calls.
    ///
    /// # Errors
    /// When it is none.
    pub fn operator(&self) -> Result<&OperatorName, Status> {
        match &self.identity {
            Identity::Operator(name) => Ok(name),
            Identity::Nobody | Identity::Agent(_) | Identity::Coordinator(_) => Err(self.no_operator()),
        }
    }

    /// Whether the caller administers the environments of their scope.
    pub fn is_admin(&self) -> bool {
        matches!(self.rights, Some(OperatorRights { role: OperatorRole::Admin, .. }))
    }

    /// What the caller may do beyond the role that a method asks for.
    pub fn authority(&self) -> Authority {
        match &self.rights {
            Some(OperatorRights {
                role: OperatorRole::Admin, environments: EnvironmentPattern::All, ..
            }) => Authority::Administrator,
            Some(OperatorRights { role: OperatorRole::Admin | OperatorRole::Deploy, .. }) => {
                Authority::Deployer
            }
            Some(OperatorRights { role: OperatorRole::Read, .. }) | None => Authority::Reader,
        }
    }

    /// Whether the caller's role is for every environment.
    pub fn is_for_all_environments(&self) -> bool {
        self.rights.as_ref().is_some_and(|rights| rights.environments == EnvironmentPattern::All)
    }

    /// What the caller's token allows, where it is a machine.
    pub fn machine(&self) -> Option<&MachineLimits> {
        self.rights.as_ref()?.machine.as_ref()
    }

    /// The environments that the caller may see.
    ///
    /// # Errors
    /// When it is no operator.
    pub fn environments(&self) -> Result<&EnvironmentPattern, Status> {
        self.rights.as_ref().map(|rights| &rights.environments).ok_or_else(|| self.no_operator())
    }

    fn no_operator(&self) -> Status {
        Status::permission_denied(format!("{} is not an operator", self.identity))
    }

    /// Whether the caller has a say over `environment`.
    ///
    /// # Errors
    /// When its certificate's owner was given others.
    pub fn check_environment(&self, environment: &EnvironmentKey) -> Result<(), Status> {
        let operator = self.operator()?;
        match &self.rights {
            Some(rights) if rights.environments.covers(environment) => Ok(()),
            Some(_) | None => {
                let denied = access::Denied::OtherEnvironment {
                    operator: operator.clone(),
                    environment: environment.clone(),
                };
                let Some(machine) = self.machine() else {
                    return Err(Status::permission_denied(denied.to_string()));
                };
                let verbs: Vec<String> = machine.verbs.iter().map(ToString::to_string).collect();
                Err(forbidden(&Refusal {
                    what: denied.to_string(),
                    why: "a token is for one environment".to_owned(),
                    next: format!(
                        "lockstep token create NAME --env {environment} --allow {}    # run by an admin: a token for that one",
                        verbs.join(",")
                    ),
                }))
            }
        }
    }
}

/// What the caller may not do, and who may.
fn forbidden(refusal: &Refusal) -> Status {
    with_refusal(Code::PermissionDenied, refusal)
}

/// The refusal in words, and whole in the details.
fn with_refusal(code: Code, refusal: &Refusal) -> Status {
    Status::with_details(code, refusal.to_string(), encode(refusal).into())
}

/// Wraps every service in the gate.
#[derive(Clone)]
pub struct GateLayer {
    pub store: Arc<dyn Store>,
    pub cluster: ClusterId,
    pub refusals: Arc<Refusals>,
    /// Ends what operators follow, so that a stop does not wait for a deployment that nobody drives any more.
    pub stopping: CancellationToken,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    gate: GateLayer,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone waits for the next.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            let shown = gate.identify(&request);
            let method = request.uri().path().to_owned();
            let answer = match gate.admit(shown.clone(), &method).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await?
                }
                Err(status) => status.into_http(),
            };
            if let Some(refusal) = Status::from_header_map(answer.headers()) {
                gate.note_refusal(&shown.identity, &method, &refusal).await;
            }
            let is_operator = matches!(shown.identity, Identity::Operator(_));
            Ok(if is_operator { gate.watched(answer, shown, method) } else { answer })
        })
    }
}

/// What the certificate of a call says.
#[derive(Clone)]
struct PeerCertificate {
    identity: Identity,
    /// Whose authority signed it; nothing without a certificate, or with one that no issuing authority signed.
    signed_by: Option<IssuingName>,
    /// Empty without a certificate.
    serial: String,
}

impl GateLayer {
    fn identify(&self, request: &Request<Body>) -> PeerCertificate {
        let chain = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs)
            .unwrap_or_default();
        match chain.first() {
            Some(leaf) => PeerCertificate {
                identity: certificate::identity_of(leaf, &self.cluster),
                signed_by: IssuingName::of_issuer(leaf),
                serial: certificate::serial(leaf).unwrap_or_default(),
            },
            None => PeerCertificate { identity: Identity::Nobody, signed_by: None, serial: String::new() },
        }
    }

    /// Writes to the audit log who was refused what, here or by the method itself. A method that is not in the table is
    /// nothing that could have been done.
    async fn note_refusal(&self, caller: &Identity, method: &str, refusal: &Status) {
        let known = METHODS.iter().map(|(known, _)| *known).find(|known| *known == method);
        let (Some(method), Code::PermissionDenied | Code::Unauthenticated) = (known, refusal.code()) else {
            return;
        };
        let name = method.rsplit('/').next().unwrap_or(method);
        let said = format!("refused {caller} to call {name}: {}", refusal.message());
        self.refusals.note(caller, "refuse call", method, said).await;
    }

    /// Hosts' sessions look for themselves.
    fn watched(self, answer: Response<Body>, shown: PeerCertificate, method: String) -> Response<Body> {
        let stopping = self.stopping.clone();
        answer.map(|body| {
            cut::unless_refused(body, stopping, move || {
                let (gate, shown, method) = (self.clone(), shown.clone(), method.clone());
                async move { gate.admit(shown, &method).await.map(drop) }
            })
        })
    }

    async fn admit(&self, shown: PeerCertificate, method: &str) -> Result<Caller, Status> {
        let PeerCertificate { identity, signed_by, serial } = shown;
        self.check_authority(&identity, signed_by.as_ref()).await?;
        let rights = self.rights(&identity, &serial).await?;
        access::allow(&identity, rights.as_ref(), method).map_err(|denied| {
            info!(%identity, method, why = %denied, "refused a call");
            match denied {
                access::Denied::NoCertificate => Status::unauthenticated(denied.to_string()),
                access::Denied::UnknownMethod { .. } => Status::unimplemented(denied.to_string()),
                access::Denied::WrongRole { .. }
                | access::Denied::RoleTooLow { .. }
                | access::Denied::NotOfAll { .. }
                | access::Denied::OtherEnvironment { .. } => Status::permission_denied(denied.to_string()),
                access::Denied::BeyondToken { operator, why, next } => {
                    forbidden(&Refusal { what: format!("{operator} cannot do this"), why, next })
                }
            }
        })?;
        Ok(Caller { identity, signed_by, rights })
    }

    /// The root's word that a coordinator may sign is good for ever; the record's is not.
    async fn check_authority(
        &self,
        identity: &Identity,
        signed_by: Option<&IssuingName>,
    ) -> Result<(), Status> {
        if *identity == Identity::Nobody {
            return Ok(());
        }
        let counts = match signed_by {
            Some(authority) => coordinators::counts(&*self.store, authority).await.map_err(|error| {
                warn!(%error, "cannot look up the authority of a caller");
                Status::unavailable("the store does not answer: try again")
            })?,
            None => false,
        };
        if counts {
            return Ok(());
        }
        info!(%identity, "refused a call: its certificate is signed by an authority that is not trusted");
        Err(Status::unauthenticated(format!(
            "the certificate of {identity} was signed by a coordinator that was removed, or under a root that was retired: join again"
        )))
    }

    /// What the record says of whoever calls; an error where it says that its certificate does not count.
    async fn rights(&self, identity: &Identity, serial: &str) -> Result<Option<OperatorRights>, Status> {
        let unavailable = |error: StoreError| {
            warn!(%error, "cannot look up a caller");
            Status::unavailable("the store does not answer: try again")
        };
        let refuse = |why: String| {
            info!(%identity, serial, why, "refused a call");
            Status::unauthenticated(why)
        };
        match identity {
            Identity::Operator(name) => {
                let operator = operators::find(&*self.store, name).await.map_err(unavailable)?;
                let operator = operator.ok_or_else(|| refuse(format!("there is no operator {name}")))?;
                let rights = operator.rights(serial);
                Ok(Some(
                    rights.ok_or_else(|| refuse(format!("this certificate of {name} has been revoked")))?,
                ))
            }
            Identity::Agent(host) => {
                if hosts::find(&*self.store, host).await.map_err(unavailable)?.is_none() {
                    return Err(refuse(format!("{host} was removed, or never joined")));
                }
                Ok(None)
            }
            // Its authority was looked at already.
            Identity::Nobody | Identity::Coordinator(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: OperatorRole, environments: &str) -> Caller {
        let rights = OperatorRights { role, environments: environments.parse().unwrap(), machine: None };
        let identity = Identity::Operator("anna".parse().unwrap());
        Caller::of(identity, rights)
    }

    #[test]
    fn only_an_administrator_of_every_environment_may_widen_grants() {
        for (role, environments, authority) in [
            (OperatorRole::Admin, "*", Authority::Administrator),
            (OperatorRole::Admin, "notes/*", Authority::Deployer),
            (OperatorRole::Admin, "notes/production", Authority::Deployer),
            (OperatorRole::Deploy, "*", Authority::Deployer),
            (OperatorRole::Read, "*", Authority::Reader),
        ] {
            assert_eq!(caller(role, environments).authority(), authority, "{role} of {environments}");
        }
        let unknown = Caller { rights: None, ..caller(OperatorRole::Admin, "*") };
        assert_eq!(unknown.authority(), Authority::Reader);
    }

    #[test]
    fn a_caller_has_a_say_over_the_environments_of_their_scope() {
        let notes = caller(OperatorRole::Admin, "notes/*");
        assert!(notes.check_environment(&"notes/production".parse().unwrap()).is_ok());
        let other = "shop/production".parse().unwrap();
        assert!(notes.check_environment(&other).is_err());
        assert!(Caller { rights: None, ..notes }.check_environment(&other).is_err());
    }
}
