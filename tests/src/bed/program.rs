//! One run of a program to its end: what it wrote, or why it failed.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

pub mod interrupt;
mod next_commands;
pub mod process;
pub mod terminal;

/// What a command wrote, and its exit code; -1 if a signal ended it.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// Runs `command` to its end, whatever its exit code is. What it names as the next commands is tried as well.
    pub fn of(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.output().with_context(|| format!("cannot run {name}"))?.into();
        next_commands::try_next_commands(command, &output)?;
        Ok(output)
    }

    /// Both streams, one after the other.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless the exit code is `code` and every one of `words` was written.
    pub fn expect_said(self, code: i32, words: &[&str]) -> anyhow::Result<Self> {
        self.check(code, words)?;
        Ok(self)
    }

    /// As [`CommandOutput::expect_said`], for output that is looked at more than once.
    pub fn check(&self, code: i32, words: &[&str]) -> anyhow::Result<()> {
        let all = self.all();
        let missing: Vec<&&str> = words.iter().filter(|word| !all.contains(**word)).collect();
        if self.code != code || !missing.is_empty() {
            bail!("it ended with {} instead of {code}, without {missing:?}:\n{all}", self.code);
        }
        Ok(())
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The standard output, without the white space at its end.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    run_with_input(command, "")
}

/// Input instead of arguments, for what must not be seen in the process list.
#[expect(
    clippy::let_underscore_must_use,
    reason = "a program that ends without reading its input says why on its own"
)]
pub fn run_with_input(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
