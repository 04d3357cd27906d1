//! A command that runs while the test does something else.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::program::CommandOutput;
use crate::bed::program::process::memory_peak_mib;
use crate::bed::wait::until;

pub struct Background {
    child: Option<Child>,
}

impl Background {
    pub fn start(command: Command) -> Result<Self> {
        Self::start_with_input(command, "")
    }

    pub fn start_with_input(mut command: Command, input: &str) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Dropped at once, so that it has an end.
        let mut stdin = child.stdin.take().context("its input is piped")?;
        stdin.write_all(input.as_bytes())?;
        Ok(Self { child: Some(child) })
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        self.signal("-INT")
    }

    /// As `kill` takes it.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.as_ref().context("it has ended")?.id();
        Command::new("kill").args([signal, &id.to_string()]).status()?;
        Ok(())
    }

    pub fn is_running(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("it has ended")?;
        Ok(child.try_wait()?.is_none())
    }

    /// The most memory that it ever had; `None` if it has ended.
    pub fn memory_peak_mib(&self) -> Option<u64> {
        memory_peak_mib(self.child.as_ref()?.id()).ok()
    }

    /// Until it ends; what it says is little, so that the pipe holds it.
    pub fn wait(mut self, limit: Duration) -> Result<CommandOutput> {
        until("the command has ended", limit, || Ok(!self.is_running()?))?;
        let output = self.child.take().context("it has ended")?.wait_with_output()?;
        Ok(output.into())
    }
}

impl Drop for Background {
    #[expect(clippy::let_underscore_must_use, reason = "one that has ended already cannot be killed")]
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
