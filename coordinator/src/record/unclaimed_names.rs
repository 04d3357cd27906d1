//! Environments that an earlier version deployed to, and that have not claimed the names that they use.
//!
//! What must stay true: whoever claims a name finds those that use it unclaimed. Every deployment claims the names of its
//! environment in the transaction that opens it, so once none is left there never is one again, and nobody looks any
//! more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::live::LiveRelease;

use crate::store::{Store, StoreError, keys};

#[derive(Default)]
pub struct UnclaimedNames {
    none_is_left: AtomicBool,
}

impl UnclaimedNames {
    /// Each with what is live of it.
    ///
    /// # Errors
    /// When the store does not answer, or holds what cannot be read.
    pub async fn environments(
        &self,
        store: &dyn Store,
    ) -> Result<Vec<(EnvironmentKey, LiveRelease)>, StoreError> {
        if self.none_is_left.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let environments = keys::environments();
        // What is live is read first: who deploys meanwhile has claimed before it is.
        let lives = store.list_named(&environments, keys::LIVE).await?;
        let claimed = store.list_named(&environments, keys::NAMES).await?;
        let claimed: BTreeSet<EnvironmentKey> =
            claimed.iter().filter_map(|stored| keys::environment_of(&stored.key)).collect();
        let mut unclaimed = Vec::new();
        for stored in lives {
            if let Some(environment) = keys::environment_of(&stored.key)
                && !claimed.contains(&environment)
            {
                unclaimed.push((environment, stored.read()?));
            }
        }
        self.none_is_left.store(unclaimed.is_empty(), Ordering::Relaxed);
        Ok(unclaimed)
    }
}
