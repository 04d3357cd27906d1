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
use crate::record::{audit, local_rollbacks};
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

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    Done,
    /// Neither an operator nor a machine has the name, and no token waits for it.
    Absent,
    /// Nobody else could let anybody in.
    LastAdministrator,
    /// Another change came between.
    Changed,
}

/// Takes everything back that lets `name` in: its certificates, and tokens that wait for it.
///
/// # Errors
/// When the store does not answer.
pub async fn revoke(
    store: &dyn Store,
    name: &OperatorName,
    now: Timestamp,
) -> Result<Revocation, StoreError> {
    let key = keys::operator(name);
    let stored = store.get(key.key()).await?;
    let mut guards = vec![Guard::as_seen(&key, stored.as_ref())];
    let mut writes = tokens::withdrawal(store, name).await?;
    if let Some(stored) = &stored {
        let operator: Operator = stored.read()?;
        if operator.can_administer(now) {
            // Guarded, so that two administrators who revoke each other do not both succeed.
            match another_administrator(store, name, now).await? {
                Some(guard) => guards.push(guard),
                None => return Ok(Revocation::LastAdministrator),
            }
        }
        let certificates = BTreeMap::new();
        let standing = OperatorStanding::Revoked;
        writes.push(Write::put(key, &Operator { certificates, standing, ..operator }));
    }
    if writes.is_empty() {
        return Ok(Revocation::Absent);
    }
    Ok(match store.commit(guards, writes).await? {
        Committed::Yes { .. } => Revocation::Done,
        Committed::No => Revocation::Changed,
    })
}

/// Guards an administrator of all environments other than `name`; `None` if there is none.
async fn another_administrator(
    store: &dyn Store,
    name: &OperatorName,
    now: Timestamp,
) -> Result<Option<Guard>, StoreError> {
    for stored in store.list(&keys::operators()).await? {
        let operator: Operator = stored.read()?;
        if operator.name != *name && operator.can_administer(now) {
            return Ok(Some(Guard::as_seen(keys::operator(&operator.name), Some(&stored))));
        }
    }
    Ok(None)
}

/// Why nobody may have this name: the history would show what they do as what nobody with a certificate did. `None` if
/// it is free to use.
pub fn reserved(name: &OperatorName) -> Option<&'static str> {
    if *name == audit::lockstep() {
        return Some("the audit log has it for what the coordinator does by itself");
    }
    (*name == local_rollbacks::root()).then_some("the history has it for what was done as root on a host")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::store::memory::MemoryStore;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn name(text: &str) -> OperatorName {
        text.parse().unwrap()
    }

    async fn add(store: &MemoryStore, text: &str, role: OperatorRole, pattern: &str, expires: Timestamp) {
        let operator = Operator {
            name: name(text),
            environments: pattern.parse().unwrap(),
            role,
            certificate_expires: expires,
            certificates: [("01".to_owned(), expires)].into(),
            standing: OperatorStanding::Active,
            machine: None,
        };
        let write = Write::put(keys::operator(&operator.name), &operator);
        store.commit(Vec::new(), vec![write]).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_who_can_let_others_in_is_not_revoked() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let later = Timestamp(NOW.0 + 1);
        add(&store, "anna", OperatorRole::Admin, "*", later).await;
        add(&store, "bert", OperatorRole::Deploy, "*", later).await;
        add(&store, "carl", OperatorRole::Admin, "notes/*", later).await;
        add(&store, "dora", OperatorRole::Admin, "*", NOW).await;
        let revoke = async |text: &str| revoke(&store, &name(text), NOW).await.unwrap();
        assert_eq!(revoke("anna").await, Revocation::LastAdministrator);
        assert_eq!(revoke("nobody").await, Revocation::Absent);
        for other in ["bert", "carl", "dora"] {
            assert_eq!(revoke(other).await, Revocation::Done, "{other}");
        }
        assert_eq!(revoke("anna").await, Revocation::LastAdministrator);
        add(&store, "emil", OperatorRole::Admin, "*", later).await;
        assert_eq!(revoke("anna").await, Revocation::Done);
        assert_eq!(revoke("emil").await, Revocation::LastAdministrator);
    }

    #[test]
    fn names_that_the_history_uses_are_nobodys() {
        assert!(["lockstep", "root"].iter().all(|text| reserved(&name(text)).is_some()));
        assert!(["admin", "anna", "rooty"].iter().all(|text| reserved(&name(text)).is_none()));
    }
}
