//! Executors of the simulated host: each looks at what is there, makes it what its step says, and may be
//! killed between any two changes.

use std::time::Duration;

use lockstep_coordinator::store::handover::Assignment;
use lockstep_core::agent::accept::{BeginDecision, Outcome};
use lockstep_core::id::Digest;
use lockstep_core::name::HostName;
use lockstep_core::plan::action::{CheckHealth, Endpoint, Migrate, SwitchTraffic};
use lockstep_core::plan::{Action, ContainerSpec};
use lockstep_core::run::journal::SnapshotTaken;
use lockstep_core::run::journal::{Direction, Finding, Migrated, StepFailure};
use lockstep_core::slot::Slot;
use lockstep_mutant::{Mutant, is_on};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::process::AgentProcess;
use crate::fault::{Fault, Point};
use crate::reality::{Container, HealthCheck, NEVER, Nginx, Reality};
use crate::schedule::Release;
use crate::world::{State, World, wait};

/// How long nginx may take to answer from the slot.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// Good answers through nginx, in a row.
const PROOFS: u32 = 3;

/// The longest that a phase of a step is held up: longer than its limit.
const STEP_SLOW_MS_MAX: u64 = 40_000;

/// The longest that a step waits before it begins: longer than a coordinator waits for its outcome.
const STEP_WAITS_MS_MAX: u64 = 80_000;

/// How the task of a step went away.
pub enum JobEnd {
    Ended(Outcome),
    Withdrawn,
}

/// One step that was accepted.
pub struct Job {
    pub me: AgentProcess,
    pub assignment: Assignment,
    pub cancel: CancellationToken,
}

impl Job {
    pub async fn carry_out(self) -> JobEnd {
        let key = &self.assignment.key;
        if let Some(Fault::StepWaits) = self.me.world.strike(Point::Begin) {
            self.dawdle(STEP_WAITS_MS_MAX).await;
        }
        if self.me.begin(key).await == BeginDecision::Withdrawn {
            return JobEnd::Withdrawn;
        }
        if is_on(Mutant::AnsweredBeforeWork) {
            self.me.world.report(self.me.host, key, &Ok(Finding::default()));
        }
        let outcome = match &self.assignment.action {
            None => {
                self.acts("nothing is taken back");
                Ok(Finding::default())
            }
            Some(action) => self.within_limit(action).await,
        };
        self.me.gate().await;
        if outcome.is_ok() {
            self.me.world.lock().check.done(key);
        }
        self.me.finish(key, outcome.clone()).await;
        JobEnd::Ended(outcome)
    }

    async fn dawdle(&self, ms_max: u64) {
        let ms = self.me.world.chance(|rng| rng.u64(1_000..ms_max));
        self.me.world.holds_up(ms);
        wait(ms).await;
        self.me.gate().await;
    }

    async fn within_limit(&self, action: &Action) -> Outcome {
        self.acts("begins");
        tokio::select! {
            biased;
            outcome = self.converge(action) => outcome,
            () = self.cancel.cancelled() => Err(self.excused("the step was stopped because it is to be undone")),
            () = wait(self.assignment.limit.0) => Err(self.excused("the step was stopped after its limit")),
        }
    }

    /// What is so because of a fault, an operator's image or the clock is no failure of the protocol.
    fn excused(&self, what: &str) -> StepFailure {
        self.me.world.lock().check.excuse(&self.assignment.key);
        StepFailure::new(what)
    }

    /// This step is about to change something, or to count on what is there.
    fn acts(&self, what: &str) {
        let world = &self.me.world;
        world.acts(self.me.host, &self.assignment.key);
        world.tell(|| {
            let name = self.assignment.action.as_ref().map_or("nothing", Action::name);
            format!("agent {} {} [{name}]: {what}", self.me.host + 1, self.assignment.key)
        });
    }

    /// Time passes and anything may go wrong. Afterwards the step goes on, or has failed.
    async fn phase(&self, point: Point) -> Result<(), StepFailure> {
        wait(self.me.world.chance(|rng| rng.u64(2..120))).await;
        self.me.gate().await;
        match self.me.world.strike(point) {
            Some(fault @ (Fault::AgentCrash | Fault::HostCrash)) => self.me.die(fault).await,
            Some(Fault::ContainerDies) => self.me.world.container_dies(),
            Some(Fault::DatabaseRefuses) => return Err(self.excused("the database takes no connection")),
            Some(Fault::StepFails) => return Err(self.excused("the executor failed")),
            Some(Fault::StepSlow) => {
                self.dawdle(STEP_SLOW_MS_MAX).await;
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// One change of what is there.
    async fn change<T>(
        &self,
        what: &str,
        change: impl FnOnce(&mut Reality, u64) -> T,
    ) -> Result<T, StepFailure> {
        self.phase(Point::Phase).await?;
        self.acts(what);
        let now = self.me.world.now();
        let changed = change(&mut self.me.world.lock().reality, now);
        self.me.world.look();
        Ok(changed)
    }

    async fn converge(&self, action: &Action) -> Outcome {
        let mut finding = Finding::default();
        match action {
            Action::Preflight(_) | Action::PresentImage(_) => self.phase(Point::Phase).await?,
            Action::AdmitHosts(admission) => {
                self.phase(Point::DatabasePhase).await?;
                let lines = admission.lines.clone();
                self.change("the database's rules are read", |reality, _| reality.database.lines = lines)
                    .await?;
            }
            Action::TakeSnapshot(_) => finding.snapshot = Some(Box::new(self.take_snapshot().await?)),
            Action::Migrate(migrate) => finding.migrated = Some(self.migrate(migrate).await?),
            Action::StartSlot { slot, containers } => self.start_slot(*slot, containers).await?,
            Action::StopSlot { slot } => self.empty(*slot, |_| false).await?,
            Action::CheckHealth(check) => finding.unhealthy = self.check_health(check).await?,
            Action::InstallSite { site, .. } => {
                self.change("the site is installed", |reality, _| {
                    reality.nginx.install(&self.assignment.key.deployment, site);
                })
                .await?;
            }
            Action::RemoveSite if self.assignment.key.direction == Direction::Do => {
                self.change("the site is taken down", |reality, _| {
                    reality.nginx.take_down(&self.assignment.key.deployment);
                })
                .await?;
            }
            Action::RemoveSite => {
                self.change("the site is removed", |reality, _| {
                    reality.nginx = Nginx::default();
                })
                .await?;
            }
            Action::RestoreSite => {
                self.change("the site is what it was", |reality, _| {
                    reality.nginx.restore(&self.assignment.key.deployment);
                })
                .await?;
            }
            Action::SwitchTraffic(switch) => self.switch(switch).await?,
            Action::MoveWorkers { stop, start, containers } => {
                self.move_workers(*stop, *start, containers).await?;
            }
            Action::Bake { duration, check } => self.bake(duration.0, check).await?,
            Action::DrainSlot { .. } | Action::CleanUp(_) => self.phase(Point::Phase).await?,
        }
        Ok(finding)
    }

    async fn take_snapshot(&self) -> Result<SnapshotTaken, StepFailure> {
        self.phase(Point::DatabasePhase).await?;
        let deployment = self.assignment.key.deployment.clone();
        let taken = deployment.clone();
        self.change("the snapshot is sealed", |reality, _| {
            reality.database.snapshots.insert(taken);
        })
        .await?;
        let host: HostName = "db".parse().expect("a host's name");
        let path = deployment.to_string();
        Ok(SnapshotTaken { host, manifest: Digest::of_content(path.as_bytes()), path, bytes: 1 })
    }

    async fn migrate(&self, migrate: &Migrate) -> Result<Migrated, StepFailure> {
        self.phase(Point::DatabasePhase).await?;
        let fails = {
            let state = self.me.world.lock();
            let image = state.reality.images.get(&migrate.image_id);
            image.is_some_and(|image| image.release == Release::MigrationFails)
        };
        for migration in &migrate.migrations {
            let version = migration.version;
            let is_there = self.me.world.lock().reality.database.version >= version;
            if is_there && !is_on(Mutant::MigratesBlindly) {
                continue;
            }
            self.phase(Point::DatabasePhase).await?;
            if fails {
                return Err(self.excused("the migration failed"));
            }
            self.change("a migration is applied", |reality, _| {
                reality.database.version = version;
                reality.database.applied.push(version);
            })
            .await?;
            self.me.world.migrated(&self.assignment.key.deployment, version);
        }
        let applied: Vec<u64> = migrate.migrations.iter().map(|migration| migration.version).collect();
        Ok(Migrated { schema_version: applied.last().copied().unwrap_or(migrate.from), applied })
    }

    async fn start_slot(&self, slot: Slot, containers: &[ContainerSpec]) -> Result<(), StepFailure> {
        let deployment = &self.assignment.key.deployment;
        let digests: Vec<Digest> = containers.iter().map(ContainerSpec::digest).collect();
        let is_wanted = |there: &Container| {
            let same = digests.contains(&there.spec) && there.deployment == *deployment;
            same || is_on(Mutant::AnyContainerAdopted)
        };
        self.empty(slot, is_wanted).await?;
        for spec in containers {
            self.make(spec).await?;
            self.run(spec).await?;
        }
        Ok(())
    }

    /// Removes what the slot has and is not kept.
    async fn empty(&self, slot: Slot, is_kept: impl Fn(&Container) -> bool) -> Result<(), StepFailure> {
        loop {
            let stale = {
                let state = self.me.world.lock();
                let own = &state.reality.containers[self.me.host];
                own.iter().position(|there| there.slot == slot && !is_kept(there))
            };
            let Some(stale) = stale else { return Ok(()) };
            let host = self.me.host;
            self.change("a container is removed", |reality, _| {
                if stale < reality.containers[host].len() {
                    reality.containers[host].remove(stale);
                }
            })
            .await?;
        }
    }

    /// Makes the container, or adopts the one of the same specification.
    async fn make(&self, spec: &ContainerSpec) -> Result<(), StepFailure> {
        let host = self.me.host;
        let found = self.me.world.lock().reality.find(host, spec);
        if found.is_some() {
            return Ok(());
        }
        let container = Container {
            slot: spec.slot,
            process: spec.process.clone(),
            spec: spec.digest(),
            image: spec.image_id.clone(),
            deployment: self.assignment.key.deployment.clone(),
            endpoint: spec
                .publish
                .as_ref()
                .map(|publish| Endpoint { address: publish.address.clone(), port: publish.host_port }),
            is_started: false,
            healthy_from: NEVER,
            down_until: 0,
            check: HealthCheck::NotPassed,
        };
        self.change("a container is made", |reality, _| reality.containers[host].push(container)).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<(), StepFailure> {
        let host = self.me.host;
        let takes = self.me.world.chance(|rng| rng.u64(50..1_500));
        self.change("a container runs", |reality, now| {
            let release = reality.images.get(&spec.image_id).map(|image| image.release);
            let Some(number) = reality.find(host, spec) else { return };
            let there = &mut reality.containers[host][number];
            if !there.is_started {
                there.is_started = true;
                let is_bad = release == Some(Release::NeverHealthy) && there.is_web();
                there.healthy_from = if is_bad { NEVER } else { now + takes };
            }
        })
        .await
    }

    /// What is not healthy, and not needed.
    async fn check_health(&self, check: &CheckHealth) -> Result<Vec<Endpoint>, StepFailure> {
        let begun = Instant::now();
        let missed = loop {
            self.phase(Point::Phase).await?;
            let now = self.me.world.now();
            let (is_healthy, has_ended) = {
                let reality = &self.me.world.lock().reality;
                (reality.are_healthy(&check.targets, now), reality.has_ended(&check.targets, now))
            };
            if is_healthy {
                break Vec::new();
            }
            if has_ended && check.spare == 0 {
                return Err(self.excused("a process ended soon after its start"));
            }
            if begun.elapsed() >= Duration::from_millis(check.health.timeout.0) {
                let missed = self.me.world.lock().reality.unhealthy(&check.targets, now);
                if !check.spares(&missed) {
                    return Err(self.excused("it did not become healthy"));
                }
                break missed;
            }
            wait(check.health.interval.0).await;
            self.me.gate().await;
        };
        self.acts("it is healthy");
        let mut state = self.me.world.lock();
        for there in state.reality.containers.iter_mut().flatten() {
            let is_healthy = |own: &Endpoint| check.targets.contains(own) && !missed.contains(own);
            if there.endpoint.as_ref().is_some_and(is_healthy) {
                there.check = HealthCheck::Passed;
            }
        }
        Ok(missed)
    }

    async fn switch(&self, switch: &SwitchTraffic) -> Result<(), StepFailure> {
        let to = switch.to;
        self.change("the switch", |reality, _| reality.nginx.points_to_green = to == Slot::Green).await?;
        let begun = Instant::now();
        let mut row = 0;
        while row < PROOFS {
            wait(20).await;
            self.me.gate().await;
            let now = self.me.world.now();
            let is_good = self.me.world.lock().reality.are_healthy(&switch.endpoints, now);
            row = if is_good { row + 1 } else { 0 };
            if begun.elapsed() > PROOF_LIMIT {
                return Err(self.excused("nginx does not answer from the slot"));
            }
        }
        self.acts("the switch is proved");
        Ok(())
    }

    async fn move_workers(
        &self,
        stop: Option<Slot>,
        start: Slot,
        containers: &[ContainerSpec],
    ) -> Result<(), StepFailure> {
        let host = self.me.host;
        if let Some(stop) = stop {
            self.change("workers end", |reality, _| {
                let own = reality.containers[host].iter_mut();
                for worker in own.filter(|there| there.slot == stop && !there.is_web()) {
                    worker.is_started = false;
                }
            })
            .await?;
        }
        for spec in containers {
            let stale = {
                let state = self.me.world.lock();
                let found = state.reality.find(host, spec);
                found.is_some_and(|at| state.reality.containers[host][at].spec != spec.digest())
            };
            if stale {
                self.change("a container is replaced", |reality, _| {
                    if let Some(at) = reality.find(host, spec) {
                        reality.containers[host].remove(at);
                    }
                })
                .await?;
            }
            self.make(spec).await?;
            self.run(spec).await?;
        }
        debug_assert!(containers.iter().all(|spec| spec.slot == start));
        Ok(())
    }

    async fn bake(&self, duration_ms: u64, check: &CheckHealth) -> Result<(), StepFailure> {
        let begun = Instant::now();
        let mut bad = 0;
        while begun.elapsed() < Duration::from_millis(duration_ms) {
            self.phase(Point::Phase).await?;
            let now = self.me.world.now();
            let missed = self.me.world.lock().reality.unhealthy(&check.targets, now);
            let is_healthy = missed.is_empty() || check.spares(&missed);
            bad = if is_healthy { 0 } else { bad + 1 };
            if bad >= check.health.consecutive {
                return Err(self.excused("it became unhealthy under traffic"));
            }
            wait(check.health.interval.0).await;
            self.me.gate().await;
        }
        Ok(())
    }
}

impl World {
    /// A container ends; its engine starts it again.
    fn container_dies(&self) {
        let now = self.now();
        let died = {
            let mut state = self.lock();
            let State { rng, reality, .. } = &mut *state;
            let mut running: Vec<&mut Container> =
                reality.containers.iter_mut().flatten().filter(|there| there.is_started).collect();
            if running.is_empty() {
                return;
            }
            let at = rng.usize(0..running.len());
            let there = &mut running[at];
            there.down_until = now + rng.u64(100..4_000);
            if there.healthy_from != NEVER {
                there.healthy_from = there.down_until + rng.u64(100..2_000);
            }
            format!("{} of {} ends", there.process, there.slot)
        };
        self.tell(|| died);
    }

    /// What was running on a host that lost power is started when it is back.
    pub fn containers_restart(&self, host: usize, after_ms: u64) {
        let now = self.now();
        for there in &mut self.lock().reality.containers[host] {
            there.down_until = now + after_ms;
            if there.healthy_from != NEVER {
                there.healthy_from = there.down_until + 500;
            }
        }
    }
}
