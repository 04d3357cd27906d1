//! What the objects of environments are called on this host. A coordinator says it with every assignment and
//! observation; a command without a coordinator knows it from the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;

use super::{Journal, JournalError};

/// The names that this host was told. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ObjectNames {
    known: Arc<RwLock<BTreeMap<EnvironmentKey, ObjectName>>>,
}

impl ObjectNames {
    /// The names in the journal.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn load(journal: &Journal) -> Result<Self, JournalError> {
        Ok(journal.object_names().await?.into_iter().collect())
    }

    /// The name of this environment's objects. Before a coordinator has said one, it is what earlier versions gave.
    pub fn of(&self, environment: &EnvironmentKey) -> ObjectName {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(environment).cloned().unwrap_or_else(|| ObjectName::legacy(environment))
    }

    /// Remembers a name for as long as this host exists.
    ///
    /// # Errors
    /// When the journal cannot be written. The name is not used then.
    pub async fn learn(
        &self,
        journal: &Journal,
        environment: &EnvironmentKey,
        name: &ObjectName,
    ) -> Result<(), JournalError> {
        if self.of(environment) == *name {
            return Ok(());
        }
        journal.set_object_name(environment, name).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(environment.clone(), name.clone());
        Ok(())
    }
}

impl FromIterator<(EnvironmentKey, ObjectName)> for ObjectNames {
    fn from_iter<I: IntoIterator<Item = (EnvironmentKey, ObjectName)>>(names: I) -> Self {
        Self { known: Arc::new(RwLock::new(names.into_iter().collect())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_known_at_once_and_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let environment: EnvironmentKey = "sn-a/b".parse().unwrap();
        let name = ObjectName::encode(&environment);
        let journal = Journal::open(&directory.path().join("journal")).await.unwrap();
        let names = ObjectNames::load(&journal).await.unwrap();
        assert_eq!(names.of(&environment), ObjectName::legacy(&environment), "nobody has said one");
        names.clone().learn(&journal, &environment, &name).await.unwrap();
        assert_eq!(names.of(&environment), name);
        let after = ObjectNames::load(&journal).await.unwrap();
        assert_eq!(after.of(&environment), name);
        assert_eq!(after.of(&"sn/a-b".parse().unwrap()).as_str(), "sn-a-b", "another environment's");
    }
}
