//! What work on this host has requested from a coordinator, and what has no answer yet. A request outlives a lost
//! session: it is sent again over the next one. No answer is kept: who needs it again requests it again.

use tokio::sync::oneshot;

/// What was requested, or why the coordinator refuses.
pub type Answer<A> = Result<A, String>;

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<T> {
    pub number: u64,
    pub of: T,
}

/// The requests of one kind without an answer.
#[derive(Debug)]
pub struct OpenRequests<T, A> {
    open: Vec<(Request<T>, oneshot::Sender<Answer<A>>)>,
    count: u64,
}

impl<T, A> Default for OpenRequests<T, A> {
    fn default() -> Self {
        Self { open: Vec::new(), count: 0 }
    }
}

impl<T: Clone, A> OpenRequests<T, A> {
    /// Registers a request. The caller sends it to the coordinator.
    pub fn add(&mut self, of: T, reply: oneshot::Sender<Answer<A>>) -> Request<T> {
        self.count += 1;
        let request = Request { number: self.count, of };
        self.open.push((request.clone(), reply));
        request
    }

    /// The coordinator's answer to the request of this number.
    pub fn deliver(&mut self, number: u64, answer: impl FnOnce(T) -> Answer<A>) {
        // The answer to a request that was sent twice comes twice.
        let Some(at) = self.open.iter().position(|(request, _)| request.number == number) else { return };
        let (request, reply) = self.open.swap_remove(at);
        // A step that was given up in the meantime does not wait any more, and that is all.
        drop(reply.send(answer(request.of)));
    }

    /// The requests whose callers still wait.
    pub fn unanswered(&mut self) -> Vec<Request<T>> {
        self.open.retain(|(_, reply)| !reply.is_closed());
        self.open.iter().map(|(request, _)| request.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_who_asked_and_nobody_asks_for_who_went_away() {
        let mut requests = OpenRequests::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let request = requests.add("ghcr.io", first);
        let other = requests.add("10.0.0.5:5000", second);
        assert_eq!(requests.unanswered(), [request.clone(), other]);
        drop(second_answer);
        assert_eq!(requests.unanswered(), std::slice::from_ref(&request));
        requests.deliver(request.number, |of| Ok(format!("the login of {of}")));
        assert_eq!(first_answer.try_recv().unwrap().unwrap(), "the login of ghcr.io");
        requests.deliver(request.number, |_| Err("no such request".to_owned()));
        assert_eq!(requests.unanswered(), []);
    }
}
