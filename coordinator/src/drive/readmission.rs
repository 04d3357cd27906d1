//! Re-admits hosts that a deployment excluded. When such a host is connected again, has no pending undos, and nothing
//! is open in the environment, the plan of `lockstep host add` starts the live release on it.
//!
//! What must stay true: it is a normal deployment with a plan, undos and an entry in the history. A failed attempt is
//! repeated after increasing waits.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::time::{Millis, Timestamp};
use tracing::{info, warn};

use super::exit::{DriverError, DriverExit};
use crate::context::Context;
use crate::planning;
use crate::planning::grants::Authority;
use crate::planning::{DeployError, PlanRequest, RequestedOperation, Requester, StartRequest};
use crate::record::audit;
use crate::record::audit::Change;
use crate::record::hosts;
use crate::store::{Revision, Store, StoreError, Stored, Wakeups, keys};

/// How long a host must have been connected: one that comes and goes is not worth a reload of nginx.
const SETTLED_AFTER: Millis = Millis::from_secs(15);

/// After the first attempt; twice as long after each that follows.
const TRY_AGAIN_AFTER: Millis = Millis::from_secs(60);
const TRY_AGAIN_AFTER_MAX: Millis = Millis::from_secs(3600);

/// How long the live releases that were read are taken for current without a wake-up: a watch is only a hint.
const READ_AGAIN_AFTER: Millis = Millis::from_secs(30);

/// The excluded hosts, and when each is tried.
#[derive(Default)]
pub(super) struct Readmission {
    away: BTreeMap<EnvironmentKey, ExcludedSince>,
    /// Of everything below the environments; `None` until the live releases are read for the first time.
    wakeups: Option<Wakeups>,
    /// When the live releases were read; `None` if they must be read.
    read_at: Option<Timestamp>,
}

/// The excluded hosts of one environment, as recorded at a revision.
struct ExcludedSince {
    read_at: Revision,
    hosts: BTreeMap<HostName, RetrySchedule>,
}

/// When the host is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RetrySchedule {
    /// `None` while it is not connected.
    at: Option<Timestamp>,
    again_after: Millis,
}

impl RetrySchedule {
    const FIRST: Self = Self { at: None, again_after: TRY_AGAIN_AFTER };
}

/// An excluded host that is to be re-admitted.
pub(super) struct ReadmissionTask {
    pub(super) context: Context,
    pub(super) environment: EnvironmentKey,
    pub(super) host: HostName,
}

impl Readmission {
    /// Reads which hosts are excluded, if a live release may have changed since the last time.
    async fn refresh(&mut self, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let wakeups = self.wakeups.get_or_insert_with(|| store.watch(&keys::environments()));
        let is_recent = self.read_at.is_some_and(|at| now.since(at) < READ_AGAIN_AFTER);
        if is_recent && !wakeups.has_changed() {
            return Ok(());
        }
        wakeups.mark_seen();
        self.read_at = None;
        let stored = store.list_named(&keys::environments(), keys::LIVE).await?;
        let mut live = BTreeSet::new();
        for stored in &stored {
            if let Some(environment) = keys::environment_of(&stored.key) {
                self.note(&environment, stored)?;
                live.insert(environment);
            }
        }
        // The others were removed.
        self.away.retain(|environment, _| live.contains(environment));
        self.read_at = Some(now);
        Ok(())
    }

    /// Notes which hosts the live release of `environment` excludes.
    fn note(&mut self, environment: &EnvironmentKey, stored: &Stored) -> Result<(), StoreError> {
        if self.away.get(environment).is_some_and(|away| away.read_at == stored.modified) {
            return Ok(());
        }
        let live: LiveRelease = stored.read()?;
        let before = self.away.remove(environment).map(|away| away.hosts).unwrap_or_default();
        let next = |host: &HostName| before.get(host).copied().unwrap_or(RetrySchedule::FIRST);
        let hosts = live.excluded.into_iter().map(|host| (host.clone(), next(&host))).collect();
        self.away.insert(environment.clone(), ExcludedSince { read_at: stored.modified, hosts });
        Ok(())
    }

    /// The next host of an environment where nobody works that is due at `now`, if there is one.
    pub(super) async fn next(
        &mut self,
        context: &Context,
        is_busy: impl Fn(&EnvironmentKey) -> bool,
        now: Timestamp,
    ) -> Result<Option<ReadmissionTask>, StoreError> {
        self.refresh(&*context.store, now).await?;
        for (environment, away) in &mut self.away {
            for (host, next) in &mut away.hosts {
                if !is_here(context, host).await? {
                    next.at = None;
                    continue;
                }
                let at = *next.at.get_or_insert(now + SETTLED_AFTER);
                if now < at || is_busy(environment) {
                    continue;
                }
                next.at = Some(now + next.again_after);
                next.again_after = Millis((next.again_after.0 * 2).min(TRY_AGAIN_AFTER_MAX.0));
                let (context, environment, host) = (context.clone(), environment.clone(), host.clone());
                return Ok(Some(ReadmissionTask { context, environment, host }));
            }
        }
        Ok(None)
    }
}

/// Whether the host is connected to this coordinator, which then re-admits it.
async fn is_here(context: &Context, host: &HostName) -> Result<bool, StoreError> {
    let named = hosts::named(&*context.store, host).await?;
    Ok(named.is_some_and(|host| context.agents.session_of(&host.id).is_some()))
}

impl ReadmissionTask {
    /// Opens the deployment; its driver is started like that of any other.
    pub(super) async fn open(self) -> Result<DriverExit, DriverError> {
        let Self { context, environment, host } = self;
        let start = StartRequest::of(PlanRequest {
            environment: environment.clone(),
            what: RequestedOperation::AddHost(host.clone()),
        });
        let requester = Requester {
            operator: audit::lockstep(),
            hostname: context.coordinator.clone(),
            pid: std::process::id(),
            authority: Authority::Deployer,
        };
        match planning::start(&context, &start, &requester).await {
            Ok((id, _)) => {
                let said = format!("{host} is connected again and is re-admitted: {id}");
                let change = Change {
                    operator: audit::lockstep(),
                    verb: "add host",
                    environment: Some(environment),
                    said,
                };
                audit::append(&*context.store, context.clock.now(), change).await?;
                Ok(DriverExit::Ended)
            }
            Err(DeployError::Locked { .. }) => {
                info!(%host, "the environment is locked; the host is re-admitted later");
                Ok(DriverExit::NotOpen)
            }
            Err(
                DeployError::Refused(refusal)
                | DeployError::NotGranted(refusal)
                | DeployError::ImageAbsent(refusal),
            ) => {
                warn!(%host, what = refusal.what, why = refusal.why, next = refusal.next, "cannot re-admit the host yet");
                Ok(DriverExit::NotOpen)
            }
            Err(error @ (DeployError::Unresolved(_) | DeployError::Store(_) | DeployError::Secrets(_))) => {
                warn!(%host, error = &error as &dyn std::error::Error, "cannot re-admit the host yet");
                Ok(DriverExit::NotOpen)
            }
        }
    }
}
