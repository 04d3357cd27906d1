//! A release: it is built once and promoted unchanged.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// The migrations of a release. Their list is part of plans and messages.
pub const MIGRATIONS_MAX: usize = 5000;

/// An immutable version of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// As the operator named it: `notes:2`, for people.
    pub image: String,
    /// What runs: the image's id, which is the digest of its configuration.
    pub image_id: Digest,
    /// Its manifest in a registry; `None` if it came from none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The commit's 40 hexadecimal digits, from the image's label or the command line.
    pub commit: Option<String>,
    /// In ascending order of version; empty when the image has none.
    pub migrations: Vec<Migration>,
}

/// One migration of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    pub version: u64,
    pub name: String,
    /// Of the `up` file's bytes.
    pub digest: Digest,
    pub compatibility: Compatibility,
}

/// Whether releases from before a migration still run after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// It only adds: the release before it runs on.
    Expands,
    /// It takes something away, as its line `-- lockstep:contract` says.
    Contracts,
}

/// A database's schema as golang-migrate's table `schema_migrations` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// 0 if no migration was ever applied.
    pub version: u64,
    pub state: SchemaState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaState {
    Clean,
    /// A migration to this version began and did not end.
    Dirty,
}

/// Why a schema is dirty at `version`.
pub fn dirty_because(version: u64) -> String {
    format!("migration {version} began and did not finish, so it may be applied in part")
}

/// How an operator repairs a schema that is dirty at `version`.
pub fn dirty_repair(version: u64) -> String {
    format!(
        "complete or revert it by hand, then: UPDATE schema_migrations SET version = N, dirty = false; \
         N is {version} if the migration is complete, and the version before it if it is reverted"
    )
}

/// The line by which a migration says that releases before it cannot run after it.
const CONTRACT: &str = "-- lockstep:contract";

impl Migration {
    /// What a file of this name and content is, by golang-migrate's names: `000002_add_author.up.sql`. Nothing for
    /// what is no way up.
    pub fn of_file(name: &str, sql: &str) -> Option<Self> {
        let (version, title) = name.strip_suffix(".up.sql")?.split_once('_')?;
        Some(Self {
            version: version.parse().ok()?,
            name: title.to_string(),
            digest: Digest::of_content(sql.as_bytes()),
            compatibility: Compatibility::in_sql(sql),
        })
    }
}

impl Compatibility {
    fn in_sql(sql: &str) -> Self {
        if sql.lines().any(|line| line.trim() == CONTRACT) { Self::Contracts } else { Self::Expands }
    }
}

impl Release {
    /// Seven hexadecimal digits: the commit's, else the image's (T2).
    pub fn version(&self) -> String {
        match &self.commit {
            Some(commit) if commit.len() >= 7 => commit[..7].to_string(),
            Some(_) | None => self.image_id.short().to_string(),
        }
    }

    /// The schema version that the release brings; 0 without migrations.
    pub fn schema_version(&self) -> u64 {
        self.migrations.last().map_or(0, |migration| migration.version)
    }

    /// The digest of all migrations together; `None` if there are none.
    pub fn migrations_digest(&self) -> Option<Digest> {
        if self.migrations.is_empty() {
            return None;
        }
        let mut all = String::new();
        for migration in &self.migrations {
            all.push_str(migration.digest.as_str());
            all.push('\n');
        }
        Some(Digest::of_content(all.as_bytes()))
    }

    /// The migrations that a database at `version` still needs.
    pub fn pending(&self, version: u64) -> impl Iterator<Item = &Migration> {
        self.migrations.iter().filter(move |migration| migration.version > version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_up_is_a_migration() {
        let read = |name| Migration::of_file(name, "").map(|migration| (migration.version, migration.name));
        assert_eq!(read("000002_add_author.up.sql"), Some((2, "add_author".to_string())));
        for other in ["000002_add_author.down.sql", "README.md", "add_author.up.sql", "2.up.sql"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn only_its_own_line_makes_a_migration_one_that_takes_away() {
        let contracts = Compatibility::in_sql("-- lockstep:contract\nALTER TABLE notes DROP title;");
        assert_eq!(contracts, Compatibility::Contracts);
        assert_eq!(Compatibility::in_sql("-- not a lockstep:contract\nSELECT 1;"), Compatibility::Expands);
    }
}
