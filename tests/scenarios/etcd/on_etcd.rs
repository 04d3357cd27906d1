//! A stage whose record is in an etcd of three members.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::{Record, Said, Setting, Stage};
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;
use tempfile::TempDir;

pub(super) const ENVIRONMENT: &str = "production";

pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Requests in a second: enough to notice, not so many that two cores do nothing else.
pub(super) const RATE: u32 = 200;

pub(super) struct OnEtcd {
    pub(super) stage: Stage,
    pub(super) etcd: Etcd,
    _directory: TempDir,
}

impl OnEtcd {
    pub(super) fn start(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
        let application = format!("e-{name}-{}", std::process::id());
        let setting = Setting { application, bake, drain: "1s" };
        let stage = Stage::start_on(&directory.path().join("stage"), &setting, Record::Etcd(&etcd))?;
        ensure!(!is_in_sqlite(&stage.directory), "its record is in SQLite");
        Ok(Self { stage, etcd, _directory: directory })
    }

    pub(super) fn deploy(&self, image: &str) -> Result<Said> {
        self.stage.must(&["deploy", ENVIRONMENT, "--image", image])
    }

    /// A deployment that goes on while the test does something else.
    pub(super) fn begin(&self, image: &str) -> Result<Child> {
        let mut command = self.stage.command(&["deploy", ENVIRONMENT, "--image", image])?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Changes the declaration.
    pub(super) fn declare(&self, from: &str, to: &str) -> Result<()> {
        let file = self.stage.deployment_yml();
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains(from), "{from:?} is not declared:\n{text}");
        Ok(fs::write(&file, text.replacen(from, to, 1))?)
    }

    pub(super) fn history(&self) -> Result<Vec<DeploymentSummary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    pub(super) fn wait_for_verdict(&self, deployments: usize, verdict: Verdict) -> Result<()> {
        until("the deployment has ended", LIMIT, || {
            // It may be asked at a moment at which etcd does not answer.
            let said = self.stage.lockstep(&["--output", "json", "history", ENVIRONMENT])?;
            let history: Vec<DeploymentSummary> = serde_json::from_str(&said.stdout).unwrap_or_default();
            let ended = history.len() == deployments && history[0].verdict.is_some();
            ensure!(!ended || history[0].verdict == Some(verdict), "{:?}", history[0]);
            Ok(ended)
        })
        .with_context(|| self.told())
    }

    /// What everybody said last, for when something is not as it should be.
    fn told(&self) -> String {
        let others: Vec<String> = self.stage.others.iter().map(|other| other.tail()).collect();
        let status = self.stage.lockstep(&["status", ENVIRONMENT]);
        format!(
            "{status:?}\nthe first coordinator:\n{}\nthe others:\n{}\nthe agent:\n{}",
            self.stage.coordinator.tail(),
            others.join("\n"),
            self.stage.agent.tail()
        )
    }

    pub(super) fn wait_for_step(&self, step: &str) -> Result<()> {
        until(&format!("{step} runs or has run"), LIMIT, || {
            let said = self.stage.lockstep(&["status", ENVIRONMENT])?;
            Ok(said.stdout.contains(step))
        })
    }
}

fn is_in_sqlite(stage: &Path) -> bool {
    stage.join("coordinator/store.sqlite").exists()
}

pub(super) fn assert_none_lost(load: Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(load.stop());
    ensure!(report.requests > 0, "the load sent nothing");
    ensure!(report.failed == 0, "{} of {} failed: {:?}", report.failed, report.requests, report.failures);
    Ok(())
}
