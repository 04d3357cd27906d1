//! The hosts that have joined. A name belongs to one host at a time. It has its own key, because a transaction can
//! guard a key but not a list.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::HostName;
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::host_status::SecondSession;
use serde::{Deserialize, Serialize};

use crate::identity::certificate::IssuingName;
use crate::ports::agents::SessionInfo;
use crate::store::{Guard, Store, StoreError, Stored, Write, keys};

/// An agent that is refused dials every few seconds: not each time is written down.
const SECOND_NOTED_EVERY: Millis = Millis::from_secs(30);

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
    let Some(stored) = store.get(keys::host_name(name).key()).await? else { return Ok(None) };
    let id = std::str::from_utf8(&stored.value).ok().and_then(|id| id.parse().ok());
    match id {
        Some(id) => find(store, &id).await,
        None => Ok(None),
    }
}

/// What was written down of a host beside its declaration.
#[derive(Debug, Clone, Default)]
pub struct HostNotes {
    /// When it was seen last: while it is connected, its coordinator knows better.
    pub sighting: Option<SessionInfo>,
    pub second: Option<SecondSessionRecord>,
}

/// The session that was refused last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondSessionRecord {
    /// Of its agent's process.
    pub instance: String,
    pub session: SecondSession,
}

impl StoredDocument for SecondSessionRecord {
    const KIND: &'static str = "host_second_session";
}

/// What was written down of each host.
///
/// # Errors
/// When the store does not answer.
pub async fn notes(store: &dyn Store) -> Result<BTreeMap<HostId, HostNotes>, StoreError> {
    let mut all: BTreeMap<HostId, HostNotes> = BTreeMap::new();
    for stored in store.list(&keys::hosts()).await? {
        let Some(host) = keys::host_of(&stored.key) else { continue };
        if stored.key.last() == keys::SEEN {
            all.entry(host).or_default().sighting = Some(stored.read()?);
        } else if stored.key.last() == keys::SECOND {
            all.entry(host).or_default().second = Some(stored.read()?);
        }
    }
    Ok(all)
}

/// Every host whose certificate counts.
///
/// # Errors
/// When the store does not answer.
pub async fn ids(store: &dyn Store) -> Result<BTreeSet<HostId>, StoreError> {
    let names = store.list(&keys::host_names()).await?;
    // What cannot be read would be nobody's id, and cut nobody's session but by being away.
    Ok(names.iter().filter_map(|stored| std::str::from_utf8(&stored.value).ok()?.parse().ok()).collect())
}

/// Writes down that a second session was refused, unless that was done a moment ago.
///
/// # Errors
/// When the store does not answer.
pub async fn note_second(
    store: &dyn Store,
    host: &HostId,
    (instance, from): (&str, String),
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = keys::host_second(host);
    let seen = store.get(key.key()).await?;
    let before: Option<SecondSessionRecord> = seen.as_ref().map(Stored::read).transpose()?;
    let before = before.filter(|before| before.instance == instance).map(|before| before.session);
    let first = match before {
        Some(before) if now.since(before.last) < SECOND_NOTED_EVERY => return Ok(()),
        Some(before) => before.first,
        None => now,
    };
    let session = SecondSession { from, first, last: now };
    let write = Write::put(key.clone(), &SecondSessionRecord { instance: instance.to_owned(), session });
    // Not committed means that it was just written by another coordinator.
    store.commit(vec![Guard::as_seen(&key, seen.as_ref())], vec![write]).await?;
    Ok(())
}

/// Writes down when the host was seen, unless it was removed.
///
/// # Errors
/// When the store does not answer.
pub async fn note(store: &dyn Store, host: &HostId, sighting: &SessionInfo) -> Result<(), StoreError> {
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
pub fn joining(host: &Host, signed_by: &IssuingName) -> (Vec<Guard>, Vec<Write>) {
    let (spec, name) = (keys::host_spec(&host.id), keys::host_name(&host.name));
    let guards = vec![Guard::absent(&spec), Guard::absent(&name)];
    let name = Write::put_bytes(name, host.id.to_string());
    (guards, vec![Write::put(spec, host), name, signed(&host.id, signed_by)])
}

/// What a transaction must have so that it is known which authority signed the host's certificate.
pub fn signed(host: &HostId, signed_by: &IssuingName) -> Write {
    Write::put(keys::host_signer(host), signed_by)
}

impl StoredDocument for IssuingName {
    const KIND: &'static str = "host_signer";
}

/// Which authority signed the certificate that each host showed last. Who has shown none to a coordinator that writes
/// it down is not among them.
///
/// # Errors
/// When the store does not answer.
pub async fn signers(store: &dyn Store) -> Result<BTreeMap<HostId, IssuingName>, StoreError> {
    let mut all = BTreeMap::new();
    for stored in store.list(&keys::hosts()).await? {
        if stored.key.last() == keys::SIGNER
            && let Some(host) = keys::host_of(&stored.key)
        {
            all.insert(host, stored.read()?);
        }
    }
    Ok(all)
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
        Write::delete(keys::host_second(id)),
        Write::delete(keys::host_signer(id)),
    ];
    // A host is never changed, and its id never given again: nothing can come between.
    store.commit(Vec::new(), writes).await?;
    Ok(())
}
