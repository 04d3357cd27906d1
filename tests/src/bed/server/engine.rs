//! A Docker Engine of its own beside the machine's, with its own images, containers and bridge: what a second host
//! has.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::bed::program::process::Process;
use crate::bed::program::run;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// How many this process has started: tests run side by side.
static STARTED: AtomicU32 = AtomicU32::new(0);

pub struct Engine {
    bridge: String,
    directory: TempDir,
    process: Option<Process>,
    /// Of its bridge: its containers are published there, and reach this machine there.
    pub address: IpAddr,
}

impl Engine {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let (process, number) = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let address = Ipv4Addr::new(172, 29, u8::try_from((process + number) % 250)?, 1);
        let bridge = format!("lsd{process}x{number}");
        let mut engine = Self { bridge, directory, process: None, address: address.into() };
        let bridge = engine.bridge.clone();
        run(Command::new("ip").args(["link", "add", "name", &bridge, "type", "bridge"]))?;
        run(Command::new("ip").args(["address", "add", &format!("{address}/24"), "dev", &bridge]))?;
        run(Command::new("ip").args(["link", "set", &bridge, "up"]))?;
        let own = engine.directory.path();
        let mut command = Command::new("dockerd");
        command
            .arg("--host")
            .arg(format!("unix://{}", engine.socket().display()))
            .arg("--data-root")
            .arg(own.join("data"))
            .arg("--exec-root")
            .arg(own.join("exec"))
            .arg("--pidfile")
            .arg(own.join("docker.pid"))
            // The machine's engine has the rules; the ports of this one's containers are passed on by a program.
            .args(["--bridge", &bridge, "--iptables=false", "--ip-masq=false"]);
        let mut process = Process::start(&mut command, &own.join("dockerd.log"))?;
        process.wait_until("the engine answers", READY_LIMIT, || Ok(engine.docker(&["version"]).is_ok()))?;
        engine.process = Some(process);
        Ok(engine)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// A command to it.
    ///
    /// # Errors
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.socket().display());
        run(Command::new("docker").args(["--host", &host]).args(arguments))
    }
}

impl Drop for Engine {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        for container in self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default().lines() {
            let _ = self.docker(&["rm", "--force", "--volumes", container]);
        }
        if let Some(process) = &mut self.process {
            let _ = process.stop();
        }
        let _ = run(Command::new("ip").args(["link", "delete", &self.bridge]));
    }
}
