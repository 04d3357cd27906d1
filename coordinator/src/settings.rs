//! What the coordinator is told: flags, checked once. Nobody else reads them or the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Keeps the lock and the plans, and drives deployments.
#[derive(Debug, Clone, Parser)]
#[command(name = "lockstep-coordinator", version)]
pub struct Settings {
    /// Where everything that it knows is kept: store, authority, keys and logs. Only its user may enter.
    #[arg(long, default_value = "/var/lib/lockstep/coordinator")]
    pub directory: PathBuf,

    /// Where operators and agents reach it. With port 0 the system chooses; the address stands in DIRECTORY/address.
    #[arg(long, default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,

    /// What is logged, as in `info` or `lockstep_coordinator=debug`.
    #[arg(long, env = "LOCKSTEP_LOG", default_value = "info")]
    pub log: String,
}
