//! Operators and hosts that join a scene beside its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bed::program::process::built;
use crate::bed::program::{CommandOutput, run_with_input};
use crate::scene::background::Background;
use crate::scene::{SOON, Scene};

/// Adds an operator and logs in as it; gives the folder of its credential.
pub fn add_operator(scene: &Scene, name: &str, environments: &str, role: &str) -> Result<PathBuf> {
    let added = scene.stage.json(&["operator", "add", name, "--env", environments, "--role", role])?;
    let token = added["token"].as_str().context("there is no token")?;
    let credential = scene.stage.directory.join(name);
    log_in(scene, &credential, token)?.expect_said(0, &[])?;
    Ok(credential)
}

/// Logs in at the scene's coordinator; `credential` is the folder that the credential is written to.
pub fn log_in(scene: &Scene, credential: &Path, token: &str) -> Result<CommandOutput> {
    log_in_at(scene, credential, &coordinator_address(scene)?, token)
}

pub fn log_in_at(scene: &Scene, credential: &Path, address: &str, token: &str) -> Result<CommandOutput> {
    let mut command = scene.stage.command(&["login", "--coordinator", address])?;
    command.env("LOCKSTEP_CREDENTIAL", credential);
    Background::start_with_input(command, token)?.wait(SOON)
}

/// Runs a command as the operator of this credential.
pub fn with_credential(scene: &Scene, credential: &Path, arguments: &[&str]) -> Result<CommandOutput> {
    CommandOutput::of(scene.stage.command(arguments)?.env("LOCKSTEP_CREDENTIAL", credential))
}

pub fn coordinator_address(scene: &Scene) -> Result<String> {
    Ok(fs::read_to_string(scene.stage.directory.join("coordinator/address"))?.trim().to_owned())
}

/// A host joins with this token, and has its directory in `folder`; gives what its agent wrote.
pub fn join_host(scene: &Scene, folder: &str, token: &str) -> Result<String> {
    let mut command = agent_command("join", &scene.stage.directory.join(folder))?;
    command.args(["--coordinator", &coordinator_address(scene)?]);
    run_with_input(&mut command, token)
}

/// `lockstep-agent join` or `run`, with its files in `directory`.
pub fn agent_command(verb: &str, directory: &Path) -> Result<Command> {
    let mut agent = Command::new(built("lockstep-agent")?);
    agent.arg(verb).arg("--directory").arg(directory);
    Ok(agent)
}
