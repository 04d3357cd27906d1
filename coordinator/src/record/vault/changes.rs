//! How versions of the secrets differ, and whether one is newer than what was deployed.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::view::environment::SecretsSet;

use super::{Values, Vault, VersionRecord};
use crate::ports::secrets::SecretsChange;
use crate::store::{StoreError, Stored, keys};

/// By name, what differs between two sets of values.
pub(super) fn between(before: &Values, after: &Values) -> SecretsChange {
    let mut change = SecretsChange::default();
    for (name, value) in after {
        match before.get(name) {
            None => change.added.push(name.clone()),
            Some(before) if before != value => change.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    change.removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    change
}

impl Vault {
    pub(super) async fn newest_after(
        &self,
        environment: &EnvironmentKey,
        deployed: Option<u64>,
    ) -> Result<Option<SecretsSet>, StoreError> {
        // Versions follow each other without a gap, and a version can have 256 KiB. Where nothing is newer, which is
        // usual, nothing is read.
        let next = keys::secrets_version(environment, deployed.unwrap_or(0) + 1);
        if self.store.get(next.key()).await?.is_none() {
            return Ok(None);
        }
        let newest = self.store.last(&keys::secrets(environment), 1).await?.pop();
        let record = newest.as_ref().map(Stored::read::<VersionRecord>).transpose()?;
        Ok(record.map(|VersionRecord { version, by, at, .. }| SecretsSet { version, by, at }))
    }

    /// The values of this version; no version has none.
    pub(super) async fn values_or_none(
        &self,
        environment: &EnvironmentKey,
        version: Option<u64>,
    ) -> anyhow::Result<Values> {
        match version {
            None => Ok(Values::new()),
            Some(version) => self.values(environment, version).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SecretsSource;
    use super::super::tests::{anna, values, vault};
    use super::*;
    use crate::ports::secrets::Secrets;

    #[tokio::test]
    async fn only_a_version_after_the_deployed_one_is_newer() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let key: EnvironmentKey = "notes/production".parse().unwrap();
        assert_eq!(vault.newer_than(&key, None).await.unwrap(), None);
        for value in ["one", "two", "three"] {
            vault.import(&key, values(&[("A", value)]), SecretsSource::Set, anna()).await.unwrap();
        }
        let (by, at) = anna();
        let third = Some(SecretsSet { version: 3, by, at });
        assert_eq!(vault.newer_than(&key, None).await.unwrap(), third);
        assert_eq!(vault.newer_than(&key, Some(1)).await.unwrap(), third, "the newest, not the next");
        assert_eq!(vault.newer_than(&key, Some(2)).await.unwrap(), third);
        assert_eq!(vault.newer_than(&key, Some(3)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn versions_differ_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path()).await;
        let key: EnvironmentKey = "notes/production".parse().unwrap();
        for all in
            [&[("A", "one"), ("B", "two"), ("C", "three")], &[("B", "two"), ("C", "four"), ("D", "five")]]
        {
            vault.import(&key, values(all), SecretsSource::File, anna()).await.unwrap();
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            vault.changes(&key, Some(1), Some(2)).await.unwrap(),
            SecretsChange { added: names(&["D"]), changed: names(&["C"]), removed: names(&["A"]) }
        );
        assert_eq!(
            vault.changes(&key, None, Some(1)).await.unwrap(),
            SecretsChange { added: names(&["A", "B", "C"]), ..SecretsChange::default() }
        );
    }
}
