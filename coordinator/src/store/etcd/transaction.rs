//! Converts transactions to those of etcd: guards are comparisons, writes are operations, and a stored value is a key
//! with a value and two revisions.

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};

use crate::store::{Change, Guard, Key, LeaseId, Prefix, Revision, Stored, Write};

/// Where in etcd everything of this cluster is: etcd may have other tenants.
#[derive(Debug, Clone)]
pub(super) struct Namespace(String);

impl Namespace {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    pub(super) fn key(&self, key: &Key) -> String {
        format!("{}{}", self.0, key.as_str())
    }

    pub(super) fn prefix(&self, prefix: &Prefix) -> String {
        format!("{}{}", self.0, prefix.as_str())
    }

    /// The key that etcd calls `name`. What is not text is none of ours, and is no other key for being shown
    /// as text.
    pub(super) fn own(&self, name: &[u8]) -> Key {
        let name = String::from_utf8_lossy(name);
        Key::stored(name.strip_prefix(&self.0).unwrap_or(&name).to_owned())
    }

    pub(super) fn stored(&self, found: KeyValue) -> Stored {
        let (created, modified) = (revision(found.create_revision()), revision(found.mod_revision()));
        let (name, value) = found.into_key_value();
        Stored { key: self.own(&name), value: Bytes::from(value), created, modified }
    }

    pub(super) fn transaction(&self, guards: &[Guard], writes: &[Write]) -> Txn {
        let guards: Vec<Compare> = guards.iter().map(|guard| self.comparison(guard)).collect();
        let writes: Vec<TxnOp> = writes.iter().map(|write| self.operation(write)).collect();
        Txn::new().when(guards).and_then(writes)
    }

    fn comparison(&self, guard: &Guard) -> Compare {
        let key = self.key(guard.key());
        match guard {
            Guard::Absent(_) => Compare::create_revision(key, CompareOp::Equal, 0),
            Guard::Created(_, revision) => Compare::create_revision(key, CompareOp::Equal, signed(*revision)),
            Guard::Unchanged(_, revision) => Compare::mod_revision(key, CompareOp::Equal, signed(*revision)),
            Guard::Equals(_, value) => Compare::value(key, CompareOp::Equal, value.to_vec()),
        }
    }

    fn operation(&self, write: &Write) -> TxnOp {
        let key = self.key(&write.key);
        match &write.change {
            Change::Delete => TxnOp::delete(key, None),
            Change::Put { value, lease } => {
                let leased = lease.map(|lease| PutOptions::new().with_lease(etcd_lease(lease)));
                TxnOp::put(key, value.to_vec(), leased)
            }
        }
    }
}

/// The lease that a transaction binds something to, if it does.
pub(super) fn lease_of(writes: &[Write]) -> Option<LeaseId> {
    writes.iter().find_map(|write| match &write.change {
        Change::Put { lease, .. } => *lease,
        Change::Delete => None,
    })
}

/// etcd counts in signed numbers, from 1 on.
pub(super) fn revision(etcd: i64) -> Revision {
    etcd.unsigned_abs()
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(super) fn etcd_lease(lease: LeaseId) -> i64 {
    lease.0.cast_signed()
}

pub(super) fn own_lease(etcd: i64) -> LeaseId {
    LeaseId(etcd.cast_unsigned())
}
