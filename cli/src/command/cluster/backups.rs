//! Backups of the coordinator's data, their restore, and the epoch after one.

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
            .next("choose another file with --to")
    };
    // Created before anything is asked for, so that an existing backup is never overwritten.
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
            // Half a file must not be taken for a backup. If it cannot be removed, the first failure still says why.
            fs::remove_file(to).unwrap_or(());
            return Err(failure);
        }
    };
    context.output.json(&json!({ "file": to, "bytes": bytes }))?;
    context.output.line(&format!("wrote all data of the coordinator to {}, encrypted", to.display()))?;
    context.output.line("Keep the file and its passphrase in different places. To restore it:")?;
    context.output.verbatim(&format!("  lockstep restore {} < passphrase", to.display()))
}

/// Runs the coordinator's program in the place of this one: no coordinator runs that could be asked.
///
/// # Errors
/// When there is no such file that can be read, or the program is not installed.
pub fn restore(file: &Path, directory: &Path) -> Result<()> {
    // The program writes to the log of a service. What can be told before is told as every command tells it.
    check_backup(file)?;
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(COORDINATOR));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| COORDINATOR.into());
    let error = Command::new(&program).arg("--directory").arg(directory).arg("restore").arg(file).exec();
    Err(Failure::new(Kind::Refused, format!("{} cannot be run", program.display()))
        .why(error.to_string())
        .next("apt-get install lockstep-coordinator, or restore on a machine that has it"))
}

fn check_backup(file: &Path) -> Result<()> {
    let refused = |why: String| {
        Failure::new(Kind::Refused, format!("{} cannot be restored", file.display()))
            .why(why)
            .next("lockstep restore FILE < passphrase    # FILE is one that `lockstep backup` wrote")
    };
    let is_file = fs::metadata(file).map_err(|error| refused(error.to_string()))?.is_file();
    if !is_file {
        return Err(refused("it is not a regular file".to_owned()));
    }
    fs::File::open(file).map(drop).map_err(|error| refused(error.to_string()))
}

pub async fn bump_fence(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let done = context.control().await?.bump_fence(request).await?.into_inner();
    show_done(context, &done)
}
