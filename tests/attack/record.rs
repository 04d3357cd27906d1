//! The record of the coordinator as it is stored: what an attack must not have changed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// Where the audit log begins, which a refusal adds to.
const AUDIT: &str = "/lockstep/v1/audit/";

/// Where `host list` finds that another machine has a copy of a host's key.
const SECOND_SESSION: &str = "/second";

pub(crate) struct StoredRecord(SqlitePool);

/// All of it at one moment, by key.
pub(crate) struct Content(BTreeMap<String, Vec<u8>>);

impl StoredRecord {
    /// Of the coordinator with this directory, which runs.
    pub(crate) async fn open(directory: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(directory.join("store.sqlite")).read_only(true);
        Ok(Self(SqlitePool::connect_with(options).await?))
    }

    pub(crate) async fn read(&self) -> Result<Content> {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT key, value FROM kept").fetch_all(&self.0).await?;
        ensure!(
            rows.len() > 50,
            "only {} values are stored: the record is read in the wrong place",
            rows.len()
        );
        Ok(Content(rows.into_iter().collect()))
    }
}

impl Content {
    /// Fails with the keys of what changed since, unless that is how an attack is told of: a line that the audit log gained,
    /// or that a host was refused a second session.
    pub(crate) fn assert_unchanged(&self, after: &Self) -> Result<()> {
        let keys = self.0.keys().chain(after.0.keys());
        let tells = |key: &str| {
            (key.starts_with(AUDIT) && !self.0.contains_key(key)) || key.ends_with(SECOND_SESSION)
        };
        let mut changed: Vec<&str> = keys
            .map(String::as_str)
            .filter(|key| self.0.get(*key) != after.0.get(*key) && !tells(key))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        ensure!(changed.is_empty(), "the attack has changed {changed:?}");
        Ok(())
    }

    /// How many lines the audit log has.
    pub(crate) fn audit_lines(&self) -> usize {
        self.0.keys().filter(|key| key.starts_with(AUDIT)).count()
    }

    /// Whether these bytes stand anywhere in a value.
    pub(crate) fn has_value(&self, text: &str) -> bool {
        let found = |value: &Vec<u8>| value.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        self.0.values().any(found)
    }
}
