//! The machines that have joined.

use lockstep_core::id::HostId;
use lockstep_core::name::HostName;
use lockstep_core::record::Host;

use crate::store::{Guard, Store, StoreError, Write, keys};

/// Every host, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<Host>, StoreError> {
    let mut hosts: Vec<Host> = Vec::new();
    for stored in store.list(&keys::hosts()).await? {
        // A host's presence is kept beside its declaration.
        if stored.key.last() == keys::SPEC {
            hosts.push(stored.read()?);
        }
    }
    hosts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(hosts)
}

/// The host of this id, if it has joined and was not removed.
///
/// # Errors
/// When the store does not answer.
pub async fn find(store: &dyn Store, id: &HostId) -> Result<Option<Host>, StoreError> {
    store.get(keys::host_spec(id).key()).await?.map(|stored| stored.read()).transpose()
}

/// The host of this name.
///
/// # Errors
/// When the store does not answer.
pub async fn named(store: &dyn Store, name: &HostName) -> Result<Option<Host>, StoreError> {
    Ok(list(store).await?.into_iter().find(|host| host.name == *name))
}

/// Forgets the host: its certificate is not taken any more.
///
/// # Errors
/// When the store does not answer.
pub async fn remove(store: &dyn Store, id: &HostId) -> Result<(), StoreError> {
    let key = keys::host_spec(id);
    if let Some(stored) = store.get(key.key()).await? {
        store.commit(vec![Guard::as_seen(&key, Some(&stored))], vec![Write::delete(key)]).await?;
    }
    Ok(())
}
