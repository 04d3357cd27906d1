//! The store in one SQLite file, for one coordinator. It is the default.
//!
//! What must stay true: one process has the file (a `flock` beside it ensures that), and one connection writes. Every
//! transaction begins immediately, and a commit that was answered survives a power cut. When the file is opened, the
//! previous process is dead, so everything that its leases held is deleted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_core::time::Millis;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::lease::Leases;
use super::watch::Watchers;
use super::{
    Change, Committed, Guard, Key, LeaseId, LeaseStanding, Prefix, Revision, Store, StoreError, Stored,
    Wakeups, Write, within_limits,
};
use crate::ports::clock::Clock;

mod writer;

use writer::Writer;

/// The version of the tables; a file with a higher one is refused.
const SCHEMA_VERSION: i64 = 1;

const FILE: &str = "store.sqlite";
const LOCK_FILE: &str = "store.lock";

/// The tree in which keys are looked up has no values in it: some are plans of a thousand hosts, and a comparison with a
/// key reads all that stands beside it (<https://sqlite.org/withoutrowid.html>, "When To Use WITHOUT ROWID"). A file whose
/// table is still of that form is used as it is.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS kept (
        key TEXT PRIMARY KEY NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        lease INTEGER,
        value BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS counter (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        revision INTEGER NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO counter (only, revision) VALUES (1, 0);
    PRAGMA user_version = 1;
";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another coordinator uses {}: stop it, or give this one its own --directory", .directory.display())]
    InUse { directory: PathBuf },
    #[error("{} has version {found}; this program reads versions up to {SCHEMA_VERSION}: use the program that wrote it, or a newer one", .path.display())]
    Newer { path: PathBuf, found: i64 },
    #[error("cannot lock {}", .path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
}

pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    writer: Writer,
    /// Of one connection, which the writer uses too.
    writing: SqlitePool,
    readers: SqlitePool,
    // Leases live as long as the process: behind a lock that is never held across an await.
    leases: Mutex<Leases>,
    watchers: Arc<Watchers>,
    /// Held for as long as the store is open; the kernel gives it back when the process ends.
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in `directory`, which exists.
    ///
    /// # Errors
    /// When another process has it, or it was written by a newer program, or it cannot be opened.
    pub async fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let failed = |source| OpenError::Open { path: path.clone(), source };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let writing = SqlitePoolOptions::new()
            .max_connections(1)
            // A file does not go away as a server does.
            .test_before_acquire(false)
            // SQLite has ended a transaction by itself on a disk that is full; sqlx goes on counting it.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let found: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&writing).await.map_err(failed)?;
        if found > SCHEMA_VERSION {
            return Err(OpenError::Newer { path, found });
        }
        sqlx::raw_sql(TABLES).execute(&writing).await.map_err(failed)?;
        sqlx::query("DELETE FROM kept WHERE lease IS NOT NULL").execute(&writing).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        let watchers = Arc::new(Watchers::default());
        Ok(Self {
            clock,
            writer: Writer::start(writing.clone(), Arc::clone(&watchers)),
            writing,
            readers,
            leases: Mutex::default(),
            watchers,
            _lock: lock,
        })
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        // A map of numbers: whole at every moment, also when a thread died with the lock.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes what ended leases held. Before it has, [`Self::is_there`] hides it.
    async fn expire(&self) -> Result<(), StoreError> {
        let ended = self.leases().ended(self.clock.now());
        for lease in ended {
            self.drop_lease(lease).await?;
        }
        Ok(())
    }

    async fn drop_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let deleted: Vec<String> = sqlx::query_scalar("SELECT key FROM kept WHERE lease = ?")
            .bind(number(lease.0))
            .fetch_all(&mut *transaction)
            .await
            .map_err(unavailable)?;
        if !deleted.is_empty() {
            sqlx::query("DELETE FROM kept WHERE lease = ?")
                .bind(number(lease.0))
                .execute(&mut *transaction)
                .await
                .map_err(unavailable)?;
            next_revision(&mut transaction).await?;
        }
        transaction.commit().await.map_err(unknown)?;
        self.leases().forget(lease);
        let deleted: Vec<Key> = deleted.into_iter().map(Key::stored).collect();
        self.watchers.wake(deleted.iter());
        Ok(())
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writing.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)
    }

    /// At most so many rows of those that are below `prefix` and not before `from`.
    async fn range(
        &self,
        query: &'static str,
        from: &Key,
        prefix: &Prefix,
        most: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let rows = sqlx::query(query)
            .bind(from.as_str())
            .bind(end_of(prefix))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(unavailable)?;
        self.visible(&rows)
    }

    fn visible(&self, rows: &[SqliteRow]) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            if self.is_there(row)? {
                found.push(stored(row).map_err(unavailable)?);
            }
        }
        Ok(found)
    }

    /// Whether a row counts: not when its lease has ended.
    fn is_there(&self, row: &SqliteRow) -> Result<bool, StoreError> {
        let lease: Option<i64> = row.try_get("lease").map_err(unavailable)?;
        Ok(lease.is_none_or(|lease| self.leases().is_alive(LeaseId(lease.unsigned_abs()), self.clock.now())))
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK_FILE);
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let row = sqlx::query("SELECT key, value, created, modified, lease FROM kept WHERE key = ?")
            .bind(key.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(unavailable)?;
        match row {
            Some(row) if self.is_there(&row)? => Ok(Some(stored(&row).map_err(unavailable)?)),
            Some(_) | None => Ok(None),
        }
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError> {
        self.page(prefix, &prefix.first(), usize::MAX).await
    }

    async fn list_named(&self, prefix: &Prefix, last: &str) -> Result<Vec<Stored>, StoreError> {
        // The names alone are in the tree in which keys are looked up: what does not match is not read.
        let query = "SELECT key, value, created, modified, lease FROM kept \
                     WHERE key >= ?1 AND key < ?2 AND substr(key, -length(?3)) = ?3 ORDER BY key";
        let rows = sqlx::query(query)
            .bind(prefix.as_str())
            .bind(end_of(prefix))
            .bind(format!("/{last}"))
            .fetch_all(&self.readers)
            .await
            .map_err(unavailable)?;
        self.visible(&rows)
    }

    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError> {
        let query = "SELECT key, value, created, modified, lease FROM kept \
                     WHERE key >= ? AND key < ? ORDER BY key LIMIT ?";
        self.range(query, from.max(&prefix.first()), prefix, most).await
    }

    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError> {
        let query = "SELECT key, value, created, modified, lease FROM kept \
                     WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?";
        self.range(query, &prefix.first(), prefix, most).await
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError> {
        within_limits(&guards, &writes)?;
        self.expire().await?;
        for write in &writes {
            if let Change::Put { lease: Some(lease), .. } = &write.change
                && !self.leases().is_alive(*lease, self.clock.now())
            {
                return Err(StoreError::NoSuchLease(*lease));
            }
        }
        self.writer.commit(guards, writes).await
    }

    fn watch(&self, prefix: &Prefix) -> Wakeups {
        self.watchers.watch(prefix)
    }

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError> {
        let now = self.clock.now();
        Ok(self.leases().grant(lives, now))
    }

    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError> {
        self.expire().await?;
        let now = self.clock.now();
        Ok(self.leases().keep(lease, now))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.drop_lease(lease).await
    }
}

/// Where the keys below `prefix` end: it ends with a slash, and a zero is the character after that.
fn end_of(prefix: &Prefix) -> String {
    format!("{}0", prefix.as_str().trim_end_matches('/'))
}

async fn next_revision(transaction: &mut Transaction<'static, Sqlite>) -> Result<Revision, StoreError> {
    let revision: i64 = sqlx::query_scalar("UPDATE counter SET revision = revision + 1 RETURNING revision")
        .fetch_one(&mut **transaction)
        .await
        .map_err(unavailable)?;
    Ok(revision.unsigned_abs())
}

fn stored(row: &SqliteRow) -> Result<Stored, sqlx::Error> {
    let key: String = row.try_get("key")?;
    let value: Vec<u8> = row.try_get("value")?;
    let created: i64 = row.try_get("created")?;
    let modified: i64 = row.try_get("modified")?;
    Ok(Stored {
        key: Key::stored(key),
        value: Bytes::from(value),
        created: created.unsigned_abs(),
        modified: modified.unsigned_abs(),
    })
}

/// SQLite's integers are signed; a counter that rises by one never gets near the end of them.
fn number(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// Nothing was committed: the transaction is rolled back when it is dropped.
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

/// The commit itself failed: it may be on the disk.
fn unknown(error: sqlx::Error) -> StoreError {
    StoreError::Unknown(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::SystemClock;

    /// SQLite ends a transaction by itself there, and sqlx goes on counting it.
    #[tokio::test]
    async fn a_full_disk_refuses_and_room_is_enough_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), Arc::new(SystemClock)).await.unwrap();
        // Of its one connection alone, so that there is room for the one after it.
        sqlx::query("PRAGMA max_page_count = 1").execute(&store.writing).await.unwrap();
        let put = || vec![Write::put_bytes(super::super::keys::audit_record(1), vec![0; 1 << 16])];
        assert!(store.commit(Vec::new(), put()).await.is_err(), "there was room");
        assert!(matches!(store.commit(Vec::new(), put()).await, Ok(Committed::Yes { .. })));
    }

    /// What [`TABLES`] made of it before.
    const WITH_VALUES: &str = "CREATE TABLE kept (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, \
         created INTEGER NOT NULL, modified INTEGER NOT NULL, lease INTEGER) STRICT, WITHOUT ROWID";

    #[tokio::test]
    async fn a_file_whose_keys_stand_with_their_values_is_used_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let written = || super::super::keys::audit_record(1);
        let key: Key = written().into();
        let options = SqliteConnectOptions::new().filename(folder.path().join(FILE)).create_if_missing(true);
        let before = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(WITH_VALUES).execute(&before).await.unwrap();
        let row = sqlx::query("INSERT INTO kept VALUES (?, x'07', 5, 6, NULL)").bind(key.as_str());
        row.execute(&before).await.unwrap();
        before.close().await;

        let store = SqliteStore::open(folder.path(), Arc::new(SystemClock)).await.unwrap();
        let there = store.get(&key).await.unwrap().expect("it is there");
        assert_eq!((&there.value[..], there.created, there.modified), (&[7_u8][..], 5, 6));
        store.commit(Vec::new(), vec![Write::put_bytes(written(), vec![8])]).await.unwrap();
        let there = store.get(&key).await.unwrap().expect("it is there");
        assert_eq!((&there.value[..], there.created), (&[8_u8][..], 5));
    }
}
