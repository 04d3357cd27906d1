//! Every statement of the service. Each works on schema 1 and on schema 2, so
//! that a release can be taken back after its migration: rows are turned into
//! JSON by the server, with the columns that are there.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

const CONNECTIONS: u32 = 5;
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);
const JOBS_AT_ONCE: i64 = 20;

const LATEST: &str = "SELECT coalesce(json_agg(n), '[]')::text \
     FROM (SELECT * FROM notes ORDER BY id DESC LIMIT 20) n";
const ONE: &str = "SELECT row_to_json(n)::text FROM notes n WHERE id = $1";
const ADD: &str = "WITH note AS (INSERT INTO notes (text) VALUES ($1) RETURNING *), \
     job AS (INSERT INTO jobs (kind, note_id) SELECT 'index', id FROM note) \
     SELECT row_to_json(note)::text FROM note";
const ADD_WITH_AUTHOR: &str = "WITH note AS (INSERT INTO notes (text, author) VALUES ($1, $2) RETURNING *), \
     job AS (INSERT INTO jobs (kind, note_id) SELECT 'index', id FROM note) \
     SELECT row_to_json(note)::text FROM note";
const DO_JOBS: &str = "UPDATE jobs SET done_at = now(), done_by = $1, runs = runs + 1 \
     WHERE id IN (SELECT id FROM jobs WHERE done_at IS NULL ORDER BY id \
     LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id, kind, note_id";

/// Connects when it is first used, so that the service can start, and say what
/// is wrong, while its database is away.
pub fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_LIMIT)
        .connect_lazy_with(options)
}

pub async fn latest(pool: &PgPool) -> sqlx::Result<String> {
    sqlx::query_scalar(LATEST).fetch_one(pool).await
}

pub async fn note(pool: &PgPool, id: i64) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(ONE).bind(id).fetch_optional(pool).await
}

/// A note and the job that belongs to it, in one statement.
pub async fn add(pool: &PgPool, text: &str, author: Option<&str>) -> sqlx::Result<String> {
    let query = match author {
        Some(author) => sqlx::query_scalar(ADD_WITH_AUTHOR).bind(text).bind(author),
        None => sqlx::query_scalar(ADD).bind(text),
    };
    query.fetch_one(pool).await
}

pub struct Job {
    pub id: i64,
    pub kind: String,
    pub note_id: Option<i64>,
}

/// Does the oldest jobs that nobody else is doing.
pub async fn do_jobs(pool: &PgPool, done_by: &str) -> sqlx::Result<Vec<Job>> {
    let rows: Vec<(i64, String, Option<i64>)> =
        sqlx::query_as(DO_JOBS).bind(done_by).bind(JOBS_AT_ONCE).fetch_all(pool).await?;
    let job = |(id, kind, note_id)| Job { id, kind, note_id };
    Ok(rows.into_iter().map(job).collect())
}

pub struct Schema {
    pub version: i64,
    /// A migration is under way, or ended halfway.
    pub dirty: bool,
}

/// The schema as golang-migrate's table records it; nothing where it is empty.
pub async fn schema(pool: &PgPool) -> sqlx::Result<Option<Schema>> {
    let row: Option<(i64, bool)> =
        sqlx::query_as("SELECT version, dirty FROM schema_migrations LIMIT 1").fetch_optional(pool).await?;
    Ok(row.map(|(version, dirty)| Schema { version, dirty }))
}

pub async fn waiting_jobs(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM jobs WHERE done_at IS NULL").fetch_one(pool).await
}

pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query("SELECT 1").execute(pool).await.map(|_| ())
}
