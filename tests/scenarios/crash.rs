//! Killed after every durable write of a deployment, and of an unwinding: coordinator and agent, at each point
//! that the code itself yields.
//!
//! In one row of kills a process dies at one point, is started again, dies at the next, and so on. With
//! `CRASH_ALONE=1` (`make crash`) each point has a deployment of its own.

use std::env;
use std::fs;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::process::Process;
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;

use crate::crash_bed::{Bed, Course, Order, Who};
use crate::scene::{ENVIRONMENT, Expect, Scene, assert_none_lost};

/// A point is reached within the longest step and some patience.
const POINT_LIMIT: Duration = Duration::from_secs(60);

/// A row ends: the coordinator waits a minute at most for a host that is gone.
const END_LIMIT: Duration = Duration::from_secs(120);

const KILLED: i32 = 9;

#[test]
fn a_deployment_survives_a_kill_after_every_write() -> Result<()> {
    killed_at_every_point("crash", Course::Deploys)
}

#[test]
fn an_unwinding_survives_a_kill_after_every_write() -> Result<()> {
    killed_at_every_point("crashback", Course::Unwinds)
}

fn killed_at_every_point(name: &str, course: Course) -> Result<()> {
    let mut bed = Rows { bed: Bed::on(Scene::open_with_bake(name, "0s")?, course)? };
    let points = bed.list()?;
    for who in [Who::Coordinator, Who::Agent] {
        let own: Vec<String> =
            points.iter().filter(|point| point.starts_with(&format!("{who}: "))).cloned().collect();
        ensure!(own.len() > 3, "the {who} yields only {own:?}");
        for row in rows(&own) {
            bed.row(who, row).with_context(|| format!("killed at {}", row.join(", ")))?;
        }
    }
    Ok(())
}

fn rows(points: &[String]) -> Vec<&[String]> {
    if env::var_os("CRASH_ALONE").is_some() { points.chunks(1).collect() } else { vec![points] }
}

struct Rows {
    bed: Bed,
}

impl Rows {
    /// The points of a deployment in which nothing is killed, in the order in which they were reached.
    fn list(&mut self) -> Result<Vec<String>> {
        let file = self.bed.scene.stage.directory.join("points");
        let listing = [("LOCKSTEP_CRASH_LIST", file.to_string_lossy().into_owned())];
        self.start(Who::Coordinator, &listing)?;
        self.start(Who::Agent, &listing)?;
        self.bed.scene.stage.wait_for_agent()?;
        let words = self.bed.next()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.bed.scene.stage.lockstep(&words)?.expect_said(self.bed.course.code(), &[])?;
        self.bed.assert_whole()?;
        let points = fs::read_to_string(&file).context("no point was reached")?;
        self.start(Who::Coordinator, &self.bed.obedient())?;
        self.start(Who::Agent, &self.bed.obedient())?;
        Ok(points.lines().map(str::to_owned).collect())
    }

    /// One deployment, in which a process is killed at each of the points.
    fn row(&mut self, who: Who, points: &[String]) -> Result<()> {
        let words = self.bed.next()?;
        self.bed.order(points.first(), Order::Die)?;
        self.bed.scene.stage.wait_for_agent()?;
        let load = self.bed.scene.stage.load(200)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.bed.scene.stage.command(&words)?;
        let log = fs::File::create(self.bed.scene.stage.directory.join("deploy.log"))?;
        let mut deploy = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let killed = self.kills(who, points);
        let ended = killed.and_then(|()| self.end(load));
        if ended.is_err() {
            deploy.kill()?;
        }
        let status = deploy.wait()?;
        ended.with_context(|| self.bed.told())?;
        self.assert_told(status)
    }

    fn kills(&mut self, who: Who, points: &[String]) -> Result<()> {
        let next = points.iter().skip(1).map(Some).chain([None]);
        for (point, next) in points.iter().zip(next) {
            until(&format!("the {who} is killed at {point:?}"), POINT_LIMIT, || {
                Ok(self.process(who).ended()?.is_some())
            })?;
            let status = self.process(who).ended()?.context("it has ended")?;
            ensure!(is_killed(status), "the {who} ended at {point:?} with {status}");
            self.bed.order(next, Order::Die)?;
            self.start_again(who)?;
        }
        Ok(())
    }

    fn end(&mut self, load: Load) -> Result<()> {
        until("the deployment has ended", END_LIMIT, || {
            let status = self.bed.scene.stage.lockstep(&["--output", "json", "status", ENVIRONMENT])?;
            Ok(status.code == 0 && self.bed.scene.status()?.open.is_none())
        })?;
        assert_none_lost(load)?;
        self.bed.scene.stage.wait_for_agent()?;
        self.bed.assert_whole()
    }

    /// The command line saw the end, or says that it does not know.
    fn assert_told(&self, status: ExitStatus) -> Result<()> {
        const UNREACHABLE: i32 = 5;
        let code = status.code().unwrap_or(-1);
        let wanted = self.bed.course.code();
        ensure!(code == wanted || code == UNREACHABLE, "it ended with {code}:\n{}", self.bed.told());
        Ok(())
    }

    fn start(&mut self, who: Who, environment: &[(&str, String)]) -> Result<()> {
        self.process(who).stop()?;
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match who {
            Who::Coordinator => self.bed.scene.stage.start_coordinator(&environment),
            Who::Agent => self.bed.scene.stage.start_agent(&environment),
        }
    }

    /// A coordinator may reach its next point before it is ready.
    fn start_again(&mut self, who: Who) -> Result<()> {
        let environment = self.bed.obedient();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match who {
            Who::Coordinator => self.bed.scene.stage.launch_coordinator(&environment),
            Who::Agent => self.bed.scene.stage.start_agent(&environment),
        }
    }

    fn process(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Coordinator => &mut self.bed.scene.stage.coordinator,
            Who::Agent => &mut self.bed.scene.stage.agent,
        }
    }
}

fn is_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(KILLED)
}
