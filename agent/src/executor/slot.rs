//! The containers of a slot: start them from their specifications, stop them, and move workers from slot to slot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lockstep_core::count::times;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::ContainerSpec;
use lockstep_core::record::observed::{ContainerRunState, exit_code_in_words};
use lockstep_core::run::journal::{Finding, StepFailure};
use lockstep_core::slot::Slot;
use lockstep_runtime::durable;
use tokio::time::{Instant, sleep};

use super::{Executors, Work, docker_failed, finding, variables};
use crate::docker::{CreateContext, ManagedContainer};

/// A process that exits this soon counts as not started.
const SETTLES_WITHIN: Duration = Duration::from_millis(250);

const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Executors {
    pub(super) async fn start_slot(
        &self,
        work: &Work,
        slot: Slot,
        containers: &[ContainerSpec],
    ) -> Result<Finding, StepFailure> {
        let wanted = |there: &ManagedContainer| {
            containers
                .iter()
                .any(|spec| there.seen.spec == spec.digest() && there.seen.deployment == work.key.deployment)
        };
        let there = self.slot_containers(work, slot).await?;
        for stale in there.iter().filter(|there| !wanted(there)) {
            work.output.line(&format!("{} is stopped and removed", stale.seen.name));
            self.stop_and_remove(stale).await?;
        }
        self.write_state(&work.environment, slot, "standby")?;
        for spec in containers {
            work.refuse_cancelled()?;
            let id = self.create(work, spec).await?;
            self.start(work, spec, &id).await?;
            self.wait_until_settled(work, spec, &id).await?;
        }
        let adopted = there
            .iter()
            .filter(|there| wanted(there) && there.seen.running == ContainerRunState::Yes)
            .count();
        Ok(finding(match (containers.len(), adopted) {
            (all, 0) => format!("{all} started"),
            (all, adopted) => format!("{} started, {adopted} already running", all - adopted.min(all)),
        }))
    }

    pub(super) async fn stop_slot(&self, work: &Work, slot: Slot) -> Result<Finding, StepFailure> {
        let there = self.slot_containers(work, slot).await?;
        for container in &there {
            work.output.line(&format!("{} is stopped and removed", container.seen.name));
            self.stop_and_remove(container).await?;
        }
        Ok(finding(format!("{} removed", there.len())))
    }

    /// Stops the workers of `stop`, then starts those of `start`. Stopped containers are kept, so that they can run
    /// again.
    pub(super) async fn move_workers(
        &self,
        work: &Work,
        stop: Option<Slot>,
        start: Slot,
        containers: &[ContainerSpec],
    ) -> Result<Finding, StepFailure> {
        let mut stopped = 0;
        if let Some(stop) = stop {
            for worker in
                self.slot_containers(work, stop).await?.iter().filter(|there| there.health_path.is_none())
            {
                if worker.seen.running == ContainerRunState::Yes {
                    work.output.line(&format!("{} is stopped", worker.seen.name));
                    self.stop(&worker.id).await?;
                    stopped += 1;
                }
            }
        }
        // The load balancer's switch tells only the processes of its own host.
        self.write_state(&work.environment, start, "live")?;
        self.write_state(&work.environment, start.other(), "standby")?;
        let there = self.slot_containers(work, start).await?;
        for spec in containers {
            work.refuse_cancelled()?;
            // A warm slot's workers were made by the deployment that brought them.
            let made = there.iter().find(|there| there.seen.spec == spec.digest());
            let id = match made {
                Some(made) => made.id.clone(),
                None => self.create(work, spec).await?,
            };
            self.start(work, spec, &id).await?;
            if made.is_none_or(|made| made.seen.deployment == work.key.deployment) {
                // That of an earlier deployment was seen to run by it.
                self.wait_until_settled(work, spec, &id).await?;
            }
        }
        Ok(finding(format!("{stopped} stopped, {} running", containers.len())))
    }

    /// Writes `live` or `standby` to the state file of the slot, which applications read as `/run/lockstep/state`.
    pub(super) fn write_state(
        &self,
        environment: &EnvironmentKey,
        slot: Slot,
        state: &str,
    ) -> Result<(), StepFailure> {
        let directory = self.state_directory(environment, slot);
        let written = fs::create_dir_all(&directory)
            .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)))
            .and_then(|()| durable::write(&directory.join("state"), state, 0o644));
        written.map_err(|error| {
            StepFailure::new(format!("cannot write the state file in {}", directory.display()))
                .why(error.to_string())
        })
    }

    async fn slot_containers(&self, work: &Work, slot: Slot) -> Result<Vec<ManagedContainer>, StepFailure> {
        let mut there = self.docker.containers(Some(&work.environment)).await.map_err(docker_failed)?;
        there.retain(|there| there.seen.slot == slot);
        Ok(there)
    }

    async fn stop_and_remove(&self, container: &ManagedContainer) -> Result<(), StepFailure> {
        self.stop(&container.id).await?;
        self.docker.remove(&container.id).await.map_err(docker_failed)
    }

    /// Stops a container with the stop grace with which it was created.
    pub(super) async fn stop(&self, id: &str) -> Result<(), StepFailure> {
        let Some(state) = self.docker.inspect(id).await.map_err(docker_failed)? else { return Ok(()) };
        self.docker.stop(id, state.stop_grace_seconds).await.map_err(docker_failed)
    }

    async fn create(&self, work: &Work, spec: &ContainerSpec) -> Result<String, StepFailure> {
        let state_directory = self.state_directory(&work.environment, spec.slot);
        let context = CreateContext {
            objects: &self.object_names.of(&work.environment),
            environment: &work.environment,
            deployment: &work.key.deployment,
            step: work.key.step,
            variables: variables(spec, &work.secrets),
            state_directory: &state_directory,
        };
        self.docker.create(spec, &context).await.map_err(docker_failed)
    }

    async fn start(&self, work: &Work, spec: &ContainerSpec, id: &str) -> Result<(), StepFailure> {
        self.docker.start(id).await.map_err(docker_failed)?;
        work.output.line(&format!("{} of {} is started", spec.process, spec.slot));
        Ok(())
    }

    /// Waits to see that a process without a health check keeps running. The health check covers the others.
    async fn wait_until_settled(
        &self,
        work: &Work,
        spec: &ContainerSpec,
        id: &str,
    ) -> Result<(), StepFailure> {
        if spec.health_path.is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        while begun.elapsed() < SETTLES_WITHIN {
            self.refuse_exited(work, spec.process.as_str(), id).await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Refuses a container that has exited, or that the engine keeps restarting: it will not become healthy.
    pub(super) async fn refuse_exited(
        &self,
        work: &Work,
        process: &str,
        id: &str,
    ) -> Result<(), StepFailure> {
        let Some(state) = self.docker.inspect(id).await.map_err(docker_failed)? else { return Ok(()) };
        let how = match (state.running, state.restarts) {
            (ContainerRunState::Exited(code), _) => {
                format!("ended soon after it started: {}", exit_code_in_words(code))
            }
            (ContainerRunState::Yes, count @ 1..) => {
                format!("exited soon after it started, {}", times(count.unsigned_abs()))
            }
            (ContainerRunState::Yes, _) => return Ok(()),
        };
        let mut failure = StepFailure::new(format!("{process} {how}"))
            .next("read its last lines; or run the image by hand with the same variables: docker run");
        failure.tail = self.last_lines(work, id).await;
        Err(failure)
    }
}
