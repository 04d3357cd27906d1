//! A service of ours as a process of its own, which outlives the command that started it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::{LOOK_EVERY, read_if_there, unusable};
use crate::failure::{Failure, Kind, Result};

/// A coordinator ends its sessions in order, which takes a moment.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What is shown of the log of one that has ended.
const TAIL_LINES: usize = 5;

pub(super) struct Service {
    name: &'static str,
    program: PathBuf,
    /// Everything of this machine; the service's own is a folder in it.
    directory: PathBuf,
}

pub(super) enum Started {
    Ran { process: i32 },
    Anew { process: i32, log: PathBuf },
}

pub(super) enum Ended {
    Yes,
    DidNotRun,
}

impl Service {
    pub(super) fn of(name: &'static str, directory: &Path) -> Result<Self> {
        let program = program(&format!("lockstep-{name}"))?;
        let directory = std::path::absolute(directory).map_err(|error| unusable(directory, &error))?;
        Ok(Self { name, program, directory })
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn runs(&self) -> Result<bool> {
        Ok(self.process()?.is_some())
    }

    pub(super) fn start(&self, arguments: &[&str]) -> Result<Started> {
        if let Some(process) = self.process()? {
            return Ok(Started::Ran { process: process.as_raw_nonzero().get() });
        }
        let log = self.log();
        let file =
            File::options().create(true).append(true).open(&log).map_err(|error| unusable(&log, &error))?;
        let copy = file.try_clone().map_err(|error| unusable(&log, &error))?;
        let mut command = Command::new(&self.program);
        if self.name == "agent" {
            command.arg("run");
        }
        command.arg("--directory").arg(self.directory.join(self.name)).args(arguments);
        // A group of its own: Ctrl-C and the end of the terminal do not reach it.
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let mut child = command.spawn().map_err(|error| unusable(&self.program, &error))?;
        let process = child.id().cast_signed();
        // The kernel shows the arguments of a program a moment after it was started.
        while cmdline(process).is_empty() && matches!(child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
        fs::write(self.pid_file(), format!("{process}\n"))
            .map_err(|error| unusable(&self.pid_file(), &error))?;
        Ok(Started::Anew { process, log })
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(&self) -> Result<Ended> {
        let Some(process) = self.process()? else { return Ok(Ended::DidNotRun) };
        rustix::process::kill_process(process, Signal::TERM).map_err(|error| {
            Failure::new(Kind::Refused, format!("the {} cannot be told to end", self.name))
                .why(error.to_string())
        })?;
        let begun = Instant::now();
        while self.process()?.is_some() {
            if begun.elapsed() > END_LIMIT {
                return Err(Failure::new(Kind::Refused, format!("the {} does not end", self.name))
                    .next(format!("read {}", self.log().display())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        super::remove_file(&self.pid_file())?;
        Ok(Ended::Yes)
    }

    pub(super) fn refuse_ended(&self) -> Result<()> {
        if self.process()?.is_some() {
            return Ok(());
        }
        Err(Failure::new(Kind::Refused, format!("the {} has ended", self.name))
            .why(self.tail())
            .next(format!("read {}", self.log().display())))
    }

    pub(super) fn not_ready(&self) -> Failure {
        Failure::new(Kind::Unreachable, format!("the {} runs, and is not ready", self.name))
            .why(self.tail())
            .next(format!("read {}", self.log().display()))
    }

    /// The process, if it runs and is this program: a number alone may be another's by this time.
    fn process(&self) -> Result<Option<Pid>> {
        let Some(text) = read_if_there(&self.pid_file())? else { return Ok(None) };
        let Some(process) = text.trim().parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
        let own = self.directory.join(self.name);
        let is_ours = cmdline(process.as_raw_nonzero().get()).contains(&*own.to_string_lossy());
        Ok(is_ours.then_some(process))
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join(format!("{}.pid", self.name))
    }

    fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    fn tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n       ")
    }
}

/// The arguments of a process; empty when it has ended.
fn cmdline(process: i32) -> String {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).into_owned()
}

/// The program of this name: beside this one, else in PATH.
fn program(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join(name)));
    let in_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>())
        .unwrap_or_default();
    beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(Kind::Refused, format!("there is no {name}"))
            .why("it is neither beside lockstep nor in PATH")
            .next("cargo build --release --workspace, and take all three programs from target/release")
    })
}
