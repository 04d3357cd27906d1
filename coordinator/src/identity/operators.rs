//! Operators: who may use the API, with which role.
//!
//! What must stay true: a certificate is valid only while its serial number is recorded here. So a revoked certificate
//! stays revoked, even if its owner is added again. A revocation also deletes the tokens that wait for the operator.

use std::collections::BTreeMap;

use lockstep_core::access::machine::MachineLimits;
use lockstep_core::access::{EnvironmentPattern, OperatorRights, OperatorRole};
use lockstep_core::name::OperatorName;
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::authority::Issued;
use crate::identity::tokens;
use crate::store::{Committed, Guard, Store, StoreError, Stored, Write, keys};

/// An operator, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    pub name: OperatorName,
    pub environments: EnvironmentPattern,
    pub role: OperatorRole,
    /// Of the certificate that was given last.
    pub certificate_expires: Timestamp,
    /// The certificates that count, by serial number, each with its end.
    pub certificates: BTreeMap<String, Timestamp>,
    pub standing: OperatorStanding,
    /// Of a machine: what its token allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineLimits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorStanding {
    Active,
    /// No certificate of this name is taken any more.
    Revoked,
}

impl StoredDocument for Operator {
    const KIND: &'static str = "operator";
}

impl Operator {
    /// The operator with a certificate, as of `now`; those that it had go on to count until they end.
    #[must_use]
    pub fn with(mut self, issued: &Issued, now: Timestamp) -> Self {
        self.certificates.retain(|_, expires| *expires > now);
        self.certificates.insert(issued.serial.clone(), issued.expires);
        self.certificate_expires = issued.expires;
        self
    }

    /// What the operator may do who shows the certificate of this serial number.
    pub fn rights(&self, serial: &str) -> Option<OperatorRights> {
        (self.standing == OperatorStanding::Active && self.certificates.contains_key(serial)).then(|| {
            let (environments, machine) = (self.environments.clone(), self.machine.clone());
            OperatorRights { role: self.role, environments, machine }
        })
    }

    /// Whether this is a machine whose token is good. Its certificates must never count as an operator's.
    pub fn is_active_machine(&self) -> bool {
        self.standing == OperatorStanding::Active && self.machine.is_some()
    }

    /// Whether this operator can let others in.
    pub fn can_administer(&self, now: Timestamp) -> bool {
        self.standing == OperatorStanding::Active
            && self.role == OperatorRole::Admin
            && self.environments == EnvironmentPattern::All
            && self.certificates.values().any(|expires| *expires > now)
    }
}

/// The operator of this name, if there is one.
///
/// # Errors
/// When the store does not answer.
pub async fn find(store: &dyn Store, name: &OperatorName) -> Result<Option<Operator>, StoreError> {
    store.get(keys::operator(name).key()).await?.map(|stored| stored.read()).transpose()
}

/// The operator of this name, if there is one, and what guards it against who changes it meanwhile.
///
/// # Errors
/// When the store does not answer, or holds what cannot be read.
pub async fn find_guarded(
    store: &dyn Store,
    name: &OperatorName,
) -> Result<(Option<Operator>, Guard), StoreError> {
    let key = keys::operator(name);
    let seen = store.get(key.key()).await?;
    let operator = seen.as_ref().map(Stored::read).transpose()?;
    Ok((operator, Guard::as_seen(&key, seen.as_ref())))
}

/// Every operator, by name.
///
/// # Errors
/// When the store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<Operator>, StoreError> {
    store.list(&keys::operators()).await?.iter().map(Stored::read).collect()
}

/// Takes everything back that lets `name` in: its certificates, and tokens that wait for it. Nothing
/// when there is neither.
///
/// # Errors
/// When the store does not answer.
pub async fn revoke(store: &dyn Store, name: &OperatorName) -> Result<Option<Committed>, StoreError> {
    let key = keys::operator(name);
    let stored = store.get(key.key()).await?;
    let mut writes = tokens::withdrawal(store, name).await?;
    if let Some(stored) = &stored {
        let certificates = BTreeMap::new();
        let standing = OperatorStanding::Revoked;
        writes.push(Write::put(key.clone(), &Operator { certificates, standing, ..stored.read()? }));
    }
    if writes.is_empty() {
        return Ok(None);
    }
    store.commit(vec![Guard::as_seen(&key, stored.as_ref())], writes).await.map(Some)
}
