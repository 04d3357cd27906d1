//! Two coordinators, an agent, etcd, Docker, nginx and PostgreSQL under load: at each point that the code yields the
//! one that is there is killed, or stands still past its lease, while a release is deployed, fails its health checks,
//! or is rolled back.
//!
//! In `make test` the coordinators die in turn at each point of one deployment. With `CRASH_ALONE=1` (`make crash`)
//! each point has a deployment of its own, for every victim, order and course; `CRASH_ONLY` names what a line of the
//! table must contain. The table is `target/crash/report.json`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::process::Process;
use lockstep_tests::bed::wait::until;
use serde::Serialize;

use crate::crash_bed::{Bed, Course, Order, Who};
use crate::scene::{ENVIRONMENT, Expect, SECOND_COORDINATOR, Scene};

/// A point is reached within the longest step, a lease and some patience.
const POINT_LIMIT: Duration = Duration::from_secs(90);

/// A lease has to end, and the coordinator waits a minute at most for a host that is gone.
const END_LIMIT: Duration = Duration::from_secs(150);

/// Requests in a second: enough to notice, not so many that two cores do nothing else.
const RATE: u32 = 200;

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
        return matrix();
    }
    let mut cluster = Cluster::open("chain", Course::Deploys)?;
    let points = cluster.points(Who::Coordinator)?;
    cluster.row(Who::Coordinator, &points, Order::Die)?;
    Ok(())
}

fn is_alone() -> bool {
    env::var_os("CRASH_ALONE").is_some()
}

fn matrix() -> Result<()> {
    let only = env::var("CRASH_ONLY").unwrap_or_default();
    let mut table = Vec::new();
    for (name, course) in
        [("deploys", Course::Deploys), ("unwinds", Course::Unwinds), ("back", Course::RollsBack)]
    {
        let mut cluster = Cluster::open(name, course)?;
        for who in [Who::Coordinator, Who::Agent] {
            for point in cluster.points(who)? {
                for order in [Order::Die, Order::StandStill] {
                    let told = format!("{course}, {point}, {order}");
                    if told.contains(&only) {
                        let line = cluster
                            .row(who, std::slice::from_ref(&point), order)
                            .with_context(|| format!("{told}\n{}", cluster.bed.told()))?;
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

struct Cluster {
    bed: Bed,
    points: Vec<String>,
}

impl Cluster {
    /// The points are those of one run in which nobody dies.
    fn open(name: &str, course: Course) -> Result<Self> {
        let bed = Bed::on(Scene::open_in_cluster(name, "0s")?, course)?;
        let mut cluster = Self { bed, points: Vec::new() };
        let file = cluster.bed.scene.stage.directory.join("points");
        let mut environment = cluster.bed.obedient();
        environment.push(("LOCKSTEP_CRASH_LIST", file.to_string_lossy().into_owned()));
        cluster.bed.scene.stage.coordinator.stop()?;
        cluster.bed.scene.stage.others[0].stop()?;
        cluster.bed.scene.stage.agent.stop()?;
        let all: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        cluster.bed.scene.stage.start_coordinator(&all)?;
        cluster.bed.scene.stage.start_other(0, SECOND_COORDINATOR, &all)?;
        cluster.bed.scene.stage.start_agent(&all)?;
        cluster.bed.scene.stage.wait_for_agent()?;
        let words = cluster.bed.next()?;
        if file.exists() {
            // What came before is not of the course.
            fs::remove_file(&file)?;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cluster.bed.scene.stage.lockstep(&words)?.expect_said(course.code(), &[])?;
        cluster.bed.assert_whole()?;
        let points = fs::read_to_string(&file).context("no point was reached")?;
        cluster.points = points.lines().map(str::to_owned).collect();
        Ok(cluster)
    }

    fn points(&self, who: Who) -> Result<Vec<String>> {
        let of = format!("{who}: ");
        let points: Vec<String> =
            self.points.iter().filter(|point| point.starts_with(&of)).cloned().collect();
        ensure!(points.len() > 3, "the {who} yields only {points:?}");
        Ok(points)
    }

    /// One run, in which `who` is hit at each of the points.
    fn row(&mut self, who: Who, points: &[String], order: Order) -> Result<Line> {
        let words = self.bed.next()?;
        self.bed.order(points.first(), order)?;
        let load = self.bed.scene.stage.load(RATE)?;
        let mut command = self.begin(&words)?;
        let mut hit = Instant::now();
        for at in 0..points.len() {
            until(&format!("somebody is at {:?}", points[at]), POINT_LIMIT, || Ok(self.bed.is_obeyed()))?;
            hit = Instant::now();
            let next = points.get(at + 1);
            match order {
                Order::Die => self.replace(who, next)?,
                Order::StandStill => self.wake(who)?,
            }
        }
        until("the deployment has ended", END_LIMIT, || self.is_over())?;
        let seconds = hit.elapsed().as_secs_f64();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(load.stop());
        ensure!(report.requests > 0, "the load sent nothing");
        ensure!(report.failed == 0, "{} requests failed: {:?}", report.failed, report.failures);
        let status = command.wait()?;
        self.bed.scene.stage.wait_for_agent()?;
        let verdict = self.bed.scene.last()?.verdict.context("it has not ended")?;
        if (who, order) != (Who::Agent, Order::StandStill) {
            ensure!(status.code() == Some(self.bed.course.code()), "the command ended with {status}");
            ensure!(verdict == self.bed.course.verdict(), "it ended as {verdict}");
        }
        // A host that stood still for longer than a step's patience is told from one that does not answer by nobody:
        // then the release is taken back, and nothing is left of it.
        self.bed.assert_ended(verdict)?;
        Ok(Line {
            scenario: self.bed.course.to_string(),
            point: points.join(", "),
            victim: who.to_string(),
            order: order.to_string(),
            outcome: verdict.to_string(),
            seconds_to_converge: seconds,
            requests: report.requests,
            failed_requests: report.failed,
        })
    }

    fn begin(&self, words: &[String]) -> Result<Child> {
        let stage = &self.bed.scene.stage;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = fs::File::create(stage.directory.join("deploy.log"))?;
        let mut command = stage.command(&words)?;
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    /// The dead one is started again, as systemd would.
    fn replace(&mut self, who: Who, next: Option<&String>) -> Result<()> {
        let environment = self.bed.obedient();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let dead = self.victim(who, |process| Ok(process.ended()?.is_some()))?;
        self.bed.order(next, Order::Die)?;
        let stage = &mut self.bed.scene.stage;
        match (who, dead) {
            (Who::Agent, _) => stage.start_agent(&environment),
            (Who::Coordinator, 0) => stage.launch_coordinator(&environment),
            (Who::Coordinator, _) => stage.launch_other(0, SECOND_COORDINATOR, &environment),
        }
    }

    /// The one that stands still goes on when nobody counts on it any more.
    fn wake(&mut self, who: Who) -> Result<()> {
        let still = self.victim(who, |process| process.is_still())?;
        until("the others go on without it", END_LIMIT, || {
            Ok(match who {
                Who::Coordinator => self.is_over()? || self.drives_other_than(still)?,
                Who::Agent => {
                    let hosts = self.bed.scene.stage.lockstep(&["host", "list"])?;
                    hosts.code == 0 && hosts.stdout.contains("offline")
                }
            })
        })?;
        self.process(who, still).thaw()
    }

    /// Which of them it was.
    fn victim(&mut self, who: Who, is_hit: impl Fn(&mut Process) -> Result<bool>) -> Result<usize> {
        let count = if who == Who::Agent { 1 } else { 2 };
        let mut victim = None;
        until(&format!("one {who} is hit"), POINT_LIMIT, || {
            for at in 0..count {
                if is_hit(self.process(who, at))? {
                    victim = Some(at);
                }
            }
            Ok(victim.is_some())
        })?;
        victim.context("nobody was hit")
    }

    fn process(&mut self, who: Who, at: usize) -> &mut Process {
        let stage = &mut self.bed.scene.stage;
        match (who, at) {
            (Who::Agent, _) => &mut stage.agent,
            (Who::Coordinator, 0) => &mut stage.coordinator,
            (Who::Coordinator, _) => &mut stage.others[0],
        }
    }

    fn drives_other_than(&self, at: usize) -> Result<bool> {
        let said = self.bed.scene.stage.lockstep(&["--output", "json", "coordinator", "list"])?;
        if said.code != 0 {
            return Ok(false);
        }
        let all: Vec<lockstep_core::view::coordinator::CoordinatorStatus> =
            serde_json::from_str(&said.stdout)?;
        let still = if at == 0 { "coordinator-1" } else { SECOND_COORDINATOR };
        Ok(all.iter().any(|one| one.name.as_str() != still && !one.drives.is_empty()))
    }

    fn is_over(&self) -> Result<bool> {
        let said = self.bed.scene.stage.lockstep(&["--output", "json", "status", ENVIRONMENT])?;
        if said.code != 0 {
            return Ok(false);
        }
        let all: Vec<lockstep_core::view::environment::EnvironmentStatus> =
            serde_json::from_str(&said.stdout)?;
        Ok(all.iter().all(|one| one.open.is_none()))
    }
}
