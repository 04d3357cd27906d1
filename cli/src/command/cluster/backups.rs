//! Everything that a coordinator knows, in one file and back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use lockstep_proto::wire;
use serde_json::json;

use crate::command::reply::show_done;
use crate::context::{Context, environment_ref, read_input};
use crate::failure::{Failure, Kind, Result};

const COORDINATOR: &str = "lockstep-coordinator";

pub async fn backup(context: &Context, to: &Path) -> Result<()> {
    let refused = |error: std::io::Error| {
        Failure::new(Kind::Refused, format!("{} cannot be written", to.display()))
            .why(error.to_string())
            .next("name another file with --to")
    };
    // Before anything is asked for: a backup that is there is not written over.
    let mut file =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(to).map_err(refused)?;
    let written = async {
        let passphrase = read_input()?.trim_end_matches(['\r', '\n']).to_owned();
        let request = wire::BackupRequest { passphrase };
        let mut parts = context.control().await?.backup(request).await?.into_inner();
        let mut bytes = 0;
        while let Some(wire::BackupPart { bytes: part }) = parts.message().await? {
            file.write_all(&part).map_err(refused)?;
            bytes += part.len();
        }
        file.sync_all().map_err(refused)?;
        Ok(bytes)
    };
    let bytes = match written.await {
        Ok(bytes) => bytes,
        Err(failure) => {
            // Half of one must not be taken for a backup; that it cannot be removed does not change why there is none.
            fs::remove_file(to).unwrap_or(());
            return Err(failure);
        }
    };
    context.output.json(&json!({ "file": to, "bytes": bytes }))?;
    context.output.line(&format!("{} has everything that the coordinator knows, sealed", to.display()))?;
    context.output.line("keep it apart from its passphrase; to put it back: lockstep restore FILE")
}

/// Gives way to the coordinator's own program: there is no coordinator to ask.
///
/// # Errors
/// When it is not there.
pub fn restore(file: &Path, directory: &Path) -> Result<()> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(COORDINATOR));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| COORDINATOR.into());
    let error = Command::new(&program).arg("--directory").arg(directory).arg("restore").arg(file).exec();
    Err(Failure::new(Kind::Refused, format!("{} cannot be run", program.display()))
        .why(error.to_string())
        .next("restore on a machine that has the coordinator's program"))
}

pub async fn bump_fence(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let done = context.control().await?.bump_fence(request).await?.into_inner();
    show_done(context, &done)
}
