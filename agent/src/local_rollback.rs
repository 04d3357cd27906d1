//! `lockstep-agent local rollback ENV`: moves the traffic back to the other slot without a coordinator.
//!
//! What must stay true: the traffic goes only to a slot that had it before, with the containers that it had then, when
//! every instance is healthy as probed from here. The rollback is recorded before its effect. From then on no step of a
//! driver moves the traffic until a coordinator has adopted the rollback (see
//! [`step_policy`](crate::worker::step_policy)).

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::slot::Slot;
use lockstep_crashpoint::reach;
use tracing::warn;

use crate::executor::{Executors, Instance};
use crate::host::clock;
use crate::journal::object_names::ObjectNames;
use crate::journal::{GivenTraffic, Journal, JournalError, LocalRefusal};
use crate::program::directory::{Directory, DirectoryError};
use crate::program::identity::Identity;
use crate::program::settings::Settings;

/// The result of a local rollback.
#[derive(Debug)]
pub struct RollbackReport {
    pub rollback: LocalRollback,
    /// How many workers on this host were stopped and started.
    pub workers: Result<(usize, usize), StepFailure>,
}

/// Moves the traffic of `environment`, which is `<app>/<env>` or `<env>`, to its other slot.
///
/// # Errors
/// When it is refused or fails, with the reason. The traffic is not moved then.
pub async fn rollback(directory: &Path, environment: &str, by: String) -> anyhow::Result<RollbackReport> {
    let directory = match Directory::open_for_command(directory) {
        Ok(directory) => directory,
        Err(DirectoryError::Taken { path }) => {
            anyhow::bail!("another local command is running in {}", path.display())
        }
        Err(error) => return Err(error.into()),
    };
    // An agent that starts in the middle waits for its supervisor to start it again.
    let agent = match directory.lock_out_agent() {
        Ok(lock) => Some(lock),
        Err(DirectoryError::Taken { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let settings = Settings::read(&directory.settings())?;
    let identity = Identity::read(&directory)?;
    let journal = Journal::open(&directory.journal()).await.context("cannot open the journal")?;
    if agent.is_some() {
        journal.interrupt().await?;
    }
    let object_names = ObjectNames::load(&journal).await.context("cannot read the names in the journal")?;
    let executors = Executors::new(&directory, &settings, &identity, object_names);
    settle(&journal, &executors).await?;
    let result = RollbackCommand { journal: &journal, executors: &executors, by }.run(environment).await;
    journal.close().await?;
    result.map_err(explain)
}

/// Formats a failure like the command line does: what, why, next.
fn explain(failure: StepFailure) -> anyhow::Error {
    let mut text = failure.what;
    for (name, said) in [("why", failure.why), ("next", failure.next)] {
        if let Some(said) = said {
            text.push_str(&format!("\n  {name}: {said}"));
        }
    }
    anyhow::anyhow!(text)
}

struct RollbackCommand<'a> {
    journal: &'a Journal,
    executors: &'a Executors,
    by: String,
}

impl RollbackCommand<'_> {
    async fn run(self, environment: &str) -> Result<RollbackReport, StepFailure> {
        let given = self.journal.traffic_records().await.map_err(journal_failed)?;
        let environment = resolve_environment(environment, &given)?;
        let from = self.executors.traffic_of(&environment).ok_or_else(|| {
            StepFailure::new(format!("nginx on this host has no site of {environment}"))
                .why("a local rollback runs on the host of the load balancer")
        })?;
        let target = self.target(&environment, from).await?;
        self.executors.wait_until_healthy(&target.switch).await.map_err(|failure| {
            failure.next(format!("the traffic stays in {from}; list the containers: docker ps --all"))
        })?;
        let new = LocalRollback {
            seq: 0,
            environment: environment.clone(),
            at: clock::now(),
            by: self.by.clone(),
            from,
            to: from.other(),
            deployment: target.deployment.clone(),
        };
        let rollback = match self.journal.begin_local(new).await.map_err(journal_failed)? {
            Ok(begun) => begun,
            Err(LocalRefusal::StepRuns { work }) => {
                return Err(StepFailure::new(format!(
                    "a step of a deployment is running on this host: {work}"
                ))
                .why("it moves containers or traffic, and so would the rollback")
                .next("try again in a moment, or stop the agent first: systemctl stop lockstep-agent"));
            }
        };
        // A step may have ended in between; from here on none begins that moves anything.
        let unchanged = self.target(&environment, from).await.and_then(|current| {
            let changed = || {
                StepFailure::new(
                    "a step of a deployment changed the slot at the same time; the traffic was not moved",
                )
            };
            if current == target { Ok(()) } else { Err(changed()) }
        });
        if let Err(failure) = unchanged {
            self.journal.forget_local(rollback.seq).await.map_err(journal_failed)?;
            return Err(failure);
        }
        if let Err(failure) = self.executors.switch_by_hand(&environment, &target.switch).await {
            if self.executors.traffic_of(&environment) == Some(from) {
                self.journal.forget_local(rollback.seq).await.map_err(journal_failed)?;
            }
            return Err(failure);
        }
        reach(|| "local: switched".to_owned());
        self.journal.end_local(rollback.seq).await.map_err(journal_failed)?;
        let workers = self.executors.move_workers_by_hand(&environment, rollback.to).await;
        Ok(RollbackReport { rollback, workers })
    }
}

impl RollbackCommand<'_> {
    /// The release to which the traffic may go back now.
    async fn target(&self, environment: &EnvironmentKey, from: Slot) -> Result<GivenTraffic, StepFailure> {
        let known = KnownTraffic {
            newest: self.journal.newest_deployment(environment).await.map_err(journal_failed)?,
            instances: self.executors.instances(environment, from.other()).await,
            given: &self.journal.traffic_records().await.map_err(journal_failed)?,
            environment,
            from,
        };
        known.target().cloned()
    }
}

fn journal_failed(error: JournalError) -> StepFailure {
    StepFailure::new("cannot use the journal of this host").why(crate::program::telemetry::chain(&error))
}

/// Finds the environment with this name among those that had traffic on this host.
fn resolve_environment(text: &str, given: &[GivenTraffic]) -> Result<EnvironmentKey, StepFailure> {
    let mut known: Vec<&EnvironmentKey> = given.iter().map(|given| &given.environment).collect();
    known.dedup();
    let mut found = known
        .iter()
        .filter(|key| key.to_string() == text || key.environment.as_str() == text)
        .map(|key| (*key).clone());
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (one, _) => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            let what = match one {
                Some(_) => format!("{text} matches several environments"),
                None => format!("no deployment has switched traffic of {text} on this host"),
            };
            Err(StepFailure::new(what).why(match known.as_slice() {
                [] => "no environment has had traffic here".to_owned(),
                known => format!("the environments on this host are {}", known.join(", ")),
            }))
        }
    }
}

/// What this host knows of an environment before its traffic is moved.
struct KnownTraffic<'a> {
    environment: &'a EnvironmentKey,
    from: Slot,
    given: &'a [GivenTraffic],
    newest: Option<DeploymentId>,
    /// The running instances of the other slot on this host.
    instances: Result<Vec<Instance>, StepFailure>,
}

impl KnownTraffic<'_> {
    /// The traffic record of the other slot, if the same containers still run there.
    fn target(&self) -> Result<&GivenTraffic, StepFailure> {
        let (from, to) = (self.from, self.from.other());
        let traffic_record = |slot: Slot| {
            self.given.iter().find(|given| given.environment == *self.environment && given.switch.to == slot)
        };
        let Some(target) = traffic_record(to) else {
            return Err(StepFailure::new(format!("{} has no release in {to} to go back to", self.environment))
                .why(format!(
                    "no release had the traffic there, or its deployment was reverted; the traffic stays in {from}"
                )));
        };
        let runs_here = !target.containers.is_empty();
        match &self.instances {
            Ok(instances) if runs_here => {
                let other = instances.iter().find(|instance| !target.containers.contains(&instance.name));
                let is_running = |name: &String| instances.iter().any(|instance| instance.name == *name);
                let missing = target.containers.iter().find(|name| !is_running(name));
                match (missing, other) {
                    (None, None) => Ok(target),
                    (Some(missing), _) => {
                        Err(self.state_unknown(&format!("{missing} is not running any more")))
                    }
                    (None, Some(other)) => {
                        Err(self.state_unknown(&format!("{} was started since", other.name)))
                    }
                }
            }
            // On other hosts it is only known that no newer deployment has begun here.
            Ok(_) | Err(_) => match (&self.newest, traffic_record(from)) {
                (Some(newest), _) if *newest == target.deployment => Ok(target),
                (Some(newest), Some(current)) if *newest == current.deployment => Ok(target),
                (Some(newest), _) => Err(self.state_unknown(&format!("{newest} has started since"))),
                (None, _) => Err(self.state_unknown("it is not known which deployments came later")),
            },
        }
    }

    fn state_unknown(&self, how: &str) -> StepFailure {
        let (from, to) = (self.from, self.from.other());
        StepFailure::new(format!("{to} of {} has changed since it had the traffic", self.environment))
            .why(format!(
                "{how}; what runs there may never have been healthy under traffic, so the traffic stays in {from}"
            ))
            .next(format!(
                "docker ps --all    # lists the containers\nlockstep rollback {}    # with a coordinator",
                self.environment
            ))
    }
}

/// Ends local rollbacks whose command was killed. The slot in nginx decides whether they count.
async fn settle(journal: &Journal, executors: &Executors) -> Result<(), JournalError> {
    for begun in journal.local_begun().await? {
        if executors.traffic_of(&begun.environment) == Some(begun.to) {
            journal.end_local(begun.seq).await?;
        } else {
            journal.forget_local(begun.seq).await?;
        }
    }
    Ok(())
}

/// The local rollbacks that the agent reports to coordinators.
pub struct LocalRollbacks {
    journal: Arc<Journal>,
    executors: Arc<Executors>,
    directory: Arc<Directory>,
}

impl LocalRollbacks {
    pub fn new(journal: Arc<Journal>, executors: Arc<Executors>, directory: Arc<Directory>) -> Self {
        Self { journal, executors, directory }
    }

    /// The rollbacks that no coordinator has adopted, oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn unreported(&self) -> Result<Vec<LocalRollback>, JournalError> {
        // What a command has begun is its own until it has ended.
        if !self.journal.local_begun().await?.is_empty()
            && let Ok(_lock) = self.directory.lock_out_commands()
        {
            settle(&self.journal, &self.executors).await?;
        }
        self.journal.local_done().await
    }

    /// Records that a coordinator has adopted the rollback.
    pub async fn mark_adopted(&self, seq: u64) {
        if let Err(error) = self.journal.mark_adopted(seq).await {
            // It is told once more, and taken in once more without effect.
            warn!(why = crate::program::telemetry::chain(&error), "cannot mark a local rollback as adopted");
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::plan::action::{Endpoint, SwitchTraffic};

    use super::*;

    const OLD: &str = "dep_01JBQR2KXYZ987654321012345";
    const NEW: &str = "dep_01JBQR2KXYZ987654321012346";
    const LATER: &str = "dep_01JBQR2KXYZ987654321012347";

    fn given(slot: Slot, deployment: &str, containers: &[&str]) -> GivenTraffic {
        let endpoints = vec![Endpoint { address: "172.17.0.1".to_owned(), port: 20_000 }];
        let switch = SwitchTraffic {
            to: slot,
            server_name: "notes.example".to_owned(),
            listen_port: 80,
            health_path: "/health".to_owned(),
            endpoints,
            secrets_version: None,
        };
        GivenTraffic {
            environment: "notes/production".parse().unwrap(),
            deployment: deployment.parse().unwrap(),
            switch,
            containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn known<'a>(
        environment: &'a EnvironmentKey,
        given: &'a [GivenTraffic],
        newest: &str,
        here: &[&str],
    ) -> KnownTraffic<'a> {
        let instance = |name: &&str| Instance {
            name: (*name).to_owned(),
            endpoint: Endpoint { address: "172.17.0.1".to_owned(), port: 20_000 },
        };
        KnownTraffic {
            environment,
            from: Slot::Green,
            given,
            newest: Some(newest.parse().unwrap()),
            instances: Ok(here.iter().map(instance).collect()),
        }
    }

    /// The deployment that the traffic goes back to, or why it does not.
    fn target(given: &[GivenTraffic], newest: &str, here: &[&str]) -> String {
        let environment = "notes/production".parse().unwrap();
        match known(&environment, given, newest, here).target() {
            Ok(given) => given.deployment.to_string(),
            Err(failure) => failure.why.unwrap(),
        }
    }

    #[test]
    fn the_traffic_goes_back_only_to_what_had_it() {
        let both = [given(Slot::Blue, OLD, &["web-old"]), given(Slot::Green, NEW, &["web-new"])];
        assert_eq!(target(&both, NEW, &["web-old"]), OLD);
        // A later deployment that did not touch the slot is no reason against it.
        assert_eq!(target(&both, LATER, &["web-old"]), OLD);
        assert!(target(&both, LATER, &["web-later"]).contains("is not running any more"));
        assert!(target(&both, LATER, &["web-old", "web-later"]).contains("was started since"));
        assert!(target(&both[1..], NEW, &["web-old"]).contains("no release had the traffic"));
    }

    #[test]
    fn of_other_hosts_it_must_be_known_that_nothing_has_begun_since() {
        let both = [given(Slot::Blue, OLD, &[]), given(Slot::Green, NEW, &[])];
        assert_eq!(target(&both, NEW, &[]), OLD);
        // And there again, where nothing has begun since the traffic came from there.
        assert_eq!(target(&both, OLD, &[]), OLD);
        assert!(target(&both, LATER, &[]).contains("has started since"));
    }

    #[test]
    fn an_environment_may_be_named_by_its_last_part_where_that_is_one() {
        let one = given(Slot::Blue, OLD, &[]);
        let other = GivenTraffic { environment: "shop/production".parse().unwrap(), ..one.clone() };
        let name = |text: &str, given: &[GivenTraffic]| {
            resolve_environment(text, given).map(|key| key.to_string()).ok()
        };
        assert_eq!(name("production", std::slice::from_ref(&one)).as_deref(), Some("notes/production"));
        assert_eq!(name("production", &[one.clone(), other.clone()]), None);
        assert_eq!(name("shop/production", &[one.clone(), other]).as_deref(), Some("shop/production"));
        assert_eq!(name("staging", &[one]), None);
    }
}
