//! Which cluster this store is of: an identity made once, with the store.

use lockstep_core::id::ClusterId;
use lockstep_core::stored::Kept;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::store::{Guard, Store, StoreError, Write, keys};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    cluster: ClusterId,
}

impl Kept for Meta {
    const KIND: &'static str = "meta";
}

/// The cluster's id, which is made when the store is new.
///
/// # Errors
/// When the store does not answer.
pub async fn identify(store: &dyn Store) -> Result<ClusterId, StoreError> {
    let key = keys::meta();
    if store.get(key.key()).await?.is_none() {
        let cluster =
            format!("cl_{}", Ulid::generate()).parse().expect("a prefix and a ULID are a cluster's id");
        // Not committed means that another was faster: its id is read below.
        store.commit(vec![Guard::absent(&key)], vec![Write::put(key.clone(), &Meta { cluster })]).await?;
    }
    let stored = store.get(key.key()).await?.expect("a key that nobody deletes and that was just written");
    Ok(stored.read::<Meta>()?.cluster)
}
