//! Make backups, and raise the epoch of an environment after a restore.

use lockstep_core::secret::Secret;
use lockstep_proto::wire::{self, Done};
use tonic::Status;
use tonic::codegen::BoxStream;
use tracing::warn;

use super::convert::environment;
use super::failure::store_status;
use super::{Caller, ControlApi};
use crate::program::backup::{Backup, BackupError};
use crate::store::guarded::bump_epoch;

/// What one message carries.
const PART_BYTES: usize = 256 * 1024;

pub(super) async fn backup(
    api: &ControlApi,
    caller: &Caller,
    request: wire::BackupRequest,
) -> Result<BoxStream<wire::BackupPart>, Status> {
    let passphrase = Secret::new(request.passphrase);
    let now = api.context.clock.now();
    let backup = Backup::take(&*api.context.store, &api.directory, &api.context.cluster, now)
        .await
        .map_err(|error| refused(&error))?;
    let said = format!("a backup of {} keys", backup.entries.len());
    let sealed = tokio::task::spawn_blocking(move || backup.seal(&passphrase))
        .await
        .map_err(|_| Status::internal("cannot encrypt the backup"))?
        .map_err(|error| refused(&error))?;
    api.audit(caller, "backup", None, said).await?;
    let context: Vec<Result<wire::BackupPart, Status>> =
        sealed.chunks(PART_BYTES).map(|part| Ok(wire::BackupPart { bytes: part.to_vec() })).collect();
    Ok(Box::pin(futures::stream::iter(context)))
}

pub(super) async fn bump_fence(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<Done, Status> {
    let environment = environment(caller, &request.environment)?;
    let raised = bump_epoch(&*api.context.store, &environment).await.map_err(|error| store_status(&error))?;
    let epoch =
        raised.ok_or_else(|| Status::aborted("the environment is locked at this moment: try again"))?;
    let said = format!("the epoch of {environment} is {epoch}: its hosts accept this coordinator again");
    api.audit(caller, "bump fence", Some(&environment), said).await
}

fn refused(error: &BackupError) -> Status {
    match error {
        BackupError::Store(error) => store_status(error),
        BackupError::ShortPassphrase => Status::invalid_argument(error.to_string()),
        BackupError::File(_)
        | BackupError::Missing(_)
        | BackupError::Seal(_)
        | BackupError::Open(_)
        | BackupError::Damaged(_)
        | BackupError::Newer { .. } => {
            warn!(%error, "cannot make a backup");
            Status::internal(error.to_string())
        }
    }
}
