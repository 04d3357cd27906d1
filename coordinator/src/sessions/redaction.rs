//! The redactors of what hosts say: of a running deployment, of the live release, of an environment.
//!
//! What must stay true: where the secrets cannot be read, everything is masked. A deployment's redactor is made once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::secret::redact::Redactor;
use tokio::sync::Mutex;

use crate::ports::secrets::{Secrets, masks_everything};
use crate::record::history;
use crate::record::vault::Vault;
use crate::store::Store;

/// Those that run at the same time are far fewer.
const DEPLOYMENTS_MAX: usize = 64;

pub(super) struct Redactors {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    // Held while one is made: the hosts of a deployment ask at the same moment, and one of them is enough.
    deployments: Mutex<BTreeMap<DeploymentId, Redactor>>,
}

impl Redactors {
    pub(super) fn new(store: Arc<dyn Store>, vault: Arc<Vault>) -> Self {
        Self { store, vault, deployments: Mutex::new(BTreeMap::new()) }
    }

    /// Masks the secrets of a deployment.
    pub(super) async fn of_deployment(&self, id: &DeploymentId) -> Redactor {
        let mut deployments = self.deployments.lock().await;
        if let Some(redactor) = deployments.get(id) {
            return redactor.clone();
        }
        let redactor = match history::plan(&*self.store, id).await {
            Ok(Some(plan)) => self.vault.redactor(&plan.key, plan.secrets_version).await,
            Ok(None) => Err(anyhow::anyhow!("there is no plan of {id}")),
            Err(error) => Err(error.into()),
        };
        match redactor {
            Ok(redactor) => {
                deployments.insert(id.clone(), redactor.clone());
                while deployments.len() > DEPLOYMENTS_MAX {
                    deployments.pop_first();
                }
                redactor
            }
            Err(error) => masks_everything(&error),
        }
    }

    /// Masks one version of the secrets of an environment; `None`: it has none.
    pub(super) async fn of_version(&self, environment: &EnvironmentKey, version: Option<u64>) -> Redactor {
        self.vault.redactor(environment, version).await.unwrap_or_else(|error| masks_everything(&error))
    }

    /// Mask the newest version of the secrets of an environment, and the one that was used.
    pub(super) async fn of_newest_and(
        &self,
        environment: &EnvironmentKey,
        used: Option<u64>,
    ) -> Vec<Redactor> {
        let newest = match self.vault.summary(environment).await {
            Ok(newest) => newest.map(|newest| newest.version),
            Err(error) => return vec![masks_everything(&error)],
        };
        let mut redactors = Vec::new();
        for version in BTreeSet::from([newest, used]) {
            redactors.push(self.of_version(environment, version).await);
        }
        redactors
    }
}
