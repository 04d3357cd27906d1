//! The record of an environment: its declaration, its live release, its claim, its ports, its names and its grant.

use std::time::Duration;

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::grant::EnvironmentGrant;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::owned_names::OwnedNames;
use lockstep_core::record::ports::PortTable;
use lockstep_core::record::removal::Removal;
use lockstep_core::run::driver_phase::LOCK_RETRY_AFTER;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::stored::StoredDocument;

use crate::drive::lock::Lock;
use crate::store::{Owned, Store, StoreError, Stored, keys};

/// How often the lock is tried for: a driver gives it back a moment after its deployment's end.
const LOCK_ATTEMPTS_MAX: usize = 10;

/// A document with the revision that a guard needs.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    pub stored: Stored,
    pub content: T,
}

async fn read<T: StoredDocument>(store: &dyn Store, key: Owned) -> Result<Option<Versioned<T>>, StoreError> {
    let Some(stored) = store.get(key.key()).await? else {
        return Ok(None);
    };
    let content = stored.read()?;
    Ok(Some(Versioned { stored, content }))
}

pub async fn spec(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<EnvironmentSpec>>, StoreError> {
    read(store, keys::spec(environment)).await
}

pub async fn live(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<LiveRelease>, StoreError> {
    Ok(versioned_live(store, environment).await?.map(|seen| seen.content))
}

pub(crate) async fn versioned_live(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<LiveRelease>>, StoreError> {
    read(store, keys::live(environment)).await
}

/// The removal of an environment that was decided and is not finished.
pub async fn removal(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<Removal>>, StoreError> {
    read(store, keys::removal(environment)).await
}

pub async fn open(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<Claim>>, StoreError> {
    read(store, keys::open(environment)).await
}

/// What owns the environment, where it is this deployment.
pub async fn open_of(
    store: &dyn Store,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
) -> Result<Option<Versioned<Claim>>, StoreError> {
    let seen = open(store, environment).await?;
    Ok(seen.filter(|seen| seen.content.deployment() == Some(deployment)))
}

pub async fn ports(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<PortTable>>, StoreError> {
    read(store, keys::ports(environment)).await
}

/// The names that the environment owns; `None` before its first deployment by a version that claims names.
pub async fn names(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<OwnedNames>>, StoreError> {
    read(store, keys::names(environment)).await
}

/// What the environment may use; `None` before its first deployment by a version that knows grants.
pub async fn grant(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Versioned<EnvironmentGrant>>, StoreError> {
    read(store, keys::grant(environment)).await
}

/// Every environment that is declared.
pub async fn declared(store: &dyn Store) -> Result<Vec<EnvironmentSpec>, StoreError> {
    let mut specs = Vec::new();
    for stored in store.list(&keys::environments()).await? {
        if stored.key.last() == keys::SPEC {
            specs.push(stored.read()?);
        }
    }
    Ok(specs)
}

/// The key of every environment that is declared.
pub async fn declared_keys(store: &dyn Store) -> Result<Vec<EnvironmentKey>, StoreError> {
    let stored = store.list(&keys::environments()).await?;
    let specs = stored.iter().filter(|stored| stored.key.last() == keys::SPEC);
    Ok(specs.filter_map(|stored| keys::environment_of(&stored.key)).collect())
}

/// What is recorded of an environment that is declared, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub spec: EnvironmentSpec,
    pub live: Option<LiveRelease>,
    pub open: Option<Claim>,
    /// `None` unless a removal was decided that is not finished.
    pub removal: Option<Removal>,
}

impl Recorded {
    /// `None` if the environment is not declared.
    fn read(of_one: &[Stored]) -> Result<Option<Self>, StoreError> {
        let Some(spec) = find_named(of_one, keys::SPEC) else { return Ok(None) };
        Ok(Some(Self {
            spec: spec.read()?,
            live: find_named(of_one, keys::LIVE).map(Stored::read).transpose()?,
            open: find_named(of_one, keys::OPEN).map(Stored::read).transpose()?,
            removal: find_named(of_one, keys::REMOVAL).map(Stored::read).transpose()?,
        }))
    }
}

/// The environment of this key; `None` if it is not declared.
///
/// # Errors
/// When the store does not answer, or holds what cannot be read.
pub async fn recorded(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<Recorded>, StoreError> {
    Recorded::read(&store.list(&keys::environment(environment)).await?)
}

/// Every environment that is declared and that `may` be seen, in the order of the keys.
///
/// # Errors
/// When the store does not answer, or holds what cannot be read.
pub async fn all_recorded(
    store: &dyn Store,
    may: impl Fn(&EnvironmentKey) -> bool,
) -> Result<Vec<Recorded>, StoreError> {
    let stored = store.list(&keys::environments()).await?;
    let mut all = Vec::new();
    for (environment, of_one) in by_environment(&stored) {
        if may(&environment) {
            all.extend(Recorded::read(of_one)?);
        }
    }
    Ok(all)
}

/// What a list of [`keys::environments`] has of each.
pub(crate) fn by_environment(stored: &[Stored]) -> impl Iterator<Item = (EnvironmentKey, &[Stored])> {
    let of_each = stored.chunk_by(|one, next| one.key.parent() == next.key.parent());
    of_each.filter_map(|of_one| Some((keys::environment_of(&of_one.first()?.key)?, of_one)))
}

/// The value of an environment whose key ends with `last`.
pub(crate) fn find_named<'a>(of_one: &'a [Stored], last: &str) -> Option<&'a Stored> {
    of_one.iter().find(|stored| stored.key.last() == last)
}

/// The environment's lock, for what takes a moment; `None` if another has it.
pub(crate) async fn locked(
    store: &dyn Store,
    environment: &EnvironmentKey,
    coordinator: &str,
) -> Option<Lock> {
    let mut lock = Lock::new(environment.clone(), coordinator.to_owned());
    for _ in 0..LOCK_ATTEMPTS_MAX {
        // The outcome is looked at through the proof: without it nothing is written.
        lock.acquire(store).await;
        if lock.held().is_some() {
            return Some(lock);
        }
        tokio::time::sleep(Duration::from_millis(LOCK_RETRY_AFTER.0)).await;
    }
    None
}
