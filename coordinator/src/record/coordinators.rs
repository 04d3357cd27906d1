//! The coordinators of a cluster: which have joined, which are alive, and what each of them drives.
//!
//! What must stay true: an authority is trusted only while the record of its coordinator names it. So everything that
//! a removed coordinator signed is refused. The coordinator with the root key is never removed.

use std::collections::BTreeMap;

use lockstep_core::id::HostId;
use lockstep_core::name::CoordinatorName;
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_core::view::coordinator::{CoordinatorStatus, CoordinatorsPresence, RootKey};
use serde::{Deserialize, Serialize};

use crate::identity::authority::Authority;
use crate::identity::certificate::IssuingName;
use crate::store::guarded::LockRecord;
use crate::store::{Committed, Guard, Store, StoreError, Stored, Write, keys};

/// A coordinator that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    pub name: CoordinatorName,
    /// `host:port`, by which everybody reaches it.
    pub address: String,
    /// Which of its authorities counts: [`IssuingName::id`].
    pub authority: String,
    /// The pin of the root that the authority is of; nothing for the first root of a cluster that is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The authority before, which counts too until its root is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<String>,
    pub root_key: RootKey,
    pub joined: Timestamp,
}

impl StoredDocument for Coordinator {
    const KIND: &'static str = "coordinator";
}

impl Coordinator {
    /// Whether what this authority of it signed is taken.
    pub fn is_trusted_signer(&self, authority: &str) -> bool {
        self.authority == authority || self.earlier.as_deref() == Some(authority)
    }

    /// Whether its authority is of the root of this pin.
    pub fn is_of(&self, root: Option<&str>) -> bool {
        self.root.is_some() && self.root.as_deref() == root
    }

    /// The coordinator with another authority, of another root; the one before goes on to count.
    #[must_use]
    pub fn moved(self, authority: String, root: Option<String>) -> Self {
        let is_asked_again = self.is_of(root.as_deref());
        let earlier = if is_asked_again { self.earlier } else { Some(self.authority) };
        Self { authority, root, earlier, ..self }
    }
}

/// What a coordinator that is alive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    pub version: String,
    pub since: Timestamp,
}

impl StoredDocument for Alive {
    const KIND: &'static str = "coordinator_presence";
}

/// Which coordinator has a host's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSessionRecord {
    pub coordinator: CoordinatorName,
    /// Of the agent's process.
    pub instance: String,
}

impl StoredDocument for AgentSessionRecord {
    const KIND: &'static str = "host_presence";
}

/// Why this coordinator is not one of the cluster's.
#[derive(Debug, thiserror::Error)]
pub enum EnlistError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the coordinator {name} was removed from this cluster: to add it again, give it an empty directory and join with \
         a token from `lockstep coordinator token`"
    )]
    Removed { name: CoordinatorName },
    #[error(
        "this cluster has another coordinator {name}, with its own authority: join from an empty directory with a \
         token from `lockstep coordinator token`, or restore the files of this coordinator from a backup"
    )]
    AnotherAuthority { name: CoordinatorName },
    #[error("the record of the coordinator {name} was changed meanwhile: start it again")]
    Changed { name: CoordinatorName },
}

/// Writes down that this coordinator is one of the cluster, and where it is reached.
///
/// # Errors
/// When another has its name, or it was removed.
pub async fn enlist(
    store: &dyn Store,
    authority: &Authority,
    address: &str,
    now: Timestamp,
) -> Result<(), EnlistError> {
    let IssuingName { coordinator: name, id } = authority.name();
    let key = keys::coordinator_spec(&name);
    let seen = store.get(key.key()).await?;
    let record = match seen.as_ref().map(Stored::read::<Coordinator>).transpose()? {
        Some(there) if !there.is_trusted_signer(&id) => return Err(EnlistError::AnotherAuthority { name }),
        Some(there) if there.address == address => return Ok(()),
        Some(there) => Coordinator { address: address.to_owned(), ..there },
        None if !authority.has_root_key() => return Err(EnlistError::Removed { name }),
        None => Coordinator {
            name: name.clone(),
            address: address.to_owned(),
            authority: id,
            root: Some(authority.pin()),
            earlier: None,
            root_key: RootKey::Here,
            joined: now,
        },
    };
    let write = Write::put(key.clone(), &record);
    match store.commit(vec![Guard::as_seen(&key, seen.as_ref())], vec![write]).await? {
        Committed::Yes { .. } => Ok(()),
        Committed::No => Err(EnlistError::Changed { name }),
    }
}

/// What a transaction must have so that `coordinator` joins, and nobody else has its name.
pub fn joining(coordinator: &Coordinator) -> (Guard, Write) {
    let key = keys::coordinator_spec(&coordinator.name);
    (Guard::absent(&key), Write::put(key, coordinator))
}

/// The coordinator of this name.
///
/// # Errors
/// When the store does not answer.
pub async fn find(store: &dyn Store, name: &CoordinatorName) -> Result<Option<Coordinator>, StoreError> {
    store.get(keys::coordinator_spec(name).key()).await?.map(|stored| stored.read()).transpose()
}

/// Every coordinator that has joined, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<Coordinator>, StoreError> {
    let stored = store.list(&keys::coordinators()).await?;
    stored.iter().filter(|stored| stored.key.last() == keys::SPEC).map(Stored::read).collect()
}

/// Every coordinator that gives signs of life, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn alive(store: &dyn Store) -> Result<Vec<Coordinator>, StoreError> {
    let stored = store.list(&keys::coordinators()).await?;
    let mut alive = Vec::new();
    for coordinator in stored.iter().filter(|stored| stored.key.last() == keys::SPEC) {
        let coordinator: Coordinator = coordinator.read()?;
        let presence = keys::coordinator_presence(&coordinator.name);
        if stored.iter().any(|stored| stored.key == *presence.key()) {
            alive.push(coordinator);
        }
    }
    Ok(alive)
}

/// Where each of them is reached.
///
/// # Errors
/// When the store does not answer.
pub async fn addresses(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let all = list(store).await?.into_iter().map(|coordinator| coordinator.address);
    // One that stands alone need not say where it is.
    Ok(all.filter(|address| !address.is_empty()).collect())
}

/// Whether what this authority signed is taken.
///
/// # Errors
/// When the store does not answer.
pub async fn counts(store: &dyn Store, authority: &IssuingName) -> Result<bool, StoreError> {
    let there = find(store, &authority.coordinator).await?;
    Ok(there.is_some_and(|there| there.is_trusted_signer(&authority.id)))
}

/// The coordinator that has the session of `host`.
///
/// # Errors
/// When the store does not answer.
pub async fn with_session_of(
    store: &dyn Store,
    host: &HostId,
) -> Result<Option<CoordinatorName>, StoreError> {
    let there = store.get(keys::host_presence(host).key()).await?;
    let there: Option<AgentSessionRecord> = there.map(|stored| stored.read()).transpose()?;
    Ok(there.map(|session| session.coordinator))
}

/// Forgets a coordinator: its authority does not count any more.
///
/// # Errors
/// When the store does not answer.
pub async fn remove(store: &dyn Store, name: &CoordinatorName) -> Result<(), StoreError> {
    let writes =
        vec![Write::delete(keys::coordinator_spec(name)), Write::delete(keys::coordinator_presence(name))];
    // Nothing can come between: whoever has changed it meanwhile is removed all the same.
    store.commit(Vec::new(), writes).await?;
    Ok(())
}

/// How each of them stands, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn statuses(store: &dyn Store) -> Result<Vec<CoordinatorStatus>, StoreError> {
    let mut statuses: BTreeMap<CoordinatorName, CoordinatorStatus> = BTreeMap::new();
    for Coordinator { name, address, root_key, .. } in list(store).await? {
        let there = store.get(keys::coordinator_presence(&name).key()).await?;
        let alive: Option<Alive> = there.map(|stored| stored.read()).transpose()?;
        let presence = alive.map(|Alive { version, since }| CoordinatorsPresence { version, since });
        let status = CoordinatorStatus {
            name: name.clone(),
            address,
            presence,
            root_key,
            drives: Vec::new(),
            sessions: 0,
        };
        statuses.insert(name, status);
    }
    for stored in store.list(&keys::hosts()).await? {
        if stored.key.last() == keys::PRESENCE {
            let session: AgentSessionRecord = stored.read()?;
            if let Some(status) = statuses.get_mut(&session.coordinator) {
                status.sessions += 1;
            }
        }
    }
    for stored in store.list_named(&keys::environments(), keys::LOCK).await? {
        if let Some(environment) = keys::environment_of(&stored.key) {
            let lock: LockRecord = stored.read()?;
            let driver = statuses.values_mut().find(|status| status.name.as_str() == lock.coordinator);
            if let Some(driver) = driver {
                driver.drives.push(environment);
            }
        }
    }
    Ok(statuses.into_values().collect())
}
