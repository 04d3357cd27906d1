//! The logins of registries. A login is bound to its registry, so it cannot be moved to another.

use anyhow::{Context, bail};
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::OperatorName;
use lockstep_core::secret::Secret;
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Sealed, Vault};
use crate::store::{Committed, Guard, StoreError, Write, keys};

/// A login, as kept. The name is no secret; the password is. Public so that a test can hold a later version to what is
/// kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRecord {
    pub(super) registry: RegistryName,
    pub(super) username: String,
    pub(super) at: Timestamp,
    pub(super) by: OperatorName,
    pub(super) nonce: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

impl StoredDocument for LoginRecord {
    const KIND: &'static str = "registry_login";
}

/// What anybody who may read is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLogin {
    pub registry: RegistryName,
    pub username: String,
    pub at: Timestamp,
    pub by: OperatorName,
}

impl Vault {
    /// Keeps what lets hosts into a registry, in place of what did before.
    ///
    /// # Errors
    /// When the store does not answer, or another came between.
    pub async fn log_in(&self, login: &Login, (by, at): (OperatorName, Timestamp)) -> anyhow::Result<()> {
        let key = keys::registry(&login.registry);
        let seen = self.store.get(key.key()).await?;
        let bound = bound_to(&login.registry, &login.username);
        let Sealed { nonce, ciphertext } = self.seal(&bound, login.password.expose().as_bytes())?;
        let record = LoginRecord {
            registry: login.registry.clone(),
            username: login.username.clone(),
            at,
            by,
            nonce,
            ciphertext,
        };
        let guard = Guard::as_seen(&key, seen.as_ref());
        match self.store.commit(vec![guard], vec![Write::put(key, &record)]).await? {
            Committed::Yes { .. } => Ok(()),
            Committed::No => bail!("another login happened at the same time: try again"),
        }
    }

    /// Forgets what lets hosts into a registry; says whether there was anything.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn log_out(&self, registry: &RegistryName) -> Result<bool, StoreError> {
        let key = keys::registry(registry);
        let was_there = self.store.get(key.key()).await?.is_some();
        self.store.commit(Vec::new(), vec![Write::delete(key)]).await?;
        Ok(was_there)
    }

    /// Who logs in where.
    ///
    /// # Errors
    /// When the store does not answer, or something in it is damaged.
    pub async fn logins(&self) -> Result<Vec<ListedLogin>, StoreError> {
        let listed =
            |LoginRecord { registry, username, at, by, .. }| ListedLogin { registry, username, at, by };
        self.store.list(&keys::registries()).await?.iter().map(|stored| stored.read().map(listed)).collect()
    }

    /// What lets hosts into `registry`; `None` if nobody has given it.
    ///
    /// # Errors
    /// When it cannot be read, or was not encrypted with this key for this registry.
    pub async fn login(&self, registry: &RegistryName) -> anyhow::Result<Option<Login>> {
        let Some(stored) = self.store.get(keys::registry(registry).key()).await? else { return Ok(None) };
        let LoginRecord { username, nonce, ciphertext, .. } = stored.read()?;
        let plain = self
            .unseal(&bound_to(registry, &username), &nonce, &ciphertext)
            .with_context(|| format!("cannot read the login of {registry}"))?;
        let password =
            String::from_utf8(plain).map_err(|_| anyhow::anyhow!("the login of {registry} is damaged"))?;
        Ok(Some(Login { registry: registry.clone(), username, password: Secret::new(password) }))
    }
}

pub(super) fn bound_to(registry: &RegistryName, username: &str) -> String {
    format!("lockstep registry {registry} {username}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::store::sqlite::SqliteStore;

    async fn vault(directory: &Path) -> Vault {
        let store = SqliteStore::open(directory, Arc::new(SystemClock)).await.unwrap();
        Vault::open(Arc::new(store), &directory.join("secrets.key")).unwrap()
    }

    fn login(registry: &str, password: &str) -> Login {
        let password = Secret::new(password.to_owned());
        Login { registry: registry.parse().unwrap(), username: "anna".to_owned(), password }
    }

    fn anna() -> (OperatorName, Timestamp) {
        ("anna".parse().unwrap(), Timestamp(1))
    }

    #[tokio::test]
    async fn the_newest_login_counts_until_it_is_withdrawn() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let registry = "ghcr.io".parse().unwrap();
        assert_eq!(vault.login(&registry).await.unwrap(), None);
        vault.log_in(&login("ghcr.io", "canary-one"), anna()).await.unwrap();
        vault.log_in(&login("ghcr.io", "canary-two"), anna()).await.unwrap();
        vault.log_in(&login("10.0.0.5:5000", "canary-three"), anna()).await.unwrap();
        assert_eq!(vault.login(&registry).await.unwrap(), Some(login("ghcr.io", "canary-two")));
        let listed = vault.logins().await.unwrap();
        let names: Vec<&str> = listed.iter().map(|listed| listed.registry.as_str()).collect();
        assert_eq!(names, ["10.0.0.5:5000", "ghcr.io"]);
        assert!(vault.log_out(&registry).await.unwrap());
        assert!(!vault.log_out(&registry).await.unwrap());
        assert_eq!(vault.login(&registry).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_store_has_no_password_and_a_login_cannot_be_moved() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        vault.log_in(&login("ghcr.io", "canary-one"), anna()).await.unwrap();
        let key = keys::registry(&"ghcr.io".parse().unwrap());
        let stored = vault.store.get(key.key()).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&stored.value).contains("canary"));
        let elsewhere: RegistryName = "evil.example".parse().unwrap();
        let moved = keys::registry(&elsewhere);
        let write = Write::put_bytes(moved.clone(), stored.value.clone());
        vault.store.commit(vec![Guard::absent(&moved)], vec![write]).await.unwrap();
        assert!(vault.login(&elsewhere).await.is_err());
    }
}
