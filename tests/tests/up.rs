//! `lockstep up` and `lockstep down`: one machine, from nothing to ready and back.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::process::built;
use serde_json::Value;

struct Machine {
    directory: tempfile::TempDir,
    listen: String,
}

impl Machine {
    fn new() -> Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port(Ipv4Addr::LOCALHOST.into())?);
        Ok(Self { directory: tempfile::tempdir()?, listen })
    }

    fn own(&self) -> String {
        self.directory.path().join("machine").display().to_string()
    }

    /// The exit code, and all that was said.
    fn lockstep(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(built("lockstep")?);
        command.args(arguments).env("LOCKSTEP_CREDENTIAL", self.directory.path().join("credential"));
        let output = command.current_dir(self.directory.path()).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }

    fn must(&self, arguments: &[&str]) -> Result<String> {
        let (code, said) = self.lockstep(arguments)?;
        ensure!(code == 0, "lockstep {} ended with {code}:\n{said}", arguments.join(" "));
        Ok(said)
    }

    fn up(&self) -> Result<String> {
        self.must(&["up", "--name", "app-1", "--directory", &self.own(), "--listen", &self.listen])
    }

    /// The two processes, as long as they run.
    fn processes(&self) -> Result<Vec<String>> {
        let found =
            Command::new("pgrep").args(["--full", &format!("lockstep-.*{}/", self.own())]).output()?;
        Ok(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect())
    }
}

impl Drop for Machine {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = self.lockstep(&["down", "--directory", &self.own(), "--purge", "--yes"]);
    }
}

#[test]
fn a_machine_is_made_ready_once_and_goes_again() -> Result<()> {
    let machine = Machine::new()?;
    let first = machine.up()?;
    for words in ["started the coordinator", "logged in as admin", "joined this host", "Ready: app-1"] {
        ensure!(first.contains(words), "{words:?} is not in:\n{first}");
    }
    let hosts: Value = serde_json::from_str(&machine.must(&["--output", "json", "host", "list"])?)?;
    ensure!(hosts[0]["presence"] == "connected" && hosts[0]["host"]["name"] == "app-1", "{hosts}");

    let before = machine.processes()?;
    ensure!(before.len() == 2, "{before:?} run");
    let again = machine.up()?;
    ensure!(!again.contains("did  "), "it did something again:\n{again}");
    ensure!(machine.processes()? == before, "others run than before");

    // A coordinator that was killed is started again, and knows its host and its operator.
    let killed = fs::read_to_string(Path::new(&machine.own()).join("coordinator.pid"))?;
    ensure!(Command::new("kill").args(["-9", killed.trim()]).status()?.success());
    let restarted = machine.up()?;
    ensure!(
        restarted.contains("started the coordinator") && restarted.contains("Ready: app-1"),
        "{restarted}"
    );

    let down = machine.must(&["down", "--directory", &machine.own()])?;
    ensure!(down.contains("go on serving"), "{down}");
    ensure!(machine.processes()?.is_empty(), "{:?} run", machine.processes()?);
    machine.up()?;
    assert_purged(&machine)
}

fn assert_purged(machine: &Machine) -> Result<()> {
    let (code, said) = machine.lockstep(&["down", "--directory", &machine.own(), "--purge"])?;
    ensure!(code == 2 && said.contains("history") && said.contains("--yes"), "{code} {said}");
    ensure!(machine.processes()?.len() == 2, "it ended them before it was sure");
    machine.must(&["down", "--directory", &machine.own(), "--purge", "--yes"])?;
    ensure!(machine.processes()?.is_empty());
    let left = fs::read_dir(machine.directory.path())?.next().transpose().context("cannot look")?;
    ensure!(left.is_none(), "{left:?} is left");
    Ok(())
}
