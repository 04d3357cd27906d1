//! A machine with an agent, and its roles.

use crate::id::HostId;
use crate::name::HostName;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub id: HostId,
    pub name: HostName,
    /// The address by which load balancers reach its containers.
    pub address: String,
    pub roles: BTreeSet<HostRole>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRole {
    App,
    Lb,
    Db,
}

impl HostRole {
    /// As it is typed, and as `deployment.yml` has it under `hosts`.
    pub fn as_str(self) -> &'static str {
        match self {
            HostRole::App => "app",
            HostRole::Lb => "lb",
            HostRole::Db => "db",
        }
    }
}

/// Why a text is not a role of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role of a host: write app, lb or db")]
pub struct InvalidHostRole(String);

impl FromStr for HostRole {
    type Err = InvalidHostRole;
    fn from_str(text: &str) -> Result<Self, InvalidHostRole> {
        match text {
            "app" => Ok(Self::App),
            "lb" => Ok(Self::Lb),
            "db" => Ok(Self::Db),
            _ => Err(InvalidHostRole(text.to_owned())),
        }
    }
}

impl fmt::Display for HostRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
