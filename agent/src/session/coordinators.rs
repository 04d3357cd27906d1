//! The addresses of the coordinators: the one at which this host joined, and those that coordinators have sent since.
//!
//! What must stay true: an address is in `identity.toml` before it is used, so that a host that restarts while its
//! first coordinator is unreachable finds the others. The address at which it joined is never removed.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::program::directory::Directory;
use crate::program::identity::Identity;
use crate::program::telemetry;

pub struct Coordinators {
    directory: Arc<Directory>,
    identity: Identity,
    known: watch::Sender<Vec<String>>,
}

impl Coordinators {
    pub fn new(directory: Arc<Directory>, identity: Identity) -> Self {
        let known = watch::Sender::new(identity.coordinators.clone());
        Self { directory, identity, known }
    }

    /// `host:port` of each, to be dialled in turn.
    pub fn known(&self) -> watch::Receiver<Vec<String>> {
        self.known.subscribe()
    }

    /// Replaces the list with the one that a coordinator sent. An empty list changes nothing.
    pub fn learn(&mut self, told: Vec<String>) {
        if told.is_empty() {
            return;
        }
        let mut known: Vec<String> = self.identity.coordinators.first().cloned().into_iter().collect();
        known.extend(told.into_iter().filter(|address| !known.contains(address)).collect::<Vec<_>>());
        if known == self.identity.coordinators {
            return;
        }
        info!(coordinators = known.join(", "), "the list of coordinators has changed");
        self.identity.coordinators.clone_from(&known);
        if let Err(error) = self.identity.write(&self.directory) {
            // They are told again with the next session.
            warn!(why = telemetry::chain(&error), "cannot save the list of coordinators");
        }
        self.known.send_replace(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_outlives_the_process_and_the_first_address_stays() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(folder.path()).unwrap());
        let identity = Identity {
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().unwrap(),
            host: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "192.0.2.1".to_owned(),
            coordinators: vec!["one:7443".to_owned()],
        };
        identity.write(&directory).unwrap();
        let mut coordinators = Coordinators::new(Arc::clone(&directory), identity);
        let known = coordinators.known();
        coordinators.learn(Vec::new());
        assert_eq!(*known.borrow(), ["one:7443"]);
        coordinators.learn(vec!["two:7443".to_owned(), "one:7443".to_owned()]);
        coordinators.learn(vec!["three:7443".to_owned(), "two:7443".to_owned()]);
        let all = ["one:7443", "three:7443", "two:7443"];
        assert_eq!(*known.borrow(), all);
        assert_eq!(Identity::read(&directory).unwrap().coordinators, all);
    }
}
