//! A program that is interrupted tidies up: what it waits for is ended, so that it fails as after any failure.

use std::process::Command;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Runs `story` to its end; after SIGINT or SIGTERM the programs it has started are asked to end.
///
/// # Errors
/// What the story fails with, or that it was interrupted.
pub fn unless_interrupted<T: Send + 'static>(story: fn() -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut story = tokio::task::spawn_blocking(story);
        tokio::select! {
            ended = &mut story => return ended?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Only those that are this process's own.
        Command::new("pkill").args(["-TERM", "-P", &std::process::id().to_string()]).status()?;
        match story.await? {
            Ok(told) => Ok(told),
            Err(_) => bail!("interrupted; everything that was started is gone"),
        }
    })
}
