//! One of our programs as a process of its own: started, killed as by `kill -9`, started again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bed::program::run;
use crate::bed::wait::until;

/// How long a program may take to end after it is asked to.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Names the folder of the programs, where they are not beside this one.
pub const PROGRAMS: &str = "LOCKSTEP_PROGRAMS";

/// The program of this name: in the folder that [`PROGRAMS`] names, else where this program and its siblings were
/// built.
///
/// # Errors
/// When it is not there.
pub fn built(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        let path = Path::new(&folder).join(name);
        return path.is_file().then_some(path).with_context(|| format!("{name} is not in {PROGRAMS}"));
    }
    let this = std::env::current_exe().context("this program does not know where it is")?;
    // A test stands in `deps`, one folder below the programs.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: cargo build --workspace"))
}

/// A program that runs.
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`; what it says goes to the end of `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("program"));
        let name = name.to_string_lossy().into_owned();
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, log: log.to_owned(), child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// As `kill -9`: it gets no chance to tidy up.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stands still until [`Process::thaw`], as a machine does that is paused.
    ///
    /// # Errors
    /// When the system does not let it be.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// # Errors
    /// When the system does not let it be.
    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    /// Whether it stands still.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_still(&self) -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in brackets, which may have spaces: proc(5).
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        Ok(state == Some("T"))
    }

    fn signal(&self, signal: &str) -> Result<()> {
        run(Command::new("kill").arg(signal).arg(self.child.id().to_string()))?;
        Ok(())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal("-TERM")?;
        // One that stands still would not hear it.
        self.thaw()?;
        until(&format!("{} has ended", self.name), END_LIMIT, || Ok(self.child.try_wait()?.is_some()))
    }

    /// Waits until `is_so`; a program that ends meanwhile is an error with the end of its log.
    ///
    /// # Errors
    /// When it ends, or the limit passes.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let waited = until(what, limit, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} has ended with {status}", self.name);
            }
            is_so()
        });
        waited.with_context(|| format!("the end of its log:\n{}", self.tail()))
    }

    /// The last lines that it said.
    pub fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Process {
    #[expect(clippy::let_underscore_must_use, reason = "one that has ended already cannot be killed")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory that the process of this number ever had.
///
/// # Errors
/// When there is no such process.
pub fn memory_peak_mib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("it has no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
