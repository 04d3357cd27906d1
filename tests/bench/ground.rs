//! What all cases stand on: one stage with one web process, and the same by hand beside it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;

use crate::by_hand::ByHand;
use lockstep_tests::bed::stage::{Setting, Stage};

pub(super) const ENVIRONMENT: &str = "production";

/// The line of the stage's declaration that has the worker.
const WORKER: &str = "worker: {";

pub(super) struct Ground {
    // Falls first: its containers use the stage's PostgreSQL.
    pub(super) by_hand: ByHand,
    pub(super) stage: Stage,
    /// The second of two images that differ in their version alone; the newest that is deployed.
    pub(super) newest: String,
    /// The first of them, deployed once.
    pub(super) first: String,
}

impl Ground {
    /// Starts everything and makes the first deployment.
    pub(super) fn start(directory: &Path, say: &mut dyn FnMut(&str)) -> Result<Self> {
        say("· building two releases of the example application (the first time takes a minute)");
        // No bake and no drain: the script has none either.
        let setting = Setting { application: "lockstep-bench".to_owned(), bake: "0s", drain: "0s" };
        let mut stage = Stage::start(directory, &setting)?;
        without_worker(&stage.deployment_yml())?;
        let first = stage.image("1", 2, &[])?;
        let newest = stage.image("2", 2, &[])?;
        let by_hand = ByHand::prepare(&stage, &directory.join("by-hand"))?;
        stage.must(&["deploy", ENVIRONMENT, "--image", &first])?;
        Ok(Self { by_hand, stage, newest, first })
    }

    /// `lockstep deploy`, from the command to its end.
    pub(super) fn deploy(&self, image: &str) -> Result<Duration> {
        self.timed(&["deploy", ENVIRONMENT, "--image", image])
    }

    /// `lockstep rollback` to a deployment, from the command to its end.
    pub(super) fn roll_back_to(&self, deployment: &str) -> Result<Duration> {
        self.timed(&["rollback", ENVIRONMENT, "--to", deployment])
    }

    fn timed(&self, arguments: &[&str]) -> Result<Duration> {
        let begun = Instant::now();
        self.stage.must(arguments)?;
        Ok(begun.elapsed())
    }

    /// Newest first.
    pub(super) fn history(&self) -> Result<Vec<DeploymentSummary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    /// Both slots run: the first release's deployment and the newest's, which is live.
    pub(super) fn both_slots(&self) -> Result<[String; 2]> {
        let there = self.history()?;
        let deployment_of = |image: &str| {
            there.iter().find(|summary| summary.release.image == image).map(|summary| summary.id.to_string())
        };
        if deployment_of(&self.newest).is_none() {
            self.deploy(&self.newest)?;
            return self.both_slots();
        }
        Ok([
            deployment_of(&self.first).context("the first deployment is not in the history")?,
            deployment_of(&self.newest).context("the second deployment is not in the history")?,
        ])
    }
}

/// The script has one web process, so ours has no other.
fn without_worker(declaration: &Path) -> Result<()> {
    let text = fs::read_to_string(declaration)?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with(WORKER)).collect();
    ensure!(kept.len() + 1 == text.lines().count(), "the stage's declaration has no worker on one line");
    fs::write(declaration, kept.join("\n") + "\n")?;
    Ok(())
}
