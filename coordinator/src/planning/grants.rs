//! Decides whether an environment may use what a deployment needs outside of its containers, and what of that an
//! administrator grants with the deployment.

use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::{Operation, Refusal};
use lockstep_core::record::grant::{EnvironmentGrant, Resource, Widening, WideningHash, required};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_mutant::{Mutant, is_on};

use super::{DeployError, RequestedOperation, Requester};
use crate::record::environments::Versioned;
use crate::record::{environments, hosts};
use crate::store::guarded::{self, Accompanying, OwnedWrite};
use crate::store::{Committed, Guard, Store, StoreError, Stored, keys};

/// What the requester may do beyond their role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// May look, and nothing that a look costs or changes.
    Reader,
    /// May change the environments of their scope, within the grants.
    Deployer,
    /// May widen grants: an administrator of every environment.
    Administrator,
}

/// The grant of an environment after a deployment is opened.
pub(super) struct GrantDecision {
    grant: Option<EnvironmentGrant>,
    seen: Option<Stored>,
    /// What the deployment needs and an administrator has not accepted yet: it can be planned and not started.
    pub(super) widening: Widening,
}

/// What is to be decided about.
pub(super) struct GrantQuestion<'a> {
    pub(super) key: &'a EnvironmentKey,
    pub(super) what: &'a RequestedOperation,
    /// What would be deployed.
    pub(super) spec: &'a EnvironmentSpec,
    pub(super) accepted: Option<&'a WideningHash>,
    pub(super) requester: &'a Requester,
}

/// Decides before anything is looked at on a host.
///
/// # Errors
/// When the requester cannot widen the grant, and the deployment needs it.
pub(super) async fn decide_grant(
    store: &dyn Store,
    question: &GrantQuestion<'_>,
) -> Result<GrantDecision, DeployError> {
    let GrantQuestion { key, what, spec, accepted, requester } = question;
    let (stored, live) = tokio::try_join!(environments::grant(store, key), environments::live(store, key))?;
    let seen = stored.as_ref().map(|stored| stored.stored.clone());
    let mut before = current(stored.as_ref(), live.as_ref());
    let needed = match what {
        RequestedOperation::Deploy(_) => {
            let hosts = only_host(store, spec).await?;
            if live.is_none() && requester.authority == Authority::Administrator {
                before.resources.extend(EnvironmentGrant::of_first(spec, &hosts).resources);
            }
            required(spec, &hosts)
        }
        RequestedOperation::AddHost(name) => [Resource::Host(name.clone())].into(),
        // They use what is granted already; whether that still holds is seen in the plan.
        RequestedOperation::Rollback { .. }
        | RequestedOperation::DrainHost(_)
        | RequestedOperation::RemoveHost(_)
        | RequestedOperation::Decommission => {
            let grant = stored.map(|stored| stored.content);
            return Ok(GrantDecision { grant, seen, widening: Widening::default() });
        }
    };
    let missing = before.missing(&needed);
    if missing.is_empty() || is_on(Mutant::GrantNotAsked) {
        return Ok(GrantDecision { grant: Some(before), seen, widening: Widening::default() });
    }
    if requester.authority != Authority::Administrator {
        return Err(DeployError::NotGranted(not_granted(key, &missing, requester)));
    }
    match accepted {
        None => Ok(GrantDecision { grant: Some(before), seen, widening: missing }),
        Some(hash) if **hash == missing.hash(key) => Ok(GrantDecision {
            grant: Some(before.widened_by(&missing)),
            seen,
            widening: Widening::default(),
        }),
        Some(_) => Err(Refusal {
            what: format!("the grant that {key} needs has changed since it was shown"),
            why: format!("it needs: {missing}"),
            next: format!("review it, then: {}", missing.command(key)),
        }
        .into()),
    }
}

impl GrantDecision {
    /// Refuses to start what an administrator has not accepted.
    pub(super) fn refuse_widening(&self, plan: &Plan) -> Result<(), Refusal> {
        let Self { widening, .. } = self;
        if widening.is_empty() {
            return Ok(());
        }
        let key = &plan.key;
        let hash = widening.hash(key);
        Err(Refusal {
            what: format!("{key} needs more than it is granted"),
            why: format!("its declaration uses: {widening}"),
            next: match &plan.operation {
                Operation::AddHost(host) => format!("lockstep host add {key} {host} --grant {hash}"),
                Operation::Deploy(_)
                | Operation::Rollback(_)
                | Operation::DrainHost(_)
                | Operation::RemoveHost(_)
                | Operation::Decommission => {
                    format!("lockstep deploy {key} --image {} --grant {hash}", plan.release.image)
                }
            },
        })
    }

    /// Refuses a plan of a release that uses what was revoked since. Where there is no grant yet, nothing was.
    pub(super) fn refuse_revoked(&self, plan: &Plan) -> Result<(), Refusal> {
        let Operation::Rollback(_) = &plan.operation else { return Ok(()) };
        let Some(grant) = &self.grant else { return Ok(()) };
        let revoked = grant.missing(&required(&plan.spec, &plan.serving));
        if revoked.is_empty() {
            return Ok(());
        }
        let key = &plan.key;
        Err(Refusal {
            what: format!("{key} cannot be rolled back to {}", plan.release.image),
            why: format!("that release uses what is not granted any more: {revoked}"),
            next: format!("an administrator of all environments may grant it: {}", revoked.command(key)),
        })
    }

    /// What records the grant, if nobody else has changed it meanwhile.
    pub(super) fn transaction(&self, environment: &EnvironmentKey) -> Accompanying {
        let key = keys::grant(environment);
        let guards = vec![Guard::as_seen(&key, self.seen.as_ref())];
        let writes = self.grant.iter().map(|grant| OwnedWrite::put(key.clone(), grant)).collect();
        Accompanying { guards, writes }
    }
}

/// What an administrator changes in a grant.
#[derive(Debug, Clone, Default)]
pub struct GrantChange {
    pub granted: Vec<Resource>,
    pub revoked: Vec<Resource>,
}

/// Changes a grant without a deployment. Gives what is granted afterwards.
///
/// # Errors
/// When the store does not answer, or another administrator changed the grant at the same time.
pub async fn change_grant(
    store: &dyn Store,
    environment: &EnvironmentKey,
    change: &GrantChange,
) -> Result<EnvironmentGrant, DeployError> {
    let (stored, live) =
        tokio::try_join!(environments::grant(store, environment), environments::live(store, environment))?;
    let mut grant = current(stored.as_ref(), live.as_ref());
    for revoked in &change.revoked {
        grant.resources.remove(revoked);
    }
    grant.resources.extend(change.granted.iter().cloned());
    let seen = stored.map(|stored| stored.stored);
    let decision = GrantDecision { grant: Some(grant.clone()), seen, widening: Widening::default() };
    match guarded::give_away(store, environment, decision.transaction(environment)).await? {
        Committed::Yes { .. } => Ok(grant),
        Committed::No => Err(Refusal {
            what: format!("the grant of {environment} was not changed"),
            why: "it was changed by someone else at the same time, or the environment is being removed"
                .to_owned(),
            next: format!("lockstep env show {environment}"),
        }
        .into()),
    }
}

/// The host of an environment that names none, where there is only one.
async fn only_host(store: &dyn Store, spec: &EnvironmentSpec) -> Result<Vec<HostName>, StoreError> {
    if !spec.hosts.app.is_empty() {
        return Ok(Vec::new());
    }
    let all = hosts::list(store).await?;
    Ok(if let [only] = all.as_slice() { vec![only.name.clone()] } else { Vec::new() })
}

/// What is granted, or follows from what was live before there were grants.
fn current(stored: Option<&Versioned<EnvironmentGrant>>, live: Option<&LiveRelease>) -> EnvironmentGrant {
    match (stored, live) {
        (Some(stored), _) => stored.content.clone(),
        (None, Some(live)) => {
            let hosts: Vec<HostName> = live.serving.iter().chain(&live.excluded).cloned().collect();
            EnvironmentGrant::of_live(&live.spec, &hosts)
        }
        (None, None) => EnvironmentGrant::default(),
    }
}

fn not_granted(key: &EnvironmentKey, missing: &Widening, requester: &Requester) -> Refusal {
    Refusal {
        what: format!("{key} is not granted what its declaration uses"),
        why: format!("not granted: {missing}; {} cannot grant it", requester.operator),
        next: format!("ask an administrator of all environments to run: {}", missing.command(key)),
    }
}
