//! The ports of an environment: allocated once, for each host, slot and process with a port.

use crate::id::HostId;
use crate::name::ProcessName;
use crate::slot::Slot;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// Where ports are chosen: below those that Linux gives to outgoing connections.
pub const SLOT_PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// The ports of one environment: allocated once, for each host, slot and process with a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortTable {
    pub ports: Vec<PortEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortEntry {
    pub host: HostId,
    pub slot: Slot,
    pub process: ProcessName,
    pub port: u16,
}

impl PortTable {
    pub fn get(&self, host: &HostId, slot: Slot, process: &ProcessName) -> Option<u16> {
        self.ports
            .iter()
            .find(|entry| entry.host == *host && entry.slot == slot && entry.process == *process)
            .map(|entry| entry.port)
    }
}
