//! Reads the migrations of an image from the tar archive of its folder, in the format of
//! <https://github.com/golang-migrate/migrate/blob/master/MIGRATIONS.md>: `000001_create_notes.up.sql` and so on.
//!
//! What must stay true: the command line and the agent find the same migrations in the same image.

use std::collections::BTreeMap;
use std::io::Read;

use lockstep_core::release::{MIGRATIONS_MAX, Migration};

/// The migrations by version, with their SQL.
pub struct Files {
    by_version: BTreeMap<u64, (Migration, String)>,
}

impl Files {
    /// Reads an archive; an empty one has no migrations.
    ///
    /// # Errors
    /// When it is damaged, two files have the same version, or there are more than [`MIGRATIONS_MAX`].
    pub fn read(archive: &[u8]) -> Result<Self, String> {
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
            if by_version.len() > MIGRATIONS_MAX {
                return Err(format!("there are more than {MIGRATIONS_MAX} migrations"));
            }
        }
        Ok(Self { by_version })
    }

    /// The migrations, by version.
    pub fn migrations(&self) -> Vec<Migration> {
        self.by_version.values().map(|(migration, _)| migration.clone()).collect()
    }

    /// The SQL of `migration`; `None` if it is not the one of the plan.
    pub fn sql(&self, migration: &Migration) -> Option<&str> {
        let (there, sql) = self.by_version.get(&migration.version)?;
        (there.digest == migration.digest).then_some(sql.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no SQL is no text either.
    fn archive(names: &[&str]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for name in names {
            let content: &[u8] = if name.ends_with(".sql") { b"SELECT 1;" } else { &[0xff; 9] };
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, format!("migrations/{name}"), content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn an_image_brings_what_goes_up_by_version() {
        let files = Files::read(&archive(&["2_b.up.sql", "2_b.down.sql", "logo.png", "1_a.up.sql"])).unwrap();
        let versions: Vec<u64> = files.migrations().iter().map(|migration| migration.version).collect();
        assert_eq!(versions, [1, 2]);
        assert!(Files::read(&[]).unwrap().migrations().is_empty());
    }

    #[test]
    fn more_than_a_message_has_room_for_are_refused() {
        let names: Vec<String> = (0..=MIGRATIONS_MAX).map(|number| format!("{number}_a.up.sql")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(Files::read(&archive(&names[1..])).is_ok());
        let refused = Files::read(&archive(&names)).err().unwrap();
        assert_eq!(refused, "there are more than 5000 migrations");
    }

    #[test]
    fn two_of_one_version_are_refused() {
        let refused = Files::read(&archive(&["1_a.up.sql", "1_b.up.sql"])).err().unwrap();
        assert!(refused.contains("the same version"), "{refused}");
    }
}
