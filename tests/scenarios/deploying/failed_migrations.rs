//! What is said of the schema after a migration has failed: what the database says.

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::scene::Scene;

#[test]
fn the_receipt_has_the_schema_that_there_is() -> Result<()> {
    let mut scene = Scene::open("schema")?;
    let first = scene.stage.image("1", 1, &[])?;
    scene.deploy(&first)?.expect_said(0, &["succeeded"])?;
    let half = [
        ("000002_good.up.sql", "CREATE TABLE good (n int);\n"),
        ("000003_wrong.up.sql", "CREATE TABEL wrong (n int);\n"),
    ];
    let half = scene.stage.image_with_migrations("half", &first, &half)?;
    scene
        .deploy(&half)?
        .expect_said(1, &["migration 3 wrong failed", "it was rolled back", "schema 1 → 2"])?;
    let last = scene.assert_verdict(Verdict::RolledBack)?;
    ensure!((last.schema_before, last.schema_after) == (Some(1), Some(2)), "{last:?}");
    ensure!(last.receipt.migrations_run == 1, "{last:?}");
    ensure!(scene.status()?.live.is_some_and(|live| live.release.image == first), "another release is live");
    fails_in_a_function(&mut scene, &half)?;
    fails_at_its_commit(&mut scene, &half)?;
    loses_its_connection(&mut scene, &half)?;
    ends_its_own_transaction(&mut scene, &half)
}

/// Its body has a line that looks as if the file had a transaction of its own.
fn fails_in_a_function(scene: &mut Scene, half: &str) -> Result<()> {
    let function = "CREATE FUNCTION wrong() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1 / 0;\nEND\n$$;\n\
        SELECT wrong();\n";
    let fails = scene.stage.image_with_migrations("function", half, &[("000003_wrong.up.sql", function)])?;
    scene.deploy(&fails)?.expect_said(1, &["division by zero", "it was rolled back"])?;
    let schema = scene.stage.postgres.psql("SELECT version || ' ' || dirty FROM schema_migrations")?;
    ensure!(schema == "2 false", "{schema}");
    Ok(())
}

/// By then no transaction is open any more, though nothing of it was applied.
fn fails_at_its_commit(scene: &mut Scene, half: &str) -> Result<()> {
    let deferred = "CREATE TABLE parent (id int PRIMARY KEY);\n\
        CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO child VALUES (1);\n";
    let orphan = scene.stage.image_with_migrations("orphan", half, &[("000003_wrong.up.sql", deferred)])?;
    let said = scene.deploy(&orphan)?;
    said.expect_said(1, &["violates foreign key constraint", "it was rolled back"])?;
    let schema = scene.stage.postgres.psql("SELECT version || ' ' || dirty FROM schema_migrations")?;
    ensure!(schema == "2 false", "{schema}");
    Ok(())
}

/// As if an administrator restarts PostgreSQL meanwhile.
fn loses_its_connection(scene: &mut Scene, half: &str) -> Result<()> {
    let ends = [("000003_wrong.up.sql", "SELECT pg_terminate_backend(pg_backend_pid());\n")];
    let lost = scene.stage.image_with_migrations("lost", half, &ends)?;
    scene
        .deploy(&lost)?
        .expect_said(1, &["the connection to the database was lost during migration 3 wrong"])?;
    Ok(())
}

/// PostgreSQL then applies what stands before the error, whatever a transaction around it was for.
fn ends_its_own_transaction(scene: &mut Scene, half: &str) -> Result<()> {
    let ends = [("000003_wrong.up.sql", "CREATE TABLE wrong (n int); END; SELECT 1/0;\n")];
    let ends = scene.stage.image_with_migrations("ends", half, &ends)?;
    let said = scene.deploy(&ends)?;
    said.expect_said(1, &["migration 3 wrong failed", "division by zero", "part of it may be applied"])?;
    let there = scene.stage.postgres.psql("SELECT count(*) FROM pg_tables WHERE tablename = 'wrong'")?;
    ensure!(there == "1", "nothing of it was applied: this shows nothing");
    let dirty = scene.stage.postgres.psql("SELECT version || ' ' || dirty FROM schema_migrations")?;
    ensure!(dirty == "3 true", "{dirty}");
    scene.deploy(&ends)?.expect_said(3, &["is dirty at version 3"])?;
    Ok(())
}
