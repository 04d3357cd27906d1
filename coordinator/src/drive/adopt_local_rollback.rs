//! Records a local rollback as live. It holds the environment's lock while no deployment is open, and writes the
//! record and the history in one transaction.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{Adoption, LocalChange, LocalRollback};
use lockstep_crashpoint::reach;
use tracing::{info, warn};

use super::exit::{DriverError, DriverExit};
use crate::context::Context;
use crate::drive::lock::Lock;
use crate::export::state_file;
use crate::planning;
use crate::record::audit;
use crate::record::audit::Change;
use crate::record::{environments, history, hosts, local_rollbacks};
use crate::store::guarded::{Held, OwnedWrite};
use crate::store::{Committed, Guard, Owned, Stored, keys};
use crate::view::status;

/// One local rollback that the record does not know of.
pub(super) struct LocalRollbackAdoption {
    pub(super) context: Context,
    pub(super) stored: Stored,
    pub(super) change: LocalChange,
}

impl LocalRollbackAdoption {
    pub(super) async fn run(self) -> Result<DriverExit, DriverError> {
        let store = &*self.context.store;
        let mut lock = Lock::new(self.environment().clone(), self.context.coordinator.clone());
        lock.acquire(store).await;
        let taken = match lock.held() {
            Some(held) => self.adopt(held).await,
            // Somebody works on the environment: the next look tries again.
            None => return Ok(DriverExit::NotOpen),
        };
        lock.release(store).await;
        taken
    }

    fn environment(&self) -> &EnvironmentKey {
        &self.change.rollback.environment
    }

    async fn adopt(&self, held: &Held) -> Result<DriverExit, DriverError> {
        let store = &*self.context.store;
        let environment = self.environment();
        let open = environments::open(store, environment).await?;
        // A deployment that is open comes to its end first: its steps on that host unwind to what is there.
        if open.as_ref().is_some_and(|open| open.content.deployment().is_some()) {
            return Ok(DriverExit::NotOpen);
        }
        let (summary, said) = self.what_to_record().await?;
        let key =
            Owned::of_stored(&self.stored.key).ok_or(DriverError::Bug("a local change is not owned"))?;
        let guards = vec![
            Guard::as_seen(keys::open(environment), open.as_ref().map(|open| &open.stored)),
            Guard::as_seen(&key, Some(&self.stored)),
        ];
        let taken_in = Adoption {
            at: self.context.clock.now(),
            deployment: summary.as_ref().map(|summary| summary.id.clone()),
        };
        let change = LocalChange { adopted: Some(taken_in), ..self.change.clone() };
        let mut writes = vec![OwnedWrite::put(key, &change)];
        if let Some(summary) = &summary {
            let past = history::ended(store, environment, history::HISTORY_FOR_PLANS).await?;
            let live = LiveRelease::after(summary, None, &past, self.change.rollback.at);
            writes.extend(live.map(|live| OwnedWrite::put(keys::live(environment), &live)));
            writes.extend(history::summary_writes(summary));
        }
        if held.commit(store, guards, writes).await? == Committed::No {
            return Ok(DriverExit::NotOpen);
        }
        reach(|| "coordinator: local change taken in".to_owned());
        info!(%environment, host = %self.change.host_name, said, "recorded a local rollback");
        let operator = local_rollbacks::root();
        let change =
            Change { operator, verb: "local rollback", environment: Some(environment.clone()), said };
        audit::append(store, self.context.clock.now(), change).await?;
        state_file::keep_current(&self.context, environment).await;
        Ok(DriverExit::Ended)
    }

    /// What the history gets, and what is said of it.
    async fn what_to_record(&self) -> Result<(Option<DeploymentSummary>, String), DriverError> {
        let store = &*self.context.store;
        let LocalChange { host, host_name, rollback, .. } = &self.change;
        let LocalRollback { environment, by, from, to, at, .. } = rollback;
        let event = format!("{by} on {host_name} switched the traffic from {from} to {to} at {at}");
        let not_recorded = |why: &str| {
            warn!(%environment, %host, why, "a local rollback is not recorded as live");
            Ok((None, format!("{event}; the recorded live release stays: {why}")))
        };
        let Some(live) = environments::live(store, environment).await? else {
            return not_recorded("nothing is recorded as live");
        };
        let all = hosts::list(store).await?;
        let balancer = status::place_hosts(&live.roles(), &all).lb.map(|lb| lb.id.clone());
        if balancer.as_ref() != Some(host) {
            return not_recorded("the host is not the load balancer of the environment");
        }
        let served = history::summary(store, &rollback.deployment).await?;
        match local_rollbacks::recorded(
            rollback,
            &live,
            served.as_ref(),
            planning::new_id(&*self.context.clock),
        ) {
            Ok(Some(summary)) => {
                let said = format!("{event}: {} is live, recorded as {}", summary.release.image, summary.id);
                Ok((Some(summary), said))
            }
            Ok(None) => Ok((None, format!("{event}: {} is recorded as live there", live.release.image))),
            Err(why) => not_recorded(&why),
        }
    }
}
