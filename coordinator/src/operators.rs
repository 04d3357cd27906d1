//! Who may command, and what.

use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::name::OperatorName;
use lockstep_core::stored::Kept;
use lockstep_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Committed, Guard, Store, StoreError, Write, keys};

/// An operator, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    pub name: OperatorName,
    pub environments: EnvironmentPattern,
    pub role: OperatorRole,
    pub certificate_expires: Timestamp,
    pub standing: OperatorStanding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorStanding {
    Active,
    /// No certificate of this name is taken any more.
    Revoked,
}

impl Kept for Operator {
    const KIND: &'static str = "operator";
}

/// The operator of this name, if there is one.
///
/// # Errors
/// When the store does not answer.
pub async fn find(store: &dyn Store, name: &OperatorName) -> Result<Option<Operator>, StoreError> {
    store.get(keys::operator(name).key()).await?.map(|stored| stored.read()).transpose()
}

/// Every operator, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<Operator>, StoreError> {
    store.list(&keys::operators()).await?.iter().map(crate::store::Stored::read).collect()
}

/// Whether the operator was there and is revoked now.
///
/// # Errors
/// When the store does not answer, or another change came between.
pub async fn revoke(store: &dyn Store, name: &OperatorName) -> Result<Option<Committed>, StoreError> {
    let key = keys::operator(name);
    let Some(stored) = store.get(key.key()).await? else {
        return Ok(None);
    };
    let operator = Operator { standing: OperatorStanding::Revoked, ..stored.read()? };
    let guard = Guard::as_seen(&key, Some(&stored));
    store.commit(vec![guard], vec![Write::put(key, &operator)]).await.map(Some)
}
