//! One machine, ready to deploy: coordinator and agent started, the operator logged in, the host joined.
//!
//! What must stay true: what is there is left as it is, so that it can be run at any time; no token is ever an
//! argument or a file of ours; what was begun and broke off is taken up by the next run.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lockstep_core::record::{HostStatus, Presence};
use lockstep_proto::wire;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::read_all;
use crate::args::{DownArgs, UpArgs};
use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

mod service;

use service::{Ended, Service, Started};

/// How long a service may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Starts what is not there, and says what it did.
///
/// # Errors
/// When something that it needs is missing, or a service does not become ready.
pub async fn up(context: &Context, args: &UpArgs) -> Result<()> {
    refuse_others_than_root()?;
    let machine = Machine::of(args);
    machine.make_directories()?;
    let address = machine.start_coordinator(context).await?;
    log_in(context, &machine, &address).await?;
    join(context, &machine, args, &address).await?;
    let agent = machine.agent()?;
    tell(context, agent.start(&[])?, "agent")?;
    let host = wait_for_host(context, &machine).await?;
    context
        .output
        .json(&json!({ "coordinator": address, "host": host.host.name, "address": host.host.address }))?;
    context.output.line(&format!(
        "Ready: {} is connected, and its processes will be reached at {}.",
        host.host.name, host.host.address
    ))?;
    context.output.line("next: in your project, lockstep plan ENV --image IMAGE")
}

/// Ends what `up` started. Containers and nginx go on serving.
///
/// # Errors
/// When a service does not end, or what is to be removed cannot be.
pub async fn down(context: &Context, args: &DownArgs) -> Result<()> {
    refuse_others_than_root()?;
    let machine = Machine { directory: args.directory.clone(), listen: String::new() };
    if args.purge && !args.yes {
        return Err(Failure::new(
            Kind::Usage,
            "--purge forgets every environment, its secrets and its history",
        )
        .why(format!("it would remove {}", names(&machine.leaves(context)?)))
        .next("lockstep down --purge --yes; containers of applications stay, and are yours to remove"));
    }
    for service in [machine.agent()?, machine.coordinator()?] {
        let words = match service.stop().await? {
            Ended::Yes => "did      ended",
            Ended::DidNotRun => "there    does not run:",
        };
        context.output.line(&format!("{words} the {}", service.name()))?;
    }
    if args.purge {
        for directory in machine.leaves(context)? {
            remove(&directory)?;
            context.output.line(&format!("did      removed {}", directory.display()))?;
        }
    }
    context.output.json(&json!({ "ended": true, "purged": args.purge }))?;
    context.output.line("Applications go on serving: their containers and nginx were not touched.")
}

/// Where everything of this machine is.
struct Machine {
    directory: PathBuf,
    listen: String,
}

impl Machine {
    fn of(args: &UpArgs) -> Self {
        Self { directory: args.directory.clone(), listen: args.listen.clone() }
    }

    fn coordinator(&self) -> Result<Service> {
        Service::of("coordinator", &self.directory)
    }

    fn agent(&self) -> Result<Service> {
        Service::of("agent", &self.directory)
    }

    fn make_directories(&self) -> Result<()> {
        // nginx's workers look for the switch file below the agent's.
        for (name, mode) in [("", 0o711), ("coordinator", 0o700), ("agent", 0o711)] {
            let directory = self.directory.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&directory);
            made.map_err(|error| unusable(&directory, &error))?;
        }
        Ok(())
    }

    /// What there is of it: its directory, and the credential that its own authority gave.
    fn leaves(&self, context: &Context) -> Result<Vec<PathBuf>> {
        let mut leaves = vec![self.directory.clone()];
        let own = read_if_there(&self.directory.join("coordinator/authority/root.pem"))?;
        let known = read_if_there(&context.credential().join("authority.pem"))?;
        if own.is_some() && own == known {
            leaves.push(context.credential().to_owned());
        }
        Ok(leaves)
    }

    /// Gives the address at which it answers.
    async fn start_coordinator(&self, context: &Context) -> Result<String> {
        let file = self.directory.join("coordinator/address");
        let service = self.coordinator()?;
        if !service.runs()? {
            // One that was killed could not take it away.
            remove_file(&file)?;
        }
        let started = service.start(&["--listen", &self.listen])?;
        tell(context, started, "coordinator")?;
        let begun = Instant::now();
        loop {
            if let Some(address) = read_if_there(&file)? {
                return Ok(address.trim().to_owned());
            }
            service.refuse_ended()?;
            if begun.elapsed() > READY_LIMIT {
                return Err(service.not_ready());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn log_in(context: &Context, machine: &Machine, address: &str) -> Result<()> {
    let there = context.credential().join("certificate.pem").exists();
    if there {
        let about = context.control().await?.about(wire::ListRequest {}).await?.into_inner();
        return context.output.line(&format!("there    you are the operator {}", about.operator));
    }
    let file = machine.directory.join("coordinator/operator.token");
    let Some(token) = read_if_there(&file)? else {
        return Err(Failure::new(Kind::Refused, "this machine has no operator's credential")
            .why("the first one was given out already")
            .next(
                "where it is: lockstep operator add NAME; here: lockstep login --coordinator ".to_owned()
                    + address,
            ));
    };
    let name = context.join(address, token.trim()).await?;
    context
        .output
        .line(&format!("did      logged in as {name}, credential in {}", context.credential().display()))
}

async fn join(context: &Context, machine: &Machine, args: &UpArgs, coordinator: &str) -> Result<()> {
    let directory = machine.directory.join("agent");
    if directory.join("identity.toml").exists() {
        return context.output.line("there    the host has joined");
    }
    let address = match &args.address {
        Some(address) => address.clone(),
        None => bridge_address()?,
    };
    let request =
        wire::HostTokenRequest { name: args.name.clone().unwrap_or_default(), roles: args.roles.clone() };
    let token = context.control().await?.create_host_token(request).await?.into_inner().token;
    let mut agent = tokio::process::Command::new(machine.agent()?.program());
    agent
        .args(["join", "--coordinator", coordinator, "--address", &address, "--directory"])
        .arg(&directory)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let cannot = |error: std::io::Error| {
        Failure::new(Kind::Refused, "lockstep-agent cannot be run").why(error.to_string())
    };
    let mut child = agent.spawn().map_err(cannot)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(token.as_bytes()).await.map_err(cannot)?;
    }
    let output = child.wait_with_output().await.map_err(cannot)?;
    if !output.status.success() {
        return Err(Failure::new(Kind::Refused, "the host cannot join")
            .why(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    context.output.line(&format!("did      joined this host at {address}"))
}

async fn wait_for_host(context: &Context, machine: &Machine) -> Result<HostStatus> {
    let begun = Instant::now();
    let agent = machine.agent()?;
    loop {
        let reply = context.control().await?.list_hosts(wire::ListRequest {}).await?.into_inner();
        let hosts: Vec<HostStatus> = read_all(&reply.hosts)?;
        if let Some(host) = hosts.into_iter().find(|host| host.presence == Presence::Connected) {
            return Ok(host);
        }
        agent.refuse_ended()?;
        if begun.elapsed() > READY_LIMIT {
            return Err(agent.not_ready());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(context: &Context, started: Started, name: &str) -> Result<()> {
    match started {
        Started::Ran { process } => {
            context.output.line(&format!("there    the {name} runs as process {process}"))
        }
        Started::Anew { process, log } => context
            .output
            .line(&format!("did      started the {name} as process {process}, log in {}", log.display())),
    }
}

/// Where load balancers on this machine reach containers that are not published to the world.
fn bridge_address() -> Result<String> {
    let output = Command::new("docker")
        .args(["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"])
        .output();
    let why = match output {
        Ok(output) if output.status.success() => {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::new(Kind::Refused, "Docker does not say its bridge's address")
        .why(why)
        .next("apt-get install docker.io nginx postgresql-client, or name an address with --address"))
}

fn refuse_others_than_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "this needs root")
        .why("the agent steers Docker and nginx")
        .next("run the same command with sudo"))
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn remove(directory: &Path) -> Result<()> {
    gone(directory, fs::remove_dir_all(directory))
}

fn remove_file(path: &Path) -> Result<()> {
    gone(path, fs::remove_file(path))
}

/// What was not there is gone as well.
fn gone(path: &Path, removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Refused, format!("{} cannot be used", path.display())).why(error.to_string())
}
