//! The journal of this host: the steps that it was assigned and their outcomes, in one SQLite file with the [fence
//! states](lockstep_core::agent::fence::FenceState) of its environments.
//!
//! What must stay true: an assignment and its fence state are on the disk before any work for it; a step is recorded as
//! running before its effect and as ended after it; a recorded outcome never changes; a "do" whose undo was ever
//! accepted does not begin again, and the row of the undo is the tombstone. While a local rollback is not adopted, a
//! step begins only under its [hold](BeginOutcome::Held).

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lockstep_core::agent::accept;
use lockstep_core::agent::accept::{AcceptDecision, NextAction, OfferedStep, TokenUpdate};
use lockstep_core::agent::fence;
use lockstep_core::agent::fence::{FenceState, Token};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::{Direction, StepKey};
use lockstep_core::stored;
use lockstep_crashpoint::reach;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::journal::assignment::Assignment;
use crate::journal::quotes::Quotes;

pub mod assignment;
mod local;
pub mod object_names;
mod quotes;
pub mod reconcile;
mod rows;
pub mod step_log;

pub use local::{GivenTraffic, LocalRefusal};
pub use lockstep_core::agent::accept::Outcome;

use lockstep_core::agent::accept::StepState;

/// The version of the tables below.
const SCHEMA_VERSION: i64 = 3;

/// The number of deployments whose steps are kept. Older ones ended long ago.
const DEPLOYMENTS_KEPT: u32 = 1000;

const SCHEMA: &str = "
CREATE TABLE mark (
    environment TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    said TEXT
) STRICT;
CREATE TABLE step (
    deployment TEXT NOT NULL,
    step INTEGER NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('do', 'undo')),
    environment TEXT NOT NULL,
    cluster TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    said TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'interrupted', 'done', 'failed')),
    outcome BLOB,
    settled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (deployment, step, direction)
) STRICT;
CREATE INDEX step_unsettled ON step (deployment) WHERE settled = 0;
";

/// What version 2 added: what each step does, which deployment gave each slot its traffic, and what was
/// done here without a coordinator.
const SINCE_2: &str = "
ALTER TABLE step ADD COLUMN work TEXT NOT NULL DEFAULT '';
CREATE TABLE given (
    environment TEXT NOT NULL,
    slot TEXT NOT NULL CHECK (slot IN ('blue', 'green')),
    content BLOB NOT NULL,
    PRIMARY KEY (environment, slot)
) STRICT;
CREATE TABLE local_rollback (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    environment TEXT NOT NULL,
    content BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'done', 'taken in'))
) STRICT;
PRAGMA user_version = 2;
";

/// What version 3 added: what the objects of an environment are called on this host.
const SINCE_3: &str = "
CREATE TABLE object_name (
    environment TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
PRAGMA user_version = 3;
";

/// What each version added to the one before.
const VERSIONS: [&str; SCHEMA_VERSION as usize] = [SCHEMA, SINCE_2, SINCE_3];

/// The journal of this host.
#[derive(Debug)]
pub struct Journal {
    /// One connection, and one transaction at a time: callers wait their turn.
    connection: Mutex<SqliteConnection>,
    options: SqliteConnectOptions,
    quotes: Quotes,
}

/// The decision about an offered assignment.
#[derive(Debug, PartialEq)]
pub enum Acceptance {
    /// Run it: it never began, or it was interrupted, or it is another attempt at an undo.
    Begin,
    /// It runs in this process; its report goes out under the newer token.
    Attached,
    /// It has ended. Report this outcome again.
    Ended(Outcome),
    Refused(Refusal),
}

/// Why an assignment is not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Fence(#[from] fence::FenceError),
    #[error("{key} was accepted before with another action")]
    DifferentAction { key: StepKey },
    #[error("{key} has been undone, so it cannot start again")]
    Undone { key: StepKey },
}

/// Whether a step that was accepted may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginOutcome {
    Begun,
    /// It may do only what leaves the traffic where this local rollback put it.
    Held(LocalRollback),
    /// It must not begin: a newer message for its environment or its undo has arrived.
    Withdrawn,
}

/// The status of a step, for a driver that asks.
#[derive(Debug, PartialEq)]
pub enum JournaledStatus {
    Ended(Outcome),
    /// It runs in this process. Its report follows.
    Running,
    /// It does not run, and will not run under an older token.
    Idle(IdleReason),
}

/// Why a step does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleReason {
    NeverAccepted,
    Accepted,
    /// It was running when an earlier process of this agent ended. It has perhaps happened. Only running it again,
    /// which converges, makes it certain.
    Interrupted,
}

/// An outcome that the coordinator may not have.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub token: Token,
    pub key: StepKey,
    pub environment: EnvironmentKey,
    pub outcome: Outcome,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot use the journal")]
    Sql(#[from] sqlx::Error),
    #[error("cannot create the journal")]
    Make(#[from] std::io::Error),
    #[error("the journal has version {found}, and this agent reads versions up to {SCHEMA_VERSION}")]
    Newer { found: i64 },
    #[error("the journal is damaged: {what}")]
    Damaged { what: String },
    #[error("{key} is not in the journal")]
    Missing { key: StepKey },
}

impl Journal {
    /// Opens the journal at `path`, or creates it.
    ///
    /// # Errors
    /// When it cannot be opened, or is of a newer version.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        // SQLite gives what it makes beside the file the file's own mode.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        let missing = usize::try_from(found).ok().and_then(|found| VERSIONS.get(found..));
        for version in missing.ok_or(JournalError::Newer { found })? {
            sqlx::raw_sql(*version).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(Self { connection: Mutex::new(connection), options, quotes: Quotes::default() })
    }

    /// The connection, ready for a transaction. SQLite has ended one by itself on a disk that is full; sqlx cannot
    /// take that one back then, counts it for ever, and begins no other.
    async fn connection(&self) -> Result<MutexGuard<'_, SqliteConnection>, JournalError> {
        let mut connection = self.connection.lock().await;
        if connection.is_in_transaction() {
            // One that is being taken back has been when this is answered.
            connection.ping().await?;
        }
        if connection.is_in_transaction() {
            *connection = self.options.connect().await?;
        }
        Ok(connection)
    }

    /// Closes the file. A journal that is merely dropped loses nothing either.
    ///
    /// # Errors
    /// When SQLite cannot close it.
    pub async fn close(self) -> Result<(), JournalError> {
        Ok(self.connection.into_inner().close().await?)
    }

    /// Marks every running step as interrupted, because the earlier process has ended. Returns these steps.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn interrupt(&self) -> Result<Vec<(StepKey, EnvironmentKey)>, JournalError> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let interrupted = rows::interrupt(&mut transaction).await?;
        rows::prune(&mut transaction, DEPLOYMENTS_KEPT).await?;
        transaction.commit().await?;
        Ok(interrupted)
    }

    async fn object_names(&self) -> Result<BTreeMap<EnvironmentKey, ObjectName>, JournalError> {
        rows::object_names(&mut *self.connection().await?).await
    }

    async fn set_object_name(
        &self,
        environment: &EnvironmentKey,
        name: &ObjectName,
    ) -> Result<(), JournalError> {
        rows::set_object_name(&mut *self.connection().await?, environment, name).await
    }

    /// Advances the fence to the assignment's token and decides about the assignment, in one transaction.
    ///
    /// # Errors
    /// When the journal cannot be read or written. Nothing was accepted then.
    pub async fn accept(&self, assignment: &Assignment) -> Result<Acceptance, JournalError> {
        let said = assignment.digest();
        let offered = FenceState { token: assignment.token.clone(), assignment_digest: Some(said) };
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let acceptance = match advance_fence_state(&mut transaction, &assignment.environment, &offered)
            .await?
        {
            Err(refusal) => Acceptance::Refused(refusal.into()),
            Ok(()) => match decide_acceptance(&mut transaction, assignment).await? {
                Acceptance::Ended(written) => Acceptance::Ended(self.quotes.whole(&assignment.key, written)),
                other @ (Acceptance::Begin | Acceptance::Attached | Acceptance::Refused(_)) => other,
            },
        };
        transaction.commit().await?;
        drop(connection);
        if acceptance == Acceptance::Begin {
            reach(|| format!("agent: accepted {}", brief(&assignment.key)));
        }
        Ok(acceptance)
    }

    /// Advances the fence to `token`, then returns the statuses of `keys`. The report of a running step will have
    /// `token`.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub async fn query_statuses(
        &self,
        token: &Token,
        environment: &EnvironmentKey,
        keys: &[StepKey],
    ) -> Result<Result<Vec<(StepKey, JournaledStatus)>, Refusal>, JournalError> {
        let offered = FenceState { token: token.clone(), assignment_digest: None };
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        if let Err(refusal) = advance_fence_state(&mut transaction, environment, &offered).await? {
            return Ok(Err(refusal.into()));
        }
        let mut statuses = Vec::with_capacity(keys.len());
        for key in keys {
            let status = match rows::step(&mut transaction, key).await? {
                None => JournaledStatus::Idle(IdleReason::NeverAccepted),
                Some(row) => match row.known.state {
                    StepState::Accepted => JournaledStatus::Idle(IdleReason::Accepted),
                    StepState::Interrupted => JournaledStatus::Idle(IdleReason::Interrupted),
                    StepState::Running => {
                        rows::update_token(&mut transaction, key, token).await?;
                        JournaledStatus::Running
                    }
                    StepState::Ended(written) => JournaledStatus::Ended(self.quotes.whole(key, written)),
                },
            };
            statuses.push((key.clone(), status));
        }
        transaction.commit().await?;
        Ok(Ok(statuses))
    }

    /// Records that the step runs, unless something newer has arrived since it was accepted.
    ///
    /// # Errors
    /// When the journal cannot be read or written. The step must not begin then.
    pub async fn begin(&self, key: &StepKey) -> Result<BeginOutcome, JournalError> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let row = rows::step(&mut transaction, key).await?.ok_or_else(|| missing(key))?;
        let mark = rows::fence_state(&mut transaction, &row.environment).await?;
        let undo = undo_of(&mut transaction, key).await?;
        let undo = undo.as_ref().map(|undo| &undo.known);
        if accept::decide_begin(mark.as_ref(), &row.known, undo, key.direction)
            == accept::BeginDecision::Withdrawn
        {
            return Ok(BeginOutcome::Withdrawn);
        }
        rows::set_running(&mut transaction, key).await?;
        let held = local::hold(&mut transaction, &row.environment).await?;
        transaction.commit().await?;
        drop(connection);
        reach(|| format!("agent: running {}", brief(key)));
        Ok(held.map_or(BeginOutcome::Begun, BeginOutcome::Held))
    }

    /// Records the outcome of the step. Returns what to report, under the newest token that named the step.
    ///
    /// # Errors
    /// When the journal cannot be written. The step counts as running until this process ends then.
    pub async fn finish(&self, key: &StepKey, outcome: Outcome) -> Result<Ended, JournalError> {
        reach(|| format!("agent: effect {}", brief(key)));
        let (state, content) = match &outcome {
            Ok(finding) => ("done", stored::encode(finding)),
            Err(failure) => ("failed", stored::encode(failure)),
        };
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let row = rows::step(&mut transaction, key).await?.ok_or_else(|| missing(key))?;
        rows::set_ended(&mut transaction, key, state, &content).await?;
        transaction.commit().await?;
        drop(connection);
        reach(|| format!("agent: {state} {}", brief(key)));
        Ok(Ended { token: row.known.token, key: key.clone(), environment: row.environment, outcome })
    }

    /// As [`Journal::finish`], of a step that quotes an application. What it quotes is not written.
    ///
    /// # Errors
    /// As there.
    pub async fn finish_quoting(&self, key: &StepKey, outcome: Outcome) -> Result<Ended, JournalError> {
        let written = match outcome.clone() {
            Ok(finding) => Ok(finding.without_quotes()),
            Err(failure) => Err(failure.without_quotes()),
        };
        self.quotes.keep(key, outcome.clone());
        let ended = self.finish(key, written).await?;
        Ok(Ended { outcome, ..ended })
    }

    /// The outcomes that the coordinator may not have.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn unsettled(&self) -> Result<Vec<Ended>, JournalError> {
        let mut ended = rows::unsettled(&mut *self.connection.lock().await).await?;
        for Ended { key, outcome, .. } in &mut ended {
            let written = outcome.clone();
            *outcome = self.quotes.whole(key, written);
        }
        Ok(ended)
    }

    /// Records that the coordinator has the outcome of `key` that was reported under `token`.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn settle(&self, key: &StepKey, token: &Token) -> Result<(), JournalError> {
        if rows::settle(&mut *self.connection.lock().await, key, token).await? {
            self.quotes.forget(key);
        }
        Ok(())
    }
}

async fn advance_fence_state(
    transaction: &mut Transaction<'_, Sqlite>,
    environment: &EnvironmentKey,
    offered: &FenceState,
) -> Result<Result<(), fence::FenceError>, JournalError> {
    let seen = rows::fence_state(transaction, environment).await?;
    match fence::advance_fence(seen.as_ref(), offered) {
        Err(refusal) => Ok(Err(refusal)),
        Ok(raised) => {
            if let Some(mark) = raised {
                rows::set_fence_state(transaction, environment, &mark).await?;
            }
            Ok(Ok(()))
        }
    }
}

/// Decides about an assignment that has passed the fence.
async fn decide_acceptance(
    transaction: &mut Transaction<'_, Sqlite>,
    assignment: &Assignment,
) -> Result<Acceptance, JournalError> {
    let key = &assignment.key;
    let row = rows::step(transaction, key).await?;
    let undo = undo_of(transaction, key).await?;
    let said = assignment.digest();
    let offered =
        OfferedStep { token: &assignment.token, assignment_digest: &said, direction: key.direction };
    let (known, undo) = (row.as_ref().map(|row| &row.known), undo.as_ref().map(|undo| &undo.known));
    let then = match accept::decide_accept(known, undo, &offered) {
        AcceptDecision::UndoAccepted => return Ok(Acceptance::Refused(Refusal::Undone { key: key.clone() })),
        AcceptDecision::DifferentContent => {
            return Ok(Acceptance::Refused(Refusal::DifferentAction { key: key.clone() }));
        }
        AcceptDecision::New => {
            rows::insert(transaction, assignment).await?;
            return Ok(Acceptance::Begin);
        }
        AcceptDecision::AlreadyKnown(TokenUpdate::No, then) => then,
        AcceptDecision::AlreadyKnown(TokenUpdate::Yes, then) => {
            rows::update_token(transaction, key, &assignment.token).await?;
            then
        }
    };
    Ok(match then {
        NextAction::Begin => Acceptance::Begin,
        NextAction::BeginAgain => {
            rows::set_accepted(transaction, key).await?;
            Acceptance::Begin
        }
        NextAction::Attach => Acceptance::Attached,
        NextAction::Answer(outcome) => Acceptance::Ended(*outcome),
    })
}

/// The undo of a "do", if it was accepted: its tombstone.
async fn undo_of(
    transaction: &mut Transaction<'_, Sqlite>,
    key: &StepKey,
) -> Result<Option<rows::Row>, JournalError> {
    match key.direction {
        Direction::Undo => Ok(None),
        Direction::Do => {
            let undo = StepKey { direction: Direction::Undo, ..key.clone() };
            rows::step(transaction, &undo).await
        }
    }
}

fn missing(key: &StepKey) -> JournalError {
    JournalError::Missing { key: key.clone() }
}

/// The step without its deployment: the same from run to run.
fn brief(key: &StepKey) -> String {
    format!("{} {}", key.step, key.direction)
}

#[cfg(test)]
mod tests {
    use lockstep_core::id::StepId;
    use lockstep_core::time::Millis;

    use super::*;

    fn assignment(step: u16) -> Assignment {
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        let deployment = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
        Assignment {
            token: Token { cluster, epoch: 1, seq: step.into() },
            key: StepKey { deployment, step: StepId(step), direction: Direction::Do },
            environment: "notes/production".parse().unwrap(),
            action: None,
            limit: Millis::from_secs(30),
            traceparent: String::new(),
        }
    }

    /// SQLite ends a transaction by itself there, and sqlx goes on counting it.
    #[tokio::test]
    async fn a_full_disk_refuses_and_room_is_enough_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).await.unwrap();
        // Of this connection alone, so that there is room for the one after it.
        let full = "PRAGMA max_page_count = 1";
        sqlx::query(full).execute(&mut *journal.connection.lock().await).await.unwrap();
        let mut refused = None;
        for step in 1..500 {
            if let Err(error) = journal.accept(&assignment(step)).await {
                refused = Some((step, error));
                break;
            }
        }
        let (step, error) = refused.expect("pages come to an end");
        assert!(crate::program::telemetry::chain(&error).contains("disk is full"), "{error:?}");
        assert_eq!(journal.accept(&assignment(step)).await.unwrap(), Acceptance::Begin);
    }
}
