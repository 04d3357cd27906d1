//! The vital signs that a coordinator requests: clock, disk, and the certificate of the agent.

use std::path::Path;

use lockstep_core::time::Timestamp;
use lockstep_core::view::host_status::Disk;
use lockstep_proto::dial::Credential;
use tokio::sync::watch;

use crate::host::{clock, disk};
use crate::program::enroll;

/// The vital signs at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    pub clock: Timestamp,
    /// `None` if the system does not report it.
    pub disk: Option<Disk>,
    /// The validity of the certificate; `None` if it cannot be read.
    pub certificate: Option<(Timestamp, Timestamp)>,
}

/// Reads the vital signs.
#[derive(Debug, Clone)]
pub struct Vitals {
    credential: watch::Receiver<Credential>,
}

impl Vitals {
    pub fn new(credential: watch::Receiver<Credential>) -> Self {
        Self { credential }
    }

    pub fn read(&self) -> Reading {
        let certificate = enroll::validity(&self.credential.borrow().certificate).ok();
        let disk = disk::usage(Path::new(disk::WATCHED)).ok();
        // Last: the coordinator takes it for the moment at which the answer leaves.
        Reading { disk, certificate, clock: clock::now() }
    }
}
