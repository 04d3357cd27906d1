//! The rows of the journal's tables. The [journal](super) decides which may be written when.

use std::collections::BTreeMap;

use lockstep_core::agent::accept::{StepRecord, StepState};
use lockstep_core::agent::fence::{FenceState, Token};
use lockstep_core::id::{Digest, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::Action;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::stored;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Ended, JournalError};
use crate::journal::assignment::Assignment;

/// One step, as it is kept.
pub(super) struct Row {
    pub(super) key: StepKey,
    pub(super) environment: EnvironmentKey,
    pub(super) known: StepRecord,
}

const STEP: &str =
    "SELECT deployment, step, direction, environment, cluster, epoch, seq, said, state, outcome
    FROM step WHERE deployment = ? AND step = ? AND direction = ?";

const UNSETTLED: &str =
    "SELECT deployment, step, direction, environment, cluster, epoch, seq, said, state, outcome
    FROM step WHERE settled = 0 AND state IN ('done', 'failed') ORDER BY epoch, seq";

pub(super) async fn fence_state(
    connection: &mut SqliteConnection,
    environment: &EnvironmentKey,
) -> Result<Option<FenceState>, JournalError> {
    let row = sqlx::query("SELECT cluster, epoch, seq, said FROM mark WHERE environment = ?")
        .bind(environment.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let said: Option<String> = row.try_get("said")?;
        let said = said.map(|said| said.parse().map_err(damaged)).transpose()?;
        Ok(FenceState { token: token_of(&row)?, assignment_digest: said })
    })
    .transpose()
}

pub(super) async fn set_fence_state(
    connection: &mut SqliteConnection,
    environment: &EnvironmentKey,
    mark: &FenceState,
) -> Result<(), JournalError> {
    let (epoch, seq) = numbers(&mark.token)?;
    sqlx::query(
        "INSERT OR REPLACE INTO mark (environment, cluster, epoch, seq, said) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(environment.to_string())
    .bind(mark.token.cluster.as_str())
    .bind(epoch)
    .bind(seq)
    .bind(mark.assignment_digest.as_ref().map(Digest::as_str))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn object_names(
    connection: &mut SqliteConnection,
) -> Result<BTreeMap<EnvironmentKey, ObjectName>, JournalError> {
    let rows = sqlx::query("SELECT environment, name FROM object_name").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let (environment, name): (String, String) = (row.try_get("environment")?, row.try_get("name")?);
            Ok((environment.parse().map_err(damaged)?, name.parse().map_err(damaged)?))
        })
        .collect()
}

pub(super) async fn set_object_name(
    connection: &mut SqliteConnection,
    environment: &EnvironmentKey,
    name: &ObjectName,
) -> Result<(), JournalError> {
    sqlx::query("INSERT OR REPLACE INTO object_name (environment, name) VALUES (?, ?)")
        .bind(environment.to_string())
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn step(
    connection: &mut SqliteConnection,
    key: &StepKey,
) -> Result<Option<Row>, JournalError> {
    let (deployment, step, direction) = columns(key);
    let row =
        sqlx::query(STEP).bind(deployment).bind(step).bind(direction).fetch_optional(connection).await?;
    row.map(|row| row_of(&row)).transpose()
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    assignment: &Assignment,
) -> Result<(), JournalError> {
    let (deployment, step, direction) = columns(&assignment.key);
    let (epoch, seq) = numbers(&assignment.token)?;
    sqlx::query(
        "INSERT INTO step (deployment, step, direction, environment, cluster, epoch, seq, said, state, work)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'accepted', ?)",
    )
    .bind(deployment)
    .bind(step)
    .bind(direction)
    .bind(assignment.environment.to_string())
    .bind(assignment.token.cluster.as_str())
    .bind(epoch)
    .bind(seq)
    .bind(assignment.digest().as_str())
    .bind(assignment.action.as_ref().map_or("nothing", Action::name))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn update_token(
    connection: &mut SqliteConnection,
    key: &StepKey,
    token: &Token,
) -> Result<(), JournalError> {
    let (deployment, step, direction) = columns(key);
    let (epoch, seq) = numbers(token)?;
    sqlx::query(
        "UPDATE step SET cluster = ?, epoch = ?, seq = ? WHERE deployment = ? AND step = ? AND direction = ?",
    )
    .bind(token.cluster.as_str())
    .bind(epoch)
    .bind(seq)
    .bind(deployment)
    .bind(step)
    .bind(direction)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn set_accepted(
    connection: &mut SqliteConnection,
    key: &StepKey,
) -> Result<(), JournalError> {
    set_state(connection, key, "accepted", None).await
}

pub(super) async fn set_running(
    connection: &mut SqliteConnection,
    key: &StepKey,
) -> Result<(), JournalError> {
    set_state(connection, key, "running", None).await
}

pub(super) async fn set_ended(
    connection: &mut SqliteConnection,
    key: &StepKey,
    state: &'static str,
    outcome: &[u8],
) -> Result<(), JournalError> {
    set_state(connection, key, state, Some(outcome)).await
}

async fn set_state(
    connection: &mut SqliteConnection,
    key: &StepKey,
    state: &'static str,
    outcome: Option<&[u8]>,
) -> Result<(), JournalError> {
    let (deployment, step, direction) = columns(key);
    sqlx::query(
        "UPDATE step SET state = ?, outcome = ?, settled = 0
         WHERE deployment = ? AND step = ? AND direction = ?",
    )
    .bind(state)
    .bind(outcome)
    .bind(deployment)
    .bind(step)
    .bind(direction)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn interrupt(
    connection: &mut SqliteConnection,
) -> Result<Vec<(StepKey, EnvironmentKey)>, JournalError> {
    let rows = sqlx::query(
        "UPDATE step SET state = 'interrupted' WHERE state = 'running'
         RETURNING deployment, step, direction, environment",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((key_of(row)?, environment_of(row)?))).collect()
}

/// Forgets all but the newest `kept` deployments: their ids are in the order of their making.
pub(super) async fn prune(connection: &mut SqliteConnection, kept: u32) -> Result<(), JournalError> {
    sqlx::query(
        "DELETE FROM step WHERE deployment NOT IN
         (SELECT DISTINCT deployment FROM step ORDER BY deployment DESC LIMIT ?)",
    )
    .bind(kept)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn unsettled(connection: &mut SqliteConnection) -> Result<Vec<Ended>, JournalError> {
    let rows = sqlx::query(UNSETTLED).fetch_all(connection).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        let Row { key, environment, known } = row_of(row)?;
        match known.state {
            StepState::Ended(outcome) => all.push(Ended { token: known.token, key, environment, outcome }),
            StepState::Accepted | StepState::Running | StepState::Interrupted => {}
        }
    }
    Ok(all)
}

/// Whether it was that token's.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    key: &StepKey,
    token: &Token,
) -> Result<bool, JournalError> {
    let (deployment, step, direction) = columns(key);
    let (epoch, seq) = numbers(token)?;
    let settled = sqlx::query(
        "UPDATE step SET settled = 1
         WHERE deployment = ? AND step = ? AND direction = ? AND epoch = ? AND seq = ?",
    )
    .bind(deployment)
    .bind(step)
    .bind(direction)
    .bind(epoch)
    .bind(seq)
    .execute(connection)
    .await?;
    Ok(settled.rows_affected() > 0)
}

fn row_of(row: &SqliteRow) -> Result<Row, JournalError> {
    let state: &str = row.try_get("state")?;
    let outcome: Option<&[u8]> = row.try_get("outcome")?;
    let state = match (state, outcome) {
        ("accepted", _) => StepState::Accepted,
        ("running", _) => StepState::Running,
        ("interrupted", _) => StepState::Interrupted,
        ("done", Some(bytes)) => StepState::Ended(Ok(stored::decode::<Finding>(bytes).map_err(damaged)?)),
        ("failed", Some(bytes)) => {
            StepState::Ended(Err(stored::decode::<StepFailure>(bytes).map_err(damaged)?))
        }
        (other, _) => return Err(damaged(format!("a step has the state {other:?}"))),
    };
    let said: &str = row.try_get("said")?;
    Ok(Row {
        key: key_of(row)?,
        environment: environment_of(row)?,
        known: StepRecord { token: token_of(row)?, assignment_digest: said.parse().map_err(damaged)?, state },
    })
}

fn key_of(row: &SqliteRow) -> Result<StepKey, JournalError> {
    let deployment: &str = row.try_get("deployment")?;
    let step: u16 = row.try_get("step")?;
    let direction = match row.try_get("direction")? {
        "do" => Direction::Do,
        "undo" => Direction::Undo,
        other => return Err(damaged(format!("a step has the direction {other:?}"))),
    };
    Ok(StepKey { deployment: deployment.parse().map_err(damaged)?, step: StepId(step), direction })
}

fn environment_of(row: &SqliteRow) -> Result<EnvironmentKey, JournalError> {
    let environment: &str = row.try_get("environment")?;
    environment.parse().map_err(damaged)
}

fn token_of(row: &SqliteRow) -> Result<Token, JournalError> {
    let cluster: &str = row.try_get("cluster")?;
    let number = |column: &str| {
        let number: i64 = row.try_get(column)?;
        u64::try_from(number).map_err(damaged)
    };
    Ok(Token { cluster: cluster.parse().map_err(damaged)?, epoch: number("epoch")?, seq: number("seq")? })
}

fn columns(key: &StepKey) -> (&str, u16, &'static str) {
    (key.deployment.as_str(), key.step.0, key.direction.as_str())
}

fn numbers(token: &Token) -> Result<(i64, i64), JournalError> {
    let number = |number: u64| i64::try_from(number).map_err(damaged);
    Ok((number(token.epoch)?, number(token.seq)?))
}

pub(super) fn damaged(what: impl std::fmt::Display) -> JournalError {
    JournalError::Damaged { what: what.to_string() }
}
