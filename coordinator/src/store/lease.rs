//! The leases of a store that lives in one process. They are kept in memory: when the store is opened again, every
//! earlier holder of a lease is dead.

use std::collections::BTreeMap;

use lockstep_core::time::{Millis, Timestamp};

use super::{LeaseId, LeaseStanding};

#[derive(Debug, Default)]
pub(in crate::store) struct Leases {
    next: u64,
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug)]
struct Lease {
    lives: Millis,
    ends: Timestamp,
}

impl Leases {
    pub(in crate::store) fn grant(&mut self, lives: Millis, now: Timestamp) -> LeaseId {
        self.next += 1;
        let id = LeaseId(self.next);
        let ends = now + lives;
        self.leases.insert(id, Lease { lives, ends });
        id
    }

    pub(in crate::store) fn keep(&mut self, id: LeaseId, now: Timestamp) -> LeaseStanding {
        match self.leases.get_mut(&id) {
            Some(lease) if now < lease.ends => {
                lease.ends = now + lease.lives;
                LeaseStanding::Alive
            }
            Some(_) | None => LeaseStanding::Gone,
        }
    }

    pub(in crate::store) fn is_alive(&self, id: LeaseId, now: Timestamp) -> bool {
        self.leases.get(&id).is_some_and(|lease| now < lease.ends)
    }

    /// The leases that have ended and whose keys are still to be deleted.
    pub(in crate::store) fn ended(&self, now: Timestamp) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, lease)| now >= lease.ends).map(|(id, _)| *id).collect()
    }

    /// Its keys are deleted.
    pub(in crate::store) fn forget(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }
}
