//! One host: a container that boots systemd, and what can be done to it as its administrator.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::image::Image;
use super::{Kind, label};
use crate::bed::program::{run, run_with_input};
use crate::bed::wait::until;

/// Eight hosts boot on two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// What systemd and a Docker Engine inside need: `--privileged` asks for more than a machine may have to give.
const RIGHTS: &[&str] = &[
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp",
    "--volume=/var/lib/docker",
    "--volume=/var/lib/containerd",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--env=container=docker",
    // What systemd takes for being switched off.
    "--stop-signal=SIGRTMIN+3",
];

#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub kind: Kind,
    pub address: Ipv4Addr,
    pub(super) container: String,
}

impl Host {
    pub(super) fn start(
        fleet: &str,
        name: &str,
        kind: Kind,
        address: Ipv4Addr,
        image: &Image,
    ) -> Result<Self> {
        let container = format!("{fleet}-{name}");
        let mut command = Command::new("docker");
        command
            .args(["run", "--detach", "--name", &container, "--hostname", name, "--label", &label(fleet)])
            .args(["--network", fleet, "--ip", &address.to_string()])
            .args(RIGHTS)
            .args([&image.tag, "/sbin/init"])
            .args(image.boot_arguments);
        run(&mut command).with_context(|| format!("cannot start {container}"))?;
        Ok(Self { name: name.to_owned(), kind, address, container })
    }

    /// As when its plug is pulled: nothing on it is told.
    ///
    /// # Errors
    /// When Docker does not do it.
    pub fn power_off(&self) -> Result<()> {
        run(Command::new("docker").args(["kill", &self.container]))?;
        Ok(())
    }

    /// Boots it again, with the disks that it had.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn power_on(&self) -> Result<()> {
        run(Command::new("docker").args(["start", &self.container]))?;
        self.wait_until_booted()
    }

    pub(super) fn wait_until_booted(&self) -> Result<()> {
        until(&format!("{} has booted", self.name), BOOT_LIMIT, || {
            Ok(self.run("systemctl is-system-running").is_ok_and(|state| state == "running"))
        })
    }

    /// Runs a script of bash as root; gives what it said. It goes by standard input, where nobody else sees it.
    ///
    /// # Errors
    /// When it ends with another code than 0.
    pub fn run(&self, script: &str) -> Result<String> {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &self.container]);
        // It is read to its end first, so that no command of it reads the rest of it.
        command.args(["bash", "-euo", "pipefail", "-c", "eval \"$(cat)\""]);
        run_with_input(&mut command, script).with_context(|| format!("on {}", self.name))
    }

    /// Writes a file for root alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &self.container, "sh", "-c"]);
        command.arg("umask 077; mkdir -p \"$(dirname \"$0\")\"; cat > \"$0\"").arg(path);
        run_with_input(&mut command, content)
            .with_context(|| format!("cannot write {path} on {}", self.name))?;
        Ok(())
    }

    /// Copies a file into a folder of the host.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, file: &Path, folder: &str) -> Result<()> {
        let to = format!("{}:{folder}/", self.container);
        run(Command::new("docker").arg("cp").arg(file).arg(to))
            .with_context(|| format!("cannot copy {} to {}", file.display(), self.name))?;
        Ok(())
    }

    /// Gives its Docker Engine images of this machine's.
    ///
    /// # Errors
    /// When one is not there, or not taken.
    pub fn load_images(&self, tags: &[String]) -> Result<()> {
        let script = "docker save \"$@\" | docker exec --interactive \"$0\" docker load";
        run(Command::new("bash").args(["-euo", "pipefail", "-c", script, &self.container]).args(tags))
            .with_context(|| format!("cannot load {} on {}", tags.join(", "), self.name))?;
        Ok(())
    }

    /// Whether the unit is active.
    ///
    /// # Errors
    /// When the host does not answer.
    pub fn is_active(&self, unit: &str) -> Result<bool> {
        Ok(self.run(&format!("systemctl is-active {unit} || true"))? == "active")
    }

    /// What `systemd-analyze security` makes of the unit: 0 is best, 10 worst.
    ///
    /// # Errors
    /// When it does not say.
    pub fn exposure(&self, unit: &str) -> Result<f64> {
        let said = self.run(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"))?;
        let number = said.rsplit(": ").next().and_then(|rest| rest.split_whitespace().next());
        number.and_then(|text| text.parse().ok()).with_context(|| format!("no exposure in {said:?}"))
    }
}
