//! Show, rotate and retire the roots that the cluster trusts.

use std::collections::BTreeSet;

use lockstep_core::plan::operation::Refusal;
use lockstep_core::time::Timestamp;
use lockstep_core::view::authority_status::{
    AuthorityStatus, CoordinatorToMove, HostToMove, HostsToMove, Retiring, short_pin,
};
use lockstep_core::view::coordinator::{CoordinatorStatus, RootKey};
use lockstep_core::view::host_status::Presence;
use lockstep_proto::wire::{Document, Done, RetireAuthorityRequest};
use tonic::Status;
use tracing::error;

use super::failure::{refused, store_status};
use super::{Caller, ControlApi};
use crate::identity::authority::{AuthorityError, CLIENT_LIFE};
use crate::identity::operators;
use crate::identity::operators::OperatorStanding;
use crate::identity::roots;
use crate::identity::roots::Roots;
use crate::identity::rotation;
use crate::identity::rotation::{HostsBehind, RotationError};
use crate::record::{coordinators, hosts};
use crate::store::StoreError;
use crate::view::status as state;

/// Where to look on.
const LIST: &str = "lockstep authority list";

pub(super) async fn show(api: &ControlApi) -> Result<Document, Status> {
    Ok(Document::of_content(&authority_status(api).await?))
}

pub(super) async fn rotate(api: &ControlApi, caller: &Caller) -> Result<Done, Status> {
    let store = &*api.context.store;
    let all = coordinators::statuses(store).await.map_err(|error| store_status(&error))?;
    let what = "the root is not rotated";
    if !api.authority.has_root_key() {
        return Err(not_on_this_coordinator(what, &all, "rotate"));
    }
    if let Some((name, version)) = different_version(&all) {
        return Err(refused(&Refusal {
            what: what.to_owned(),
            why: format!(
                "{name} runs version {version}, but this coordinator runs {}",
                env!("CARGO_PKG_VERSION")
            ),
            next: format!("install the same version on all coordinators, then: {LIST}"),
        }));
    }
    let before = api.authority.pin();
    rotation::rotate(store, &api.authority, api.context.clock.now())
        .await
        .map_err(|error| failed(what, &error))?;
    let said = format!(
        "the root {} signs, and {} stays trusted until it is retired. Hosts and coordinators renew their \
         certificates by themselves ({LIST}), operators with their next command; then: lockstep authority retire. \
         Earlier backups contain the earlier root: make a new one",
        short_pin(&api.authority.pin()),
        short_pin(&before),
    );
    api.audit(caller, "rotate authority", None, said).await
}

pub(super) async fn retire(
    api: &ControlApi,
    caller: &Caller,
    request: RetireAuthorityRequest,
) -> Result<Done, Status> {
    let AuthorityStatus { signing, retiring } = authority_status(api).await?;
    let Some(Retiring { root, left, .. }) = retiring else {
        return Err(failed("cannot retire a root", &RotationError::NoneRetires));
    };
    let what = format!("the root {} is not retired", root.short());
    let store = &*api.context.store;
    if !api.authority.is_current() {
        let all = coordinators::statuses(store).await.map_err(|error| store_status(&error))?;
        return Err(not_on_this_coordinator(&what, &all, "retire"));
    }
    let current =
        rotation::current(store, &api.authority.roots()).await.map_err(|error| store_status(&error))?;
    if !caller.signed_by.as_ref().is_some_and(|signer| current.contains(&signer.id)) {
        return Err(refused(&Refusal {
            what,
            why: "your own certificate is signed under it, and you would lose access".to_owned(),
            next: format!("{LIST}    # repeat the command at a coordinator under the current root"),
        }));
    }
    let cut_off = left.services();
    if let (Some(services), false) = (&cut_off, request.force) {
        return Err(refused(&Refusal {
            what,
            why: format!(
                "it would disconnect {services}, which have no certificate under the current root yet"
            ),
            next: format!(
                "{LIST}    # start them, then check again\nlockstep authority retire --force    # they must join again"
            ),
        }));
    }
    let behind = if request.force { HostsBehind::Remove } else { HostsBehind::Refuse };
    rotation::retire(store, &api.authority, behind).await.map_err(|error| failed(&what, &error))?;
    let (retired, signs) = (root.short(), signing.short());
    let said = match cut_off {
        Some(services) => format!(
            "the root {retired} is retired, and only {signs} is trusted; these must join again: {services}"
        ),
        None => format!("the root {retired} is retired, and only {signs} is trusted"),
    };
    api.audit(caller, "retire authority", None, said).await
}

async fn authority_status(api: &ControlApi) -> Result<AuthorityStatus, Status> {
    let damaged = || Status::internal("a root in the record is damaged: restore the record from a backup");
    let trusted = api.authority.roots();
    let signing = roots::status(&trusted.signing).ok_or_else(damaged)?;
    let Some(retiring) = &trusted.retiring else {
        return Ok(AuthorityStatus { signing, retiring: None });
    };
    let left = hosts_to_move(api, &trusted, retiring.since).await.map_err(|error| store_status(&error))?;
    let root = roots::status(&retiring.root).ok_or_else(damaged)?;
    Ok(AuthorityStatus { signing, retiring: Some(Retiring { root, since: retiring.since, left }) })
}

/// Who has only certificates of the root that retires.
async fn hosts_to_move(api: &ControlApi, roots: &Roots, since: Timestamp) -> Result<HostsToMove, StoreError> {
    let store = &*api.context.store;
    let current: BTreeSet<String> = rotation::current(store, roots).await?;
    let pin = roots.pin();
    let mut left = HostsToMove::default();
    let alive = coordinators::alive(store).await?;
    for one in coordinators::list(store).await?.into_iter().filter(|one| !one.is_of(pin.as_deref())) {
        let is_alive = alive.iter().any(|alive| alive.name == one.name);
        let presence = if is_alive { Presence::Connected } else { Presence::Absent };
        left.coordinators.push(CoordinatorToMove { name: one.name, presence });
    }
    let signers = hosts::signers(store).await?;
    for status in state::all_hosts(&api.context, |_| true).await? {
        if !signers.get(&status.host.id).is_some_and(|signer| current.contains(&signer.id)) {
            let (name, presence, last_seen) = (status.host.name, status.presence, status.last_seen);
            left.hosts.push(HostToMove { name, presence, last_seen });
        }
    }
    let now = api.context.clock.now();
    for operator in operators::list(store).await? {
        let is_active = operator.standing == OperatorStanding::Active && operator.certificate_expires > now;
        // All of them live equally long: one that was given since the rotation ends later.
        if is_active && operator.certificate_expires < since + CLIENT_LIFE {
            left.operators.push(operator.name);
        }
    }
    Ok(left)
}

/// What only the coordinator does that has the root's key.
fn not_on_this_coordinator(what: &str, all: &[CoordinatorStatus], verb: &str) -> Status {
    let holder = all.iter().find(|one| one.root_key == RootKey::Here);
    let (name, address) = holder
        .map_or(("another coordinator".to_owned(), "HOST:PORT"), |one| (one.name.to_string(), &one.address));
    refused(&Refusal {
        what: what.to_owned(),
        why: format!("{name} has the root key, and this coordinator does not"),
        next: format!("lockstep authority {verb} --coordinator {address}"),
    })
}

fn different_version(all: &[CoordinatorStatus]) -> Option<(String, String)> {
    all.iter().find_map(|one| {
        let version = &one.presence.as_ref()?.version;
        (version != env!("CARGO_PKG_VERSION")).then(|| (one.name.to_string(), version.clone()))
    })
}

fn failed(what: &str, failure: &RotationError) -> Status {
    let next = match failure {
        RotationError::Store(failure) => return store_status(failure),
        RotationError::Authority(failure @ AuthorityError::NoRootKey) => {
            return Status::failed_precondition(failure.to_string());
        }
        RotationError::Authority(why) => {
            error!(error = why as &dyn std::error::Error, "cannot replace the authority");
            return Status::internal("cannot replace the authority: see the log of the coordinator");
        }
        RotationError::UnderWay { .. } => format!("{LIST}    # then: lockstep authority retire"),
        RotationError::NoneRetires => "lockstep authority rotate    # replaces the root".to_owned(),
        RotationError::Behind { .. } | RotationError::Changed | RotationError::TooMany { .. } => {
            LIST.to_owned()
        }
    };
    refused(&Refusal { what: what.to_owned(), why: failure.to_string(), next })
}
