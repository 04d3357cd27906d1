//! The migrations of an image, from the tar archive of its folder: `000001_create_notes.up.sql` and so
//! on, as <https://github.com/golang-migrate/migrate/blob/master/MIGRATIONS.md> has them.

use std::collections::BTreeMap;
use std::io::Read;

use lockstep_core::release::Migration;

/// Files by version, with what they say.
pub(in crate::executor) struct Files {
    by_version: BTreeMap<u64, (Migration, String)>,
}

impl Files {
    /// Reads an archive; an empty one has no migrations.
    pub(in crate::executor) fn read(archive: &[u8]) -> Result<Self, String> {
        let mut by_version = BTreeMap::new();
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| error.to_string())?;
            let path = entry.path().map_err(|error| error.to_string())?.into_owned();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.ends_with(".up.sql") {
                continue;
            }
            let mut sql = String::new();
            entry.read_to_string(&mut sql).map_err(|error| format!("{name}: {error}"))?;
            let Some(migration) = Migration::of_file(&name, &sql) else { continue };
            let version = migration.version;
            if let Some((before, _)) = by_version.insert(version, (migration, sql)) {
                return Err(format!("{name} and {}_{} have the same version", before.version, before.name));
            }
        }
        Ok(Self { by_version })
    }

    pub(in crate::executor) fn migrations(&self) -> Vec<Migration> {
        self.by_version.values().map(|(migration, _)| migration.clone()).collect()
    }

    /// The text of `migration`, if it is the one that the plan was made from.
    pub(in crate::executor) fn sql(&self, migration: &Migration) -> Option<&str> {
        let (there, sql) = self.by_version.get(&migration.version)?;
        (there.digest == migration.digest).then_some(sql.as_str())
    }
}
