//! Allocates a port on the host for each process and slot. A port is chosen once, recorded, and never given to two
//! environments on one address.
//!
//! The choice depends on the record and on what listens on the hosts, so a plan proposes the ports that its start then
//! takes. One key for each
//! port guards the allocation.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::host::Host;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::observed::Observation;
use lockstep_core::record::ports::{PortEntry, PortTable, SLOT_PORTS};
use lockstep_core::slot::Slot;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::stored::encode;

use crate::store::guarded::{Accompanying, OwnedWrite};
use crate::store::{Guard, OPERATIONS_MAX, VALUE_BYTES_MAX, keys};

const FIRST: u16 = *SLOT_PORTS.start();
const LAST: u16 = *SLOT_PORTS.end();
const COUNT: u16 = LAST - FIRST + 1;

/// The most that one transaction gives away: each is a guard and a write, and a claim has some more of both.
const FRESH_MAX: usize = OPERATIONS_MAX / 2 - 20;

/// The ports of an environment, with those that are still to be taken.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) table: PortTable,
    pub(super) fresh: Vec<NewPorts>,
}

#[derive(Debug, Clone)]
pub(super) struct NewPorts {
    address: String,
    port: u16,
}

/// Takes the ports out of `table` on which something else listens, so that others are chosen, and says so. Those of
/// `live`, the slot that serves, stay. The environment keeps them until it is removed: they may become free again.
pub(super) fn give_up_used(
    table: &mut PortTable,
    hosts: &[&Host],
    observed: &BTreeMap<HostId, Observation>,
    live: Option<Slot>,
) -> Vec<String> {
    let mut said = Vec::new();
    table.ports.retain(|PortEntry { host, slot, process, port }| {
        let is_used = observed.get(host).is_some_and(|seen| seen.ports_in_use.contains(port));
        let Some(host) = hosts.iter().find(|there| there.id == *host).filter(|_| is_used) else {
            return true;
        };
        if Some(*slot) == live {
            return true;
        }
        said.push(format!(
            "port {port} on {} is used by another program (ss --listening --tcp --processes sport = {port}), so {slot} of \
             {process} gets another port",
            host.name
        ));
        false
    });
    said
}

/// Adds what `spec` needs on `hosts` to `table`. `taken` has the ports given away on each address where something is
/// [`lacking`].
pub(super) fn propose(
    seed: &str,
    spec: &EnvironmentSpec,
    hosts: &[&Host],
    mut table: PortTable,
    taken: &mut BTreeMap<String, BTreeSet<u16>>,
) -> Result<Proposal, Refusal> {
    let mut fresh = Vec::new();
    for host in hosts {
        for (process, slot) in lacking(spec, &host.id, &table) {
            let taken = taken.entry(host.address.clone()).or_default();
            let port = free(seed, &spec.key, taken).ok_or_else(|| Refusal {
                what: format!("no port is free on {}", host.name),
                why: format!("all ports from {FIRST} to {LAST} are allocated on {}", host.address),
                next: "remove environments that are not used: lockstep env list, then: lockstep env remove"
                    .to_owned(),
            })?;
            taken.insert(port);
            fresh.push(NewPorts { address: host.address.clone(), port });
            table.ports.push(PortEntry { host: host.id.clone(), slot, process: process.clone(), port });
        }
    }
    refuse_too_large(&spec.key, &table)?;
    Ok(Proposal { table, fresh })
}

/// The processes and slots of `spec` that have no port on `host` yet.
pub(super) fn lacking<'a>(
    spec: &'a EnvironmentSpec,
    host: &HostId,
    table: &PortTable,
) -> Vec<(&'a ProcessName, Slot)> {
    let with_port = spec.processes.iter().filter(|(_, declared)| declared.port.is_some());
    let all = with_port.flat_map(|(process, _)| [Slot::Blue, Slot::Green].map(|slot| (process, slot)));
    all.filter(|(process, slot)| table.get(host, *slot, process).is_none()).collect()
}

/// The table is one value, and a value has an end: it is said before anything is given away.
fn refuse_too_large(key: &EnvironmentKey, table: &PortTable) -> Result<(), Refusal> {
    let bytes = encode(table).len();
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let hosts: BTreeSet<_> = table.ports.iter().map(|entry| &entry.host).collect();
    let most = VALUE_BYTES_MAX / (bytes / hosts.len() + 1);
    Err(Refusal {
        what: format!("{key} has too many hosts"),
        why: format!(
            "the port table of {} hosts has {} KiB, and the limit is {}: with as many processes, that is {most} hosts",
            hosts.len(),
            bytes.div_ceil(1024),
            VALUE_BYTES_MAX / 1024
        ),
        next: "name fewer hosts in hosts.app, or divide them among several environments".to_owned(),
    })
}

/// The first free port from a place that differs from environment to environment: clusters that share a
/// machine without knowing of each other seldom choose the same.
fn free(seed: &str, key: &EnvironmentKey, taken: &BTreeSet<u16>) -> Option<u16> {
    let digest = Digest::of_content(format!("{seed} {key}").as_bytes());
    let start = u16::from_str_radix(&digest.hex()[..4], 16).unwrap_or(0) % COUNT;
    (0..COUNT).map(|offset| FIRST + (start + offset) % COUNT).find(|port| !taken.contains(port))
}

impl Proposal {
    /// Whether one transaction cannot give all of them away.
    pub(super) fn are_too_many(&self) -> bool {
        self.fresh.len() > FRESH_MAX
    }

    /// What several transactions give away, one after the other.
    pub(super) fn split(&self) -> impl Iterator<Item = Self> {
        // What is fresh stands last in the table.
        let before = self.table.ports.len() - self.fresh.len();
        self.fresh.chunks(FRESH_MAX).enumerate().map(move |(number, fresh)| Self {
            table: PortTable {
                ports: self.table.ports[..before + number * FRESH_MAX + fresh.len()].to_vec(),
            },
            fresh: fresh.to_vec(),
        })
    }

    /// What takes the ports, if nobody else has.
    pub(super) fn transaction(&self, environment: &EnvironmentKey) -> Accompanying {
        let name = environment.to_string();
        let mut guards = Vec::new();
        let mut writes = vec![OwnedWrite::put(keys::ports(environment), &self.table)];
        for NewPorts { address, port } in &self.fresh {
            let key = keys::port(address, *port);
            guards.push(Guard::absent(&key));
            writes.push(OwnedWrite::put_bytes(key, name.clone()));
        }
        Accompanying { guards, writes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(hosts: u32) -> PortTable {
        let entries = |number: u32| {
            [Slot::Blue, Slot::Green].map(|slot| PortEntry {
                host: format!("host_01JBQR2KXYZ9876543210{number:05}").parse().unwrap(),
                slot,
                process: "web".parse().unwrap(),
                port: FIRST,
            })
        };
        PortTable { ports: (0..hosts).flat_map(entries).collect() }
    }

    #[test]
    fn a_table_that_no_value_holds_is_refused_with_the_most_hosts() {
        let key = "notes/production".parse().unwrap();
        assert_eq!(refuse_too_large(&key, &table(2800)), Ok(()));
        let refused = refuse_too_large(&key, &table(4000)).unwrap_err();
        let most = refused.why.rsplit(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(refuse_too_large(&key, &table(most)), Ok(()), "{}", refused.why);
        assert!(most > 2800, "{}", refused.why);
    }
}
