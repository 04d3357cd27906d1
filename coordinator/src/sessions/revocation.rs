//! Closes sessions whose certificate is no longer trusted: the host was removed, or the coordinator that signed it, or
//! the root was retired.
//!
//! What must stay true: whichever coordinator made the change, the coordinator with the session closes it.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_core::id::HostId;
use lockstep_core::name::CoordinatorName;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Sessions;
use crate::identity::certificate::IssuingName;
use crate::record::coordinators::Coordinator;
use crate::record::{coordinators, hosts};
use crate::store::StoreError;

/// How often it is looked without a wake-up: a watch is only a hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How a session is cut from outside of it.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) signed_by: IssuingName,
    pub(super) revoked: CancellationToken,
}

impl Sessions {
    /// Cuts what was revoked, for ever.
    pub async fn cut_revoked(&self) -> std::convert::Infallible {
        let mut hosts = self.context.store.watch(&crate::store::keys::host_names());
        let mut coordinators = self.context.store.watch(&crate::store::keys::coordinators());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = hosts.changed() => {}
                () = coordinators.changed() => {}
                _ = looks.tick() => {}
            }
            if let Err(error) = self.cut_once().await {
                warn!(%error, "cannot read which certificates are trusted");
            }
        }
    }

    pub(super) async fn cut_once(&self) -> Result<(), StoreError> {
        // Taken before the record is read: who attaches meanwhile was let in by the record.
        let connected: Vec<(HostId, Cut)> =
            self.lock().iter().map(|(host, session)| (host.clone(), session.cut.clone())).collect();
        if connected.is_empty() {
            return Ok(());
        }
        let there = hosts::ids(&*self.context.store).await?;
        let coordinators: BTreeMap<CoordinatorName, Coordinator> = coordinators::list(&*self.context.store)
            .await?
            .into_iter()
            .map(|coordinator| (coordinator.name.clone(), coordinator))
            .collect();
        for (host, Cut { signed_by, revoked }) in connected {
            let is_signed = coordinators
                .get(&signed_by.coordinator)
                .is_some_and(|one| one.is_trusted_signer(&signed_by.id));
            if !(there.contains(&host) && is_signed) {
                info!(%host, "closed the session of a host: its certificate is no longer trusted");
                revoked.cancel();
            }
        }
        Ok(())
    }
}
