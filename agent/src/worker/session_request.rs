//! What work on this host requests from a coordinator, through the session: secrets and registry logins.
//!
//! What must stay true: a closed session is no answer. The agent is stopping then, and the caller leaves its work to
//! the next agent process.

use lockstep_core::image::{Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::SecretsUse;
use tokio::sync::oneshot;

use super::{WorkerContext, WorkerEvent};
use crate::session::secrets::{SecretSet, SecretsRequest};

/// Why a request has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the agent is stopping")]
    AgentStopping,
    /// The coordinator's reason.
    #[error("{0}")]
    Refused(String),
}

impl WorkerContext {
    /// Requests secrets of an environment. Waits while no coordinator is reachable.
    ///
    /// # Errors
    /// When the coordinator refuses, or the agent is stopping.
    pub async fn request_secrets(
        &self,
        environment: &EnvironmentKey,
        uses: SecretsUse,
    ) -> Result<SecretSet, RequestError> {
        let of = SecretsRequest { environment: environment.clone(), uses };
        self.request(|reply| WorkerEvent::SecretsWanted { of, reply }).await
    }

    /// Requests the login for a registry; `None` if nobody has stored one. Waits while no coordinator is reachable.
    ///
    /// # Errors
    /// When the coordinator refuses, or the agent is stopping.
    pub async fn request_login(&self, registry: RegistryName) -> Result<Option<Login>, RequestError> {
        self.request(|reply| WorkerEvent::LoginWanted { registry, reply }).await
    }

    async fn request<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, String>>) -> WorkerEvent,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.worker_events.send(event(reply)).await.map_err(|_| RequestError::AgentStopping)?;
        answer.await.map_err(|_| RequestError::AgentStopping)?.map_err(RequestError::Refused)
    }
}
