//! Tokens: whom they admit, and for how long.
//!
//! What must stay true: the store has only the digest of a token's secret. The transaction that admits the holder
//! deletes the token, so of two who use it at once only one wins. Only a machine's token is good until its end: it is
//! still there in the transaction that admits its holder.

use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::host::HostRole;
use lockstep_core::id::Digest;
use lockstep_core::name::{CoordinatorName, HostName, OperatorName};
use lockstep_core::secret::Secret;
use lockstep_core::secret::join_token::{JoinToken, base32};
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::{Guard, OPERATIONS_MAX, Store, StoreError, Stored, Write, keys};

/// How long a token can be used.
pub const TOKEN_LIFE: Millis = Millis::from_secs(15 * 60);

/// The most that one transaction deletes, beside what else it does. Tokens live for minutes.
const DELETED_MAX: usize = OPERATIONS_MAX - 10;

const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 16;

/// Whom a token admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenHolder {
    Host {
        name: Option<HostName>,
        roles: Vec<HostRole>,
    },
    Coordinator {
        name: Option<CoordinatorName>,
    },
    Operator {
        name: OperatorName,
        environments: EnvironmentPattern,
        role: OperatorRole,
    },
    /// What the machine may do stands with the operator of this name.
    Machine {
        name: OperatorName,
    },
}

impl TokenHolder {
    fn is_operator(&self, wanted: &OperatorName) -> bool {
        match self {
            Self::Operator { name, .. } | Self::Machine { name } => name == wanted,
            Self::Host { .. } | Self::Coordinator { .. } => false,
        }
    }
}

/// A token, as kept. Public so that a test can hold a later version to what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    secret: Digest,
    admits: TokenHolder,
    expires: Timestamp,
}

impl StoredDocument for TokenRecord {
    const KIND: &'static str = "join_token";
}

/// A token that was presented and is good: what it admits, and the transaction's part that spends it.
pub struct Presented {
    pub admits: TokenHolder,
    stored: Stored,
    id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("this token is unknown: it was already used, or it is for another cluster")]
    Unknown,
    #[error("this token expired at {at}; a token is valid for {TOKEN_LIFE}")]
    Expired { at: Timestamp },
    #[error("the token of {name} expired at {at}")]
    MachineExpired { name: OperatorName, at: Timestamp },
    #[error("the system provides no random numbers")]
    Chance,
    #[error("the store does not answer")]
    Store(#[from] StoreError),
}

/// Makes a token that admits `admits` until `expires`.
///
/// # Errors
/// When it cannot be stored.
pub async fn make(
    store: &dyn Store,
    pin: &str,
    admits: TokenHolder,
    expires: Timestamp,
) -> Result<JoinToken, TokenError> {
    let (token, guard, write) = new(pin, admits, expires)?;
    store.commit(vec![guard], vec![write]).await?;
    Ok(token)
}

/// A token, and what a transaction must have with it so that it is good.
///
/// # Errors
/// When the system provides no random numbers.
pub fn new(
    pin: &str,
    admits: TokenHolder,
    expires: Timestamp,
) -> Result<(JoinToken, Guard, Write), TokenError> {
    let id = base32(&random::<ID_BYTES>()?);
    let secret = base32(&random::<SECRET_BYTES>()?);
    let record = TokenRecord { secret: Digest::of_content(secret.as_bytes()), admits, expires };
    let key = keys::join_token(&id);
    let token = JoinToken { pin: pin.to_owned(), id, secret: Secret::new(secret) };
    Ok((token, Guard::absent(&key), Write::put(key, &record)))
}

/// What a transaction must have so that the token of the machine `name` is good until `expires`; `None` if there is none any
/// more.
///
/// # Errors
/// When the store does not answer.
pub async fn extension(
    store: &dyn Store,
    name: &OperatorName,
    expires: Timestamp,
) -> Result<Option<(Guard, Write)>, StoreError> {
    for stored in store.list(&keys::join_tokens()).await? {
        let record: TokenRecord = stored.read()?;
        if matches!(&record.admits, TokenHolder::Machine { name: admitted } if admitted == name) {
            let key = keys::join_token(stored.key.last());
            let guard = Guard::as_seen(&key, Some(&stored));
            return Ok(Some((guard, Write::put(key, &TokenRecord { expires, ..record }))));
        }
    }
    Ok(None)
}

/// Looks a presented token up.
///
/// # Errors
/// When it is unknown, spent or expired, or its secret is another; the first two look the same.
pub async fn present(
    store: &dyn Store,
    id: &str,
    secret: &str,
    now: Timestamp,
) -> Result<Presented, TokenError> {
    // An id of another alphabet would be a key of another kind.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(TokenError::Unknown);
    }
    let stored = store.get(keys::join_token(id).key()).await?.ok_or(TokenError::Unknown)?;
    let record: TokenRecord = stored.read()?;
    // Digests are compared, so that how long it takes says nothing about the secret.
    if Digest::of_content(secret.as_bytes()) != record.secret {
        return Err(TokenError::Unknown);
    }
    if now >= record.expires {
        let at = record.expires;
        return Err(match record.admits {
            TokenHolder::Machine { name } => TokenError::MachineExpired { name, at },
            TokenHolder::Host { .. } | TokenHolder::Coordinator { .. } | TokenHolder::Operator { .. } => {
                TokenError::Expired { at }
            }
        });
    }
    Ok(Presented { admits: record.admits, stored, id: id.to_owned() })
}

/// What a transaction must have so that no token admits `name` any more.
///
/// # Errors
/// When the store does not answer.
pub async fn withdrawal(store: &dyn Store, name: &OperatorName) -> Result<Vec<Write>, StoreError> {
    deletion(store, |record| record.admits.is_operator(name)).await
}

/// Forgets the tokens that nobody can use any more.
///
/// # Errors
/// When the store does not answer.
pub async fn forget_expired(store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
    let writes = deletion(store, |record| record.expires <= now).await?;
    if !writes.is_empty() {
        // Without a guard there is nothing that could not hold.
        store.commit(Vec::new(), writes).await?;
    }
    Ok(())
}

async fn deletion(
    store: &dyn Store,
    is_wanted: impl Fn(&TokenRecord) -> bool + Send,
) -> Result<Vec<Write>, StoreError> {
    let mut writes = Vec::new();
    for stored in store.list(&keys::join_tokens()).await? {
        if writes.len() < DELETED_MAX && is_wanted(&stored.read()?) {
            writes.push(Write::delete(keys::join_token(stored.key.last())));
        }
    }
    Ok(writes)
}

impl Presented {
    /// What a transaction must have with it, so that the token is good, and spent exactly then if it is for once.
    pub fn spending(&self) -> (Guard, Option<Write>) {
        let key = keys::join_token(&self.id);
        let guard = Guard::as_seen(&key, Some(&self.stored));
        let is_kept = matches!(self.admits, TokenHolder::Machine { .. });
        (guard, (!is_kept).then(|| Write::delete(key)))
    }
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| TokenError::Chance)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_token_is_good_until_its_end_and_for_who_has_its_secret() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let end = Timestamp(1_000_000);
        let admits = TokenHolder::Host { name: None, roles: Vec::new() };
        let token = make(&store, "pin", admits, end).await.unwrap();
        let (id, secret) = (token.id.as_str(), token.secret.expose());
        let just_before = Timestamp(end.0 - 1);
        assert!(present(&store, id, secret, just_before).await.is_ok());
        let late = present(&store, id, secret, end).await.err().unwrap();
        assert!(matches!(late, TokenError::Expired { at } if at == end), "{late}");
        assert!(late.to_string().contains("15 min"), "{late}");
        let guessed = present(&store, id, "guessed", just_before).await.err().unwrap();
        assert!(matches!(guessed, TokenError::Unknown), "{guessed}");
        forget_expired(&store, end).await.unwrap();
        let gone = present(&store, id, secret, just_before).await.err().unwrap();
        assert!(matches!(gone, TokenError::Unknown), "{gone}");
    }

    #[tokio::test]
    async fn the_token_of_a_machine_is_kept_and_can_be_extended_until_its_end() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let (name, end): (OperatorName, _) = ("ci".parse().unwrap(), Timestamp(1_000_000));
        let token = make(&store, "pin", TokenHolder::Machine { name: name.clone() }, end).await.unwrap();
        let (id, secret) = (token.id.as_str(), token.secret.expose());
        let presented = present(&store, id, secret, Timestamp(end.0 - 1)).await.unwrap();
        assert!(presented.spending().1.is_none(), "it is good for once only");
        let late = present(&store, id, secret, end).await.err().unwrap();
        assert!(matches!(late, TokenError::MachineExpired { .. }), "{late}");
        let later = Timestamp(end.0 * 2);
        let (guard, write) = extension(&store, &name, later).await.unwrap().unwrap();
        store.commit(vec![guard], vec![write]).await.unwrap();
        assert!(present(&store, id, secret, end).await.is_ok());
        assert_eq!(withdrawal(&store, &name).await.unwrap().len(), 1);
    }
}
