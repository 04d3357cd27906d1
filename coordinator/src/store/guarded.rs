//! The only transactions that write the keys of an environment.
//!
//! [`Held`] proves that the lock was taken. A transaction through it happens only while the lock is still held: the
//! lock's key and the epoch are those of that time. Five transactions need no lock. Four are guarded by their own
//! keys: claiming an environment and changing its claim, allocating ports or names, a report, and a local rollback that a host
//! reports. The fifth writes parts of a plan that no deployment has yet; nobody reads them before it is opened.

use bytes::Bytes;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::local_rollback::LocalChange;
use lockstep_core::stored::{self, StoredDocument};
use lockstep_mutant::{Mutant, is_on};
use serde::{Deserialize, Serialize};

use super::handover::{Assignment, Report};
use super::keys::{self, Key, Owned};
use super::{Change, Committed, Guard, LeaseId, Revision, Store, StoreError, Stored, Write};

/// A change of an owned key: without effect until a transaction of this module takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedWrite(Write);

impl OwnedWrite {
    pub fn put<T: StoredDocument>(key: Owned, content: &T) -> Self {
        Self::put_bytes(key, stored::encode(content))
    }

    pub fn put_bytes(key: Owned, value: impl Into<Bytes>) -> Self {
        let value = value.into();
        let change = Change::Put { value, lease: None };
        Self(Write::new(key.into(), change))
    }

    /// The key is not there afterwards, whether it was or not.
    pub fn delete(key: Owned) -> Self {
        Self(Write::new(key.into(), Change::Delete))
    }

    /// What removes what this writes.
    pub fn undone(&self) -> Self {
        Self(Write::new(self.0.key.clone(), Change::Delete))
    }

    /// The bytes that it writes; `None` if it deletes.
    pub fn value(&self) -> Option<&Bytes> {
        match &self.0.change {
            Change::Put { value, .. } => Some(value),
            Change::Delete => None,
        }
    }

    pub fn key(&self) -> &Key {
        &self.0.key
    }
}

/// What stands in an environment's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRecord {
    /// Whose it is.
    pub coordinator: String,
    pub epoch: u64,
    /// Of one acquisition: it says whether a transaction of unknown outcome was mine.
    pub nonce: String,
}

impl StoredDocument for LockRecord {
    const KIND: &'static str = "lock";
}

/// One attempt to get a lock, repeated with the same nonce until its outcome is known.
#[derive(Debug, Clone)]
pub struct Acquisition {
    pub environment: EnvironmentKey,
    pub coordinator: String,
    pub nonce: String,
    pub lease: LeaseId,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Acquired {
    Held(Held),
    ByAnother(LockRecord),
    /// The epoch moved or the outcome is unknown: the same attempt again.
    Again,
}

impl Acquisition {
    /// Takes the lock, if nobody has it, in one transaction with the next epoch.
    ///
    /// # Errors
    /// When the store does not answer, or holds what cannot be read.
    pub async fn attempt(&self, store: &dyn Store) -> Result<Acquired, StoreError> {
        let epoch_key = keys::epoch(&self.environment);
        let (found, seen) = tokio::try_join!(self.find_lock(store), store.get(epoch_key.key()))?;
        if let Some(found) = found {
            return Ok(found);
        }
        let lock = keys::lock(&self.environment);
        let before = epoch_of(seen.as_ref())?;
        let epoch = if is_on(Mutant::EpochKept) { before.max(1) } else { before + 1 };
        let record = LockRecord { coordinator: self.coordinator.clone(), epoch, nonce: self.nonce.clone() };
        let guards = vec![Guard::absent(&lock), Guard::as_seen(&epoch_key, seen.as_ref())];
        let put_lock = Change::Put { value: stored::encode(&record).into(), lease: Some(self.lease) };
        let put_epoch = Change::Put { value: epoch_bytes(epoch), lease: None };
        let writes = vec![Write::new(lock.into(), put_lock), Write::new(epoch_key.into(), put_epoch)];
        match store.commit(guards, writes).await {
            Ok(Committed::Yes { revision }) => Ok(Acquired::Held(self.held(revision, epoch))),
            Ok(Committed::No) => Ok(self.find_lock(store).await?.unwrap_or(Acquired::Again)),
            Err(StoreError::Unknown(_)) => Ok(Acquired::Again),
            Err(error) => Err(error),
        }
    }

    /// Who has it: an earlier sending of unknown outcome may have been mine.
    async fn find_lock(&self, store: &dyn Store) -> Result<Option<Acquired>, StoreError> {
        let there = holder(store, &self.environment).await?;
        Ok(there.map(|(record, created)| {
            if record.nonce == self.nonce {
                Acquired::Held(self.held(created, record.epoch))
            } else {
                Acquired::ByAnother(record)
            }
        }))
    }

    fn held(&self, lock_created: Revision, epoch: u64) -> Held {
        Held {
            lock: Guard::Created(keys::lock(&self.environment).into(), lock_created),
            newest: Guard::Equals(keys::epoch(&self.environment).into(), epoch_bytes(epoch)),
            epoch,
            lease: self.lease,
        }
    }
}

/// What stands in an environment's lock, and since which revision.
///
/// # Errors
/// When the store does not answer, or holds what cannot be read.
pub async fn holder(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<Option<(LockRecord, Revision)>, StoreError> {
    let there = store.get(keys::lock(environment).key()).await?;
    there.map(|there| Ok((there.read()?, there.created))).transpose()
}

/// The proof that an environment's lock was taken.
#[derive(Debug)]
pub struct Held {
    /// The lock's key is the one that was made when it was taken.
    lock: Guard,
    /// The epoch is the one that was counted then.
    newest: Guard,
    epoch: u64,
    lease: LeaseId,
}

impl Held {
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// All of `writes`, if the lock is still this one and `guards` hold.
    ///
    /// # Errors
    /// When the outcome is unknown or the transaction is refused.
    pub async fn commit(
        &self,
        store: &dyn Store,
        guards: Vec<Guard>,
        writes: Vec<OwnedWrite>,
    ) -> Result<Committed, StoreError> {
        let mut all = self.guards();
        all.extend(guards);
        store.commit(all, plain(writes)).await
    }

    /// Whether the lock is still this one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_valid(&self, store: &dyn Store) -> Result<bool, StoreError> {
        for guard in self.guards() {
            let there = store.get(guard.key()).await?;
            if !guard.holds(there.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the lock back, if it is still this one.
    ///
    /// # Errors
    /// When the outcome is unknown; the lease's end gives it back then.
    pub async fn release(&self, store: &dyn Store) -> Result<(), StoreError> {
        let delete = Write::new(self.lock.key().clone(), Change::Delete);
        // Not committed means that it is another's, and then there is nothing to give back.
        let guards = if is_on(Mutant::ReleasedUnconditionally) { Vec::new() } else { self.guards() };
        store.commit(guards, vec![delete]).await?;
        store.revoke(self.lease).await
    }

    fn guards(&self) -> Vec<Guard> {
        if is_on(Mutant::LockGuardSkipped) {
            return vec![self.newest.clone()];
        }
        if is_on(Mutant::EpochGuardSkipped) {
            return vec![self.lock.clone()];
        }
        vec![self.lock.clone(), self.newest.clone()]
    }
}

/// How far an epoch is raised where nobody knows what the hosts have seen: further than drivers follow each other
/// between a backup and its use.
const EPOCHS_SKIPPED: u64 = 1_000_000;

/// Raises the epoch above whatever a host may have seen, so that a store that was put back from a backup is obeyed
/// again. Whoever holds the lock is deposed. Gives the new epoch; `None` if it was raised meanwhile.
///
/// # Errors
/// When the outcome is unknown.
pub async fn bump_epoch(store: &dyn Store, environment: &EnvironmentKey) -> Result<Option<u64>, StoreError> {
    let key = keys::epoch(environment);
    let seen = store.get(key.key()).await?;
    let epoch = epoch_of(seen.as_ref())? + EPOCHS_SKIPPED;
    let write = OwnedWrite::put_bytes(key.clone(), epoch_bytes(epoch));
    let committed = store.commit(vec![Guard::as_seen(&key, seen.as_ref())], plain(vec![write])).await?;
    Ok((committed != Committed::No).then_some(epoch))
}

/// An epoch as it is restored; `None` if the value is none.
pub fn raised_epoch(value: &[u8]) -> Option<Bytes> {
    let epoch: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(epoch_bytes(epoch + EPOCHS_SKIPPED))
}

/// A key of a store that is being filled from a backup, which no coordinator uses yet.
pub struct Restored(Key);

impl Restored {
    pub fn key(key: Key) -> Self {
        Self(key)
    }

    pub fn put(self, value: Bytes) -> Write {
        Write::new(self.0, Change::Put { value, lease: None })
    }

    pub fn deletion(self) -> Write {
        Write::new(self.0, Change::Delete)
    }
}

/// What is written together with a claim.
#[derive(Debug, Default)]
pub struct Accompanying {
    pub guards: Vec<Guard>,
    pub writes: Vec<OwnedWrite>,
}

/// Makes `open` what the environment is owned by, if it is owned as `seen`: nobody, or that claim. An environment
/// that is being removed is never claimed.
///
/// # Errors
/// When the outcome is unknown or the transaction is refused.
pub async fn claim(
    store: &dyn Store,
    environment: &EnvironmentKey,
    seen: Option<&Stored>,
    open: &Claim,
    with: Accompanying,
) -> Result<Committed, StoreError> {
    let key = keys::open(environment);
    let mut guards = vec![Guard::as_seen(&key, seen), Guard::absent(keys::removal(environment))];
    guards.extend(with.guards);
    let mut writes = vec![OwnedWrite::put(key, open)];
    writes.extend(with.writes);
    store.commit(guards, plain(writes)).await
}

/// Gives ports or names away without a claim: ports that are too many to be given with it, and names that the
/// environment used before names had owners.
///
/// # Errors
/// When the outcome is unknown or the transaction is refused.
pub async fn give_away(
    store: &dyn Store,
    environment: &EnvironmentKey,
    with: Accompanying,
) -> Result<Committed, StoreError> {
    let mut guards = vec![Guard::absent(keys::removal(environment))];
    guards.extend(with.guards);
    store.commit(guards, plain(with.writes)).await
}

/// Writes parts of a plan, or removes those of one that was not opened.
///
/// # Errors
/// When the outcome is unknown; sending it again is safe.
pub async fn plan_parts(store: &dyn Store, writes: Vec<OwnedWrite>) -> Result<(), StoreError> {
    // Without a guard there is nothing that could not hold.
    store.commit(Vec::new(), plain(writes)).await?;
    Ok(())
}

/// Ends a hold or a claim for a build, if it is as `seen`.
///
/// # Errors
/// When the outcome is unknown.
pub async fn disclaim(
    store: &dyn Store,
    environment: &EnvironmentKey,
    seen: &Stored,
) -> Result<Committed, StoreError> {
    let key = keys::open(environment);
    let guards = vec![Guard::as_seen(&key, Some(seen))];
    store.commit(guards, plain(vec![OwnedWrite::delete(key)])).await
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportAcceptance {
    Written,
    /// It was written before, or the assignment has just been withdrawn.
    NotNeeded,
    /// Its token was not assigned to this host for this step, or is not any more.
    NotAssigned,
}

/// Writes what `host` reports, once, and only of what is assigned to it.
///
/// # Errors
/// When the outcome is unknown; sending it again is safe.
pub async fn report(
    store: &dyn Store,
    host: &HostId,
    report: &Report,
) -> Result<ReportAcceptance, StoreError> {
    let (epoch, seq) = (report.token.epoch, report.token.seq);
    let assignment = keys::assignment(host, &report.environment, epoch, seq);
    let assigned = store.get(assignment.key()).await?;
    let is_of_it = match &assigned {
        Some(stored) => stored.read::<Assignment>()?.key == report.key,
        None => false,
    };
    if !is_of_it && !is_on(Mutant::ReportOfAnybody) {
        return Ok(ReportAcceptance::NotAssigned);
    }
    let key = keys::report(&report.environment, epoch, seq);
    let guards = vec![Guard::absent(&key), Guard::as_seen(assignment, assigned.as_ref())];
    let committed = store.commit(guards, plain(vec![OwnedWrite::put(key, report)])).await?;
    Ok(match committed {
        Committed::Yes { .. } => ReportAcceptance::Written,
        Committed::No => ReportAcceptance::NotNeeded,
    })
}

/// Writes what a host says was done on it without a coordinator, once.
///
/// # Errors
/// When the outcome is unknown; sending it again is safe.
pub async fn local_change(store: &dyn Store, change: &LocalChange) -> Result<Committed, StoreError> {
    let LocalChange { host, rollback, .. } = change;
    let key = keys::local_change(&rollback.environment, host, rollback.seq);
    let guards = vec![Guard::absent(&key)];
    store.commit(guards, plain(vec![OwnedWrite::put(key, change)])).await
}

fn plain(writes: Vec<OwnedWrite>) -> Vec<Write> {
    writes.into_iter().map(|write| write.0).collect()
}

/// The epoch that is counted; 0 before the first.
pub fn epoch_of(stored: Option<&Stored>) -> Result<u64, StoreError> {
    let Some(stored) = stored else { return Ok(0) };
    let text = std::str::from_utf8(&stored.value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| StoreError::NoEpoch { key: stored.key.clone() })
}

fn epoch_bytes(epoch: u64) -> Bytes {
    epoch.to_string().into()
}
