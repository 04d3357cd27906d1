//! Which containers the engine had to restart, or keeps restarting, because their program ended by itself.

use std::collections::HashMap;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::TryStreamExt;
use lockstep_core::record::observed::Restarts;
use lockstep_core::time::Timestamp;

use super::container::ManagedContainer;
use super::{Docker, DockerError};

/// How far back the engine is asked for exit codes, in seconds. It remembers 256 events of all containers.
const ASKED_BACK_SECONDS: u64 = 3600;

impl Docker {
    /// How often the engine restarted `container`, where the last time was within the last hour. What was longer ago
    /// has been told.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn recent_restarts(
        &self,
        container: &ManagedContainer,
        now: Timestamp,
    ) -> Result<Option<Restarts>, DockerError> {
        if !container.started_within_an_hour {
            return Ok(None);
        }
        let id = &container.id;
        let Some(state) = self.inspect(id).await? else { return Ok(None) };
        let Some(count) = u64::try_from(state.restarts).ok().filter(|count| *count > 0) else {
            return Ok(None);
        };
        // The state has no exit code any more once the container runs again.
        let filters = HashMap::from([
            ("container".to_owned(), vec![id.clone()]),
            ("event".to_owned(), vec!["die".to_owned()]),
        ]);
        let now = now.0 / 1000;
        let options = EventsOptionsBuilder::default()
            .since(&now.saturating_sub(ASKED_BACK_SECONDS).to_string())
            .until(&now.to_string())
            .filters(&filters)
            .build();
        let events: Vec<EventMessage> = self
            .client()
            .await?
            .events(Some(options))
            .try_collect()
            .await
            .map_err(self.refused(format!("to tell how {id} ended")))?;
        Ok(Some(Restarts { count, exit_code: events.iter().filter_map(exit_code).next_back() }))
    }
}

fn exit_code(event: &EventMessage) -> Option<i64> {
    event.actor.as_ref()?.attributes.as_ref()?.get("exitCode")?.parse().ok()
}
