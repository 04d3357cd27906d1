//! Watches the health of every instance on this host, for as long as the agent runs and not only during a deployment.
//!
//! What must stay true: it costs next to nothing. The containers are listed seldom, and at once after a step that
//! changed them. Each instance is probed once in [`PROBE_EVERY`], a new one more often. A report is sent when something
//! has changed, and every [`REPORT_EVERY`] otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::health::{Health, InstanceHealth, Probe, judge};
use lockstep_core::name::EnvironmentKey;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::executor::{Executors, Target};

const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The interval for an instance that is too new to be judged.
const PROBE_NEW_EVERY: Duration = Duration::from_secs(1);
const LIST_EVERY: Duration = Duration::from_secs(15);
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The number of probes of an instance that are kept and shown.
const PROBES_KEPT: usize = 10;

/// The number of good answers in a row that make an instance healthy.
const CONSECUTIVE: u16 = 3;

/// The instances of one environment on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    pub environment: EnvironmentKey,
    pub instances: Vec<InstanceHealth>,
}

/// The health watch.
pub struct Watch {
    executors: Arc<Executors>,
    reports: mpsc::Sender<HealthReport>,
    instances: BTreeMap<String, Instance>,
    reported: BTreeMap<EnvironmentKey, LastReport>,
    listed: Option<Instant>,
}

struct Instance {
    target: Target,
    probes: VecDeque<Probe>,
}

struct LastReport {
    at: Instant,
    /// The health of each instance.
    health: BTreeMap<String, Health>,
}

impl Watch {
    pub fn new(executors: Arc<Executors>, reports: mpsc::Sender<HealthReport>) -> Self {
        Self { executors, reports, instances: BTreeMap::new(), reported: BTreeMap::new(), listed: None }
    }

    /// Runs until nobody receives the reports.
    pub async fn run(mut self) {
        loop {
            self.list().await;
            self.probe().await;
            for report in self.due(Instant::now()) {
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sleep(self.pause()) => {}
                () = self.executors.containers_changed() => self.listed = None,
            }
        }
    }

    fn pause(&self) -> Duration {
        let is_new = |instance: &Instance| instance.probes.len() < usize::from(CONSECUTIVE);
        if self.instances.values().any(is_new) { PROBE_NEW_EVERY } else { PROBE_EVERY }
    }

    /// Updates the list of instances from time to time.
    async fn list(&mut self) {
        let is_fresh = self.listed.is_some_and(|at| at.elapsed() < LIST_EVERY);
        if is_fresh {
            return;
        }
        match self.executors.targets().await {
            Ok(targets) => {
                self.listed = Some(Instant::now());
                self.update_targets(targets);
            }
            // Docker may be restarting; the instances that were there are probed on.
            Err(error) => debug!(%error, "cannot list containers"),
        }
    }

    fn update_targets(&mut self, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.instances);
        for target in targets {
            let probes = before.remove(&target.container).map(|instance| instance.probes).unwrap_or_default();
            self.instances.insert(target.container.clone(), Instance { target, probes });
        }
    }

    async fn probe(&mut self) {
        let executors = &self.executors;
        let probes = self.instances.values_mut().map(|instance| async {
            let probe = executors.probe(&instance.target).await;
            if instance.probes.len() == PROBES_KEPT {
                instance.probes.pop_front();
            }
            instance.probes.push_back(probe);
        });
        futures::future::join_all(probes).await;
    }

    /// The reports that are due at `now`.
    fn due(&mut self, now: Instant) -> Vec<HealthReport> {
        let mut seen: BTreeMap<EnvironmentKey, Vec<InstanceHealth>> =
            self.reported.keys().map(|environment| (environment.clone(), Vec::new())).collect();
        for (container, Instance { target, probes }) in &self.instances {
            let probes: Vec<Probe> = probes.iter().cloned().collect();
            let health = judge(&probes, CONSECUTIVE);
            let instance = InstanceHealth { container: container.clone(), health, probes };
            seen.entry(target.environment.clone()).or_default().push(instance);
        }
        let mut due = Vec::new();
        for (environment, instances) in seen {
            let health: BTreeMap<String, Health> =
                instances.iter().map(|instance| (instance.container.clone(), instance.health)).collect();
            let before = self.reported.get(&environment);
            if before.is_some_and(|before| before.health == health && now - before.at < REPORT_EVERY) {
                continue;
            }
            log_changes(&environment, before, &health);
            if instances.is_empty() {
                // Said once: the environment has left this host.
                self.reported.remove(&environment);
            } else {
                self.reported.insert(environment.clone(), LastReport { at: now, health });
            }
            due.push(HealthReport { environment, instances });
        }
        due
    }
}

fn log_changes(environment: &EnvironmentKey, before: Option<&LastReport>, health: &BTreeMap<String, Health>) {
    for (container, health) in health {
        let was = before.and_then(|before| before.health.get(container));
        if was.is_some_and(|was| was != health) {
            info!(%environment, container, %health, "health changed");
        }
    }
}
