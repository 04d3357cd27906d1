//! Coordinator and agent are killed after each durable write of a deployment and of an unwinding. The points are those
//! that the code itself yields.
//!
//! In one row of kills a process dies at one point, is started again, dies at the next, and so on: a deployment for each
//! point takes an hour. With `CRASH_ALONE=1` (`make crash`) each point has a deployment of its own.

use std::env;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;
use lockstep_tests::scene::Scene;
use lockstep_tests::scene::traffic::assert_none_lost;

use super::crash_test::{CrashOrder, CrashTest, Operation, Victim};

/// A point is reached within the longest step and some patience.
const POINT_LIMIT: Duration = Duration::from_secs(60);

/// A row ends: the coordinator waits a minute at most for a host that is gone.
const END_LIMIT: Duration = Duration::from_secs(120);

const KILLED: i32 = 9;

/// The only process of its kind.
const FIRST: usize = 0;

#[test]
fn a_deployment_survives_a_kill_after_every_write() -> Result<()> {
    survives_kills("crash", Operation::Deploy)
}

#[test]
fn an_unwinding_survives_a_kill_after_every_write() -> Result<()> {
    survives_kills("crashback", Operation::FailedDeploy)
}

/// Both victims on one stage, because a stage and the run without a crash cost as much as a row of kills.
fn survives_kills(name: &str, operation: Operation) -> Result<()> {
    let mut test = CrashTest::open(Scene::open_with_bake(name, "0s")?, operation)?;
    for victim in [Victim::Coordinator, Victim::Agent] {
        let points = test.points(victim)?;
        for row in rows(&points) {
            survives_row(&mut test, victim, row).with_context(|| format!("killed at {}", row.join(", ")))?;
        }
    }
    Ok(())
}

fn rows(points: &[String]) -> Vec<&[String]> {
    if env::var_os("CRASH_ALONE").is_some() { points.chunks(1).collect() } else { vec![points] }
}

/// One deployment, in which a process is killed at each of the points.
fn survives_row(test: &mut CrashTest, victim: Victim, points: &[String]) -> Result<()> {
    let (mut command, load) = test.begin(points, CrashOrder::Die)?;
    let ended = kill_at(test, victim, points).and_then(|()| assert_end(test, load));
    if ended.is_err() {
        command.kill()?;
    }
    let status = command.wait()?;
    ended.with_context(|| test.logs())?;
    assert_exit_code(test, status)
}

fn kill_at(test: &mut CrashTest, victim: Victim, points: &[String]) -> Result<()> {
    let next = points.iter().skip(1).map(Some).chain([None]);
    for (point, next) in points.iter().zip(next) {
        until(&format!("the {victim} is killed at {point:?}"), POINT_LIMIT, || {
            Ok(test.process(victim, FIRST).ended()?.is_some())
        })?;
        let status = test.process(victim, FIRST).ended()?.context("it has ended")?;
        ensure!(is_killed(status), "the {victim} ended at {point:?} with {status}");
        test.order(next, CrashOrder::Die)?;
        test.start_again(victim, FIRST)?;
    }
    Ok(())
}

fn assert_end(test: &CrashTest, load: Load) -> Result<()> {
    until("the deployment has ended", END_LIMIT, || test.has_ended())?;
    assert_none_lost(load)?;
    test.scene.stage.wait_for_agent()?;
    test.assert_whole()
}

/// The command line saw the end, or says that it does not know.
fn assert_exit_code(test: &CrashTest, status: ExitStatus) -> Result<()> {
    const UNREACHABLE: i32 = 5;
    let code = status.code().unwrap_or(-1);
    let wanted = test.operation.code();
    ensure!(code == wanted || code == UNREACHABLE, "it ended with {code}:\n{}", test.logs());
    Ok(())
}

fn is_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(KILLED)
}
