//! Which hosts a PostgreSQL admits: the lines of an environment in `pg_hba.conf`, as data.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::name::HostName;

/// The lines of one environment, complete: the file has exactly these of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaBlock {
    /// Of the server, which is on the step's host.
    pub port: u16,
    pub lines: Vec<HbaLine>,
}

/// One host, as one role, to one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaLine {
    /// Whose address it is, for whoever reads the file.
    pub host: HostName,
    pub address: String,
    pub role: DatabaseRole,
}

/// What of a database's URL is no secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRole {
    pub database: String,
    pub user: String,
    pub transport: Transport,
}

/// What a connection must be like to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// The URL leaves open whether there is TLS.
    Any,
    /// The URL's `sslmode` asks for it.
    Tls,
}

impl HbaBlock {
    /// Whether it lets in whom `before` does, and perhaps others.
    pub fn keeps(&self, before: &Self) -> bool {
        self.port == before.port && before.lines.iter().all(|line| self.lines.contains(line))
    }

    /// Whether a line is for this host.
    pub fn names(&self, host: &HostName) -> bool {
        self.lines.iter().any(|line| line.host == *host)
    }
}
