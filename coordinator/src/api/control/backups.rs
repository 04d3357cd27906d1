//! Make backups, and raise the epoch of an environment after a restore.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::secret::Secret;
use lockstep_proto::wire::{self, Done};
use tonic::Status;
use tonic::codegen::BoxStream;
use tracing::warn;

use super::convert::environment;
use super::failure::{not_found, store_status};
use super::{Caller, ControlApi};
use crate::program::backup::{Backup, BackupError};
use crate::record::absent;
use crate::store::guarded::bump_epoch;
use crate::store::{Store, keys};

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
    refuse_never_deployed(&*api.context.store, &environment).await?;
    let raised = bump_epoch(&*api.context.store, &environment).await.map_err(|error| store_status(&error))?;
    let epoch =
        raised.ok_or_else(|| Status::aborted("the environment is locked at this moment: try again"))?;
    let said = format!("the epoch of {environment} is {epoch}: its hosts accept this coordinator again");
    api.audit(caller, "bump fence", Some(&environment), said).await
}

/// No host has seen an epoch of an environment that has none: there is nothing to raise, and the name is mistyped.
async fn refuse_never_deployed(store: &dyn Store, environment: &EnvironmentKey) -> Result<(), Status> {
    let failed = |error| store_status(&error);
    if store.get(keys::epoch(environment).key()).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    Err(not_found(&absent::refusal(store, environment, absent::LIST.to_owned()).await.map_err(failed)?))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::clock::SystemClock;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn the_epoch_of_an_environment_that_was_never_deployed_is_not_raised() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let key: EnvironmentKey = "nosuch/production".parse().unwrap();
        let status = refuse_never_deployed(&store, &key).await.unwrap_err();
        assert!(status.message().contains("there is no environment nosuch/production"), "{status}");
        bump_epoch(&store, &key).await.unwrap().unwrap();
        assert!(refuse_never_deployed(&store, &key).await.is_ok());
    }
}
