//! What a scene with two coordinators is asked: one coordinator and no other, and who drives a deployment.

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::{Entry, Event};
use lockstep_core::view::coordinator::CoordinatorStatus;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bed::program::CommandOutput;
use crate::bed::program::process::Process;
use crate::bed::wait::until;
use crate::scene::{ENVIRONMENT, Scene, TAKEOVER_LIMIT};

/// The coordinator that made the cluster.
pub const FIRST_COORDINATOR: &str = "coordinator-1";

/// The coordinator that joined it.
pub const SECOND_COORDINATOR: &str = "c2";

/// The part of what `show` prints that is read here.
#[derive(Deserialize)]
struct ShownDeployment {
    journal: Vec<Entry>,
}

/// Names of coordinators are the first argument of these functions.
impl Scene {
    /// Asks one coordinator and no other.
    pub fn lockstep_at(&self, coordinator: &str, arguments: &[&str]) -> Result<CommandOutput> {
        let address = self.stage.address_of(directory_of(coordinator))?;
        let mut all = vec!["--coordinator", address.as_str()];
        all.extend(arguments);
        self.stage.lockstep(&all)
    }

    /// As [`Scene::lockstep_at`], and fails unless the command succeeds.
    pub fn must_at(&self, coordinator: &str, arguments: &[&str]) -> Result<CommandOutput> {
        let answer = self.lockstep_at(coordinator, arguments)?;
        ensure!(answer.code == 0, "{coordinator} answers {arguments:?} with {answer:?}");
        Ok(answer)
    }

    pub fn json_at<T: DeserializeOwned>(&self, coordinator: &str, arguments: &[&str]) -> Result<T> {
        let answer = self.must_at(coordinator, &[&["--output", "json"], arguments].concat())?;
        serde_json::from_str(&answer.stdout).with_context(|| answer.stdout.clone())
    }

    pub fn coordinators(&self, asked: &str) -> Result<Vec<CoordinatorStatus>> {
        self.json_at(asked, &["coordinator", "list"])
    }

    /// How many hosts have a session with each coordinator; the coordinators in the order of their names.
    pub fn sessions(&self, asked: &str) -> Result<Vec<u32>> {
        Ok(self.coordinators(asked)?.iter().map(|one| one.sessions).collect())
    }

    /// The coordinators that have driven the `nth` deployment, in turn; empty until it is there.
    pub fn drivers(&self, asked: &str, nth: usize) -> Result<Vec<String>> {
        let history: Vec<DeploymentSummary> = self.json_at(asked, &["history", ENVIRONMENT])?;
        if history.len() < nth {
            return Ok(Vec::new());
        }
        let ShownDeployment { journal } = self.json_at(asked, &["show", "@last", "--env", ENVIRONMENT])?;
        let taken = |entry: Entry| if let Event::LockTaken { by } = entry.event { Some(by) } else { None };
        Ok(journal.into_iter().filter_map(taken).collect())
    }

    /// Waits until `count` coordinators in turn have driven the `nth` deployment, and gives the newest of them.
    pub fn wait_for_driver(&self, asked: &str, nth: usize, count: usize) -> Result<String> {
        let mut drivers = Vec::new();
        until(&format!("driver number {count} drives"), TAKEOVER_LIMIT, || {
            drivers = self.drivers(asked, nth)?;
            Ok(drivers.len() >= count)
        })?;
        drivers.pop().context("nobody drives")
    }

    pub fn coordinator(&mut self, name: &str) -> &mut Process {
        if name == FIRST_COORDINATOR { &mut self.stage.coordinator } else { &mut self.stage.others[0] }
    }

    pub fn start_coordinator(&mut self, name: &str) -> Result<()> {
        if name == FIRST_COORDINATOR {
            self.stage.start_coordinator(&[])
        } else {
            self.stage.start_other(0, SECOND_COORDINATOR, &[])
        }
    }
}

/// The folder of a coordinator on its stage.
pub fn directory_of(coordinator: &str) -> &str {
    if coordinator == FIRST_COORDINATOR { "coordinator" } else { coordinator }
}

pub fn other_than(coordinator: &str) -> &'static str {
    if coordinator == FIRST_COORDINATOR { SECOND_COORDINATOR } else { FIRST_COORDINATOR }
}
