//! The encrypted secrets of environments and logins of registries.
//!
//! What must stay true: the store has only ciphertext. The key is a file that no backup of the store contains. A
//! ciphertext is bound to its environment and version, so it cannot be moved to another. Only names and keyed
//! fingerprints are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use data_encoding::HEXLOWER;
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::record::SecretsSummary;
use lockstep_core::secret::Secret;
use lockstep_core::secret::limits::too_large;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_core::view::environment::SecretsSet;
use serde::{Deserialize, Serialize};

use crate::ports::secrets::{Secrets, SecretsChange};
use crate::record::environments;
use crate::store::{Committed, Guard, Store, StoreError, Stored, Write, keys};

use fingerprint::FingerprintKey;
use key_file::{KeyFile, VaultKey, random_key};

mod changes;
mod ciphertext;
mod fingerprint;
mod key_file;
mod registries;
mod rekey;

pub use registries::{ListedLogin, LoginRecord};
pub use rekey::rekey;

const NONCE_BYTES: usize = 12;

/// How many of the newest versions are looked at for who changed a value.
const VERSIONS_COMPARED_MAX: usize = 50;

/// One version, as kept. Names are no secret; values are. Public so that a test can hold a later version to what is
/// kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRecord {
    version: u64,
    at: Timestamp,
    by: OperatorName,
    /// A version from before this was written down came from a file, or one value was set: nobody knows.
    #[serde(default, skip_serializing_if = "SecretsSource::is_file")]
    source: SecretsSource,
    names: BTreeSet<String>,
    nonce: Vec<u8>,
    #[serde(with = "ciphertext")]
    ciphertext: Vec<u8>,
}

/// Why secrets were not stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    TooLarge(String),
    #[error("another import happened at the same time")]
    AtTheSameTime,
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        if let StoreError::ValueTooLarge { bytes, .. } = error {
            // Each control character takes six bytes.
            return Self::TooLarge(format!("encoded, they have {} KiB", bytes.div_ceil(1024)));
        }
        Self::Failed(error.into())
    }
}

/// Where the values of a version come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretsSource {
    /// All of them are those of a file.
    #[default]
    File,
    /// Some were set, and the others stay.
    Set,
}

impl SecretsSource {
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

impl StoredDocument for VersionRecord {
    const KIND: &'static str = "secrets";
}

/// What anybody who may read the environment is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub version: u64,
    pub at: Timestamp,
    pub by: OperatorName,
    /// Name to fingerprint.
    pub fingerprints: BTreeMap<String, String>,
}

/// How the newest version and a set of values differ, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    pub version: u64,
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// What others have changed, and the values would undo.
    pub undone: Vec<UndoneChange>,
}

/// A change of a value that would be undone unasked: by a file that is older than the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneChange {
    pub name: String,
    pub by: OperatorName,
    pub at: Timestamp,
}

/// What was encrypted, and with which nonce.
struct Sealed {
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

pub struct Vault {
    store: Arc<dyn Store>,
    key: VaultKey,
    fingerprints: FingerprintKey,
}

type Values = BTreeMap<String, Secret>;

impl Vault {
    /// Opens the vault with the key in `file`, which is made when it is not there.
    ///
    /// # Errors
    /// When the file is damaged, or can be read by others.
    pub fn open(store: Arc<dyn Store>, file: &Path) -> anyhow::Result<Self> {
        let key = match KeyFile::read(file)? {
            Some(KeyFile::One(key)) => key,
            Some(KeyFile::Changing { .. }) => bail!(
                "the change of the key in {} was interrupted: finish it with `lockstep-coordinator rekey`",
                file.display()
            ),
            None => {
                let key = random_key()?;
                KeyFile::One(key).write(file)?;
                key
            }
        };
        Ok(Self::with_key(store, key))
    }

    fn with_key(store: Arc<dyn Store>, key: VaultKey) -> Self {
        Self { store, fingerprints: FingerprintKey::derive(&key), key }
    }

    /// The key as in its file, for a coordinator that joins.
    pub fn key(&self) -> Secret {
        Secret::new(HEXLOWER.encode(&self.key))
    }

    /// The values of one version.
    ///
    /// # Errors
    /// When it is not there, or was not encrypted with this key for this environment.
    pub async fn values(&self, environment: &EnvironmentKey, version: u64) -> anyhow::Result<Values> {
        let key = keys::secrets_version(environment, version);
        let stored = self
            .store
            .get(key.key())
            .await?
            .with_context(|| format!("{environment} has no version {version} of its secrets"))?;
        self.decrypt(environment, &stored.read()?)
    }

    /// Makes `values` the newest version, if that changes anything; says which version is the newest.
    ///
    /// # Errors
    /// When they are too large, the store does not answer, or another import came between.
    pub async fn import(
        &self,
        environment: &EnvironmentKey,
        values: Values,
        source: SecretsSource,
        by: (OperatorName, Timestamp),
    ) -> Result<u64, ImportError> {
        let newest = self.newest(environment).await?;
        let before = match &newest {
            Some(stored) => self.decrypt(environment, &stored.read()?)?,
            None => Values::new(),
        };
        let mut wanted = match source {
            SecretsSource::File => Values::new(),
            SecretsSource::Set => before.clone(),
        };
        wanted.extend(values);
        if let Some(why) = too_large(&wanted) {
            return Err(ImportError::TooLarge(why));
        }
        let version = newest.as_ref().map(version_of).transpose()?.unwrap_or(0);
        if newest.is_some() && wanted == before {
            return Ok(version);
        }
        let record = VersionRecord { source, ..self.encrypt(environment, version + 1, &wanted, by)? };
        let key = keys::secrets_version(environment, version + 1);
        match self.store.commit(vec![Guard::absent(&key)], vec![Write::put(key, &record)]).await? {
            Committed::Yes { .. } => Ok(version + 1),
            Committed::No => Err(ImportError::AtTheSameTime),
        }
    }

    /// Names and fingerprints of the newest version.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<Listing>> {
        let Some(stored) = self.newest(environment).await? else { return Ok(None) };
        let record: VersionRecord = stored.read()?;
        let values = self.decrypt(environment, &record)?;
        let fingerprints = values
            .iter()
            .map(|(name, value)| (name.clone(), self.fingerprints.fingerprint(environment, name, value)))
            .collect();
        Ok(Some(Listing { version: record.version, at: record.at, by: record.by, fingerprints }))
    }

    /// How `values`, of a file of `asker`, differ from the newest version.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn diff(
        &self,
        environment: &EnvironmentKey,
        values: &Values,
        asker: &OperatorName,
    ) -> anyhow::Result<Difference> {
        let read = |stored: &Stored| {
            let record: VersionRecord = stored.read()?;
            let values = self.decrypt(environment, &record)?;
            anyhow::Ok((record, values))
        };
        let mut earlier = self.store.last(&keys::secrets(environment), VERSIONS_COMPARED_MAX).await?;
        earlier.reverse();
        let Some(newest) = earlier.pop() else {
            return Ok(Difference { added: values.keys().cloned().collect(), ..Difference::default() });
        };
        let (record, there) = read(&newest)?;
        let SecretsChange { added, changed, removed } = changes::between(&there, values);
        let mut difference =
            Difference { version: record.version, added, changed, removed, undone: Vec::new() };
        if !difference.changed.is_empty() || !difference.removed.is_empty() {
            let mut versions: Vec<_> = earlier.iter().map(read).collect::<anyhow::Result<_>>()?;
            versions.push((record, there));
            let names = difference.changed.iter().chain(&difference.removed);
            let undone = names.filter_map(|name| undone_change(&versions, name, values.get(name), asker));
            difference.undone = undone.collect();
        }
        Ok(difference)
    }

    /// The names whose values may be shown, as declared; none when the declaration cannot be read,
    /// because too much is hidden then, and not too little.
    pub async fn public(&self, environment: &EnvironmentKey) -> BTreeSet<String> {
        match environments::spec(&*self.store, environment).await {
            Ok(Some(spec)) => spec.content.public.into_iter().collect(),
            Ok(None) | Err(_) => BTreeSet::new(),
        }
    }

    async fn newest(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<Stored>> {
        Ok(self.store.last(&keys::secrets(environment), 1).await?.pop())
    }

    fn encrypt(
        &self,
        environment: &EnvironmentKey,
        version: u64,
        values: &Values,
        (by, at): (OperatorName, Timestamp),
    ) -> anyhow::Result<VersionRecord> {
        let plain: BTreeMap<&str, &str> =
            values.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        let plain = serde_json::to_vec(&plain).context("cannot serialize the values")?;
        let Sealed { nonce, ciphertext } = self.seal(&bound_to(environment, version), &plain)?;
        let names = values.keys().cloned().collect();
        Ok(VersionRecord { version, at, by, source: SecretsSource::File, names, nonce, ciphertext })
    }

    fn decrypt(&self, environment: &EnvironmentKey, record: &VersionRecord) -> anyhow::Result<Values> {
        let bound = bound_to(environment, record.version);
        let plain = self.unseal(&bound, &record.nonce, &record.ciphertext).with_context(|| {
            format!("cannot read version {} of the secrets of {environment}", record.version)
        })?;
        let values: BTreeMap<String, String> = serde_json::from_slice(&plain)
            .map_err(|_| anyhow::anyhow!("the secrets of {environment} are damaged"))?;
        Ok(values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// Encrypts `plain` so that it is good for `bound` only.
    fn seal(&self, bound: &str, plain: &[u8]) -> anyhow::Result<Sealed> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).context("the system provides no random numbers")?;
        let ciphertext = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: bound.as_bytes() })
            .map_err(|_| anyhow::anyhow!("cannot encrypt the values"))?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    fn unseal(&self, bound: &str, nonce: &[u8], ciphertext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().context("its nonce is damaged")?;
        self.cipher()
            .decrypt(&Nonce::from(nonce), Payload { msg: ciphertext, aad: bound.as_bytes() })
            .map_err(|_| {
                anyhow::anyhow!(
                    "it was not encrypted with this coordinator's key; where that was changed on another coordinator, \
                     copy its secrets.key"
                )
            })
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.key))
    }
}

#[async_trait]
impl Secrets for Vault {
    async fn summary(&self, environment: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>> {
        let Some(stored) = self.newest(environment).await? else { return Ok(None) };
        let record: VersionRecord = stored.read()?;
        Ok(Some(SecretsSummary { version: record.version, names: record.names }))
    }

    async fn newer_than(
        &self,
        environment: &EnvironmentKey,
        deployed: Option<u64>,
    ) -> Result<Option<SecretsSet>, StoreError> {
        self.newest_after(environment, deployed).await
    }

    async fn changes(
        &self,
        environment: &EnvironmentKey,
        from: Option<u64>,
        to: Option<u64>,
    ) -> anyhow::Result<SecretsChange> {
        let (before, after) =
            (self.values_or_none(environment, from).await?, self.values_or_none(environment, to).await?);
        Ok(changes::between(&before, &after))
    }

    async fn redactor(&self, environment: &EnvironmentKey, version: Option<u64>) -> anyhow::Result<Redactor> {
        match version {
            None => Ok(Redactor::none()),
            Some(version) => {
                let values = self.values(environment, version).await?;
                let public = self.public(environment).await;
                // Drivers and calls share the few threads that wait.
                Ok(tokio::task::spawn_blocking(move || Redactor::new(&values, &public)).await?)
            }
        }
    }
}

/// The change of `name` that a file with `wanted` would undo. `versions` are all, the newest last.
///
/// A file knows nothing of a value that was set without it. And where another operator changed it with a file of theirs,
/// a file without it, or with a value from before, is older than theirs.
fn undone_change(
    versions: &[(VersionRecord, Values)],
    name: &str,
    wanted: Option<&Secret>,
    asker: &OperatorName,
) -> Option<UndoneChange> {
    let current = versions.last()?.1.get(name);
    let since = versions.iter().rposition(|(_, values)| values.get(name) != current).map_or(0, |at| at + 1);
    let change = &versions[since].0;
    let is_older = wanted
        .is_none_or(|wanted| versions[..since].iter().any(|(_, values)| values.get(name) == Some(wanted)));
    let is_undone = change.source == SecretsSource::Set || (change.by != *asker && is_older);
    is_undone.then(|| UndoneChange { name: name.to_owned(), by: change.by.clone(), at: change.at })
}

fn version_of(stored: &Stored) -> anyhow::Result<u64> {
    Ok(stored.read::<VersionRecord>()?.version)
}

fn bound_to(environment: &EnvironmentKey, version: u64) -> String {
    format!("lockstep secrets {environment} {version}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::store::sqlite::SqliteStore;

    pub(super) fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect()
    }

    pub(super) async fn vault(directory: &Path) -> Vault {
        let store = SqliteStore::open(directory, Arc::new(SystemClock)).await.unwrap();
        Vault::open(Arc::new(store), &directory.join("secrets.key")).unwrap()
    }

    pub(super) fn anna() -> (OperatorName, Timestamp) {
        ("anna".parse().unwrap(), Timestamp(1))
    }

    #[tokio::test]
    async fn the_largest_secrets_are_stored_and_larger_ones_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let key: EnvironmentKey = "notes/production".parse().unwrap();
        let line = "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n";
        let bundle = line.repeat(64 * 1024 / line.len() - 1);
        let most = [("A", &bundle), ("B", &bundle), ("C", &bundle), ("D", &bundle)]
            .map(|(name, value)| (name.to_owned(), Secret::new(value.clone())));
        let most = Values::from(most);
        assert_eq!(vault.import(&key, most.clone(), SecretsSource::File, anna()).await.unwrap(), 1);
        assert_eq!(vault.values(&key, 1).await.unwrap(), most);
        let with_another = values(&[("E", &bundle)]);
        let refused = vault.import(&key, with_another, SecretsSource::Set, anna()).await.unwrap_err();
        assert!(
            matches!(&refused, ImportError::TooLarge(why) if why.contains("at most 256 KiB")),
            "{refused}"
        );
        let control = values(&[("A", &"\u{1}".repeat(64 * 1024 - 1)), ("B", &"\u{1}".repeat(64 * 1024 - 1))]);
        let refused = vault.import(&key, control, SecretsSource::File, anna()).await.unwrap_err();
        assert!(matches!(&refused, ImportError::TooLarge(why) if why.contains("encoded")), "{refused}");
    }

    #[tokio::test]
    async fn a_version_is_made_only_when_something_changes() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let key: EnvironmentKey = "notes/production".parse().unwrap();
        let first = values(&[("A", "canary-one"), ("B", "two")]);
        assert_eq!(vault.import(&key, first.clone(), SecretsSource::File, anna()).await.unwrap(), 1);
        assert_eq!(vault.import(&key, first.clone(), SecretsSource::File, anna()).await.unwrap(), 1);
        let third = values(&[("B", "three")]);
        assert_eq!(vault.import(&key, third, SecretsSource::Set, anna()).await.unwrap(), 2);
        assert_eq!(vault.values(&key, 1).await.unwrap(), first);
        assert_eq!(vault.values(&key, 2).await.unwrap(), values(&[("A", "canary-one"), ("B", "three")]));
        let difference = vault.diff(&key, &values(&[("B", "four"), ("C", "new")]), &anna().0).await.unwrap();
        assert_eq!(
            (difference.added, difference.changed, difference.removed),
            (vec!["C".into()], vec!["B".into()], vec!["A".into()])
        );
    }

    #[tokio::test]
    async fn a_file_undoes_only_what_it_knows_of() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let key: EnvironmentKey = "notes/production".parse().unwrap();
        let berta: OperatorName = "berta".parse().unwrap();
        let file = |token: &str| values(&[("TOKEN", token), ("OTHER", "one")]);
        let undone = async |values: &Values, asker: &OperatorName| -> Vec<String> {
            let undone = vault.diff(&key, values, asker).await.unwrap().undone;
            undone.into_iter().map(|change| format!("{} by {}", change.name, change.by)).collect()
        };
        vault.import(&key, file("first"), SecretsSource::File, anna()).await.unwrap();
        vault.import(&key, file("second"), SecretsSource::File, anna()).await.unwrap();
        assert_eq!(undone(&file("first"), &anna().0).await, [""; 0], "it is anna's file");
        assert_eq!(undone(&values(&[("OTHER", "one")]), &anna().0).await, [""; 0]);
        assert_eq!(undone(&file("third"), &berta).await, [""; 0], "it is new");
        assert_eq!(undone(&file("first"), &berta).await, ["TOKEN by anna"], "berta's file is older");
        assert_eq!(undone(&values(&[("OTHER", "one")]), &berta).await, ["TOKEN by anna"]);
        vault.import(&key, values(&[("ADDED", "set")]), SecretsSource::Set, anna()).await.unwrap();
        assert_eq!(undone(&file("second"), &anna().0).await, ["ADDED by anna"], "the file has it not");
        assert_eq!(
            undone(&file("first"), &anna().0).await,
            ["ADDED by anna"],
            "TOKEN is still that of her file"
        );
        let with_added = [file("second"), values(&[("ADDED", "set")])].into_iter().flatten().collect();
        assert_eq!(undone(&with_added, &anna().0).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_store_has_no_value_and_a_ciphertext_cannot_be_moved() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let production: EnvironmentKey = "notes/production".parse().unwrap();
        let staging: EnvironmentKey = "notes/staging".parse().unwrap();
        vault.import(&production, values(&[("A", "canary-one")]), SecretsSource::File, anna()).await.unwrap();
        let stored = vault.store.get(keys::secrets_version(&production, 1).key()).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&stored.value).contains("canary"));
        let moved = keys::secrets_version(&staging, 1);
        let write = Write::put_bytes(moved.clone(), stored.value.clone());
        vault.store.commit(vec![Guard::absent(&moved)], vec![write]).await.unwrap();
        assert!(vault.values(&staging, 1).await.is_err());
    }
}
