//! A coordinator of its own with simulated hosts, each with a certificate and a session over mTLS. The hosts live in
//! this process, beside the coordinator's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::resources::ticks;
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::stage::Record;

pub(super) mod host;
pub(super) mod operator;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// The coordinator's directory, below that of the whole.
const COORDINATOR: &str = "coordinator";

/// Where a coordinator runs, and with what record.
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) address: String,
}

impl Place {
    /// Empties `directory` for a coordinator on a free port.
    pub(super) fn prepare(directory: &Path, record: Record<'_>) -> Result<Self> {
        empty(directory)?;
        let place = Self {
            directory: directory.to_owned(),
            address: format!("127.0.0.1:{}", free_port([127, 0, 0, 1].into())?),
        };
        let own = place.coordinator();
        std::fs::create_dir(&own)?;
        std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        if let Record::Etcd(etcd) = record {
            let settings = etcd.coordinator_settings(&etcd.certificates, "/fanout");
            std::fs::write(own.join("coordinator.toml"), settings)?;
        }
        Ok(place)
    }

    /// The coordinator's own directory.
    pub(super) fn coordinator(&self) -> PathBuf {
        self.directory.join(COORDINATOR)
    }

    /// Starts the coordinator and waits until it is ready.
    pub(super) fn start(&self) -> Result<Process> {
        let own = self.coordinator();
        let mut command = Command::new(built("lockstep-coordinator")?);
        command.arg("--directory").arg(&own).args(["--listen", &self.address]);
        let mut process = Process::start(&mut command, &self.directory.join("coordinator.log"))?;
        process.wait_until("the coordinator is ready", READY_LIMIT, || Ok(own.join("address").exists()))?;
        Ok(process)
    }
}

/// What the simulated hosts run on.
pub(super) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

pub(super) fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    Ok(std::fs::create_dir_all(directory)?)
}

/// What each process needs of one processor while nothing happens for `window`, in percent.
pub(super) fn idle<const N: usize>(processes: [u32; N], window: Duration) -> Result<[f64; N]> {
    let ticks_per_second: f64 = run(Command::new("getconf").arg("CLK_TCK"))?.parse()?;
    let mut before = [0; N];
    for (before, process) in before.iter_mut().zip(processes) {
        *before = ticks(process)?;
    }
    let begun = Instant::now();
    rest(window);
    let all = begun.elapsed().as_secs_f64() * ticks_per_second;
    let mut percent = [0.0; N];
    for ((percent, process), before) in percent.iter_mut().zip(processes).zip(before) {
        *percent = (ticks(process)? - before) as f64 / all * 100.0;
    }
    Ok(percent)
}

#[expect(clippy::disallowed_methods, reason = "the time in which nothing happens is what is measured")]
pub(super) fn rest(time: Duration) {
    std::thread::sleep(time);
}
