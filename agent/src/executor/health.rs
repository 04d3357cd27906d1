//! Probes a slot until it is healthy, and watches that it stays healthy under traffic.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt, stream};
use lockstep_core::health::{Health, Probe, judge};
use lockstep_core::plan::action::{CheckHealth, Endpoint};
use lockstep_core::run::journal::{Finding, StepFailure};
use lockstep_core::time::Millis;
use tokio::time::{Instant, sleep};

use super::{Executors, Work, docker_failed, finding};
use crate::docker::DockerError;
use crate::probe::{self, ProbeAnswer, ProbeRequest, Reads, Scheme};

/// The number of probes in a failure.
const PROBES_KEPT: usize = 10;

/// Each probe needs a socket.
pub(super) const PROBES_AT_ONCE: usize = 64;

/// The shortest limit of a probe.
const PROBE_LIMIT_MIN: Duration = Duration::from_secs(1);

struct ProbedInstance<'a> {
    endpoint: &'a Endpoint,
    probes: VecDeque<Probe>,
    schema_version: Option<u64>,
}

impl Executors {
    /// Probes every target until it has answered well several times in a row.
    pub(super) async fn check_health(
        &self,
        work: &Work,
        check: &CheckHealth,
    ) -> Result<Finding, StepFailure> {
        let begun = Instant::now();
        let mut targets = probed_instances(check);
        loop {
            probe_all(work, &mut targets, check).await;
            for target in &targets {
                if let Some(last) = target.probes.back() {
                    work.output.application_said(&format!("{}: {last}", target.endpoint));
                }
            }
            if targets.iter().all(|target| target.health(check) == Health::Healthy) {
                let mut finding = finding(format!("healthy after {}", elapsed(begun)));
                finding.probes = targets.iter().flat_map(|target| target.probes.iter().cloned()).collect();
                refuse_old_schema(check, &targets)?;
                return Ok(finding);
            }
            self.refuse_ended(work, check).await?;
            if begun.elapsed() >= Duration::from_millis(check.health.timeout.0) {
                let unhealthy =
                    unhealthy_endpoints(&targets, |target| target.health(check) != Health::Healthy);
                if !check.spares(&unhealthy) {
                    return Err(self.unhealthy(work, check, &targets, "did not become healthy").await);
                }
                refuse_old_schema(check, &targets)?;
                let text = format!(
                    "not healthy after {}: {}; the quorum holds without",
                    elapsed(begun),
                    list(&unhealthy)
                );
                return Ok(Finding { unhealthy, ..finding(text) });
            }
            tokio::select! {
                () = sleep(Duration::from_millis(check.health.interval.0)) => {}
                () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
            }
        }
    }

    /// Watches the slot under traffic. Several bad answers in a row are a failure, a single one is not.
    pub(super) async fn bake(
        &self,
        work: &Work,
        duration: Millis,
        check: &CheckHealth,
    ) -> Result<Finding, StepFailure> {
        let begun = Instant::now();
        let mut targets = probed_instances(check);
        let mut unhealthy = Vec::new();
        while begun.elapsed() < Duration::from_millis(duration.0) {
            probe_all(work, &mut targets, check).await;
            let is_unhealthy = |target: &ProbedInstance<'_>| {
                target.failures_in_a_row() >= usize::from(check.health.consecutive)
            };
            unhealthy = unhealthy_endpoints(&targets, is_unhealthy);
            if !unhealthy.is_empty() && !check.spares(&unhealthy) {
                return Err(self.unhealthy(work, check, &targets, "became unhealthy under traffic").await);
            }
            self.refuse_ended(work, check).await?;
            let left = Duration::from_millis(duration.0).saturating_sub(begun.elapsed());
            work.output.line(&format!(
                "healthy under traffic, {} to go",
                Millis(u64::try_from(left.as_millis()).unwrap_or(0))
            ));
            let pause = Duration::from_millis(check.health.interval.0.max(250)).min(left);
            tokio::select! {
                () = sleep(pause) => {}
                () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
            }
        }
        if unhealthy.is_empty() {
            return Ok(finding(format!("healthy for {duration}")));
        }
        // nginx passes over it by itself, as it does at any other time.
        let text = format!("healthy for {duration}, except {}", list(&unhealthy));
        Ok(Finding { unhealthy, ..finding(text) })
    }

    /// Fails at once if a container has exited: it will not become healthy.
    async fn refuse_ended(&self, work: &Work, check: &CheckHealth) -> Result<(), StepFailure> {
        let containers = match self.docker.containers(Some(&work.environment)).await {
            // A load balancer's host need not have Docker: what it asks runs elsewhere.
            Err(DockerError::Absent { .. }) => return Ok(()),
            found => found.map_err(docker_failed)?,
        };
        for container in containers {
            if container.seen.slot != check.slot || container.health_path.is_none() {
                continue;
            }
            self.refuse_exited(work, container.seen.process.as_str(), &container.id).await?;
        }
        Ok(())
    }

    async fn unhealthy(
        &self,
        work: &Work,
        check: &CheckHealth,
        targets: &[ProbedInstance<'_>],
        how: &str,
    ) -> StepFailure {
        let worst = targets.iter().find(|target| target.health(check) != Health::Healthy).or(targets.first());
        let mut failure = StepFailure::new(format!(
            "{} in {} {how} within {}",
            check.release.image, check.slot, check.health.timeout
        ));
        if let Some(worst) = worst {
            let last = worst.probes.back().map(ToString::to_string).unwrap_or_default();
            failure = failure.why(format!(
                "{} of {} is {}: {last}",
                check.health.path,
                worst.endpoint,
                worst.health(check)
            ));
            failure.probes = worst.probes.iter().cloned().collect();
        }
        if let Ok(containers) = self.docker.containers(Some(&work.environment)).await
            && let Some(container) = containers
                .iter()
                .find(|container| container.seen.slot == check.slot && container.health_path.is_some())
        {
            failure.tail = self.last_lines(work, &container.id).await;
        }
        // The container is removed with the slot; its last lines stay in the log of this step.
        failure.tail.iter().for_each(|line| work.output.application_said(&format!("| {line}")));
        failure
    }
}

fn probed_instances(check: &CheckHealth) -> Vec<ProbedInstance<'_>> {
    check
        .targets
        .iter()
        .map(|endpoint| ProbedInstance { endpoint, probes: VecDeque::new(), schema_version: None })
        .collect()
}

/// Probes concurrently, so that a host that does not answer delays no other.
async fn probe_all(work: &Work, targets: &mut [ProbedInstance<'_>], check: &CheckHealth) {
    stream::iter(targets).for_each_concurrent(PROBES_AT_ONCE, |target| target.probe(work, check)).await;
}

fn unhealthy_endpoints(
    targets: &[ProbedInstance<'_>],
    is_unhealthy: impl Fn(&ProbedInstance<'_>) -> bool,
) -> Vec<Endpoint> {
    targets.iter().filter(|target| is_unhealthy(target)).map(|target| target.endpoint.clone()).collect()
}

fn list(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl ProbedInstance<'_> {
    async fn probe(&mut self, work: &Work, check: &CheckHealth) {
        let limit = Duration::from_millis(check.health.interval.0 * 5).max(PROBE_LIMIT_MIN);
        let request = ProbeRequest {
            address: &self.endpoint.address,
            port: self.endpoint.port,
            host: &self.endpoint.address,
            path: &check.health.path,
            header: None,
            scheme: Scheme::Http,
            reads: Reads::Body,
            limit,
        };
        let ProbeAnswer { probe, schema_version, .. } = probe::send_probe(&request).await;
        if self.probes.len() == PROBES_KEPT.max(usize::from(check.health.consecutive)) {
            self.probes.pop_front();
        }
        // It is shown in several places, and its body is cut only once it is redacted.
        self.probes.push_back(work.output.probe(probe));
        self.schema_version = schema_version;
    }

    fn health(&self, check: &CheckHealth) -> Health {
        let probes: Vec<Probe> = self.probes.iter().cloned().collect();
        judge(&probes, check.health.consecutive)
    }

    fn failures_in_a_row(&self) -> usize {
        self.probes.iter().rev().take_while(|probe| probe.health() != Health::Healthy).count()
    }
}

/// Refuses an application that reports an older schema than it was built for.
fn refuse_old_schema(check: &CheckHealth, targets: &[ProbedInstance<'_>]) -> Result<(), StepFailure> {
    let wanted = check.release.schema_version();
    match targets.iter().filter_map(|target| target.schema_version).find(|seen| *seen < wanted) {
        None => Ok(()),
        Some(seen) => Err(StepFailure::new(format!(
            "{} reports schema version {seen}, and was built for version {wanted}",
            check.release.image
        ))
        .why("the application may be connected to another database than the one that was migrated")
        .next(
            "compare the application's database URL with the secret that database.postgres.url_from names",
        )),
    }
}

fn elapsed(begun: Instant) -> Millis {
    Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}
