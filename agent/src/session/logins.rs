//! Logins for registries. They are requested over the session each time that one is needed, and stored nowhere. A
//! request outlives a lost session: it is sent again over the next one.

use lockstep_core::image::{Login, RegistryName};
use tokio::sync::oneshot;

/// The login, `None` if nobody has stored one, or why the coordinator refuses.
pub type Answer = Result<Option<Login>, String>;

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub request: u64,
    pub registry: RegistryName,
}

/// The open requests.
#[derive(Debug, Default)]
pub struct Logins {
    open: Vec<(Question, oneshot::Sender<Answer>)>,
    requests: u64,
}

impl Logins {
    /// Registers a request. The caller sends it to the coordinator.
    pub fn request(&mut self, registry: RegistryName, reply: oneshot::Sender<Answer>) -> Question {
        self.requests += 1;
        let question = Question { request: self.requests, registry };
        self.open.push((question.clone(), reply));
        question
    }

    /// The coordinator's answer to `request`: a user name and a password, or neither.
    pub fn deliver(
        &mut self,
        request: u64,
        given: Result<Option<(String, lockstep_core::secret::Secret)>, String>,
    ) {
        // The answer to a question that was put twice comes twice.
        let Some(at) = self.open.iter().position(|(question, _)| question.request == request) else { return };
        let (Question { registry, .. }, reply) = self.open.swap_remove(at);
        let login = |(username, password)| Login { registry, username, password };
        // A step that was given up in the meantime does not wait any more, and that is all.
        drop(reply.send(given.map(|given| given.map(login))));
    }

    /// The requests without an answer whose caller still waits.
    pub fn unanswered(&mut self) -> Vec<Question> {
        self.open.retain(|(_, reply)| !reply.is_closed());
        self.open.iter().map(|(question, _)| question.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::secret::Secret;

    use super::*;

    #[test]
    fn an_answer_goes_to_who_asked_and_nobody_asks_for_who_went_away() {
        let mut logins = Logins::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let question = logins.request("ghcr.io".parse().unwrap(), first);
        let other = logins.request("10.0.0.5:5000".parse().unwrap(), second);
        assert_eq!(logins.unanswered(), [question.clone(), other]);
        drop(second_answer);
        assert_eq!(logins.unanswered(), std::slice::from_ref(&question));
        logins.deliver(question.request, Ok(Some(("anna".to_owned(), Secret::new("token".to_owned())))));
        let login = first_answer.try_recv().unwrap().unwrap().unwrap();
        assert_eq!((login.registry.as_str(), login.username.as_str()), ("ghcr.io", "anna"));
        logins.deliver(question.request, Ok(None));
        assert_eq!(logins.unanswered(), []);
    }
}
