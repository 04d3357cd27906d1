//! The identity of the cluster that a store belongs to. It is made once, with the store.

use lockstep_core::id::ClusterId;
use lockstep_core::stored::StoredDocument;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::store::{Guard, Store, StoreError, Write, keys};

/// Which cluster the store is of, as kept. Public so that a test can hold a later version to what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    cluster: ClusterId,
}

impl StoredDocument for Meta {
    const KIND: &'static str = "meta";
}

/// Why a store is not the one that this coordinator is of.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the record belongs to the cluster {found}, but this coordinator belongs to {known}: configure its own record \
         (store.etcd.endpoints and store.etcd.prefix in coordinator.toml)"
    )]
    Another { known: ClusterId, found: ClusterId },
    #[error(
        "the record has no cluster, because a restore was interrupted: run lockstep-coordinator restore FILE again"
    )]
    Half,
    #[error(
        "the store is empty, but this coordinator belongs to the cluster {known}: configure its own record \
         (store.etcd.endpoints and store.etcd.prefix in coordinator.toml), or give a new cluster a directory of its \
         own"
    )]
    NoRecord { known: ClusterId },
}

/// The cluster's id. It is made when the store is new, unless this coordinator is of a cluster that it knows:
/// an empty store is another's then, or has lost what was in it.
///
/// # Errors
/// When the store does not answer, or is not of the cluster that is known.
pub async fn identify(store: &dyn Store, known: Option<&ClusterId>) -> Result<ClusterId, ClusterError> {
    let key = keys::meta();
    if store.get(key.key()).await?.is_none() {
        if !store.last(&keys::all(), 1).await?.is_empty() {
            return Err(ClusterError::Half);
        }
        if let Some(known) = known {
            return Err(ClusterError::NoRecord { known: known.clone() });
        }
        let cluster =
            format!("cl_{}", Ulid::generate()).parse().expect("a prefix and a ULID are a cluster's id");
        // Not committed means that another was faster: its id is read below.
        store.commit(vec![Guard::absent(&key)], vec![Write::put(key.clone(), &Meta { cluster })]).await?;
    }
    let stored = store.get(key.key()).await?.expect("a key that nobody deletes and that was just written");
    let found = stored.read::<Meta>()?.cluster;
    match known {
        Some(known) if *known != found => Err(ClusterError::Another { known: known.clone(), found }),
        Some(_) | None => Ok(found),
    }
}
