//! The one task that writes. Commits that arrive while it writes share its next transaction, so reports from a
//! thousand hosts wait for the disk a few times and not a thousand times.
//!
//! What must stay true: each commit is judged by the state that those before it have left, and happens completely or
//! not at all. It is answered only when it is on the disk. If it is unknown what the disk has, that is so for all of
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{number, stored};
use crate::store::watch::Watchers;
use crate::store::{Change, Committed, Guard, Key, Revision, StoreError, Stored, Write};

/// The most commits that wait to be taken.
const WAITING_MAX: usize = 256;

/// The most commits in one transaction of the file: who comes first waits for the last.
const TOGETHER_MAX: usize = 64;

type Answer = Result<Committed, StoreError>;

struct Waiting {
    guards: Vec<Guard>,
    writes: Vec<Write>,
    answer: oneshot::Sender<Answer>,
}

/// Why a transaction of the file has no outcome.
enum Failed {
    /// Nothing was committed.
    Unavailable(Arc<sqlx::Error>),
    /// The commit itself failed: it may be on the disk.
    Unknown(Arc<sqlx::Error>),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

pub(super) struct Writer {
    waiting: mpsc::Sender<Waiting>,
    /// Ends with the store.
    _task: AbortOnDropHandle<()>,
}

impl Writer {
    pub(super) fn start(pool: SqlitePool, watchers: Arc<Watchers>) -> Self {
        let (waiting, coming) = mpsc::channel(WAITING_MAX);
        let task = AbortOnDropHandle::new(tokio::spawn(write_all(pool, watchers, coming)));
        Self { waiting, _task: task }
    }

    pub(super) async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = |what: &str| format!("the writer task of the store {what}").into();
        if self.waiting.send(Waiting { guards, writes, answer }).await.is_err() {
            return Err(StoreError::Unavailable(ended("has ended")));
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Unknown(ended("ended without an answer"))))
    }
}

async fn write_all(pool: SqlitePool, watchers: Arc<Watchers>, mut coming: mpsc::Receiver<Waiting>) {
    let mut together = Vec::new();
    while coming.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let outcome = write(&pool, &together).await;
        if let Ok(committed) = &outcome {
            let done = together.iter().zip(committed).filter(|(_, committed)| **committed != Committed::No);
            watchers.wake(done.flat_map(|(waiting, _)| &waiting.writes).map(|write| &write.key));
        }
        for (place, waiting) in together.drain(..).enumerate() {
            let answer = match &outcome {
                Ok(committed) => Ok(committed[place]),
                Err(Failed::Unavailable(error)) => Err(StoreError::Unavailable(Box::new(Arc::clone(error)))),
                Err(Failed::Unknown(error)) => Err(StoreError::Unknown(Box::new(Arc::clone(error)))),
            };
            // Who has gone meanwhile does not want to know.
            waiting.answer.send(answer).ok();
        }
    }
}

/// What became of each.
async fn write(pool: &SqlitePool, together: &[Waiting]) -> Result<Vec<Committed>, Failed> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let counted: i64 =
        sqlx::query_scalar("SELECT revision FROM counter").fetch_one(&mut *transaction).await?;
    let before = counted.unsigned_abs();
    let mut revision = before;
    let mut committed = Vec::with_capacity(together.len());
    for Waiting { guards, writes, .. } in together {
        if !hold(&mut transaction, guards).await? {
            committed.push(Committed::No);
            continue;
        }
        if !writes.is_empty() {
            revision += 1;
            delete(&mut transaction, writes).await?;
            put(&mut transaction, writes, revision).await?;
        }
        committed.push(Committed::Yes { revision });
    }
    if revision > before {
        sqlx::query("UPDATE counter SET revision = ?")
            .bind(number(revision))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await.map_err(|error| Failed::Unknown(Arc::new(error)))?;
    Ok(committed)
}

async fn hold(transaction: &mut Transaction<'static, Sqlite>, guards: &[Guard]) -> Result<bool, Failed> {
    if guards.is_empty() {
        return Ok(true);
    }
    let query =
        "SELECT key, value, created, modified FROM kept WHERE key IN (SELECT value FROM json_each(?))";
    let wanted = list(guards.iter().map(Guard::key));
    let rows = sqlx::query(query).bind(wanted).fetch_all(&mut **transaction).await?;
    let there: Vec<Stored> = rows.iter().map(stored).collect::<Result<_, _>>()?;
    let there: BTreeMap<&Key, &Stored> = there.iter().map(|stored| (&stored.key, stored)).collect();
    Ok(guards.iter().all(|guard| guard.holds(there.get(guard.key()).copied())))
}

async fn delete(transaction: &mut Transaction<'static, Sqlite>, writes: &[Write]) -> Result<(), Failed> {
    let is_deletion = |write: &&Write| write.change == Change::Delete;
    if writes.iter().any(|write| is_deletion(&write)) {
        let deleted = list(writes.iter().filter(is_deletion).map(|write| &write.key));
        sqlx::query("DELETE FROM kept WHERE key IN (SELECT value FROM json_each(?))")
            .bind(deleted)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn put(
    transaction: &mut Transaction<'static, Sqlite>,
    writes: &[Write],
    revision: Revision,
) -> Result<(), Failed> {
    let puts: Vec<_> = writes
        .iter()
        .filter_map(|write| match &write.change {
            Change::Put { value, lease } => Some((&write.key, value, lease)),
            Change::Delete => None,
        })
        .collect();
    if puts.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO kept (key, value, created, modified, lease) ");
    query.push_values(puts, |mut row, (key, value, lease)| {
        row.push_bind(key.as_str().to_owned())
            .push_bind(value.to_vec())
            .push_bind(number(revision))
            .push_bind(number(revision))
            .push_bind(lease.map(|lease| number(lease.0)));
    });
    query.push(
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified, \
         lease = excluded.lease",
    );
    // There are as many texts as there are numbers of rows: none is worth keeping.
    query.build().persistent(false).execute(&mut **transaction).await?;
    Ok(())
}

/// Names as one parameter.
fn list<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    let names: Vec<&str> = keys.map(Key::as_str).collect();
    serde_json::to_string(&names).expect("a list of texts is JSON")
}
