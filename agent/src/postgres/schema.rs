//! Reads the schema version from golang-migrate's table, `schema_migrations`.
//!
//! What must stay true: Rails, Ecto and others have a table of that name as well. It is recognised by its columns, and
//! is neither read nor written.

use lockstep_core::release::{Schema, SchemaState};
use lockstep_core::run::journal::StepFailure;
use sqlx::{PgConnection, Row};

/// golang-migrate's columns: <https://github.com/golang-migrate/migrate/blob/master/database/postgres/postgres.go>.
const COLUMNS: [&str; 2] = ["dirty boolean", "version bigint"];

/// golang-migrate keeps one row.
const ROWS_READ: &str = "SELECT version, dirty FROM schema_migrations LIMIT 2";

/// By the catalogue, which whoever may connect can read.
const FIND: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind, \
    ARRAY(SELECT attname || ' ' || format_type(atttypid, NULL) FROM pg_attribute \
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attname) AS columns \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('schema_migrations')";

/// What is there under the name of golang-migrate's table, as statements find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaTable {
    /// Nothing: golang-migrate has applied nothing.
    Absent,
    Ours(Schema),
    /// Another tool's.
    Foreign {
        /// What it is: `public.schema_migrations has the columns version character varying`.
        because: String,
    },
}

impl SchemaTable {
    /// What can be said of a schema; nothing of one that another tool keeps.
    pub fn schema(&self) -> Option<Schema> {
        match self {
            Self::Absent => Some(Schema { version: 0, state: SchemaState::Clean }),
            Self::Ours(schema) => Some(*schema),
            Self::Foreign { .. } => None,
        }
    }
}

/// Looks, without any effect.
///
/// # Errors
/// When the catalogue, or golang-migrate's table, cannot be read.
pub async fn read_table(connection: &mut PgConnection) -> Result<SchemaTable, sqlx::Error> {
    let Some(found) = sqlx::query(FIND).fetch_optional(&mut *connection).await? else {
        return Ok(SchemaTable::Absent);
    };
    let (name, kind): (String, String) = (found.try_get("name")?, found.try_get("kind")?);
    let columns: Vec<String> = found.try_get("columns")?;
    if let Some(because) = foreign_reason(&name, &kind, &columns) {
        return Ok(SchemaTable::Foreign { because });
    }
    let rows = sqlx::query(ROWS_READ).fetch_all(connection).await?;
    match rows.as_slice() {
        [] => Ok(SchemaTable::Ours(Schema { version: 0, state: SchemaState::Clean })),
        [row] => {
            let version: i64 = row.try_get("version")?;
            let dirty: bool = row.try_get("dirty")?;
            let state = if dirty { SchemaState::Dirty } else { SchemaState::Clean };
            // golang-migrate writes -1 for nothing.
            Ok(SchemaTable::Ours(Schema { version: u64::try_from(version).unwrap_or_default(), state }))
        }
        _ => Ok(SchemaTable::Foreign { because: format!("{name} has several rows") }),
    }
}

/// Why it is not golang-migrate's; nothing where it looks like it.
fn foreign_reason(name: &str, kind: &str, columns: &[String]) -> Option<String> {
    match kind {
        "r" | "p" if columns == COLUMNS => None,
        "r" | "p" if columns.is_empty() => Some(format!("{name} has no columns")),
        "r" | "p" => Some(format!("{name} has the columns {}", columns.join(", "))),
        "v" | "m" => Some(format!("{name} is a view")),
        "f" => Some(format!("{name} is a foreign table")),
        _ => Some(format!("{name} is not a table")),
    }
}

/// golang-migrate's migrations are not for a table of another tool.
pub(crate) fn foreign(because: &str) -> StepFailure {
    StepFailure::new("schema_migrations in this database belongs to another tool")
        .why(format!("{because}; that of golang-migrate has {}", COLUMNS.join(", ")))
        .next("remove database.migrations from deployment.yml, or use another database, or another schema in the URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn because(kind: &str, columns: &[&str]) -> Option<String> {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        foreign_reason("public.schema_migrations", kind, &columns)
    }

    #[test]
    fn golang_migrates_own() {
        assert_eq!(because("r", &["dirty boolean", "version bigint"]), None);
    }

    #[test]
    fn of_integers() {
        let because = because("r", &["dirty boolean", "version integer"]).unwrap();
        assert_eq!(because, "public.schema_migrations has the columns dirty boolean, version integer");
    }

    #[test]
    fn of_texts() {
        assert!(because("r", &["dirty text", "version text"]).is_some());
    }

    #[test]
    fn with_more_than_golang_migrate_has() {
        assert!(because("r", &["applied_at timestamp", "dirty boolean", "version bigint"]).is_some());
    }

    #[test]
    fn a_view_that_looks_like_it() {
        let because = because("v", &["dirty boolean", "version bigint"]).unwrap();
        assert_eq!(because, "public.schema_migrations is a view");
    }

    #[test]
    fn a_table_without_columns() {
        assert!(because("r", &[]).is_some());
    }
}
