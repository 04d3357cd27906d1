//! The audit log: who changed what. It is append-only.

use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Committed, Guard, Store, StoreError, Write, keys};

/// Who stands in the audit log for what the coordinator does itself.
const LOCKSTEP: &str = "lockstep";

pub(crate) fn lockstep() -> OperatorName {
    LOCKSTEP.parse().expect("a constant that is a name")
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    pub seq: u64,
    pub at: Timestamp,
    pub operator: OperatorName,
    pub verb: String,
    pub environment: Option<EnvironmentKey>,
    pub said: String,
}

/// The verb of a removal of an environment of which nothing serves.
pub const REMOVE_ENVIRONMENT: &str = "remove environment";

/// The verb of a removal of an environment that goes on serving.
pub const ABANDON_ENVIRONMENT: &str = "abandon environment";

/// What the verbs of refusals begin with.
const REFUSE: &str = "refuse ";

impl AuditEntry {
    /// Whether nothing was changed, because it was refused.
    pub fn is_refusal(&self) -> bool {
        self.verb.starts_with(REFUSE)
    }
}

impl StoredDocument for AuditEntry {
    const KIND: &'static str = "audit_entry";
}

/// What is to be written down.
#[derive(Debug, Clone)]
pub struct Change {
    pub operator: OperatorName,
    pub verb: &'static str,
    pub environment: Option<EnvironmentKey>,
    pub said: String,
}

/// Appends `change`.
///
/// # Errors
/// When the store does not answer.
pub async fn append(store: &dyn Store, at: Timestamp, change: Change) -> Result<(), StoreError> {
    let Change { operator, verb, environment, said } = change;
    let last = store.last(&keys::audit(), 1).await?.first().and_then(|stored| stored.key.last().parse().ok());
    let mut entry = AuditEntry {
        seq: last.map_or(1, |last: u64| last + 1),
        at,
        operator,
        verb: verb.to_owned(),
        environment,
        said,
    };
    loop {
        let key = keys::audit_record(entry.seq);
        match store.commit(vec![Guard::absent(&key)], vec![Write::put(key, &entry)]).await? {
            Committed::Yes { .. } => return Ok(()),
            // Another change took the number.
            Committed::No => entry.seq += 1,
        }
    }
}

/// The newest `most` entries, newest first; of one environment, or of all.
///
/// # Errors
/// When the store does not answer.
pub async fn list(
    store: &dyn Store,
    environment: Option<&EnvironmentKey>,
    most: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut entries = Vec::new();
    for stored in store.list(&keys::audit()).await?.iter().rev() {
        let entry: AuditEntry = stored.read()?;
        if entries.len() < most && environment.is_none_or(|wanted| entry.environment.as_ref() == Some(wanted))
        {
            entries.push(entry);
        }
    }
    Ok(entries)
}
