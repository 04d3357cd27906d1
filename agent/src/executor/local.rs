//! The executors for the local rollback command: the same switch with the same proof, without a deployment.

use std::time::Duration;

use lockstep_core::health::{Health, judge};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::{Endpoint, SwitchTraffic};
use lockstep_core::record::observed::ContainerRunState;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::slot::Slot;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::traffic::{NotProved, Proof};
use super::{Executors, docker_failed};
use crate::nginx::InstalledSite;
use crate::probe::{self, ProbeRequest, Reads, Scheme};

/// The number of good answers in a row that each instance of the slot must give.
const CONSECUTIVE: u16 = 3;

/// How long the instances may take for that.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);

const ASK_EVERY: Duration = Duration::from_millis(200);

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A running container with a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub endpoint: Endpoint,
}

impl Executors {
    /// The slot to which nginx on this host sends the environment's requests; `None` if it has no site.
    pub fn traffic_of(&self, environment: &EnvironmentKey) -> Option<Slot> {
        match self.nginx.installed(environment) {
            Ok(InstalledSite::Nothing) | Err(_) => None,
            Ok(InstalledSite::Ours(_) | InstalledSite::Changed(_)) => Some(self.nginx.slot(environment)),
        }
    }

    /// The names of the slot's running containers on this host; empty if Docker does not answer.
    pub async fn instances_of(&self, environment: &EnvironmentKey, slot: Slot) -> Vec<String> {
        match self.instances(environment, slot).await {
            Ok(instances) => instances.into_iter().map(|instance| instance.name).collect(),
            Err(failure) => {
                warn!(what = failure.what, "cannot list the containers of the slot");
                Vec::new()
            }
        }
    }

    /// The slot's running containers on this host with a published port.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn instances(
        &self,
        environment: &EnvironmentKey,
        slot: Slot,
    ) -> Result<Vec<Instance>, StepFailure> {
        let containers = self.docker.containers(Some(environment)).await.map_err(docker_failed)?;
        let running = containers
            .into_iter()
            .filter(|found| found.seen.slot == slot && found.seen.running == ContainerRunState::Yes);
        Ok(running
            .filter_map(|found| {
                let (address, port) = found.endpoint?;
                Some(Instance { name: found.seen.name, endpoint: Endpoint { address, port } })
            })
            .collect())
    }

    /// Probes every endpoint until it has answered well several times in a row.
    ///
    /// # Errors
    /// When an endpoint does not within the limit.
    pub async fn wait_until_healthy(&self, switch: &SwitchTraffic) -> Result<(), StepFailure> {
        let begun = Instant::now();
        for endpoint in &switch.endpoints {
            let mut probes = Vec::new();
            while judge(&probes, CONSECUTIVE) != Health::Healthy {
                if begun.elapsed() > HEALTHY_WITHIN {
                    let last = probes.last().map(ToString::to_string).unwrap_or_default();
                    let failure = StepFailure::new(format!("{} in {} is not healthy", endpoint, switch.to))
                        .why(format!("{} answered: {last}", switch.health_path));
                    return Err(StepFailure { probes, ..failure });
                }
                if !probes.is_empty() {
                    sleep(ASK_EVERY).await;
                }
                let request = ProbeRequest {
                    address: &endpoint.address,
                    port: endpoint.port,
                    host: &endpoint.address,
                    path: &switch.health_path,
                    header: None,
                    scheme: Scheme::Http,
                    reads: Reads::Body,
                    limit: ANSWER_LIMIT,
                };
                probes.push(probe::send_probe(&request).await.probe);
            }
        }
        Ok(())
    }

    /// Sends every new request to the slot of `switch`, and proves that answers come from there. Otherwise switches
    /// back.
    ///
    /// # Errors
    /// When the switch fails, or is not proved.
    pub async fn switch_by_hand(
        &self,
        environment: &EnvironmentKey,
        switch: &SwitchTraffic,
    ) -> Result<(), StepFailure> {
        let write_failed =
            |error: std::io::Error| StepFailure::new("cannot write the switch file").why(error.to_string());
        self.nginx.switch(environment, switch.to).map_err(write_failed)?;
        if let Err(NotProved { last }) =
            self.prove(environment, (switch, Proof::Healthy), Instant::now(), |_| {}).await
        {
            self.nginx.switch(environment, switch.to.other()).map_err(write_failed)?;
            return Err(StepFailure::new(format!("nginx does not answer from {}", switch.to))
                .why(format!("{last}; the traffic was moved back to {}", switch.to.other()))
                .next("check that nginx runs: systemctl status nginx; and its configuration: nginx -T"));
        }
        self.write_state(environment, switch.to, "live")?;
        self.write_state(environment, switch.to.other(), "standby")
    }

    /// Stops the workers of the other slot on this host, then starts those of `to`. Returns how many it stopped and
    /// started.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn move_workers_by_hand(
        &self,
        environment: &EnvironmentKey,
        to: Slot,
    ) -> Result<(usize, usize), StepFailure> {
        let containers = self.docker.containers(Some(environment)).await.map_err(docker_failed)?;
        let workers = || containers.iter().filter(|container| container.health_path.is_none());
        let (mut stopped, mut started) = (0, 0);
        for worker in
            workers().filter(|worker| worker.seen.slot != to && worker.seen.running == ContainerRunState::Yes)
        {
            self.stop(&worker.id).await?;
            stopped += 1;
        }
        for worker in workers().filter(|worker| worker.seen.slot == to) {
            self.docker.start(&worker.id).await.map_err(docker_failed)?;
            started += 1;
        }
        Ok((stopped, started))
    }
}
