//! `lockstep-agent`: settings, then telemetry, then the agent.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use futures::FutureExt;
use lockstep_agent::host::unit;
use lockstep_agent::host::unit::Unit;
use lockstep_agent::local_rollback;
use lockstep_agent::local_rollback::RollbackReport;
use lockstep_agent::postgres::{COMMAND, keeper};
use lockstep_agent::program::directory::Directory;
use lockstep_agent::program::enroll;
use lockstep_agent::program::enroll::{AddressChoice, Enrollment, JoinRequest};
use lockstep_agent::program::settings;
use lockstep_agent::program::settings::Settings;
use lockstep_agent::program::telemetry;
use lockstep_core::name::HostName;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_runtime::telemetry::{Otlp, Telemetry};
use tracing::info;

/// Run the steps of Lockstep deployments on this host.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a cluster; the token is read from standard input
    Join {
        /// The directory of the agent: its key, journal and logs
        #[arg(long, value_name = "DIR", default_value = unit::DIRECTORY)]
        directory: PathBuf,
        /// The coordinator to join at
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// The name of this host [default: the machine's name]
        #[arg(long)]
        name: Option<HostName>,
        /// The address at which load balancers reach this host [default: the address towards the coordinator, if it is
        /// private]
        #[arg(long, value_name = "ADDR")]
        address: Option<String>,
    },
    /// Run the agent: connect to the coordinators and run the steps that they assign
    Run {
        /// The directory of the agent: its key, journal and logs
        #[arg(long, value_name = "DIR", default_value = unit::DIRECTORY)]
        directory: PathBuf,
    },
    /// Manage an environment's lines in pg_hba.conf; the agent runs this as PostgreSQL's user
    #[command(hide = true, name = COMMAND)]
    PgHba,
    /// Act on this host without a coordinator
    #[command(subcommand)]
    Local(LocalCommand),
}

#[derive(Debug, Subcommand)]
enum LocalCommand {
    /// Move the traffic back to the other slot, on the load balancer's host; needs root
    ///
    /// Use it when no coordinator is reachable. The other slot must have had the traffic before, and all of its
    /// instances must be healthy. The agent records the rollback. Until a coordinator has adopted it, the agent
    /// refuses every step of a deployment that would move the traffic again.
    Rollback {
        /// The environment: APP/ENV, or ENV alone if no other application on this host has it
        env: String,
        /// The directory of the agent: its key, journal and logs
        #[arg(long, value_name = "DIR", default_value = unit::DIRECTORY)]
        directory: PathBuf,
    },
}

/// The threads that carry out steps: most of the time they wait.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error there is nobody to tell.
            writeln!(std::io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    // What a runtime runs is compiled into it several times: of a box there is one.
    runtime.block_on(carry_out(command).boxed_local())
}

async fn carry_out(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Join { directory, coordinator, name, address } => {
            begin_log()?;
            join(&directory, JoinRequest { coordinator, name, address }).await
        }
        Command::Run { directory } => {
            let directory = Directory::open(&directory)?;
            let settings = Settings::read(&directory.settings())?;
            let telemetry = begin(settings.otlp.as_ref())?;
            let ended = lockstep_agent::run(directory, settings).await;
            telemetry.end();
            ended
        }
        Command::PgHba => keeper::serve().await,
        Command::Local(LocalCommand::Rollback { env, directory }) => {
            begin_log()?;
            rollback(&env, directory).await
        }
    }
}

/// Only an agent that runs has something to tell a collector.
fn begin_log() -> anyhow::Result<()> {
    begin(None)?.end();
    Ok(())
}

fn begin(otlp: Option<&Otlp>) -> anyhow::Result<Telemetry> {
    let telemetry = lockstep_runtime::telemetry::begin(telemetry::SERVICE, &settings::log_filter(), otlp)?;
    telemetry::keep_panics_quiet();
    Ok(telemetry)
}

async fn join(path: &Path, request: JoinRequest) -> anyhow::Result<()> {
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token).context("cannot read the token from standard input")?;
    let directory = Directory::open(path)?;
    let coordinator = request.coordinator.clone();
    let Enrollment { identity, chosen, roles } = enroll::join(&directory, request, &token).await?;
    info!(host = %identity.host, name = %identity.name, address = identity.address, "joined");
    // The unit's agent takes the directory.
    drop(directory);
    let began = match unit::fit(path, &roles).context("this host has joined, but its agent does not start")? {
        Unit::Started => "its agent runs as lockstep-agent.service".to_owned(),
        Unit::None => format!("start its agent: lockstep-agent run --directory {}", path.display()),
    };
    let (name, address, roles) = (&identity.name, &identity.address, roles.join(","));
    let why = match chosen {
        AddressChoice::ByName => "set with --address".to_owned(),
        AddressChoice::TowardsCoordinator => format!(
            "the address from which this machine reaches {coordinator}; to change it: lockstep host forget {name}, \
             then join again in an empty directory with --address"
        ),
    };
    writeln!(
        std::io::stdout(),
        "joined as host {name} with the roles {roles}; {began}\nload balancers reach it at {address}: {why}"
    )?;
    Ok(())
}

async fn rollback(env: &str, directory: PathBuf) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("a local rollback needs root: sudo lockstep-agent local rollback {env}");
    }
    if !directory.join("identity.toml").exists() {
        anyhow::bail!(
            "{} is not the directory of an agent that has joined a cluster: set it with --directory",
            directory.display()
        );
    }
    let RollbackReport { rollback, workers } =
        local_rollback::rollback(&directory, env, settings::calling_user()).await?;
    let workers = match workers {
        Ok((0, 0)) => "no workers are on this host".to_owned(),
        Ok((ended, run)) => format!("workers on this host: {ended} stopped, {run} started"),
        Err(failure) => format!("the workers were not moved: {}", failure.what),
    };
    let LocalRollback { environment, from, to, deployment, .. } = rollback;
    writeln!(
        std::io::stdout(),
        "the traffic of {environment} is moved from {from} to {to}, which {deployment} deployed; {workers}\n\
         a coordinator adopts this rollback when one is reachable again: lockstep status {environment}"
    )?;
    Ok(())
}
