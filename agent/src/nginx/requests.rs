//! The requests of an environment while a deployment runs.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::journal::TrafficCount;
use lockstep_runtime::durable;
use tracing::warn;

use super::{Nginx, access_log, additions, directives, site};

impl Nginx {
    /// The requests of the environment since the first count of this deployment; `None` if they are not counted here, or
    /// not all of them. No decision depends on them.
    pub async fn traffic(
        &self,
        environment: &EnvironmentKey,
        deployment: &DeploymentId,
    ) -> Option<TrafficCount> {
        let (log, progress) = (self.access_log(environment), self.count_file(environment));
        match self.logs_every_request(environment, &log) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                warn!(%environment, %error, "cannot read whether nginx logs every request");
                return None;
            }
        }
        let (counting, deployment) = (Arc::clone(&self.counting), deployment.clone());
        let counted = tokio::task::spawn_blocking(move || {
            let _alone = counting.lock().unwrap_or_else(PoisonError::into_inner);
            access_log::count(&log, &progress, &deployment)
        });
        match counted.await.map_err(io::Error::other).flatten() {
            Ok(counted) => counted,
            Err(error) => {
                warn!(%environment, %error, "cannot count the requests");
                None
            }
        }
    }

    /// Whether every request of a client is in the access log: there is a site that says so, and no addition says otherwise.
    fn logs_every_request(&self, environment: &EnvironmentKey, log: &Path) -> io::Result<bool> {
        let Some(text) = durable::read(&self.installed_copy(environment))? else { return Ok(false) };
        if !site::has_access_log(&text, log) {
            return Ok(false);
        }
        for file in additions::files(&self.additions(environment))? {
            let addition = durable::read(&file)?.unwrap_or_default();
            if directives::directives(&addition).any(|(_, name)| name == "access_log") {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
