//! What the tests of kills stand on: releases whose migrations tell how often they were applied, orders to die at a
//! point, and what must be so afterwards.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::process::Process;
use lockstep_tests::bed::wait::until;

use crate::scene::{ENVIRONMENT, Expect, Kept, SOON, Scene, assert_verdict};
use crate::world::assert_containers;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
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

/// What happens at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Die,
    StandStill,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Die => "die",
            Self::StandStill => "stand still",
        })
    }
}

/// What goes on while somebody dies, and how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    Deploys,
    /// The release never becomes healthy.
    Unwinds,
    RollsBack,
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deploys => "a deployment that succeeds",
            Self::Unwinds => "a deployment that fails at health",
            Self::RollsBack => "a rollback",
        })
    }
}

impl Course {
    /// How the command ends.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Deploys | Self::RollsBack => 0,
            Self::Unwinds => 1,
        }
    }

    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Deploys | Self::RollsBack => Verdict::Succeeded,
            Self::Unwinds => Verdict::RolledBack,
        }
    }
}

pub(crate) struct Bed {
    pub(crate) scene: Scene,
    pub(crate) course: Course,
    base: String,
    /// Every release brings a migration more.
    schema: u32,
    _patience: Option<Kept>,
}

impl Bed {
    pub(crate) fn on(mut scene: Scene, course: Course) -> Result<Self> {
        let unwell = [("NOTES_HEALTH", "error")];
        let environment: &[(&str, &str)] = if course == Course::Unwinds { &unwell } else { &[] };
        let good = scene.stage.image("1", 2, &[])?;
        let base = scene.stage.image("base", 2, environment)?;
        scene.deploy(&good)?.expect_said(0, &[])?;
        let patience = match course {
            Course::Deploys | Course::RollsBack => None,
            Course::Unwinds => Some(scene.declare("timeout: 10s", "timeout: 2s")?),
        };
        Ok(Self { scene, course, base, schema: 2, _patience: patience })
    }

    /// What the command line is told to do, once the release before it is there.
    pub(crate) fn next(&mut self) -> Result<Vec<String>> {
        let image = self.release()?;
        let words = match self.course {
            Course::Deploys | Course::Unwinds => vec!["deploy", ENVIRONMENT, "--image", &image],
            Course::RollsBack => {
                self.scene.deploy(&image)?.expect_said(0, &[])?;
                vec!["rollback", ENVIRONMENT]
            }
        };
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    /// What programs are started with, so that they obey [`Bed::order`].
    pub(crate) fn obedient(&self) -> Vec<(&'static str, String)> {
        vec![("LOCKSTEP_CRASH_ORDER", self.order_file().to_string_lossy().into_owned())]
    }

    /// Whoever reaches `point` first does as it is told; without a point nobody does.
    pub(crate) fn order(&self, point: Option<&String>, order: Order) -> Result<()> {
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
    pub(crate) fn is_obeyed(&self) -> bool {
        !self.order_file().exists()
    }

    fn order_file(&self) -> PathBuf {
        self.scene.stage.directory.join("crash-order")
    }

    /// Ended as it should, everything once, nothing left.
    pub(crate) fn assert_whole(&self) -> Result<()> {
        self.assert_ended(self.course.verdict())
    }

    /// Ended with `verdict`, everything once, nothing left.
    pub(crate) fn assert_ended(&self, verdict: Verdict) -> Result<()> {
        let scene = &self.scene;
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
        if self.course == Course::RollsBack || verdict == Verdict::Succeeded {
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

    /// All that was said, for a failure.
    pub(crate) fn told(&self) -> String {
        let stage = &self.scene.stage;
        let said = fs::read_to_string(stage.directory.join("deploy.log")).unwrap_or_default();
        let others: Vec<String> = stage.others.iter().map(Process::tail).collect();
        let (coordinator, agent) = (stage.coordinator.tail(), stage.agent.tail());
        format!(
            "the command said:\n{said}\ncoordinator:\n{coordinator}\n{}\nagent:\n{agent}",
            others.join("\n")
        )
    }
}
