//! The root is replaced, and the coordinator dies between two writes: it goes on with one of the two roots, and the
//! operator can repeat the command. A backup has all that the coordinator needs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::view::authority_status::AuthorityStatus;
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::SOON;
use tempfile::TempDir;

const PASSPHRASE: &str = "correct horse battery staple";

/// A coordinator without hosts, and its operator.
struct LoneCoordinator {
    directory: TempDir,
    listen: SocketAddr,
    coordinator: Process,
}

impl LoneCoordinator {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::DirBuilder::new().mode(0o700).create(directory.path().join("coordinator"))?;
        let listen = SocketAddr::new([127, 0, 0, 1].into(), free_port([127, 0, 0, 1].into())?);
        let coordinator = launched(&directory, listen)?;
        let alone = Self { directory, listen, coordinator };
        alone.wait()?;
        let token = fs::read_to_string(alone.path("coordinator/operator.token"))?;
        run_with_input(&mut alone.command(&["login", "--coordinator", &listen.to_string()])?, &token)?;
        Ok(alone)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn wait(&self) -> Result<()> {
        let address = self.path("coordinator/address");
        until("the coordinator is ready", SOON, || Ok(address.exists()))
            .with_context(|| self.coordinator.tail())
    }

    fn start_again(&mut self) -> Result<()> {
        let address = self.path("coordinator/address");
        if address.exists() {
            fs::remove_file(address)?;
        }
        self.coordinator = launched(&self.directory, self.listen)?;
        self.wait()
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(built("lockstep")?);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("LOCKSTEP_CREDENTIAL", self.path("operator"))
            .env_remove("LOCKSTEP_COORDINATOR");
        Ok(command)
    }

    fn ask(&self, arguments: &[&str]) -> Result<CommandOutput> {
        CommandOutput::of(&mut self.command(arguments)?)
    }

    fn status(&self) -> Result<AuthorityStatus> {
        let said = self.ask(&["--output", "json", "authority", "list"])?;
        ensure!(said.code == 0, "{said:?}\n{}", self.coordinator.tail());
        Ok(serde_json::from_str(&said.stdout)?)
    }

    /// It dies at `point` when `verb` is asked of it, and is started again.
    fn dies(&mut self, verb: &str, point: &str) -> Result<()> {
        fs::write(self.path("order"), format!("{point}\ndie\n"))?;
        let said = self.ask(&["authority", verb])?;
        ensure!(said.code != 0, "it did not die at {point}: {said:?}");
        until("it is dead", SOON, || Ok(self.coordinator.ended()?.is_some()))?;
        self.start_again()
    }
}

fn launched(directory: &TempDir, listen: SocketAddr) -> Result<Process> {
    let mut command = Command::new(built("lockstep-coordinator")?);
    command
        .arg("--directory")
        .arg(directory.path().join("coordinator"))
        .args(["--listen", &listen.to_string()])
        .env("LOCKSTEP_CRASH_ORDER", directory.path().join("order"));
    Process::start(&mut command, &directory.path().join("coordinator.log"))
}

#[test]
fn a_coordinator_that_dies_when_the_next_root_is_written_goes_on() -> Result<()> {
    goes_on_after_a_death_at("rotate", "authority next written")
}

#[test]
fn a_coordinator_that_dies_when_the_next_root_counts_goes_on() -> Result<()> {
    goes_on_after_a_death_at("rotate", "authority next counts")
}

#[test]
fn a_coordinator_that_dies_when_the_next_root_is_half_in_place_goes_on() -> Result<()> {
    goes_on_after_a_death_at("rotate", "authority next half in place")
}

#[test]
fn a_coordinator_that_dies_when_the_next_root_is_in_place_goes_on() -> Result<()> {
    goes_on_after_a_death_at("rotate", "authority next in place")
}

#[test]
fn a_coordinator_that_dies_when_the_earlier_root_is_retired_goes_on() -> Result<()> {
    goes_on_after_a_death_at("retire", "authority retired")
}

/// It goes on with the one root or with the other, whichever of them counts at `point`.
fn goes_on_after_a_death_at(verb: &str, point: &str) -> Result<()> {
    let mut alone = LoneCoordinator::start()?;
    let before = alone.status()?.signing.pin;
    if verb == "retire" {
        alone.ask(&["authority", "rotate"])?.expect_said(0, &["signs"])?;
    }
    alone.dies(verb, point)?;
    let after = alone.status().with_context(|| point.to_owned())?;
    ensure!(verb == "rotate" || after.retiring.is_none(), "{point}: {after:?}");
    // It is not known whether it happened: it can be asked again.
    let again = alone.ask(&["authority", "rotate"])?;
    let is_under_way = again.code == 3 && again.stderr.contains("a rotation has been in progress");
    ensure!(again.code == 0 || is_under_way, "{point}: {again:?}");
    ensure!(is_under_way == after.retiring.is_some(), "{point}: {again:?}");
    let rotated = alone.status()?;
    ensure!(rotated.signing.pin != before, "{point}: {rotated:?}");
    alone.ask(&["authority", "retire"])?.expect_said(0, &["is retired, and only"])?;
    ensure!(!alone.path("coordinator/authority/next.json").exists(), "{point}");
    Ok(())
}

#[test]
fn a_host_that_never_came_is_cut_off_only_by_force_and_a_backup_has_the_root_that_signs() -> Result<()> {
    let mut alone = LoneCoordinator::start()?;
    let answer = alone.ask(&["--output", "json", "host", "token", "--name", "app-1"])?;
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout)?;
    let mut join = Command::new(built("lockstep-agent")?);
    join.arg("join").arg("--directory").arg(alone.path("agent"));
    join.args(["--coordinator", &alone.listen.to_string()]);
    run_with_input(&mut join, answer["token"].as_str().context("there is no token")?)?;

    alone.ask(&["authority", "rotate"])?.expect_said(0, &["make a new one"])?;
    let listed = alone.ask(&["authority", "list"])?;
    listed.expect_said(0, &["still trusted", "host", "app-1", "start its agent"])?;
    let refused = alone.ask(&["authority", "retire"])?;
    refused.expect_said(3, &["it would disconnect app-1", "lockstep authority retire --force"])?;
    let forced = alone.ask(&["authority", "retire", "--force"])?;
    forced.expect_said(0, &["these must join again: app-1"])?;
    let signing = alone.status()?.signing;

    let file = alone.path("lockstep.backup");
    let file = file.to_str().context("a temporary directory is text")?;
    run_with_input(&mut alone.command(&["backup", "--to", file])?, PASSPHRASE)?;
    alone.coordinator.stop()?;
    fs::rename(alone.path("coordinator"), alone.path("lost"))?;
    fs::DirBuilder::new().mode(0o700).create(alone.path("coordinator"))?;
    let own = alone.path("coordinator");
    let own = own.to_str().context("a temporary directory is text")?;
    run_with_input(&mut alone.command(&["restore", file, "--directory", own])?, PASSPHRASE)?;
    alone.start_again()?;
    ensure!(alone.status()?.signing.pin == signing.pin);
    alone.ask(&["authority", "rotate"])?.expect_said(0, &["signs"])?;
    Ok(())
}
