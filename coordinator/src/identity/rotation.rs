//! Replaces the root that signs, without an interruption.
//!
//! What must stay true: a rotation, the move of a coordinator, and a retirement are one transaction each. Each is
//! guarded by the roots and by every coordinator record that it writes, so of two at once only one happens. What it
//! records is on the disk of its coordinator first ([`crate::identity::authority`]). The earlier root, and the
//! authorities under it, are trusted until the retirement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lockstep_core::name::CoordinatorName;
use lockstep_core::time::Timestamp;
use lockstep_core::view::coordinator::RootKey;
use lockstep_crashpoint::reach;
use lockstep_proto::wire::SignAuthorityRequest;
use lockstep_proto::wire::relay_client::RelayClient;
use lockstep_proto::{dial, wire};
use tokio::time::MissedTickBehavior;
use tonic::Request;
use tracing::{info, warn};

use crate::identity::authority;
use crate::identity::authority::{Authority, AuthorityError};
use crate::identity::roots;
use crate::identity::roots::{Retiring, Roots};
use crate::ports::clock::Clock;
use crate::record::coordinators;
use crate::record::coordinators::Coordinator;
use crate::store::{Committed, Guard, OPERATIONS_MAX, Store, StoreError, Stored, Write, keys};

/// How often the record is looked at without a wake-up: a watch is only a hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long the coordinator that has the root's key may take to sign.
const SIGN_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot replace the authority")]
    Authority(#[from] AuthorityError),
    #[error("a rotation has been in progress since {since}")]
    UnderWay { since: Timestamp },
    #[error("no root is waiting to be retired")]
    NoneRetires,
    #[error("the coordinator {name} has no authority under the current root")]
    Behind { name: CoordinatorName },
    #[error("there are {count} coordinators, but one transaction takes at most {OPERATIONS_MAX} changes")]
    TooMany { count: usize },
    #[error("the records of the coordinators changed meanwhile: try again")]
    Changed,
}

/// What becomes of the coordinators that have no authority of the root that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostsBehind {
    /// There must be none.
    Refuse,
    /// They are removed, and join again.
    Remove,
}

/// Has `authority` take in what the record says of it, and of the roots.
///
/// # Errors
/// When the store does not answer, or files cannot be written.
pub async fn adopt_stored_roots(store: &dyn Store, authority: &Authority) -> Result<(), RotationError> {
    // In this order: roots that are older than the record would leave out the one that signs.
    let own = coordinators::find(store, authority.coordinator()).await?;
    let roots: Option<Roots> = roots::stored_roots(store).await?.as_ref().map(Stored::read).transpose()?;
    authority.adopt_roots(roots.as_ref(), own.as_ref().map(|own| own.authority.as_str()))?;
    Ok(())
}

/// Makes another root where the root's key is, and has it sign.
///
/// # Errors
/// When the key is elsewhere, or a rotation is under way.
pub async fn rotate(store: &dyn Store, authority: &Authority, now: Timestamp) -> Result<(), RotationError> {
    let roots_key = keys::roots();
    let seen = roots::stored_roots(store).await?;
    let before: Option<Roots> = seen.as_ref().map(Stored::read).transpose()?;
    if let Some(Retiring { since, .. }) = before.and_then(|before| before.retiring) {
        return Err(RotationError::UnderWay { since });
    }
    let own_key = keys::coordinator_spec(authority.coordinator());
    let own_seen = store.get(own_key.key()).await?.ok_or(RotationError::Changed)?;
    let own: Coordinator = own_seen.read()?;
    let (roots, next) = authority.prepare_root(now)?;
    let record = own.moved(next.name()?.id, roots.pin());
    let guards = vec![Guard::as_seen(&roots_key, seen.as_ref()), Guard::as_seen(&own_key, Some(&own_seen))];
    let writes = vec![Write::put(roots_key, &roots), Write::put(own_key, &record)];
    match store.commit(guards, writes).await? {
        Committed::Yes { .. } => {}
        Committed::No => return Err(RotationError::Changed),
    }
    adopt_stored_roots(store, authority).await?;
    info!(pin = authority.pin(), "a new root signs; the previous one is trusted until it is retired");
    Ok(())
}

/// Takes the trust from the root that signed before.
///
/// # Errors
/// When there is none, or a coordinator is behind.
pub async fn retire(
    store: &dyn Store,
    authority: &Authority,
    behind: HostsBehind,
) -> Result<(), RotationError> {
    let roots_key = keys::roots();
    let seen = roots::stored_roots(store).await?;
    let roots: Option<Roots> = seen.as_ref().map(Stored::read).transpose()?;
    let roots = roots.filter(|roots| roots.retiring.is_some()).ok_or(RotationError::NoneRetires)?;
    let signing = roots.pin();
    let all = store.list(&keys::coordinators()).await?;
    let mut guards = vec![Guard::as_seen(&roots_key, seen.as_ref())];
    let mut writes = vec![Write::put(roots_key, &Roots { retiring: None, ..roots })];
    let specs = all.iter().filter(|stored| stored.key.last() == keys::SPEC);
    for (count, stored) in specs.enumerate() {
        let one: Coordinator = stored.read()?;
        let key = keys::coordinator_spec(&one.name);
        guards.push(Guard::as_seen(&key, Some(stored)));
        if one.is_of(signing.as_deref()) {
            writes.push(Write::put(key, &Coordinator { earlier: None, ..one }));
        } else if behind == HostsBehind::Refuse || one.name == *authority.coordinator() {
            return Err(RotationError::Behind { name: one.name });
        } else {
            writes.push(Write::delete(key));
            writes.push(Write::delete(keys::coordinator_presence(&one.name)));
        }
        if guards.len() + writes.len() > OPERATIONS_MAX {
            return Err(RotationError::TooMany { count: count + 1 });
        }
    }
    match store.commit(guards, writes).await? {
        Committed::Yes { .. } => {}
        Committed::No => return Err(RotationError::Changed),
    }
    reach(|| "authority retired".to_owned());
    adopt_stored_roots(store, authority).await?;
    info!("the previous root is no longer trusted");
    Ok(())
}

/// The authorities that are of the root that signs: [`crate::identity::certificate::IssuingName::id`].
///
/// # Errors
/// When the store does not answer.
pub async fn current(store: &dyn Store, roots: &Roots) -> Result<BTreeSet<String>, StoreError> {
    let signing = roots.pin();
    let all = coordinators::list(store).await?.into_iter();
    Ok(all.filter(|one| one.is_of(signing.as_deref())).map(|one| one.authority).collect())
}

/// Follows what the record says of the roots, for ever; where another signs, this coordinator gets an authority of it.
pub async fn follow_rotation(
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
) -> std::convert::Infallible {
    let mut wakeups = store.watch(&keys::authority());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = wakeups.changed() => {}
            _ = looks.tick() => {}
        }
        if let Err(error) = catch_up(&*store, &authority, clock.now()).await {
            warn!(
                why = format!("{error:#}"),
                "this coordinator cannot yet change to the cluster's current root"
            );
        }
    }
}

async fn catch_up(store: &dyn Store, authority: &Authority, now: Timestamp) -> anyhow::Result<()> {
    adopt_stored_roots(store, authority).await?;
    if authority.is_current() {
        return Ok(());
    }
    let own_key = keys::coordinator_spec(authority.coordinator());
    let own_seen = store.get(own_key.key()).await?;
    // A coordinator that was removed gets nothing more.
    let Some(own) = own_seen.as_ref().map(Stored::read::<Coordinator>).transpose()? else { return Ok(()) };
    let roots_seen =
        roots::stored_roots(store).await?.context("the root has changed, but no root is recorded")?;
    let roots: Roots = roots_seen.read()?;
    let next = match authority.prepared(&roots.signing)? {
        Some(next) => next,
        None => {
            let (key, request) = authority::request()?;
            let wire::SignAuthorityReply { certificate, root } =
                signed(store, authority, request, now).await?;
            anyhow::ensure!(roots::pin(&root) == roots.pin(), "the new authority is signed by another root");
            authority.prepare_issuing(&key, certificate, root)?
        }
    };
    let record = own.moved(next.name()?.id, roots.pin());
    let guards =
        vec![Guard::as_seen(keys::roots(), Some(&roots_seen)), Guard::as_seen(&own_key, own_seen.as_ref())];
    match store.commit(guards, vec![Write::put(own_key, &record)]).await? {
        Committed::Yes { .. } => {}
        // Looked at again, it is decided anew.
        Committed::No => return Ok(()),
    }
    adopt_stored_roots(store, authority).await?;
    info!(pin = authority.pin(), "this coordinator has an authority under the current root");
    Ok(())
}

/// What the coordinator gives that has the root's key.
async fn signed(
    store: &dyn Store,
    authority: &Authority,
    certificate_request: String,
    now: Timestamp,
) -> anyhow::Result<wire::SignAuthorityReply> {
    let all = coordinators::list(store).await?;
    let holder =
        all.iter().find(|one| one.root_key == RootKey::Here).context("no coordinator has the root key")?;
    anyhow::ensure!(
        holder.name != *authority.coordinator(),
        "the record says that this coordinator has the root key, but the key is missing: restore this coordinator's \
         files from a backup"
    );
    let channel = dial::connect(&holder.address, &authority.client_credential(now)?).await?;
    let mut request = Request::new(SignAuthorityRequest { certificate_request });
    request.set_timeout(SIGN_LIMIT);
    let reply = RelayClient::new(channel).sign_authority(request).await;
    Ok(reply
        .map_err(|status| anyhow::anyhow!("{} did not sign: {}", holder.name, status.message()))?
        .into_inner())
}

#[cfg(test)]
mod tests;
