//! What the tests of kills share: releases whose migrations tell how often they were applied, orders to die at a point,
//! and what must be so afterwards.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;
use lockstep_tests::scene::cluster::SECOND_COORDINATOR;
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::traffic::RATE;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};

/// Names the file that orders a crash.
const ORDER: &str = "LOCKSTEP_CRASH_ORDER";

/// Who is killed, or stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Coordinator,
    Agent,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
        })
    }
}

/// What happens at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CrashOrder {
    Die,
    StandStill,
}

impl fmt::Display for CrashOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Die => "die",
            Self::StandStill => "stand still",
        })
    }
}

/// What runs while somebody dies, and how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Deploy,
    /// The release never becomes healthy.
    FailedDeploy,
    Rollback,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deploy => "a deployment that succeeds",
            Self::FailedDeploy => "a deployment that fails at health",
            Self::Rollback => "a rollback",
        })
    }
}

impl Operation {
    /// How the command ends.
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Deploy | Self::Rollback => 0,
            Self::FailedDeploy => 1,
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Deploy | Self::Rollback => Verdict::Succeeded,
            Self::FailedDeploy => Verdict::RolledBack,
        }
    }
}

/// A scene whose programs crash where they are ordered to, and the releases that are deployed there.
pub(super) struct CrashTest {
    pub(super) scene: Scene,
    pub(super) operation: Operation,
    /// What a run without a crash reaches, in that order.
    points: Vec<String>,
    base: String,
    /// Every release brings a migration more.
    schema: u32,
    _timeout: Option<RestoredFile>,
}

impl CrashTest {
    /// Runs the operation once without a crash, and notes the points that it reaches.
    pub(super) fn open(mut scene: Scene, operation: Operation) -> Result<Self> {
        let unwell = [("NOTES_HEALTH", "error")];
        let environment: &[(&str, &str)] = if operation == Operation::FailedDeploy { &unwell } else { &[] };
        let good = scene.stage.image("1", 2, &[])?;
        let base = scene.stage.image("base", 2, environment)?;
        scene.deploy(&good)?.expect_said(0, &[])?;
        let timeout = match operation {
            Operation::Deploy | Operation::Rollback => None,
            Operation::FailedDeploy => Some(scene.declare("timeout: 10s", "timeout: 2s")?),
        };
        let mut test = Self { scene, operation, points: Vec::new(), base, schema: 2, _timeout: timeout };
        test.note_points()?;
        Ok(test)
    }

    fn note_points(&mut self) -> Result<()> {
        let file = self.scene.stage.directory.join("points");
        let list = file.to_string_lossy().into_owned();
        let order = self.order_file().to_string_lossy().into_owned();
        let environment = [(ORDER, order.as_str()), ("LOCKSTEP_CRASH_LIST", list.as_str())];
        let stage = &mut self.scene.stage;
        stage.coordinator.stop()?;
        for at in 0..stage.others.len() {
            stage.others[at].stop()?;
        }
        stage.agent.stop()?;
        stage.start_coordinator(&environment)?;
        for at in 0..stage.others.len() {
            stage.start_other(at, SECOND_COORDINATOR, &environment)?;
        }
        stage.start_agent(&environment)?;
        stage.wait_for_agent()?;
        let words = self.next()?;
        if file.exists() {
            // What came before does not belong to the operation.
            fs::remove_file(&file)?;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.scene.stage.lockstep(&words)?.expect_said(self.operation.code(), &[])?;
        self.assert_whole()?;
        let points = fs::read_to_string(&file).context("no point was reached")?;
        self.points = points.lines().map(str::to_owned).collect();
        Ok(())
    }

    /// The points at which this victim can be hit.
    pub(super) fn points(&self, victim: Victim) -> Result<Vec<String>> {
        let of = format!("{victim}: ");
        let points: Vec<String> =
            self.points.iter().filter(|point| point.starts_with(&of)).cloned().collect();
        ensure!(points.len() > 3, "the {victim} yields only {points:?}");
        Ok(points)
    }

    /// Builds the next release, and gives the command that is run with it.
    fn next(&mut self) -> Result<Vec<String>> {
        let image = self.release()?;
        let words = match self.operation {
            Operation::Deploy | Operation::FailedDeploy => vec!["deploy", ENVIRONMENT, "--image", &image],
            Operation::Rollback => {
                self.scene.deploy(&image)?.expect_said(0, &[])?;
                vec!["rollback", ENVIRONMENT]
            }
        };
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    /// Begins the operation, with an order for its first point and a load on the site.
    pub(super) fn begin(&mut self, points: &[String], order: CrashOrder) -> Result<(Child, Load)> {
        let words = self.next()?;
        self.order(points.first(), order)?;
        self.scene.stage.wait_for_agent()?;
        let stage = &self.scene.stage;
        let load = stage.load(RATE)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = fs::File::create(stage.directory.join("deploy.log"))?;
        let mut command = stage.command(&words)?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok((command, load))
    }

    /// Starts a program that has died, as systemd would. A coordinator may reach its next point before it is ready.
    pub(super) fn start_again(&mut self, victim: Victim, at: usize) -> Result<()> {
        let order = self.order_file().to_string_lossy().into_owned();
        let environment = [(ORDER, order.as_str())];
        let stage = &mut self.scene.stage;
        match (victim, at) {
            (Victim::Agent, _) => stage.start_agent(&environment),
            (Victim::Coordinator, 0) => stage.launch_coordinator(&environment),
            (Victim::Coordinator, at) => stage.launch_other(at - 1, SECOND_COORDINATOR, &environment),
        }
    }

    /// The first coordinator is at 0, the one that joined at 1.
    pub(super) fn process(&mut self, victim: Victim, at: usize) -> &mut Process {
        let stage = &mut self.scene.stage;
        match (victim, at) {
            (Victim::Agent, _) => &mut stage.agent,
            (Victim::Coordinator, 0) => &mut stage.coordinator,
            (Victim::Coordinator, at) => &mut stage.others[at - 1],
        }
    }

    /// Whether the operation has ended; not while no coordinator answers.
    pub(super) fn has_ended(&self) -> Result<bool> {
        Ok(self.scene.try_status()?.is_some_and(|status| status.open.is_none()))
    }

    /// Whoever reaches `point` first obeys `order`; without a point nobody does.
    pub(super) fn order(&self, point: Option<&String>, order: CrashOrder) -> Result<()> {
        let file = self.order_file();
        match point {
            Some(point) => {
                // Whole or not at all: it may be read at any moment.
                let partial = file.with_extension("partial");
                fs::write(&partial, format!("{point}\n{order}\n"))?;
                fs::rename(partial, file)?;
            }
            None if file.exists() => fs::remove_file(file)?,
            None => {}
        }
        Ok(())
    }

    /// Whether somebody was at the point.
    pub(super) fn is_obeyed(&self) -> bool {
        !self.order_file().exists()
    }

    fn order_file(&self) -> PathBuf {
        self.scene.stage.directory.join("crash-order")
    }

    /// Ended as it should, everything once, nothing left.
    pub(super) fn assert_whole(&self) -> Result<()> {
        self.assert_ended(self.operation.verdict())
    }

    /// Ended with `verdict`, everything once, nothing left.
    pub(super) fn assert_ended(&self, verdict: Verdict) -> Result<()> {
        let scene = &self.scene;
        let last = scene.assert_verdict(verdict)?;
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
        self.assert_nothing_left(verdict)
    }

    /// The deployment's log has every step, and each once.
    fn assert_log(&self, last: &DeploymentSummary) -> Result<()> {
        if !self.scene.stage.others.is_empty() {
            // Each coordinator has a log of what it drove.
            return Ok(());
        }
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

    fn assert_nothing_left(&self, verdict: Verdict) -> Result<()> {
        let scene = &self.scene;
        let status = scene.status()?;
        let live = status.live.context("nothing is live")?.slot;
        let idle = live.other();
        let mut wanted = vec![format!("web-{live} running"), format!("worker-{live} running")];
        // A release that was taken back is gone; one that a rollback left stands by.
        if self.operation == Operation::Rollback || verdict == Verdict::Succeeded {
            wanted.extend([format!("web-{idle} running"), format!("worker-{idle} exited")]);
        }
        wanted.sort();
        scene.assert_containers(&wanted.iter().map(String::as_str).collect::<Vec<_>>())?;
        until("no container of a look into an image is left", SOON, || {
            Ok(scene.stage.docker.containers("lockstep.temporary")?.is_empty())
        })?;
        for entry in fs::read_dir(scene.snapshots())? {
            let path = entry?.path();
            ensure!(path.join("MANIFEST.sha256").is_file(), "{} is half a snapshot", path.display());
        }
        ensure!(status.drift.is_empty(), "{:?}", status.drift);
        ensure!(status.site_changed.is_none(), "{:?}", status.site_changed);
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

    /// What the command wrote and the end of each program's log, for a failure.
    pub(super) fn logs(&self) -> String {
        let wrote = fs::read_to_string(self.scene.stage.directory.join("deploy.log")).unwrap_or_default();
        format!("the command wrote:\n{wrote}\n{}", self.scene.logs())
    }
}
