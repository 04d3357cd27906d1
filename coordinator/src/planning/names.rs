//! The names that a deployment claims: of the environment's objects on hosts, and of its sites at load balancers.
//!
//! What must stay true: a name is claimed in the transaction that opens the deployment, guarded by its own key, so that
//! of two environments that want it one is refused. An environment of an earlier version claims at its next deployment
//! what it uses already. Where another one uses the same, both are refused until an administrator decides. A name
//! that the plan does not need and another environment has is lost: no plan goes back to a release that used it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::operation::{OperationKind, Refusal};
use lockstep_core::plan::{Action, Plan};
use lockstep_core::planner;
use lockstep_core::record::Record;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::owned_names::{OwnedName, OwnedNames};
use lockstep_core::spec::{EnvironmentSpec, HostRoles};
use lockstep_mutant::{Mutant, is_on};

use super::DeployError;
use crate::context::Context;
use crate::record::environments::{live, names};
use crate::record::hosts;
use crate::store::guarded::{self, Accompanying, OwnedWrite};
use crate::store::{Committed, Guard, Store, StoreError, Stored, keys};

/// The names of an environment after a deployment is opened, and what its transaction does for them.
pub(super) struct NameProposal {
    names: OwnedNames,
    seen: Option<Stored>,
    fresh: Vec<OwnedName>,
    released: Vec<OwnedName>,
    /// The environment that an administrator made the owner of this one's earlier names.
    given_away: Option<EnvironmentKey>,
}

/// The names that `plan` needs.
///
/// # Errors
/// When one of them is another environment's.
pub(super) async fn propose_names(
    context: &Context,
    plan: &Plan,
    record: &Record,
) -> Result<NameProposal, DeployError> {
    let store = &*context.store;
    let key = &plan.key;
    let seen = names(store, key).await?;
    let before = seen.as_ref().map(|seen| &seen.content);
    let legacy = ObjectName::legacy(key);
    let given_away = match before {
        None if !is_new(record) => owner(store, &OwnedName::Objects(legacy.clone())).await?,
        Some(_) | None => None,
    };
    let objects = match before {
        Some(before) => before.objects.clone(),
        None if is_new(record) || given_away.is_some() => ObjectName::encode(key),
        None => legacy,
    };
    let names_of = |used: &[(&EnvironmentSpec, HostId)]| {
        OwnedNames::of(objects.clone(), used.iter().map(|(spec, host)| (*spec, host)))
    };
    let mut used = used_by_plan(plan);
    let needed = names_of(&used).each();
    used.extend(used_by_record(record));
    let mut wanted = names_of(&used);
    let owned = before.map(OwnedNames::each).unwrap_or_default();
    for name in wanted.each().difference(&owned) {
        if let Some(owner) = owner(store, name).await?
            && owner != *key
            && !is_on(Mutant::NameOfAnotherGiven)
        {
            if needed.contains(name) {
                return Err(taken(plan, name, &owner).into());
            }
            // A rollback to the release that used it needs it, and is refused.
            wanted.remove(name);
        }
    }
    for (name, other) in unclaimed_by_others(context, key, &new_names(&wanted, &owned)).await? {
        if needed.contains(&name) {
            // Who came later cannot be made the owner.
            let is_later = before.is_some() || is_new(record);
            return Err(
                if is_later { taken(plan, &name, &other) } else { shared(plan, &name, &other) }.into()
            );
        }
        wanted.remove(&name);
    }
    let fresh = new_names(&wanted, &owned);
    let released = owned.difference(&wanted.each()).cloned().collect();
    Ok(NameProposal { names: wanted, seen: seen.map(|seen| seen.stored), fresh, released, given_away })
}

impl NameProposal {
    /// What an operator should read before the deployment.
    pub(super) fn warning(&self) -> Option<String> {
        let owner = self.given_away.as_ref()?;
        Some(format!(
            "its earlier names on hosts belong to {owner}: its volumes and snapshots begin empty, under new names"
        ))
    }

    /// What claims and releases the names, if nobody else has claimed them meanwhile.
    pub(super) fn transaction(&self, environment: &EnvironmentKey) -> Accompanying {
        let names = keys::names(environment);
        let mut guards = vec![Guard::as_seen(&names, self.seen.as_ref())];
        let mut writes = vec![OwnedWrite::put(names, &self.names)];
        for name in &self.fresh {
            let key = keys::owned_name(name);
            if !is_on(Mutant::NameOfAnotherGiven) {
                guards.push(Guard::absent(&key));
            }
            writes.push(OwnedWrite::put_bytes(key, environment.to_string()));
        }
        writes.extend(self.released.iter().map(|name| OwnedWrite::delete(keys::owned_name(name))));
        Accompanying { guards, writes }
    }
}

/// Whether no version of Lockstep has deployed the environment yet.
fn is_new(record: &Record) -> bool {
    record.live.is_none() && record.history.is_empty()
}

fn new_names(wanted: &OwnedNames, owned: &BTreeSet<OwnedName>) -> Vec<OwnedName> {
    wanted.each().difference(owned).cloned().collect()
}

/// The declaration that the plan serves, with its load balancer: the plan is refused without its names.
fn used_by_plan(plan: &Plan) -> Vec<(&EnvironmentSpec, HostId)> {
    let balancer = plan.steps().find(|step| is_of_load_balancer(&step.action));
    balancer.map(|step| (&plan.spec, step.host.clone())).into_iter().collect()
}

/// The declarations whose names stay the environment's, each with its load balancer: of what is live, and of what a
/// rollback may go back to. An earlier version claimed none, so another environment may have some of them.
fn used_by_record(record: &Record) -> Vec<(&EnvironmentSpec, HostId)> {
    let mut used = Vec::new();
    let host = |roles: &HostRoles| load_balancer(roles, &record.hosts);
    if let Some(live) = &record.live {
        used.extend(host(&live.roles()).map(|host| (&live.spec, host)));
    }
    let kept = planner::images_kept(record.live.as_ref(), &record.history);
    for past in record.history.iter().filter(|past| past.is_verified_good()) {
        if kept.contains(&past.release.image_id) {
            let roles = HostRoles { app: past.serving.clone(), ..past.spec.hosts.clone() };
            used.extend(host(&roles).map(|host| (&past.spec, host)));
        }
    }
    used
}

fn is_of_load_balancer(action: &Action) -> bool {
    matches!(action, Action::SwitchTraffic(_) | Action::InstallSite { .. })
}

/// The host that serves the site: the one that is named, else the first that has the application.
fn load_balancer(roles: &HostRoles, hosts: &[Host]) -> Option<HostId> {
    let name = roles.lb.first().or(roles.app.first())?;
    hosts.iter().find(|host| host.name == *name).map(|host| host.id.clone())
}

async fn owner(store: &dyn Store, name: &OwnedName) -> Result<Option<EnvironmentKey>, StoreError> {
    let stored = store.get(keys::owned_name(name).key()).await?;
    Ok(stored.and_then(|stored| std::str::from_utf8(&stored.value).ok()?.parse().ok()))
}

/// Of `wanted`, those that an environment of an earlier version uses and has not claimed. Looked for only where a name
/// is claimed: each environment does that once, and when its declaration changes.
async fn unclaimed_by_others(
    context: &Context,
    environment: &EnvironmentKey,
    wanted: &[OwnedName],
) -> Result<BTreeMap<OwnedName, EnvironmentKey>, StoreError> {
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let store = &*context.store;
    let others = context.unclaimed_names.environments(store).await?;
    if others.is_empty() {
        return Ok(found);
    }
    let hosts = hosts::list(store).await?;
    for (other, live) in others.into_iter().filter(|(other, _)| other != environment) {
        let theirs = used_by(&other, &live, &hosts).each();
        let shared = wanted.iter().filter(|name| theirs.contains(name));
        found.extend(shared.map(|name| (name.clone(), other.clone())));
    }
    Ok(found)
}

/// What an environment of an earlier version uses.
fn used_by(key: &EnvironmentKey, live: &LiveRelease, hosts: &[Host]) -> OwnedNames {
    let balancer = load_balancer(&live.roles(), hosts);
    OwnedNames::of(ObjectName::legacy(key), balancer.iter().map(|host| (&live.spec, host)))
}

/// Gives an environment of an earlier version everything that it shares with another one. That one gets names of its
/// own at its next deployment, and is refused the sites that it has lost.
///
/// # Errors
/// When nothing is live, or it owns its names already, or another one does.
pub async fn own_shared_names(store: &dyn Store, environment: &EnvironmentKey) -> Result<(), DeployError> {
    let (live, seen, hosts) =
        tokio::try_join!(live(store, environment), names(store, environment), hosts::list(store))?;
    let nothing_to_own = |why: &str| Refusal {
        what: format!("{environment} shares no names"),
        why: why.to_owned(),
        next: format!("lockstep env show {environment}"),
    };
    if seen.is_some() {
        return Err(nothing_to_own("it owns its names already").into());
    }
    let live = live.ok_or_else(|| nothing_to_own("nothing of it is live"))?;
    let names = used_by(environment, &live, &hosts);
    for name in names.each() {
        if let Some(owner) = owner(store, &name).await?
            && owner != *environment
        {
            return Err(nothing_to_own(&format!("{name} belongs to {owner}")).into());
        }
    }
    let fresh = names.each().into_iter().collect();
    let proposal = NameProposal { names, seen: None, fresh, released: Vec::new(), given_away: None };
    match guarded::give_away(store, environment, proposal.transaction(environment)).await? {
        Committed::Yes { .. } => Ok(()),
        Committed::No => Err(nothing_to_own("another operator changed this at the same time").into()),
    }
}

fn taken(plan: &Plan, name: &OwnedName, owner: &EnvironmentKey) -> Refusal {
    let key = &plan.key;
    let what = match plan.kind {
        OperationKind::Rollback => format!("{key} cannot be rolled back to a release that used {name}"),
        OperationKind::Deploy
        | OperationKind::AddHost
        | OperationKind::DrainHost
        | OperationKind::RemoveHost
        | OperationKind::Decommission => format!("{key} cannot use {name}"),
    };
    Refusal {
        what,
        why: format!("it belongs to {owner}"),
        next: match name {
            OwnedName::Site(_) => format!(
                "give one of them another url in deployment.yml; see who has it: lockstep status {owner}"
            ),
            OwnedName::Volume(_) => "give the volume another name in deployment.yml".to_owned(),
            OwnedName::Objects(_) => format!("lockstep env show {owner}"),
        },
    }
}

fn shared(plan: &Plan, name: &OwnedName, other: &EnvironmentKey) -> Refusal {
    let key = &plan.key;
    Refusal {
        what: format!("{key} and {other} share {name}"),
        why: "an earlier version of Lockstep gave it to both, so each of them can destroy what the other has"
            .to_owned(),
        next: format!(
            "an administrator decides whose it is: lockstep env grant {key} --own-shared-names, or: lockstep env grant {other} --own-shared-names"
        ),
    }
}
