//! The values of secrets that a step or a question received. They are in memory, for as long as it runs, and nowhere
//! else.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::SecretsUse;
use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::Redactor;

/// Values of one version of an environment's secrets.
#[derive(Debug)]
pub struct SecretSet {
    pub variables: BTreeMap<String, Secret>,
    /// Redacts these values.
    pub redactor: Redactor,
}

/// What is requested from the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsRequest {
    pub environment: EnvironmentKey,
    pub uses: SecretsUse,
}

impl SecretSet {
    pub fn new(values: BTreeMap<String, String>, public: BTreeSet<String>) -> Self {
        let variables = values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        let redactor = Redactor::new(&variables, &public);
        Self { variables, redactor }
    }

    /// The set of what uses none.
    pub fn none() -> Self {
        Self { variables: BTreeMap::new(), redactor: Redactor::none() }
    }
}
