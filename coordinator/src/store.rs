//! The interface of the store: keys with values, changed by guarded transactions.
//!
//! What must stay true for every adapter: a transaction happens completely or not at all. Its guards are compared and
//! its writes are done at one moment. Only the result of a commit decides; a watch or a read never does. An outcome
//! that is not known is [`StoreError::Unknown`], and only the same idempotent transaction may be sent again.
//!
//! Keys that belong to an environment are [`keys::Owned`]. Only [`guarded`] writes them: with the proof of the lock,
//! or in one of the few transactions that are guarded by their own key.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_core::stored::{self, StoredDocument, Unreadable};
use lockstep_core::time::Millis;

pub mod etcd;
pub mod guarded;
pub mod handover;
pub mod keys;
pub mod lease;
pub mod memory;
pub mod sqlite;
pub mod watch;

pub use keys::{Free, Key, Owned, Prefix};
pub use watch::Wakeups;

/// The largest value: etcd's default limits stay far away, and a larger plan is stored in parts.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;

/// The most guards and writes in one transaction: etcd refuses 129.
pub const OPERATIONS_MAX: usize = 100;

/// The most bytes in the values of one transaction: etcd refuses a request of 1.5 MiB, keys and all.
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;

/// Rises with every transaction that writes.
pub type Revision = u64;

/// A lease: keys bound to it go when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// Whether a lease that was to be kept is still there. Never a proof of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStanding {
    Alive,
    Gone,
}

/// A value as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub key: Key,
    pub value: Bytes,
    /// The revision at which the key came to be.
    pub created: Revision,
    /// The revision at which it was last written.
    pub modified: Revision,
}

impl Stored {
    /// The document in the value.
    ///
    /// # Errors
    /// When it is of another kind or version, or damaged.
    pub fn read<T: StoredDocument>(&self) -> Result<T, StoreError> {
        stored::decode(&self.value).map_err(|source| StoreError::Unreadable { key: self.key.clone(), source })
    }
}

/// What must be so for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    Absent(Key),
    /// The key is there, and is the one that came to be at this revision.
    Created(Key, Revision),
    /// The key is there, and was last written at this revision.
    Unchanged(Key, Revision),
    Equals(Key, Bytes),
}

impl Guard {
    pub fn absent(key: impl Into<Key>) -> Self {
        Self::Absent(key.into())
    }

    /// The key is as `seen`: at that revision, or not there.
    pub fn as_seen(key: impl Into<Key>, seen: Option<&Stored>) -> Self {
        match seen {
            Some(seen) => Self::Unchanged(key.into(), seen.modified),
            None => Self::Absent(key.into()),
        }
    }

    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Created(key, _) | Self::Unchanged(key, _) | Self::Equals(key, _) => key,
        }
    }

    /// Whether it holds, given what is there.
    pub fn holds(&self, there: Option<&Stored>) -> bool {
        match (self, there) {
            (Self::Absent(_), there) => there.is_none(),
            (Self::Created(_, revision), Some(there)) => there.created == *revision,
            (Self::Unchanged(_, revision), Some(there)) => there.modified == *revision,
            (Self::Equals(_, value), Some(there)) => there.value == *value,
            (Self::Created(..) | Self::Unchanged(..) | Self::Equals(..), None) => false,
        }
    }
}

/// One change of a transaction. Of an owned key only [`guarded`] can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    key: Key,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Change {
    Put { value: Bytes, lease: Option<LeaseId> },
    Delete,
}

impl Write {
    pub fn put<T: StoredDocument>(key: Free, content: &T) -> Self {
        Self::put_bytes(key, stored::encode(content))
    }

    pub fn put_bytes(key: Free, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), change: Change::Put { value: value.into(), lease: None } }
    }

    /// A value that goes when the lease ends.
    pub fn put_leased(key: Free, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Self { key: key.into(), change: Change::Put { value: value.into(), lease: Some(lease) } }
    }

    /// The key is not there afterwards, whether it was or not.
    pub fn delete(key: Free) -> Self {
        Self { key: key.into(), change: Change::Delete }
    }

    /// How many bytes it brings.
    pub fn size(&self) -> usize {
        match &self.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The bytes that it writes; `None` if it deletes.
    pub fn value(&self) -> Option<&Bytes> {
        match &self.change {
            Change::Put { value, .. } => Some(value),
            Change::Delete => None,
        }
    }

    pub(in crate::store) fn new(key: Key, change: Change) -> Self {
        Self { key, change }
    }
}

/// Whether a transaction happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    Yes {
        revision: Revision,
    },
    /// A guard did not hold; nothing was written.
    No,
}

/// What an adapter says of its trouble.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The transaction may have happened.
    #[error("it is unknown whether the store has committed the transaction")]
    Unknown(#[source] Source),
    /// Nothing has happened.
    #[error("the store does not answer")]
    Unavailable(#[source] Source),
    #[error("{key} would have {bytes} bytes; the limit is {VALUE_BYTES_MAX}")]
    ValueTooLarge { key: Key, bytes: usize },
    #[error("the transaction has {operations} operations; the limit is {OPERATIONS_MAX}")]
    TooManyOperations { operations: usize },
    #[error("the transaction has {bytes} bytes; the limit is {TRANSACTION_BYTES_MAX}")]
    TransactionTooLarge { bytes: usize },
    #[error("bug: {key} would be written twice in one transaction")]
    WrittenTwice { key: Key },
    #[error("{key} in the store is not a number: restore the store from a backup")]
    NoEpoch { key: Key },
    #[error("the lease {0:?} has ended")]
    NoSuchLease(LeaseId),
    #[error("cannot read {key} in the store")]
    Unreadable {
        key: Key,
        #[source]
        source: Unreadable,
    },
}

/// What every adapter does. One conformance suite holds them to it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// Everything below `prefix`, in the order of the keys.
    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError>;

    /// Those of [`Store::list`] whose key ends with the part `last`. An adapter that can leaves the values of the others
    /// unread.
    async fn list_named(&self, prefix: &Prefix, last: &str) -> Result<Vec<Stored>, StoreError> {
        let mut found = self.list(prefix).await?;
        found.retain(|stored| stored.key.last() == last);
        Ok(found)
    }

    /// The first `most` below `prefix` that are not before `from`, in the order of the keys. Those that are called
    /// for one after the other may be of different moments.
    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError>;

    /// The last `most` below `prefix`, last first.
    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError>;

    /// All of `writes` when all of `guards` hold, at one moment.
    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError>;

    /// Wakes when something below `prefix` may have changed. A hint: it says nothing about what.
    fn watch(&self, prefix: &Prefix) -> Wakeups;

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError>;

    /// Gives the lease its full time again.
    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError>;

    /// Ends the lease and deletes what is bound to it.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// Refuses what no adapter takes.
pub(in crate::store) fn within_limits(guards: &[Guard], writes: &[Write]) -> Result<(), StoreError> {
    let operations = guards.len() + writes.len();
    if operations > OPERATIONS_MAX {
        return Err(StoreError::TooManyOperations { operations });
    }
    let (mut written, mut total) = (BTreeSet::new(), 0);
    for Write { key, change } in writes {
        if !written.insert(key) {
            return Err(StoreError::WrittenTwice { key: key.clone() });
        }
        if let Change::Put { value, .. } = change {
            if value.len() > VALUE_BYTES_MAX {
                return Err(StoreError::ValueTooLarge { key: key.clone(), bytes: value.len() });
            }
            total += value.len();
        }
    }
    if total > TRANSACTION_BYTES_MAX {
        return Err(StoreError::TransactionTooLarge { bytes: total });
    }
    Ok(())
}
