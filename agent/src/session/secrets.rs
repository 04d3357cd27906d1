//! The values of secrets that this host received. They are in memory and nowhere else.
//!
//! A step names a version. Its values are requested over the session once, and kept for the next step that names the
//! version. A request outlives a lost session: it is sent again over the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::Redactor;
use tokio::sync::oneshot;

/// The number of versions whose values are kept for an environment: the live one, and the one being deployed.
const VERSIONS_KEPT: usize = 2;

/// One version of an environment's secrets.
#[derive(Debug)]
pub struct SecretSet {
    pub variables: BTreeMap<String, Secret>,
    /// Redacts these values.
    pub redactor: Redactor,
}

/// The values, or why the coordinator refuses.
pub type Answer = Result<Arc<SecretSet>, String>;

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub request: u64,
    pub environment: EnvironmentKey,
    pub version: u64,
}

/// The known values, and the open requests.
#[derive(Debug, Default)]
pub struct Secrets {
    known: BTreeMap<EnvironmentKey, BTreeMap<u64, Arc<SecretSet>>>,
    open: Vec<(Question, Vec<oneshot::Sender<Answer>>)>,
    requests: u64,
}

impl SecretSet {
    pub fn new(values: BTreeMap<String, String>, public: BTreeSet<String>) -> Self {
        let variables = values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        let redactor = Redactor::new(&variables, &public);
        Self { variables, redactor }
    }

    /// The set of a step that names no version.
    pub fn none() -> Self {
        Self { variables: BTreeMap::new(), redactor: Redactor::none() }
    }
}

impl Secrets {
    /// Answers `reply` with known values, or returns the request that the caller sends to the coordinator.
    pub fn request(
        &mut self,
        environment: EnvironmentKey,
        version: u64,
        reply: oneshot::Sender<Answer>,
    ) -> Option<Question> {
        if let Some(set) = self.known.get(&environment).and_then(|versions| versions.get(&version)) {
            answer(reply, Ok(Arc::clone(set)));
            return None;
        }
        let same = |(question, _): &&mut (Question, Vec<oneshot::Sender<Answer>>)| {
            question.environment == environment && question.version == version
        };
        if let Some((_, replies)) = self.open.iter_mut().find(same) {
            replies.push(reply);
            return None;
        }
        self.requests += 1;
        let question = Question { request: self.requests, environment, version };
        self.open.push((question.clone(), vec![reply]));
        Some(question)
    }

    /// The coordinator's answer to `request`.
    pub fn deliver(&mut self, request: u64, given: Result<SecretSet, String>) {
        // The answer to a question that was put twice comes twice.
        let Some(at) = self.open.iter().position(|(question, _)| question.request == request) else { return };
        let (question, replies) = self.open.swap_remove(at);
        let given = given.map(Arc::new);
        if let Ok(set) = &given {
            let versions = self.known.entry(question.environment).or_default();
            versions.insert(question.version, Arc::clone(set));
            while versions.len() > VERSIONS_KEPT {
                versions.pop_first();
            }
        }
        for reply in replies {
            answer(reply, given.clone());
        }
    }

    /// The requests without an answer whose callers still wait.
    pub fn unanswered(&mut self) -> Vec<Question> {
        self.open.retain(|(_, replies)| replies.iter().any(|reply| !reply.is_closed()));
        self.open.iter().map(|(question, _)| question.clone()).collect()
    }

    /// Redacts the newest known values of `environment`; `None` if no values are known.
    pub fn redactor(&self, environment: &EnvironmentKey) -> Option<&Redactor> {
        self.known.get(environment)?.last_key_value().map(|(_, set)| &set.redactor)
    }
}

fn answer(reply: oneshot::Sender<Answer>, given: Answer) {
    // A step that was given up in the meantime does not wait any more, and that is all.
    drop(reply.send(given));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> EnvironmentKey {
        "notes/production".parse().unwrap()
    }

    fn set(value: &str) -> SecretSet {
        SecretSet::new(BTreeMap::from([("TOKEN".to_owned(), value.to_owned())]), BTreeSet::new())
    }

    #[test]
    fn a_version_is_asked_for_once_and_answered_to_all_who_wait() {
        let mut secrets = Secrets::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let question = secrets.request(environment(), 3, first).unwrap();
        assert_eq!(secrets.request(environment(), 3, second), None);
        assert_eq!(secrets.unanswered(), std::slice::from_ref(&question));
        secrets.deliver(question.request, Ok(set("top-secret-value")));
        for answer in [first_answer.try_recv(), second_answer.try_recv()] {
            assert_eq!(answer.unwrap().unwrap().variables["TOKEN"].expose(), "top-secret-value");
        }
        let (third, mut third_answer) = oneshot::channel();
        assert_eq!(secrets.request(environment(), 3, third), None);
        assert!(third_answer.try_recv().unwrap().is_ok());
        assert_eq!(secrets.redactor(&environment()).unwrap().redact("a top-secret-value b"), "a *** b");
    }

    #[test]
    fn a_refusal_is_not_kept_and_nobody_asks_for_who_went_away() {
        let mut secrets = Secrets::default();
        let (reply, mut answer) = oneshot::channel();
        let question = secrets.request(environment(), 3, reply).unwrap();
        secrets.deliver(question.request, Err("no such version".to_owned()));
        assert_eq!(answer.try_recv().unwrap().unwrap_err(), "no such version");
        let (reply, answer) = oneshot::channel();
        assert!(secrets.request(environment(), 3, reply).is_some());
        drop(answer);
        assert_eq!(secrets.unanswered(), []);
        assert!(secrets.redactor(&environment()).is_none());
    }
}
