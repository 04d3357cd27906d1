//! `lockstep-agent`: settings, then telemetry, then the agent.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use lockstep_agent::directory::Directory;
use lockstep_agent::enroll::{self, Wish};
use lockstep_agent::settings::{self, Settings};
use lockstep_agent::telemetry;
use lockstep_core::name::HostName;
use tracing::info;

/// Carries out the steps of Lockstep's deployments on this host.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine a host of a cluster; the token is read from standard input
    Join {
        /// Where the agent keeps its key, its journal and its logs
        #[arg(long, value_name = "DIR", default_value = "/var/lib/lockstep-agent")]
        directory: PathBuf,
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// The host's label [default: the machine's name]
        #[arg(long)]
        name: Option<HostName>,
        /// By which load balancers reach this host [default: the address towards the coordinator]
        #[arg(long, value_name = "ADDR")]
        address: Option<String>,
    },
    /// Carry out what the coordinator hands to this host
    Run {
        /// Where the agent keeps its key, its journal and its logs
        #[arg(long, value_name = "DIR", default_value = "/var/lib/lockstep-agent")]
        directory: PathBuf,
    },
}

/// The threads that carry out steps: most of the time they wait.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match carry_out(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error there is nobody to tell.
            writeln!(std::io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<()> {
    telemetry::begin(&settings::log_filter())
        .map_err(|error| anyhow::anyhow!("LOCKSTEP_LOG cannot be understood: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Join { directory, coordinator, name, address } => {
                let mut token = String::new();
                std::io::stdin().read_to_string(&mut token).context("cannot read the token")?;
                let directory = Directory::open(&directory)?;
                let wish = Wish { coordinator, name, address };
                let identity = enroll::join(&directory, wish, &token).await?;
                info!(host = %identity.host, name = %identity.name, address = identity.address, "joined");
                Ok(())
            }
            Command::Run { directory } => {
                let directory = Directory::open(&directory)?;
                let settings = Settings::read(&directory.settings())?;
                lockstep_agent::run(directory, settings).await
            }
        }
    })
}
