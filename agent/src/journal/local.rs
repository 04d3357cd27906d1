//! What a local rollback needs from the journal: which deployment gave each slot its traffic, and the local rollbacks
//! themselves. The agent and the command share the file, and every decision is one transaction.
//!
//! What must stay true: a local rollback is recorded before its effect. It begins only while no step that moves traffic
//! runs. From then on no such step begins until a coordinator has adopted the rollback.

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::SwitchTraffic;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::slot::Slot;
use lockstep_core::stored::{self, StoredDocument};
use lockstep_crashpoint::reach;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row, SqliteConnection};

use super::rows::damaged;
use super::{Journal, JournalError};

/// A step that moves containers or traffic: while one runs, nobody else does.
const RUNNING_MOVE: &str = "SELECT work FROM step WHERE environment = ? AND state = 'running'
    AND work IN ('start', 'stop', 'site', 'remove site', 'restore site', 'switch', 'workers') LIMIT 1";

/// Which deployment gave a slot its traffic, and how: what it takes to give it that again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenTraffic {
    pub environment: EnvironmentKey,
    pub deployment: DeploymentId,
    pub switch: SwitchTraffic,
    /// The slot's containers on this host at that time; empty if they are on other hosts.
    pub containers: Vec<String>,
}

impl StoredDocument for GivenTraffic {
    const KIND: &'static str = "given";
}

/// Why a local rollback does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalRefusal {
    /// A step of this kind runs here.
    StepRuns { work: String },
}

impl Journal {
    /// Records that a deployment gave a slot its traffic.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn record_traffic(&self, given: &GivenTraffic) -> Result<(), JournalError> {
        sqlx::query("INSERT OR REPLACE INTO given (environment, slot, content) VALUES (?, ?, ?)")
            .bind(given.environment.to_string())
            .bind(given.switch.to.as_str())
            .bind(stored::encode(given))
            .execute(&mut *self.connection.lock().await)
            .await?;
        Ok(())
    }

    /// Deletes the traffic record of a slot, because the switch to it was reverted.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn withdraw_traffic(
        &self,
        environment: &EnvironmentKey,
        slot: Slot,
    ) -> Result<(), JournalError> {
        sqlx::query("DELETE FROM given WHERE environment = ? AND slot = ?")
            .bind(environment.to_string())
            .bind(slot.as_str())
            .execute(&mut *self.connection.lock().await)
            .await?;
        Ok(())
    }

    /// The traffic records of all slots.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn traffic_records(&self) -> Result<Vec<GivenTraffic>, JournalError> {
        let rows = sqlx::query("SELECT content FROM given ORDER BY environment, slot")
            .fetch_all(&mut *self.connection.lock().await)
            .await?;
        rows.iter().map(|row| stored::decode(row.try_get("content")?).map_err(damaged)).collect()
    }

    /// The newest deployment of which this host was assigned a step. Ids sort by the time of their creation.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn newest_deployment(
        &self,
        environment: &EnvironmentKey,
    ) -> Result<Option<DeploymentId>, JournalError> {
        let newest: Option<String> =
            sqlx::query_scalar("SELECT max(deployment) FROM step WHERE environment = ?")
                .bind(environment.to_string())
                .fetch_one(&mut *self.connection.lock().await)
                .await?;
        newest.map(|id| id.parse().map_err(damaged)).transpose()
    }

    /// Records that `wanted` begins, unless a step that moves traffic is running. Assigns its number.
    ///
    /// # Errors
    /// When the journal cannot be read or written. The rollback must not begin then.
    pub async fn begin_local(
        &self,
        wanted: LocalRollback,
    ) -> Result<Result<LocalRollback, LocalRefusal>, JournalError> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let running: Option<String> = sqlx::query_scalar(RUNNING_MOVE)
            .bind(wanted.environment.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(work) = running {
            return Ok(Err(LocalRefusal::StepRuns { work }));
        }
        let seq: i64 = sqlx::query_scalar(
            "INSERT INTO local_rollback (environment, content, state) VALUES (?, ?, 'begun') RETURNING seq",
        )
        .bind(wanted.environment.to_string())
        .bind(stored::encode(&wanted))
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        drop(connection);
        reach(|| "local: begun".to_owned());
        Ok(Ok(LocalRollback { seq: u64::try_from(seq).map_err(damaged)?, ..wanted }))
    }

    /// Records that a local rollback is done.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn end_local(&self, seq: u64) -> Result<(), JournalError> {
        self.set_local(seq, "done", "begun").await?;
        reach(|| "local: done".to_owned());
        Ok(())
    }

    /// Deletes a local rollback that did not move the traffic.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn forget_local(&self, seq: u64) -> Result<(), JournalError> {
        sqlx::query("DELETE FROM local_rollback WHERE seq = ? AND state = 'begun'")
            .bind(i64::try_from(seq).map_err(damaged)?)
            .execute(&mut *self.connection.lock().await)
            .await?;
        Ok(())
    }

    /// Records that a coordinator has adopted the rollback: steps may move the traffic again.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn mark_adopted(&self, seq: u64) -> Result<(), JournalError> {
        self.set_local(seq, "taken in", "done").await
    }

    async fn set_local(&self, seq: u64, state: &str, before: &str) -> Result<(), JournalError> {
        sqlx::query("UPDATE local_rollback SET state = ? WHERE seq = ? AND state = ?")
            .bind(state)
            .bind(i64::try_from(seq).map_err(damaged)?)
            .bind(before)
            .execute(&mut *self.connection.lock().await)
            .await?;
        Ok(())
    }

    /// Local rollbacks whose command may have been killed.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn local_begun(&self) -> Result<Vec<LocalRollback>, JournalError> {
        local_rollbacks_in(&mut *self.connection.lock().await, "begun").await
    }

    /// Local rollbacks that no coordinator has adopted, oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn local_done(&self) -> Result<Vec<LocalRollback>, JournalError> {
        local_rollbacks_in(&mut *self.connection.lock().await, "done").await
    }
}

/// The newest local rollback of an environment that is not adopted.
pub(super) async fn hold(
    connection: &mut SqliteConnection,
    environment: &EnvironmentKey,
) -> Result<Option<LocalRollback>, JournalError> {
    let row = sqlx::query(
        "SELECT seq, content FROM local_rollback WHERE environment = ? AND state <> 'taken in'
         ORDER BY seq DESC LIMIT 1",
    )
    .bind(environment.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(local_rollback_of_row).transpose()
}

async fn local_rollbacks_in(
    connection: &mut SqliteConnection,
    state: &str,
) -> Result<Vec<LocalRollback>, JournalError> {
    let rows = sqlx::query("SELECT seq, content FROM local_rollback WHERE state = ? ORDER BY seq")
        .bind(state)
        .fetch_all(connection)
        .await?;
    rows.iter().map(local_rollback_of_row).collect()
}

fn local_rollback_of_row(row: &sqlx::sqlite::SqliteRow) -> Result<LocalRollback, JournalError> {
    let seq: i64 = row.try_get("seq")?;
    let content: LocalRollback = stored::decode(row.try_get("content")?).map_err(damaged)?;
    Ok(LocalRollback { seq: u64::try_from(seq).map_err(damaged)?, ..content })
}
