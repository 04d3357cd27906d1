//! Gives the vault another key: everything in it is encrypted anew.
//!
//! What must stay true: at every moment the file has the key of all that is stored. So both keys are in it before
//! anything is encrypted with the new one, and the earlier one leaves it after everything was. Interrupted, it is run
//! again and goes on.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::key_file::{KeyFile, random_key};
use super::registries::{self, LoginRecord};
use super::{Sealed, Vault, VersionRecord, bound_to};
use crate::store::{Committed, Guard, Store, Stored, Write, keys};

/// Changes the key in `file`, and returns how many versions of secrets and logins have the new one. No coordinator may
/// run meanwhile: it would go on with the earlier key.
///
/// # Errors
/// When there is no key, the store does not answer, or something in it was encrypted with neither key; then it can be
/// run again.
pub async fn rekey(store: Arc<dyn Store>, file: &Path) -> anyhow::Result<usize> {
    let (new, before) = match KeyFile::read(file)? {
        None => bail!("{} is not there: this is not the directory of a coordinator", file.display()),
        Some(KeyFile::Changing { new, before }) => (new, before),
        Some(KeyFile::One(before)) => {
            let new = random_key()?;
            KeyFile::Changing { new, before }.write(file)?;
            (new, before)
        }
    };
    let change = Change {
        new: Vault::with_key(Arc::clone(&store), new),
        before: Vault::with_key(Arc::clone(&store), before),
    };
    let versions = store.list(&keys::all_secrets()).await?;
    let logins = store.list(&keys::registries()).await?;
    for stored in &versions {
        change.encrypt_version(stored).await?;
    }
    for stored in &logins {
        change.encrypt_login(stored).await?;
    }
    KeyFile::One(new).write(file)?;
    Ok(versions.len() + logins.len())
}

/// The vault with either key.
struct Change {
    new: Vault,
    before: Vault,
}

impl Change {
    async fn encrypt_version(&self, stored: &Stored) -> anyhow::Result<()> {
        let environment = keys::environment_of_secrets(&stored.key)
            .with_context(|| format!("{} is not a key of secrets", stored.key))?;
        let record: VersionRecord = stored.read()?;
        let bound = bound_to(&environment, record.version);
        let what = || format!("version {} of the secrets of {environment}", record.version);
        let Some(Sealed { nonce, ciphertext }) =
            self.sealed_anew(&bound, &record.nonce, &record.ciphertext).with_context(what)?
        else {
            return Ok(());
        };
        let key = keys::secrets_version(&environment, record.version);
        let write = Write::put(key, &VersionRecord { nonce, ciphertext, ..record });
        self.commit(stored, write).await
    }

    async fn encrypt_login(&self, stored: &Stored) -> anyhow::Result<()> {
        let record: LoginRecord = stored.read()?;
        let bound = registries::bound_to(&record.registry, &record.username);
        let what = || format!("the login of {}", record.registry);
        let Some(Sealed { nonce, ciphertext }) =
            self.sealed_anew(&bound, &record.nonce, &record.ciphertext).with_context(what)?
        else {
            return Ok(());
        };
        let key = keys::registry(&record.registry);
        let write = Write::put(key, &LoginRecord { nonce, ciphertext, ..record });
        self.commit(stored, write).await
    }

    /// `None` if it was encrypted with the new key already.
    fn sealed_anew(&self, bound: &str, nonce: &[u8], ciphertext: &[u8]) -> anyhow::Result<Option<Sealed>> {
        if self.new.unseal(bound, nonce, ciphertext).is_ok() {
            return Ok(None);
        }
        let plain = self.before.unseal(bound, nonce, ciphertext)?;
        self.new.seal(bound, &plain).map(Some)
    }

    async fn commit(&self, stored: &Stored, write: Write) -> anyhow::Result<()> {
        let guard = Guard::as_seen(write.key().clone(), Some(stored));
        match self.new.store.commit(vec![guard], vec![write]).await? {
            Committed::Yes { .. } => Ok(()),
            Committed::No => {
                bail!("{} was changed meanwhile: stop every coordinator, and run it again", stored.key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_core::image::Login;
    use lockstep_core::name::{EnvironmentKey, OperatorName};
    use lockstep_core::secret::Secret;
    use lockstep_core::time::Timestamp;

    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::record::vault::SecretsSource;
    use crate::record::vault::key_file::VaultKey;
    use crate::store::sqlite::SqliteStore;

    /// Two versions of one environment's secrets, one of another's, and a login.
    struct Filled {
        directory: tempfile::TempDir,
        store: Arc<dyn Store>,
    }

    fn anna() -> (OperatorName, Timestamp) {
        ("anna".parse().unwrap(), Timestamp(1))
    }

    fn login() -> Login {
        let password = Secret::new("canary-login".to_owned());
        Login { registry: "ghcr.io".parse().unwrap(), username: "anna".to_owned(), password }
    }

    fn environment(text: &str) -> EnvironmentKey {
        text.parse().unwrap()
    }

    const VERSIONS: [(&str, u64, &str); 3] = [
        ("notes/production", 1, "canary-one"),
        ("notes/production", 2, "canary-two"),
        ("shop/staging", 1, "canary-three"),
    ];

    impl Filled {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(directory.path(), Arc::new(SystemClock)).await.unwrap();
            let filled = Self { directory, store: Arc::new(store) };
            let vault = filled.open().unwrap();
            for (key, version, value) in VERSIONS {
                let values = BTreeMap::from([("API_KEY".to_owned(), Secret::new(value.to_owned()))]);
                let made = vault.import(&environment(key), values, SecretsSource::Set, anna()).await.unwrap();
                assert_eq!(made, version);
            }
            vault.log_in(&login(), anna()).await.unwrap();
            filled
        }

        fn file(&self) -> std::path::PathBuf {
            self.directory.path().join("secrets.key")
        }

        fn open(&self) -> anyhow::Result<Vault> {
            Vault::open(Arc::clone(&self.store), &self.file())
        }

        fn key(&self) -> VaultKey {
            match KeyFile::read(&self.file()).unwrap().unwrap() {
                KeyFile::One(key) => key,
                KeyFile::Changing { .. } => panic!("the key is being changed"),
            }
        }

        async fn assert_all_is_read(&self) {
            let vault = self.open().unwrap();
            for (key, version, value) in VERSIONS {
                let values = vault.values(&environment(key), version).await.unwrap();
                assert_eq!(values["API_KEY"].expose(), value);
            }
            assert_eq!(vault.login(&login().registry).await.unwrap(), Some(login()));
        }
    }

    #[tokio::test]
    async fn everything_is_read_with_the_new_key_and_nothing_with_the_earlier_one() {
        let filled = Filled::new().await;
        let before = filled.key();
        assert_eq!(rekey(Arc::clone(&filled.store), &filled.file()).await.unwrap(), 4);
        assert!(filled.key() != before);
        filled.assert_all_is_read().await;
        let thief = Vault::with_key(Arc::clone(&filled.store), before);
        for (key, version, _) in VERSIONS {
            assert!(thief.values(&environment(key), version).await.is_err(), "{key} {version}");
        }
        assert!(thief.login(&login().registry).await.is_err());
        let newest = filled.open().unwrap().list(&environment("notes/production")).await.unwrap().unwrap();
        assert_eq!((newest.version, newest.by, newest.at), (2, anna().0, anna().1), "who set it is lost");
    }

    #[tokio::test]
    async fn a_change_that_was_interrupted_goes_on_and_no_coordinator_begins_before() {
        let filled = Filled::new().await;
        let (new, before) = ([7; 32], filled.key());
        KeyFile::Changing { new, before }.write(&filled.file()).unwrap();
        // One version had its turn.
        let change = Change {
            new: Vault::with_key(Arc::clone(&filled.store), new),
            before: Vault::with_key(Arc::clone(&filled.store), before),
        };
        let one = filled.store.list(&keys::all_secrets()).await.unwrap().remove(1);
        change.encrypt_version(&one).await.unwrap();
        let refused = filled.open().map(drop).unwrap_err().to_string();
        assert!(refused.contains("lockstep-coordinator rekey"), "{refused}");
        rekey(Arc::clone(&filled.store), &filled.file()).await.unwrap();
        assert!(filled.key() == new, "it began anew");
        filled.assert_all_is_read().await;
    }

    #[tokio::test]
    async fn what_neither_key_opens_is_named_and_no_key_is_lost() {
        let filled = Filled::new().await;
        let before = filled.key();
        let stranger = Vault::with_key(Arc::clone(&filled.store), [9; 32]);
        stranger.log_in(&login(), anna()).await.unwrap();
        let refused = rekey(Arc::clone(&filled.store), &filled.file()).await.unwrap_err();
        assert!(format!("{refused:#}").contains("the login of ghcr.io"), "{refused:#}");
        let there = KeyFile::read(&filled.file()).unwrap().unwrap();
        assert!(matches!(there, KeyFile::Changing { before: kept, .. } if kept == before));
        // Without it, the change comes to its end.
        assert!(stranger.log_out(&login().registry).await.unwrap());
        rekey(Arc::clone(&filled.store), &filled.file()).await.unwrap();
        assert!(filled.open().unwrap().values(&environment("shop/staging"), 1).await.is_ok());
    }

    #[tokio::test]
    async fn a_directory_without_a_key_gets_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), Arc::new(SystemClock)).await.unwrap();
        let file = directory.path().join("secrets.key");
        assert!(rekey(Arc::new(store), &file).await.is_err());
        assert!(!file.exists());
    }
}
