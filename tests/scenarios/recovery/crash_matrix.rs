//! Two coordinators and an agent on etcd, under load. At each point that the code yields, the program that reaches it is
//! killed, or stands still for longer than its lease, while a release is deployed, fails its health checks, or is rolled
//! back.
//!
//! In `make test` the coordinators die in turn at each point of one deployment. With `CRASH_ALONE=1` (`make crash`)
//! each point has a deployment of its own, for every victim, order and operation; `CRASH_ONLY` names what a line of the
//! table must contain. The table is `target/crash/report.json`.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::Scene;
use lockstep_tests::scene::cluster::{FIRST_COORDINATOR, SECOND_COORDINATOR};
use lockstep_tests::scene::traffic::assert_none_lost;
use serde::Serialize;

use super::crash_test::{CrashOrder, CrashTest, Operation, Victim};

/// A point is reached within the longest step, a lease and some patience.
const POINT_LIMIT: Duration = Duration::from_secs(90);

/// A lease has to end, and the coordinator waits a minute at most for a host that is gone.
const END_LIMIT: Duration = Duration::from_secs(150);

/// One line of the table.
#[derive(Serialize)]
struct Line {
    scenario: String,
    point: String,
    victim: String,
    order: String,
    outcome: String,
    seconds_to_converge: f64,
    requests: u64,
    failed_requests: u64,
}

#[test]
fn another_coordinator_goes_on_wherever_one_is_killed() -> Result<()> {
    if is_alone() {
        return write_matrix();
    }
    let mut test = open("chain", Operation::Deploy)?;
    let points = test.points(Victim::Coordinator)?;
    run_line(&mut test, Victim::Coordinator, &points, CrashOrder::Die)?;
    Ok(())
}

fn is_alone() -> bool {
    env::var_os("CRASH_ALONE").is_some()
}

/// The lines of an operation share a cluster, because starting one costs half a minute.
fn write_matrix() -> Result<()> {
    let only = env::var("CRASH_ONLY").unwrap_or_default();
    let mut table = Vec::new();
    for (name, operation) in
        [("deploys", Operation::Deploy), ("unwinds", Operation::FailedDeploy), ("back", Operation::Rollback)]
    {
        let mut test = open(name, operation)?;
        for victim in [Victim::Coordinator, Victim::Agent] {
            for point in test.points(victim)? {
                for order in [CrashOrder::Die, CrashOrder::StandStill] {
                    let line = format!("{operation}, {point}, {order}");
                    if line.contains(&only) {
                        let points = std::slice::from_ref(&point);
                        let line = run_line(&mut test, victim, points, order)
                            .with_context(|| format!("{line}\n{}", test.logs()))?;
                        table.push(line);
                        write(&table)?;
                    }
                }
            }
        }
    }
    ensure!(!table.is_empty(), "nothing contains {only:?}");
    Ok(())
}

fn write(table: &[Line]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests live in the workspace")?
        .join("target/crash");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(table)?)?;
    Ok(())
}

fn open(name: &str, operation: Operation) -> Result<CrashTest> {
    CrashTest::open(Scene::open_in_cluster(name, "0s")?, operation)
}

/// One run, in which `victim` is hit at each of the points.
fn run_line(test: &mut CrashTest, victim: Victim, points: &[String], order: CrashOrder) -> Result<Line> {
    let (mut command, load) = test.begin(points, order)?;
    let mut hit = Instant::now();
    for (at, point) in points.iter().enumerate() {
        until(&format!("somebody is at {point:?}"), POINT_LIMIT, || Ok(test.is_obeyed()))?;
        hit = Instant::now();
        match order {
            CrashOrder::Die => replace(test, victim, points.get(at + 1))?,
            CrashOrder::StandStill => wake(test, victim)?,
        }
    }
    until("the deployment has ended", END_LIMIT, || test.has_ended())?;
    let seconds = hit.elapsed().as_secs_f64();
    let report = assert_none_lost(load)?;
    let status = command.wait()?;
    test.scene.stage.wait_for_agent()?;
    let verdict = test.scene.last()?.verdict.context("it has not ended")?;
    if (victim, order) != (Victim::Agent, CrashOrder::StandStill) {
        ensure!(status.code() == Some(test.operation.code()), "the command ended with {status}");
        ensure!(verdict == test.operation.verdict(), "it ended as {verdict}");
    }
    // A host that stood still for longer than a step's patience is told from one that does not answer by nobody:
    // then the release is taken back, and nothing is left of it.
    test.assert_ended(verdict)?;
    Ok(Line {
        scenario: test.operation.to_string(),
        point: points.join(", "),
        victim: victim.to_string(),
        order: order.to_string(),
        outcome: verdict.to_string(),
        seconds_to_converge: seconds,
        requests: report.requests,
        failed_requests: report.failed,
    })
}

/// Orders the next crash, and starts the dead one again.
fn replace(test: &mut CrashTest, victim: Victim, next: Option<&String>) -> Result<()> {
    let dead = find_victim(test, victim, |process| Ok(process.ended()?.is_some()))?;
    test.order(next, CrashOrder::Die)?;
    test.start_again(victim, dead)
}

/// The one that stands still goes on when nobody counts on it any more.
fn wake(test: &mut CrashTest, victim: Victim) -> Result<()> {
    let still = find_victim(test, victim, |process| process.is_still())?;
    until("the others go on without it", END_LIMIT, || {
        Ok(match victim {
            Victim::Coordinator => test.has_ended()? || drives_other_than(test, still)?,
            Victim::Agent => {
                let hosts = test.scene.stage.lockstep(&["host", "list"])?;
                hosts.code == 0 && hosts.stdout.contains("offline")
            }
        })
    })?;
    test.process(victim, still).thaw()
}

/// Which of the processes was hit.
fn find_victim(
    test: &mut CrashTest,
    victim: Victim,
    is_hit: impl Fn(&mut Process) -> Result<bool>,
) -> Result<usize> {
    let count = if victim == Victim::Agent { 1 } else { 2 };
    let mut found = None;
    until(&format!("one {victim} is hit"), POINT_LIMIT, || {
        for at in 0..count {
            if is_hit(test.process(victim, at))? {
                found = Some(at);
            }
        }
        Ok(found.is_some())
    })?;
    found.context("nobody was hit")
}

fn drives_other_than(test: &CrashTest, at: usize) -> Result<bool> {
    let answer = test.scene.stage.lockstep(&["--output", "json", "coordinator", "list"])?;
    if answer.code != 0 {
        return Ok(false);
    }
    let all: Vec<lockstep_core::view::coordinator::CoordinatorStatus> = serde_json::from_str(&answer.stdout)?;
    let still = if at == 0 { FIRST_COORDINATOR } else { SECOND_COORDINATOR };
    Ok(all.iter().any(|one| one.name.as_str() != still && !one.drives.is_empty()))
}
