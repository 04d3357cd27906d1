//! A scene: one environment on a stage of its own, and what an operator does there. Every scenario has one, with the
//! record in SQLite, in etcd, or in a cluster of two coordinators.
//!
//! What fails here fails the test that called it, with the reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::Plan;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_core::view::environment::EnvironmentStatus;
use tempfile::TempDir;

use crate::bed::program::CommandOutput;
use crate::bed::program::process::Process;
use crate::bed::server::etcd::{Etcd, Members};
use crate::bed::stage::{Record, Setting, Stage};
use crate::bed::wait::until;

pub mod background;
pub mod canary;
pub mod cluster;
pub mod credential;
pub mod inventory;
pub mod restored_file;
pub mod traffic;

use background::Background;
use cluster::SECOND_COORDINATOR;
use inventory::Inventory;
use restored_file::{RestoredFile, replace};

pub const ENVIRONMENT: &str = "production";

/// For what happens in a moment.
pub const SOON: Duration = Duration::from_secs(20);

/// A deployment on a stage takes some seconds.
pub const DEPLOYMENT_LIMIT: Duration = Duration::from_secs(90);

/// For what waits until a lease has ended, or until etcd has a leader again.
pub const TAKEOVER_LIMIT: Duration = Duration::from_secs(120);

pub struct Scene {
    pub stage: Stage,
    /// `None` if the record is in SQLite.
    etcd: Option<Etcd>,
    bake: &'static str,
    // Last: what is in it ends first.
    directory: TempDir,
}

impl Scene {
    pub fn open(name: &str) -> Result<Self> {
        Self::open_with_bake(name, "1s")
    }

    /// A long bake is time in which a deployment is open.
    pub fn open_with_bake(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let stage = Stage::start(&directory.path().join("stage"), &setting(name, bake))?;
        Ok(Self { stage, etcd: None, bake, directory })
    }

    /// With the record in an etcd of three members.
    pub fn open_on_etcd(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
        let place = directory.path().join("stage");
        let stage = Stage::start_on(&place, &setting(name, bake), Record::Etcd(&etcd))?;
        ensure!(!place.join("coordinator/store.sqlite").exists(), "the record is in SQLite");
        Ok(Self { stage, etcd: Some(etcd), bake, directory })
    }

    /// With the record in an etcd of three members, and two coordinators.
    pub fn open_in_cluster(name: &str, bake: &'static str) -> Result<Self> {
        let mut scene = Self::open_on_etcd(name, bake)?;
        let etcd = scene.etcd.as_ref().context("the record is in SQLite")?;
        scene.stage.add_coordinator(SECOND_COORDINATOR, etcd)?;
        Ok(scene)
    }

    /// Beside the stage, which has its own directory below this one.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn etcd(&self) -> Result<&Etcd> {
        self.etcd.as_ref().context("the record is in SQLite")
    }

    /// For its members to be killed and started.
    pub fn etcd_mut(&mut self) -> Result<&mut Etcd> {
        self.etcd.as_mut().context("the record is in SQLite")
    }

    pub fn deploy(&self, image: &str) -> Result<CommandOutput> {
        self.stage.lockstep(&["deploy", ENVIRONMENT, "--image", image])
    }

    /// Deploys without the scene's bake, what is there before the deployment that is to be long.
    pub fn deploy_without_bake(&self, image: &str) -> Result<()> {
        let _quick = self.declare(&format!("bake: {}", self.bake), "bake: 0s")?;
        self.deploy(image)?.expect_said(0, &["succeeded"])?;
        Ok(())
    }

    /// Begins a deployment that goes on while the test does something else.
    pub fn start_deploy(&self, image: &str) -> Result<Background> {
        Background::start(self.stage.command(&["deploy", ENVIRONMENT, "--image", image])?)
    }

    pub fn plan(&self, image: &str) -> Result<Plan> {
        Ok(serde_json::from_value(self.stage.json(&["plan", ENVIRONMENT, "--image", image])?)?)
    }

    pub fn status(&self) -> Result<EnvironmentStatus> {
        let all: Vec<EnvironmentStatus> = serde_json::from_value(self.stage.json(&["status", ENVIRONMENT])?)?;
        all.into_iter().next().context("the environment is not there")
    }

    /// `None` if no coordinator answers, or if the environment is not known yet.
    pub fn try_status(&self) -> Result<Option<EnvironmentStatus>> {
        let answer = self.stage.lockstep(&["--output", "json", "status", ENVIRONMENT])?;
        if answer.code != 0 {
            return Ok(None);
        }
        let all: Vec<EnvironmentStatus> = serde_json::from_str(&answer.stdout)?;
        Ok(all.into_iter().next())
    }

    /// Newest first.
    pub fn history(&self) -> Result<Vec<DeploymentSummary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    pub fn last(&self) -> Result<DeploymentSummary> {
        self.history()?.into_iter().next().context("the history is empty")
    }

    pub fn assert_verdict(&self, verdict: Verdict) -> Result<DeploymentSummary> {
        let last = self.last()?;
        ensure!(last.verdict == Some(verdict), "the last deployment {:?}, and not {verdict}", last.verdict);
        Ok(last)
    }

    pub fn wait_until_open(&self) -> Result<Claim> {
        let mut open = None;
        until("a deployment is open", SOON, || {
            open = self.try_status()?.and_then(|status| status.open).map(|status| status.open);
            Ok(open.is_some())
        })?;
        open.context("a deployment was open")
    }

    pub fn wait_until_free(&self) -> Result<()> {
        until("no deployment is open", DEPLOYMENT_LIMIT, || Ok(self.status()?.open.is_none()))
    }

    /// Waits until the open deployment is at the step of this name.
    pub fn wait_for_step(&self, step: &str) -> Result<()> {
        until(&format!("the step {step} runs"), DEPLOYMENT_LIMIT, || {
            let open = self.try_status()?.and_then(|status| status.open);
            Ok(open.is_some_and(|open| open.running.iter().any(|running| running.name == step)))
        })
    }

    /// Waits until the history has so many deployments and the newest has ended; fails unless it ended with `verdict`.
    pub fn wait_for_verdict(&self, deployments: usize, verdict: Verdict) -> Result<()> {
        until("the deployment has ended", TAKEOVER_LIMIT, || {
            // It may be asked at a moment at which etcd does not answer.
            let answer = self.stage.lockstep(&["--output", "json", "history", ENVIRONMENT])?;
            let history: Vec<DeploymentSummary> = serde_json::from_str(&answer.stdout).unwrap_or_default();
            let has_ended = history.len() == deployments && history[0].verdict.is_some();
            ensure!(!has_ended || history[0].verdict == Some(verdict), "{:?}", history[0]);
            Ok(has_ended)
        })
        .with_context(|| self.logs())
    }

    /// The end of each program's log, for a failure.
    pub fn logs(&self) -> String {
        let others: Vec<String> = self.stage.others.iter().map(Process::tail).collect();
        format!(
            "the first coordinator:\n{}\nthe others:\n{}\nthe agent:\n{}",
            self.stage.coordinator.tail(),
            others.join("\n"),
            self.stage.agent.tail()
        )
    }

    /// What the site answers to `GET path`, as it comes.
    pub fn get(&self, path: &str) -> Result<String> {
        traffic::get(self.stage.site, path)
    }

    /// The version that the site says it serves.
    pub fn served_version(&self) -> Result<String> {
        traffic::version_in(&self.get("/")?)
    }

    /// Changes the project's declaration until the value that it gives is dropped.
    pub fn declare(&self, from: &str, to: &str) -> Result<RestoredFile> {
        replace(&self.stage.deployment_yml(), from, to)
    }

    /// Adds lines to the file of secrets until the value that it gives is dropped.
    pub fn write_secrets(&self, lines: &str) -> Result<RestoredFile> {
        let file = self.stage.env_file();
        let kept = RestoredFile::keep(&file)?;
        let text = fs::read_to_string(&file)?;
        fs::write(&file, format!("{text}{lines}"))?;
        Ok(kept)
    }

    /// Where the snapshots of its database are.
    pub fn snapshots(&self) -> PathBuf {
        self.stage.directory.join("backups").join(self.object_name().as_str())
    }

    /// What the environment's objects are called on hosts.
    pub fn object_name(&self) -> ObjectName {
        self.stage.object_name()
    }

    /// Fails unless these containers are there and no others: `web-blue running`, in the order of the alphabet.
    pub fn assert_containers(&self, wanted: &[&str]) -> Result<()> {
        let mut there: Vec<String> = self
            .stage
            .docker
            .containers(&self.stage.label())?
            .into_iter()
            .map(|container| format!("{} {}", short_name(&container.name), container.state))
            .collect();
        there.sort();
        ensure!(there == wanted, "{ENVIRONMENT} has {there:?}, and not {wanted:?}");
        Ok(())
    }

    /// Runs `check`, and fails if anything is different afterwards: a request that is refused has no effect.
    pub fn assert_refused<T>(&self, name: &str, check: impl FnOnce(&Self) -> Result<T>) -> Result<()> {
        let refused = || {
            let before = Inventory::take(self)?;
            check(self)?;
            before.assert_same(&Inventory::take(self)?)
        };
        refused().with_context(|| name.to_owned())
    }

    /// Runs `check`, and fails unless a deployment was rolled back: it is in the history, and what serves is as it was.
    pub fn assert_rolled_back<T>(&self, name: &str, check: impl FnOnce(&Self) -> Result<T>) -> Result<()> {
        let rolled_back = || {
            let (before, deployments) = (Inventory::take(self)?, self.history()?.len());
            check(self)?;
            self.assert_verdict(Verdict::RolledBack)?;
            let added = self.history()?.len() - deployments;
            if added != 1 {
                bail!("the history has grown by {added}");
            }
            before.assert_live_same(&Inventory::take(self)?)
        };
        rolled_back().with_context(|| name.to_owned())
    }
}

fn setting(name: &str, bake: &'static str) -> Setting {
    Setting { application: format!("s-{name}-{}", std::process::id()), bake, drain: "1s" }
}

/// `web-blue` of `ls-<app>_production-web-blue-<deployment>`.
fn short_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('-').collect();
    parts[parts.len().saturating_sub(3)..parts.len().saturating_sub(1)].join("-")
}
