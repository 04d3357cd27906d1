//! The demonstration tidies up when it is interrupted, as at a terminal: the signal reaches the whole group.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::server::docker::Docker;
use lockstep_tests::bed::wait::until;

/// Until the load runs: the example may have to be built first.
const LOAD_LIMIT: Duration = Duration::from_secs(300);

const END_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_interrupted_demonstration_leaves_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("demo.log");
    let mut demo = Process::start(Command::new(built("demo")?).process_group(0), &log)?;
    let told = || Ok(fs::read_to_string(&log)?.contains("release 2, with a migration"));
    demo.wait_until("the demonstration is in the middle", LOAD_LIMIT, told)?;
    let group = format!("-{}", demo.id());
    ensure!(
        Command::new("kill").args(["-INT", "--", &group]).status()?.success(),
        "it cannot be interrupted"
    );
    until("the demonstration has ended", END_LIMIT, || Ok(demo.ended()?.is_some()))?;
    let status = demo.ended()?;
    ensure!(
        status.is_some_and(|status| status.code() == Some(1)),
        "it ended with {status:?}:\n{}",
        demo.tail()
    );
    ensure!(fs::read_to_string(&log)?.contains("interrupted"), "{}", demo.tail());
    assert_nothing_is_left()
}

fn assert_nothing_is_left() -> Result<()> {
    let containers = Docker::check()?.containers("lockstep.environment=lockstep-demo/production")?;
    ensure!(containers.is_empty(), "it left {} containers", containers.len());
    // All that a stage starts has its directory in its arguments.
    let programs = Command::new("pgrep").args(["--full", "--list-full", "demo/stage/"]).output()?;
    ensure!(programs.stdout.is_empty(), "it left {}", String::from_utf8_lossy(&programs.stdout));
    Ok(())
}
