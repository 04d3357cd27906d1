//! What `/health` says: 200 for `healthy` and `degraded`, 503 for `unhealthy`.
//! The database is asked each time, within a limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::database;

const LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Healthy,
    Degraded,
    Unhealthy,
}

#[derive(Serialize)]
pub struct Report {
    pub status: Status,
    pub version: String,
    pub commit: String,
    pub database: &'static str,
    pub schema_version: Option<i64>,
    pub job_queue: &'static str,
    pub checks: BTreeMap<&'static str, Check>,
}

#[derive(Serialize)]
pub struct Check {
    pub status: Status,
    pub message: String,
    pub latency_ms: u64,
}

impl Report {
    pub async fn make(pool: &PgPool, version: &str, commit: &str) -> Report {
        let (database, _) = check(async {
            database::ping(pool).await.map(|()| (Status::Healthy, "answers".to_owned(), None))
        })
        .await;
        let (migrations, schema_version) = check(async {
            Ok(match database::schema(pool).await? {
                None => (Status::Unhealthy, "no migration was applied".to_owned(), None),
                // The schema before it goes on working while a migration runs.
                Some(schema) if schema.dirty => (
                    Status::Degraded,
                    format!("version {} is not complete", schema.version),
                    Some(schema.version),
                ),
                Some(schema) => {
                    (Status::Healthy, format!("at version {}", schema.version), Some(schema.version))
                }
            })
        })
        .await;
        let (job_queue, _) = check(async {
            let waiting = database::waiting_jobs(pool).await?;
            Ok((Status::Healthy, format!("{waiting} waiting"), None))
        })
        .await;
        Report {
            status: database.status.max(migrations.status).max(job_queue.status),
            version: version.to_owned(),
            commit: commit.to_owned(),
            database: if database.status == Status::Healthy { "connected" } else { "disconnected" },
            schema_version,
            job_queue: if job_queue.status == Status::Healthy { "operational" } else { "unavailable" },
            checks: BTreeMap::from([
                ("database", database),
                ("migrations", migrations),
                ("job_queue", job_queue),
            ]),
        }
    }

    /// Says something worse than what was found, because a test wants it so.
    pub fn at_least(mut self, status: Status) -> Report {
        let pretended = Check { status, message: "NOTES_HEALTH says so".to_owned(), latency_ms: 0 };
        self.checks.insert("pretended", pretended);
        self.status = self.status.max(status);
        self
    }
}

type Found = (Status, String, Option<i64>);

async fn check(probe: impl Future<Output = sqlx::Result<Found>>) -> (Check, Option<i64>) {
    let begun = Instant::now();
    let (status, message, number) = match timeout(LIMIT, probe).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => (Status::Unhealthy, error.to_string(), None),
        Err(_) => (Status::Unhealthy, format!("no answer within {} s", LIMIT.as_secs()), None),
    };
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    (Check { status, message, latency_ms }, number)
}
