//! The commands that a message names as the next ones. Whoever runs `lockstep` in a test tries them too: each must be one
//! that can be pasted, and one that only looks must answer in that state.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::CommandOutput;

/// Labels of a message's lines, before a command.
const LABELS: [&str; 2] = ["next: ", "or: "];

/// What ends a command in a shell's line, or its arguments.
const SHELL: [&str; 5] = ["#", "|", "<", "&&", ";"];

/// The beginnings of commands that only look, and end by themselves.
const LOOKS: [&[&str]; 14] = [
    &["status"],
    &["doctor"],
    &["logs"],
    &["show"],
    &["history"],
    &["audit"],
    &["env", "list"],
    &["env", "show"],
    &["host", "list"],
    &["operator", "list"],
    &["token", "list"],
    &["coordinator", "list"],
    &["lock", "status"],
    &["secret", "list"],
];

/// `usage` and `refused`: it cannot be typed so, or it is of no use to this operator.
const OF_NO_USE: [i32; 2] = [2, 3];

/// Tries what `output` of `command` names as next.
///
/// # Errors
/// When one of them is no command, or one that only looks is refused.
pub(super) fn try_next_commands(command: &Command, output: &CommandOutput) -> Result<()> {
    let is_lockstep = Path::new(command.get_program()).file_name().is_some_and(|name| name == "lockstep");
    if !is_lockstep {
        return Ok(());
    }
    for line in output.all().lines() {
        let Some(next) = LABELS.iter().find_map(|label| line.trim_start().strip_prefix(label)) else {
            continue;
        };
        let Some(arguments) = next.strip_prefix("lockstep ") else { continue };
        let arguments: Vec<&str> =
            arguments.split_whitespace().take_while(|word| !SHELL.contains(word)).collect();
        try_one(command, &arguments).with_context(|| format!("the next command of: {line}"))?;
    }
    Ok(())
}

fn try_one(command: &Command, arguments: &[&str]) -> Result<()> {
    let looks = LOOKS.iter().any(|begin| arguments.starts_with(begin)) && !arguments.contains(&"--follow");
    let mut next = Command::new(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => next.env(name, value),
            None => next.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        next.current_dir(folder);
    }
    // Help is shown once what stands before it was understood.
    next.args(arguments).args((!looks).then_some("--help"));
    let output: CommandOutput = next.output().context("cannot run it")?.into();
    ensure!(!OF_NO_USE.contains(&output.code), "it ended with {}:\n{}", output.code, output.all());
    Ok(())
}
