//! One run of a program to its end: what it wrote, or why it failed.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

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
