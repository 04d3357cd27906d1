//! `up` and `down`: the services of this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use lockstep_core::host::HostRole;

/// The data directory of both services.
pub const DIRECTORY: &str = "/var/lib/lockstep";

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Roles of this machine: app runs containers, lb runs nginx, db takes snapshots and runs migrations.
    #[arg(long, alias = "role", value_delimiter = ',', value_name = "ROLES", default_value = "app,lb,db")]
    pub roles: Vec<HostRole>,
    /// Address at which load balancers reach the containers of this machine.
    ///
    /// Container ports are published on this address only. If nginx runs on this machine, keep the default: the
    /// address of Docker's bridge, which nothing outside reaches. If nginx runs on another machine, give the address
    /// of this machine in the private network.
    #[arg(long, value_name = "ADDR")]
    pub address: Option<IpAddr>,
    /// Address on which the coordinator listens. Default: the one of the earlier `lockstep up`, else 127.0.0.1:7443.
    ///
    /// An address other than before moves the coordinator there; agent and credential of this machine follow. It is
    /// refused while hosts or coordinators elsewhere know the address before and would not reach the new one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Name of this host. Default: the host name of the machine.
    #[arg(long)]
    pub name: Option<String>,
    /// Data directory of both services.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// Run both services as plain processes, even if systemd runs.
    #[arg(long)]
    pub without_systemd: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct DownArgs {
    /// Data directory of both services.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// Also remove the data of both and the operator's credential, after listing the files.
    #[arg(long)]
    pub purge: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "purge")]
    pub yes: bool,
}
