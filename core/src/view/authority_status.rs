//! The roots that a cluster trusts, and what a retirement of the older one would disconnect: for `lockstep authority
//! list` and for the refusal of a retirement.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::name::{CoordinatorName, HostName, OperatorName};
use crate::time::Timestamp;
use crate::view::host_status::Presence;

/// So much of a pin tells two roots apart.
const PIN_SHOWN: usize = 12;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityStatus {
    /// What signs.
    pub signing: RootStatus,
    /// What is trusted beside it, while one takes the other's place.
    pub retiring: Option<Retiring>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootStatus {
    pub pin: String,
    pub made: Timestamp,
    pub ends: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retiring {
    pub root: RootStatus,
    /// When the other began to sign.
    pub since: Timestamp,
    pub left: HostsToMove,
}

/// Who has only certificates of the root that retires.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsToMove {
    pub coordinators: Vec<CoordinatorToMove>,
    pub hosts: Vec<HostToMove>,
    /// They get another with their next command.
    pub operators: Vec<OperatorName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorToMove {
    pub name: CoordinatorName,
    pub presence: Presence,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostToMove {
    pub name: HostName,
    pub presence: Presence,
    /// `None` if it was never seen, or so recently that it is not recorded yet.
    pub last_seen: Option<Timestamp>,
}

/// Enough of a pin to tell it from another.
pub fn short_pin(pin: &str) -> &str {
    pin.get(..PIN_SHOWN).unwrap_or(pin)
}

impl RootStatus {
    /// Enough of the pin to tell it from another.
    pub fn short(&self) -> &str {
        short_pin(&self.pin)
    }
}

impl HostsToMove {
    /// The services that a retirement would disconnect, in words; `None` if there are none. An operator logs in again,
    /// but a service stops until somebody notices.
    pub fn services(&self) -> Option<String> {
        let coordinators = self.coordinators.iter().map(|one| format!("the coordinator {}", one.name));
        let hosts = self.hosts.iter().map(|host| host.name.to_string());
        let all: Vec<String> = hosts.chain(coordinators).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn who_runs_by_itself_is_named_and_who_commands_is_not() {
        let mut left =
            HostsToMove { operators: vec!["anna".parse().expect("a name")], ..HostsToMove::default() };
        assert_eq!(left.services(), None);
        let name = "app-2".parse().expect("a name");
        left.hosts.push(HostToMove { name, presence: Presence::Absent, last_seen: None });
        let name = "c2".parse().expect("a name");
        left.coordinators.push(CoordinatorToMove { name, presence: Presence::Connected });
        assert_eq!(left.services().expect("there are two"), "app-2, the coordinator c2");
    }
}
