//! Migrations in golang-migrate's layout and table, each exactly once.
//!
//! The SQL of a migration and the row that says so are one transaction, so that a crash leaves either
//! both or neither. What cannot run in a transaction is marked dirty first, as golang-migrate does.

use lockstep_core::id::Digest;
use lockstep_core::plan::action::Migrate;
use lockstep_core::release::{Migration, Schema, SchemaState};
use lockstep_core::run::journal::{Finding, Migrated, StepFailure};
use lockstep_runtime::migrations::Files;

use super::{Executors, Work, database_failed, deploy_again, docker_failed, finding};
use crate::postgres::schema::{self, SchemaTable};
use crate::postgres::{self, PgConnection};

/// The line with which a migration declares that it cannot run in a transaction.
const NO_TRANSACTION: &str = "-- lockstep:no-transaction";

/// A migration gives up waiting for a lock after this time: queries that queue behind it would block.
const SETTINGS: &str = "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'; \
    SET client_connection_check_interval = '1s';";

/// golang-migrate's table. It is created only if the search path has no table of this name.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)";

impl Executors {
    pub(super) async fn migrate(&self, work: &Work, migrate: &Migrate) -> Result<Finding, StepFailure> {
        let files = self.migration_files(&migrate.image_id, &migrate.path).await?;
        let mut connection = work.database(&migrate.database)?.connect(&work.key.to_string()).await?;
        let prepared = async {
            postgres::end_predecessors(&mut connection).await?;
            postgres::run(&mut connection, SETTINGS.to_owned()).await?;
            let table = schema::read_table(&mut connection).await?;
            if table == SchemaTable::Absent {
                postgres::run(&mut connection, TABLE.to_owned()).await?;
            }
            Ok(table)
        };
        let table = prepared
            .await
            .map_err(|error| database_failed("cannot prepare the database for migrations", &error))?;
        let schema = match &table {
            SchemaTable::Absent => Schema { version: 0, state: SchemaState::Clean },
            SchemaTable::Ours(schema) => *schema,
            SchemaTable::Foreign { because } => return Err(schema::foreign(because)),
        };
        if schema.state == SchemaState::Dirty {
            return Err(dirty(schema.version));
        }
        let to = migrate.migrations.last().map_or(migrate.from, |migration| migration.version);
        if schema.version < migrate.from || schema.version > to {
            return Err(StepFailure::new(format!(
                "the schema is at version {}, and the plan expects {} to {to}",
                schema.version, migrate.from
            ))
            .why("it was migrated after the plan was made")
            .next(deploy_again(&work.environment)));
        }
        for migration in migrate.migrations.iter().filter(|migration| migration.version > schema.version) {
            work.refuse_cancelled()?;
            let sql = files.sql(migration).ok_or_else(|| {
                StepFailure::new(format!(
                    "migration {} {} in the image is not the one of the plan",
                    migration.version, migration.name
                ))
                .next(deploy_again(&work.environment))
            })?;
            work.output.line(&format!("{} {}", migration.version, migration.name));
            apply(&mut connection, migration, sql).await?;
        }
        let applied: Vec<u64> = migrate.migrations.iter().map(|migration| migration.version).collect();
        let mut finding = finding(format!("schema {} to {to}", migrate.from));
        finding.migrated = Some(Migrated { applied, schema_version: to });
        Ok(finding)
    }

    pub(super) async fn migration_files(&self, image: &Digest, path: &str) -> Result<Files, StepFailure> {
        let archive = self.docker.folder(image, path).await.map_err(docker_failed)?;
        Files::read(archive.as_deref().unwrap_or_default()).map_err(|why| {
            StepFailure::new(format!("cannot read the migrations in {path} of the image")).why(why)
        })
    }
}

async fn apply(connection: &mut PgConnection, migration: &Migration, sql: &str) -> Result<(), StepFailure> {
    let version = migration.version;
    let row = |state: &str| {
        format!("DELETE FROM schema_migrations; INSERT INTO schema_migrations VALUES ({version}, {state});")
    };
    if runs_in_a_transaction(sql) {
        let whole = format!("BEGIN;\n{sql}\n;{}\nCOMMIT;", row("false"));
        return match postgres::run(connection, whole).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // The connection goes with the step; a failed transaction ends with it.
                Err(database_failed(&format!("migration {version} {} failed", migration.name), &error)
                    .next("it was rolled back: fix the migration, then deploy again"))
            }
        };
    }
    let marked = postgres::run(connection, row("true")).await;
    marked.map_err(|error| database_failed("cannot write to schema_migrations", &error))?;
    postgres::run(connection, sql.to_owned()).await.map_err(|error| {
        let mut failure = dirty(version);
        failure.what = format!("migration {version} {} failed outside of a transaction", migration.name);
        failure.why = Some(
            error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()),
        );
        failure
    })?;
    postgres::run(connection, row("false"))
        .await
        .map_err(|error| database_failed("cannot write to schema_migrations", &error))
}

/// Whether the SQL can run in a transaction: it must not declare otherwise, have a transaction of its own, or create an
/// index concurrently.
fn runs_in_a_transaction(sql: &str) -> bool {
    let upper = sql.to_uppercase();
    let has_own = upper.lines().any(|line| {
        let line = line.trim().trim_end_matches(';').trim();
        matches!(line, "BEGIN" | "COMMIT" | "BEGIN TRANSACTION" | "START TRANSACTION")
    });
    !sql.contains(NO_TRANSACTION) && !upper.contains("CONCURRENTLY") && !has_own
}

/// The failure of a dirty schema, with how to fix it.
pub(super) fn dirty(version: u64) -> StepFailure {
    StepFailure::new(format!("the schema is dirty at version {version}"))
        .why(format!("migration {version} started and did not finish; part of it may be applied"))
        .next(format!(
            "complete or revert it by hand, then: UPDATE schema_migrations SET version = N, dirty = false; \
             N is {version} if the migration is complete, and the version before it if it is reverted"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_wrapped_is_not() {
        assert!(runs_in_a_transaction("CREATE TABLE notes (id bigint);"));
        for sql in [
            "CREATE INDEX CONCURRENTLY i ON notes (id);",
            "-- lockstep:no-transaction\nVACUUM notes;",
            "BEGIN;\nCREATE TABLE notes (id bigint);\nCOMMIT;",
        ] {
            assert!(!runs_in_a_transaction(sql), "{sql}");
        }
    }
}
