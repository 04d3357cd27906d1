//! Migrations in golang-migrate's layout and table, each exactly once.
//!
//! The SQL of a migration and the row that says so are one transaction, so that a crash leaves either
//! both or neither. What cannot run in a transaction is marked dirty first, as golang-migrate does.

use lockstep_core::id::Digest;
use lockstep_core::plan::action::Migrate;
use lockstep_core::release::{Migration, Schema, SchemaState, dirty_because, dirty_repair};
use lockstep_core::run::journal::{Certainty, Finding, Migrated, StepFailure};
use lockstep_runtime::migrations::Files;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::{Executors, Work, database_failed, deploy_again, docker_failed, finding};
use crate::postgres::schema::{self, SchemaTable};
use crate::postgres::{self, PgConnection, PostgresError};

/// The line with which a migration declares that it cannot run in a transaction.
const NO_TRANSACTION: &str = "-- lockstep:no-transaction";

/// A migration gives up waiting for a lock after this time: queries that queue behind it would block.
const SETTINGS: &str = "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'; \
    SET client_connection_check_interval = '1s';";

/// `in_failed_sql_transaction`: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const IN_FAILED_TRANSACTION: &str = "25P02";

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
        let pending = migrate.migrations.iter().filter(|migration| migration.version > schema.version);
        for migration in pending.clone() {
            work.refuse_cancelled()?;
            let sql = files.sql(migration).ok_or_else(|| {
                StepFailure::new(format!(
                    "migration {} {} in the image is not the one of the plan",
                    migration.version, migration.name
                ))
                .next(deploy_again(&work.environment))
            })?;
            work.output.line(&format!("{} {}", migration.version, migration.name));
            if let Err(failure) = apply(&mut connection, migration, sql).await {
                return Err(self.with_schema(work, migrate, schema.version, failure).await);
            }
        }
        let applied: Vec<u64> = pending.map(|migration| migration.version).collect();
        let mut finding = finding(format!("schema {} to {to}", migrate.from));
        finding.migrated = Some(Migrated { applied, schema_version: to });
        Ok(finding)
    }

    /// A failure with what the database says of its schema now.
    async fn with_schema(
        &self,
        work: &Work,
        migrate: &Migrate,
        before: u64,
        failure: StepFailure,
    ) -> StepFailure {
        let seen = async {
            let mut connection =
                work.database(&migrate.database).ok()?.connect(&work.key.to_string()).await.ok()?;
            schema::read_table(&mut connection).await.ok()?.schema()
        };
        let migrated = seen.await.map(|Schema { version, state }| {
            let is_applied =
                |of: &u64| before < *of && (*of < version || (*of == version && state == SchemaState::Clean));
            let versions = migrate.migrations.iter().map(|migration| migration.version);
            Migrated { applied: versions.filter(is_applied).collect(), schema_version: version }
        });
        StepFailure { migrated, ..failure }
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
        return in_a_transaction(connection, migration, sql, row).await;
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

async fn in_a_transaction(
    connection: &mut PgConnection,
    migration: &Migration,
    sql: &str,
    row: impl Fn(&str) -> String,
) -> Result<(), StepFailure> {
    let what = format!("migration {} {} failed", migration.version, migration.name);
    let rolled_back = |error: &PostgresError| {
        database_failed(&what, error).next("it was rolled back: fix the migration, then deploy again")
    };
    let begun = postgres::run(connection, "BEGIN".to_owned()).await;
    begun.map_err(|error| database_failed("cannot begin a transaction", &error))?;
    let Err(error) = postgres::run(connection, format!("{sql}\n;{}", row("false"))).await else {
        return match postgres::run(connection, "COMMIT".to_owned()).await {
            Err(error) if error.as_database_error().is_some() => Err(rolled_back(&error)),
            Err(error) => Err(connection_lost(migration, &error)),
            Ok(()) => Ok(()),
        };
    };
    match postgres::run(connection, "SELECT 1".to_owned()).await {
        // A transaction that failed takes no statement but its end. It ends with the connection, which goes with the step.
        Err(refused) if code(&refused).as_deref() == Some(IN_FAILED_TRANSACTION) => Err(rolled_back(&error)),
        Err(_) => Err(connection_lost(migration, &error)),
        Ok(()) => {
            let marked = postgres::run(connection, row("true")).await;
            let failure = database_failed(&what, &error);
            let why = format!(
                "{}; its own statements had ended its transaction, so part of it may be applied{}",
                failure.why.as_deref().unwrap_or_default(),
                if marked.is_err() { ", and schema_migrations could not be marked" } else { "" }
            );
            Err(failure.why(why).next(dirty_repair(migration.version)))
        }
    }
}

fn connection_lost(Migration { version, name, .. }: &Migration, error: &PostgresError) -> StepFailure {
    let what = format!("the connection to the database was lost during migration {version} {name}");
    let failure = database_failed(&what, error)
        .next("once the database answers, deploy again: what is applied is not applied again");
    StepFailure { certainty: Certainty::Unknown, ..failure }
}

fn code(error: &PostgresError) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the SQL can run in a transaction: it must not declare otherwise, have a transaction of its own, or do something
/// concurrently. Words in comments, texts and the bodies of functions do not count.
fn runs_in_a_transaction(sql: &str) -> bool {
    if sql.contains(NO_TRANSACTION) {
        return false;
    }
    // PostgreSQL does not understand it either, and says so best while nothing is applied.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return true };
    let mut begins_statement = true;
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        let keyword = if let Token::Word(word) = token { word.keyword } else { Keyword::NoKeyword };
        let begins_or_ends = matches!(keyword, Keyword::BEGIN | Keyword::START | Keyword::COMMIT);
        if keyword == Keyword::CONCURRENTLY || (begins_statement && begins_or_ends) {
            return false;
        }
        begins_statement = *token == Token::SemiColon;
    }
    true
}

/// The failure of a dirty schema, with how to fix it.
pub(super) fn dirty(version: u64) -> StepFailure {
    StepFailure::new(format!("the schema is dirty at version {version}"))
        .why(dirty_because(version))
        .next(dirty_repair(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_wrapped_is_not() {
        for sql in [
            "CREATE INDEX CONCURRENTLY i ON notes (id);",
            "CREATE TABLE notes (id bigint); create index concurrently i on notes (id)",
            "-- lockstep:no-transaction\nVACUUM notes;",
            "BEGIN;\nCREATE TABLE notes (id bigint);\nCOMMIT;",
            "/* first */ begin transaction; CREATE TABLE notes (id bigint); end;",
            "CREATE TABLE notes (id bigint); START TRANSACTION; DROP TABLE notes;",
        ] {
            assert!(!runs_in_a_transaction(sql), "{sql}");
        }
    }

    #[test]
    fn a_word_that_is_no_statement_does_not_count() {
        for sql in [
            "CREATE TABLE notes (id bigint);",
            "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1;\nEND\n$$;",
            "CREATE FUNCTION one() RETURNS int AS $body$\nBEGIN\n  COMMIT;\nEND;$body$ LANGUAGE plpgsql;",
            "CREATE FUNCTION one() RETURNS int BEGIN ATOMIC SELECT 1; END;",
            "-- not CONCURRENTLY\nCREATE INDEX i ON notes (id);",
            "/* BEGIN; /* nested */\nCOMMIT; */ CREATE TABLE notes (id bigint);",
            "INSERT INTO notes VALUES ('\nBEGIN;\n'), (E'it\\'s\nCOMMIT;');",
            "CREATE TABLE \"BEGIN\" (\"concurrently\" int);\n\"COMMIT\";",
            "CREATE TABLE notes (id bigint); SELECT 'no end",
        ] {
            assert!(runs_in_a_transaction(sql), "{sql}");
        }
    }
}
