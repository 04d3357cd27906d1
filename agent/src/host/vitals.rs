//! What the coordinator asks of this machine as such: its clock, its disk, the certificate of its agent.

use std::path::Path;

use lockstep_core::time::Timestamp;
use lockstep_core::view::host_status::Disk;
use lockstep_proto::dial::Credential;
use tokio::sync::watch;

use crate::host::{clock, disk};
use crate::program::enroll;

/// As it is at this moment.
#[derive(Debug, Clone)]
pub struct Reading {
    pub clock: Timestamp,
    /// Nothing where the system does not say.
    pub disk: Option<Disk>,
    /// From when until when, as it stands in the certificate.
    pub certificate: Option<(Timestamp, Timestamp)>,
}

/// What there is to look at.
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
