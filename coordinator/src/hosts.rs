//! The machines that have joined. A name is one host's at a time: it has a key of its own, because a
//! transaction can guard a key and not a list.

use std::collections::BTreeMap;

use lockstep_core::id::HostId;
use lockstep_core::name::HostName;
use lockstep_core::record::Host;

use crate::agents::Sighting;
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

/// When each host was seen last, as far as it was written down: of those that are connected, their coordinators
/// know better.
///
/// # Errors
/// When the store does not answer.
pub async fn sightings(store: &dyn Store) -> Result<BTreeMap<HostId, Sighting>, StoreError> {
    let mut sightings = BTreeMap::new();
    for stored in store.list(&keys::hosts()).await? {
        if stored.key.last() == keys::SEEN
            && let Some(host) = keys::host_of(&stored.key)
        {
            sightings.insert(host, stored.read()?);
        }
    }
    Ok(sightings)
}

/// Writes down when the host was seen, unless it was removed.
///
/// # Errors
/// When the store does not answer.
pub async fn note(store: &dyn Store, host: &HostId, sighting: &Sighting) -> Result<(), StoreError> {
    let spec = keys::host_spec(host);
    let there = store.get(spec.key()).await?;
    if there.is_some() {
        let write = Write::put(keys::host_seen(host), sighting);
        // Not committed means that it was removed in this moment.
        store.commit(vec![Guard::as_seen(&spec, there.as_ref())], vec![write]).await?;
    }
    Ok(())
}

/// What a transaction must have so that `host` joins, and nobody else has its name.
pub fn joining(host: &Host) -> (Vec<Guard>, Vec<Write>) {
    let (spec, name) = (keys::host_spec(&host.id), keys::host_name(&host.name));
    let guards = vec![Guard::absent(&spec), Guard::absent(&name)];
    let writes = vec![Write::put(spec, host), Write::put_bytes(name, host.id.to_string())];
    (guards, writes)
}

/// Forgets the host: its certificate is not taken any more, its session ends, and its name is free.
///
/// # Errors
/// When the store does not answer.
pub async fn remove(store: &dyn Store, id: &HostId) -> Result<(), StoreError> {
    let Some(host) = find(store, id).await? else {
        return Ok(());
    };
    let writes = vec![
        Write::delete(keys::host_spec(id)),
        Write::delete(keys::host_name(&host.name)),
        Write::delete(keys::host_seen(id)),
    ];
    // A host is never changed, and its id never given again: nothing can come between.
    store.commit(Vec::new(), writes).await?;
    Ok(())
}
