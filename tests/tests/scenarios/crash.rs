//! Killed after every durable write of a deployment, and of an unwinding: coordinator and agent, at each point
//! that the code itself yields.
//!
//! In one row of kills a process dies at one point, is started again, dies at the next, and so on. With
//! `CRASH_ALONE=1` (`make crash`) each point has a deployment of its own.

use std::env;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::{Summary, Verdict};
use lockstep_tests::bed::process::Process;
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;

use crate::scenarios::scene::{ENVIRONMENT, Expect, Kept, SOON, Scene, assert_none_lost, assert_verdict};
use crate::scenarios::world::assert_containers;

/// A point is reached within the longest step and some patience.
const POINT_LIMIT: Duration = Duration::from_secs(60);

/// A row ends: the coordinator waits a minute at most for a host that is gone.
const END_LIMIT: Duration = Duration::from_secs(120);

const KILLED: i32 = 9;

#[derive(Clone, Copy)]
enum Who {
    Coordinator,
    Agent,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
        })
    }
}

/// How the deployments of a test end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Well,
    Unwound,
}

#[test]
fn a_deployment_survives_a_kill_after_every_write() -> Result<()> {
    killed_at_every_point("crash", Ends::Well, &[])
}

#[test]
fn an_unwinding_survives_a_kill_after_every_write() -> Result<()> {
    killed_at_every_point("crashback", Ends::Unwound, &[("NOTES_HEALTH", "error")])
}

fn killed_at_every_point(name: &str, ends: Ends, environment: &[(&str, &str)]) -> Result<()> {
    let mut bed = Bed::open(name, ends, environment)?;
    let points = bed.list()?;
    for who in [Who::Coordinator, Who::Agent] {
        let own: Vec<String> =
            points.iter().filter(|point| point.starts_with(&format!("{who}: "))).cloned().collect();
        ensure!(own.len() > 10, "the {who} yields only {own:?}");
        for row in rows(&own) {
            bed.row(who, row).with_context(|| format!("killed at {}", row.join(", ")))?;
        }
    }
    Ok(())
}

fn rows(points: &[String]) -> Vec<&[String]> {
    if env::var_os("CRASH_ALONE").is_some() { points.chunks(1).collect() } else { vec![points] }
}

struct Bed {
    scene: Scene,
    ends: Ends,
    base: String,
    /// Every release brings a migration more.
    schema: u32,
    _patience: Option<Kept>,
}

impl Bed {
    fn open(name: &str, ends: Ends, environment: &[(&str, &str)]) -> Result<Self> {
        let mut scene = Scene::open_with_bake(name, "0s")?;
        let good = scene.stage.image("1", 2, &[])?;
        let base = scene.stage.image("base", 2, environment)?;
        scene.deploy(&good)?.expect_said(0, &[])?;
        let patience = match ends {
            Ends::Well => None,
            Ends::Unwound => Some(scene.declare("timeout: 10s", "timeout: 2s")?),
        };
        Ok(Self { scene, ends, base, schema: 2, _patience: patience })
    }

    /// The points of a deployment in which nothing is killed, in the order in which they were reached.
    fn list(&mut self) -> Result<Vec<String>> {
        let file = self.scene.stage.directory.join("points");
        self.start(Who::Coordinator, &[("LOCKSTEP_CRASH_LIST", &text(&file))])?;
        self.start(Who::Agent, &[("LOCKSTEP_CRASH_LIST", &text(&file))])?;
        self.scene.stage.wait_for_agent()?;
        let image = self.release()?;
        self.scene.deploy(&image)?.expect_said(self.code(), &[])?;
        self.assert_whole()?;
        let points = fs::read_to_string(&file).context("no point was reached")?;
        self.start(Who::Coordinator, &[])?;
        self.start(Who::Agent, &[])?;
        Ok(points.lines().map(str::to_owned).collect())
    }

    /// One deployment, in which a process is killed at each of the points.
    fn row(&mut self, who: Who, points: &[String]) -> Result<()> {
        let image = self.release()?;
        self.start(who, &until_point(points.first()))?;
        self.scene.stage.wait_for_agent()?;
        let load = self.scene.stage.load(200)?;
        let mut command = self.scene.stage.command(&["deploy", ENVIRONMENT, "--image", &image])?;
        let log = fs::File::create(self.scene.stage.directory.join("deploy.log"))?;
        let mut deploy = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let killed = self.kills(who, points);
        let ended = killed.and_then(|()| self.end(load));
        if ended.is_err() {
            deploy.kill()?;
        }
        let status = deploy.wait()?;
        ended.with_context(|| self.told())?;
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
            self.start_again(who, &until_point(next))?;
        }
        Ok(())
    }

    fn end(&mut self, load: Load) -> Result<()> {
        until("the deployment has ended", END_LIMIT, || {
            let status = self.scene.stage.lockstep(&["--output", "json", "status", ENVIRONMENT])?;
            Ok(status.code == 0 && self.scene.status()?.open.is_none())
        })?;
        assert_none_lost(load)?;
        self.scene.stage.wait_for_agent()?;
        self.assert_whole()
    }

    /// The command line saw the end, or says that it does not know.
    fn assert_told(&self, status: ExitStatus) -> Result<()> {
        const UNREACHABLE: i32 = 5;
        let code = status.code().unwrap_or(-1);
        ensure!(code == self.code() || code == UNREACHABLE, "deploy ended with {code}:\n{}", self.told());
        Ok(())
    }

    /// Ended as it should, everything once, nothing left.
    fn assert_whole(&self) -> Result<()> {
        let scene = &self.scene;
        let verdict = match self.ends {
            Ends::Well => Verdict::Succeeded,
            Ends::Unwound => Verdict::RolledBack,
        };
        let last = assert_verdict(scene, verdict)?;
        self.assert_log(&last)?;
        let applied = scene
            .stage
            .postgres
            .psql("SELECT string_agg(version::text, ' ' ORDER BY version) FROM applied")?;
        let wanted: Vec<String> = (3..=self.schema).map(|version| version.to_string()).collect();
        ensure!(applied == wanted.join(" "), "migrations were applied as {applied}, and not as {wanted:?}");
        let recorded = scene.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")?;
        ensure!(recorded == format!("{}|f", self.schema), "the schema is {recorded}");
        let twice = scene.stage.postgres.psql("SELECT count(*) FROM jobs WHERE runs > 1")?;
        ensure!(twice == "0", "{twice} jobs ran more than once");
        self.assert_nothing_left()
    }

    /// The deployment's log has every step, and each once.
    fn assert_log(&self, last: &Summary) -> Result<()> {
        let name = format!("coordinator/logs/{ENVIRONMENT}_{}.log", last.id);
        let file = self.scene.stage.directory.join(name);
        // A coordinator that was killed after the end writes the last line when it is back.
        until("the log has its end", SOON, || {
            Ok(fs::read_to_string(&file)?.lines().last().is_some_and(|line| line.contains(" ended: ")))
        })?;
        let log = fs::read_to_string(&file)?;
        for step in &last.steps {
            let done = format!(" {} on {} done: ", step.name, step.host);
            let lines = log.lines().filter(|line| line.contains(&done) && !line.contains("undo of")).count();
            ensure!(lines == 1, "{} is told as done {lines} times in:\n{log}", step.name);
        }
        Ok(())
    }

    fn assert_nothing_left(&self) -> Result<()> {
        let scene = &self.scene;
        let status = scene.status()?;
        let live = status.live.context("nothing is live")?.slot;
        let idle = live.other();
        let mut wanted = vec![format!("web-{live} running"), format!("worker-{live} running")];
        if self.ends == Ends::Well {
            wanted.extend([format!("web-{idle} running"), format!("worker-{idle} exited")]);
        }
        wanted.sort();
        assert_containers(scene, &wanted.iter().map(String::as_str).collect::<Vec<_>>())?;
        until("no container of a look into an image is left", SOON, || {
            Ok(scene.stage.docker.containers("lockstep.temporary")?.is_empty())
        })?;
        let snapshots =
            scene.stage.directory.join(format!("backups/{}-{ENVIRONMENT}", scene.stage.application));
        for entry in fs::read_dir(&snapshots)? {
            let path = entry?.path();
            ensure!(path.join("MANIFEST.sha256").is_file(), "{} is half a snapshot", path.display());
        }
        ensure!(status.drift.is_empty(), "{:?}", status.drift);
        Ok(())
    }

    /// The next release, with a migration that tells how often it was applied.
    fn release(&mut self) -> Result<String> {
        self.schema += 1;
        let files: Vec<(String, String)> = (3..=self.schema)
            .map(|version| {
                let sql = format!(
                    "CREATE TABLE IF NOT EXISTS applied (version int); INSERT INTO applied VALUES ({version});"
                );
                (format!("{version:06}_crash.up.sql"), sql)
            })
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        self.scene.stage.image_with_migrations(&self.schema.to_string(), &self.base, &files)
    }

    fn start(&mut self, who: Who, environment: &[(&str, &str)]) -> Result<()> {
        self.process(who).stop()?;
        match who {
            Who::Coordinator => self.scene.stage.start_coordinator(environment),
            Who::Agent => self.scene.stage.start_agent(environment),
        }
    }

    /// A coordinator may reach its next point before it is ready.
    fn start_again(&mut self, who: Who, environment: &[(&str, &str)]) -> Result<()> {
        match who {
            Who::Coordinator => self.scene.stage.launch_coordinator(environment),
            Who::Agent => self.scene.stage.start_agent(environment),
        }
    }

    fn process(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Coordinator => &mut self.scene.stage.coordinator,
            Who::Agent => &mut self.scene.stage.agent,
        }
    }

    fn code(&self) -> i32 {
        match self.ends {
            Ends::Well => 0,
            Ends::Unwound => 1,
        }
    }

    /// All that was said, for a failure.
    fn told(&self) -> String {
        let said = fs::read_to_string(self.scene.stage.directory.join("deploy.log")).unwrap_or_default();
        let (coordinator, agent) = (self.scene.stage.coordinator.tail(), self.scene.stage.agent.tail());
        format!("deploy said:\n{said}\ncoordinator:\n{coordinator}\nagent:\n{agent}")
    }
}

fn until_point(point: Option<&String>) -> Vec<(&str, &str)> {
    point.map(|point| ("LOCKSTEP_CRASH_AT", point.as_str())).into_iter().collect()
}

fn is_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(KILLED)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
