//! `lockstep up`: sets up coordinator and agent on this machine; `lockstep down` stops them.
//!
//! What must stay true: a second run finds the result of the first and changes nothing, unless another address to listen
//! on is given. What `up` did not create it does not take over. Every line says what was found (`there`) or done (`did`), as in `deploy/setup.sh`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use lockstep_proto::wire::control_client::ControlClient;
use lockstep_runtime::durable;
use lockstep_runtime::systemd::units::has_systemd;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::args::UpArgs;
use crate::context::Context;
use crate::credential;
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;
use lockstep_core::host::HostRole;

mod detached;
pub mod down;
mod joining;
mod listen;
mod machine;
mod place;
mod systemd;
mod units;

use joining::{Addresses, Identity};
use listen::{Listen, Move};
use place::{Outcome, Place, SERVICES, Service};

/// Where the coordinator listens by default.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// How long a service may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

const POLL_EVERY: Duration = Duration::from_millis(100);

/// How many lines of the log of a service that did not become ready are shown.
const LOG_LINES: usize = 15;

/// The lines of what was found and done.
pub(crate) struct StepLog {
    output: Output,
    lines: Vec<String>,
    changes: u32,
}

impl StepLog {
    fn new(output: Output) -> Self {
        Self { output, lines: Vec::new(), changes: 0 }
    }

    fn unchanged(&mut self, what: &str) -> Result<()> {
        self.write("there", what)
    }

    fn changed(&mut self, what: &str) -> Result<()> {
        self.changes += 1;
        self.write("did", what)
    }

    fn write(&mut self, verb: &str, what: &str) -> Result<()> {
        let line = format!("{verb:8} {what}");
        self.output.line(&line)?;
        self.lines.push(line);
        Ok(())
    }
}

/// What keeps the services running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supervision {
    Systemd,
    /// Nothing: they are plain processes.
    None,
}

/// How a service runs that was found or started.
enum RunningService {
    Unit,
    /// A plain process that ran already.
    Process,
    /// A plain process that this command started.
    Child(Child),
}

impl RunningService {
    /// Whether it may still become ready: systemd restarts a unit again and again.
    fn may_become_ready(&mut self, place: &Place, service: Service) -> bool {
        match self {
            Self::Unit => true,
            Self::Process => detached::running(place, service).is_some(),
            // A process has no name before it executes its program, so its parent is asked.
            Self::Child(child) => matches!(child.try_wait(), Ok(None)),
        }
    }

    fn not_ready(&self, place: &Place, service: Service, what: &str) -> Failure {
        let (log, next) = match self {
            Self::Unit => (systemd::tail(service, LOG_LINES), format!("journalctl -u {}", service.name())),
            Self::Process | Self::Child(_) => {
                let log = place.log(service);
                (place::tail(&log, LOG_LINES), format!("less {}", log.display()))
            }
        };
        let log: String = log.lines().map(|line| format!("\n       | {line}")).collect();
        Failure::new(Kind::Unreachable, format!("{} {what}", service.name()))
            .why(format!("the end of its log:{log}"))
            .next(next)
    }
}

/// # Errors
/// When a host lacks something that it needs, or a service does not become ready.
pub async fn up(context: &Context, args: &UpArgs) -> Result<()> {
    require_root("lockstep up", "it installs services, and the agent controls Docker and nginx")?;
    for service in SERVICES {
        place::program(service)?;
    }
    let place = Place::new(&args.directory)?;
    let mut log = StepLog::new(context.output);
    let roles = roles(args);
    machine::prepare(&place, &roles, &mut log)?;
    let known = joining::identity(&place)?;
    refuse_another_address(args, known.as_ref())?;
    let host_address = match &known {
        Some(identity) => identity.address.clone(),
        None => machine::address(args.address)?.to_string(),
    };
    let listen = listen::choose(&place, args.listen)?;
    let supervision = choose_supervision(&place, args)?;
    if let Listen::At(listen) = listen {
        // Another installation is in the way more often than not: what is refused leaves nothing behind.
        refuse_taken_address(&place, listen, supervision)?;
    }
    create(&place, &mut log)?;

    let (before, coordinator) = match listen {
        Listen::At(listen) => (None, start_coordinator(&place, listen, supervision, &mut log).await?),
        Listen::Moves { from, to } => {
            let own_host = known.as_ref();
            let moving = Move { context, place: &place, supervision, own_host, from, to };
            (Some(from.to_string()), moving.carry_out(&mut log).await?)
        }
    };
    let mut control = joining::log_in(context, &place, &coordinator, &mut log).await?;
    credential::set_address(context.credential(), before.as_deref(), &coordinator)?;
    let identity = match known {
        Some(identity) => {
            if !identity.coordinators.contains(&coordinator) {
                halt(&place, Service::Agent, supervision, &mut log).await?;
                joining::set_coordinator(&place, before.as_deref(), &coordinator)?;
            }
            log.unchanged(&format!("the host {} at {}", identity.name, identity.address))?;
            identity
        }
        None => {
            let addresses = Addresses { coordinator: &coordinator, host: &host_address };
            let identity = joining::join(&mut control, &place, args, addresses).await?;
            log.changed(&format!("joined as the host {} at {}", identity.name, identity.address))?;
            identity
        }
    };
    let command_line = agent_command(&place)?;
    let mut service = ensure_running(&place, Service::Agent, &command_line, supervision, &mut log)?;
    wait_until_connected(&mut control, &place, &identity, &mut service).await?;
    ready(&log, &coordinator, &identity)
}

/// # Errors
/// When the user is not root.
fn require_root(command: &str, why: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("{command} needs root")).why(why).next(format!("sudo {command}")))
}

fn roles(args: &UpArgs) -> Vec<HostRole> {
    let all = [HostRole::App, HostRole::Lb, HostRole::Db];
    all.into_iter().filter(|role| args.roles.contains(role)).collect()
}

/// A host's address is part of its certificate's record and of its containers: it is chosen once.
fn refuse_another_address(args: &UpArgs, known: Option<&Identity>) -> Result<()> {
    let Some((wanted, identity)) = args.address.zip(known) else { return Ok(()) };
    if identity.address == wanted.to_string() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Refused,
        format!("the host {} has the address {}, not {wanted}", identity.name, identity.address),
    )
    .why("the address of a host is set when it joins and does not change")
    .next("lockstep up    # without --address; to start over: lockstep down --purge"))
}

fn choose_supervision(place: &Place, args: &UpArgs) -> Result<Supervision> {
    let runs_detached = SERVICES.iter().any(|service| detached::running(place, *service).is_some());
    if args.without_systemd || runs_detached || !has_systemd() {
        return Ok(Supervision::None);
    }
    for service in SERVICES {
        systemd::is_installed(place, service)?;
    }
    Ok(Supervision::Systemd)
}

fn create(place: &Place, log: &mut StepLog) -> Result<()> {
    let directory = place.directory().display().to_string();
    match place.create()? {
        Outcome::Changed => log.changed(&format!("created {directory}")),
        Outcome::Unchanged => log.unchanged(&directory),
    }
}

/// Whether the coordinator of this place runs.
fn is_running(place: &Place, supervision: Supervision) -> bool {
    match supervision {
        Supervision::None => detached::running(place, Service::Coordinator).is_some(),
        Supervision::Systemd => systemd::is_active(Service::Coordinator),
    }
}

fn refuse_taken_address(place: &Place, listen: SocketAddr, supervision: Supervision) -> Result<()> {
    if is_running(place, supervision) { Ok(()) } else { listen::refuse_unusable(listen) }
}

/// Starts the coordinator if it does not run, and returns the address on which it listens.
async fn start_coordinator(
    place: &Place,
    listen: SocketAddr,
    supervision: Supervision,
    log: &mut StepLog,
) -> Result<String> {
    let command_line = coordinator_command(place, listen)?;
    let mut service = ensure_running(place, Service::Coordinator, &command_line, supervision, log)?;
    coordinator_address(place, &mut service).await
}

/// Stops both services, and starts the coordinator on `listen`.
async fn restart_on(
    place: &Place,
    listen: SocketAddr,
    supervision: Supervision,
    log: &mut StepLog,
) -> Result<String> {
    for service in SERVICES.into_iter().rev() {
        halt(place, service, supervision, log).await?;
    }
    refuse_taken_address(place, listen, supervision)?;
    start_coordinator(place, listen, supervision, log).await
}

/// Stops a service that is started again afterwards.
async fn halt(place: &Place, service: Service, supervision: Supervision, log: &mut StepLog) -> Result<()> {
    let did_run = match supervision {
        Supervision::None => detached::stop(place, service).await?.is_some(),
        Supervision::Systemd => systemd::halt(place, service)?,
    };
    if did_run { log.changed(&format!("stopped {}", service.name())) } else { Ok(()) }
}

/// Starts the service if it does not run.
fn ensure_running(
    place: &Place,
    service: Service,
    command_line: &[String],
    supervision: Supervision,
    log: &mut StepLog,
) -> Result<RunningService> {
    let name = service.name();
    match supervision {
        Supervision::None => {
            if let Some(number) = detached::running(place, service) {
                log.unchanged(&format!("{name}, process {number}"))?;
                return Ok(RunningService::Process);
            }
            forget_address(place, service)?;
            let child = detached::start(place, service, command_line)?;
            let file = place.log(service);
            log.changed(&format!("started {name}, process {}, log in {}", child.id(), file.display()))?;
            Ok(RunningService::Child(child))
        }
        Supervision::Systemd => {
            let outcome = systemd::install(place, service, command_line, log)?;
            let is_up = systemd::is_active(service) && systemd::is_enabled(service);
            if outcome == Outcome::Unchanged && is_up {
                log.unchanged(&format!("{name}, managed by systemd"))?;
                return Ok(RunningService::Unit);
            }
            forget_address(place, service)?;
            systemd::start(service)?;
            log.changed(&format!("started {name}, managed by systemd, log: journalctl -u {name}"))?;
            Ok(RunningService::Unit)
        }
    }
}

/// Removes the address that a killed coordinator left behind.
fn forget_address(place: &Place, service: Service) -> Result<()> {
    let file = place.address();
    match service {
        Service::Coordinator if file.exists() => {
            std::fs::remove_file(&file).map_err(|error| cannot_write(&file, &error))
        }
        Service::Coordinator | Service::Agent => Ok(()),
    }
}

fn coordinator_command(place: &Place, listen: SocketAddr) -> Result<Vec<String>> {
    let program = place::program(Service::Coordinator)?.display().to_string();
    let own = place.own(Service::Coordinator).display().to_string();
    Ok(vec![program, "--directory".to_owned(), own, "--listen".to_owned(), listen.to_string()])
}

fn agent_command(place: &Place) -> Result<Vec<String>> {
    let program = place::program(Service::Agent)?.display().to_string();
    let own = place.own(Service::Agent).display().to_string();
    Ok(vec![program, "run".to_owned(), "--directory".to_owned(), own])
}

/// Waits for the address that the coordinator writes, and stores it: the coordinator keeps it from here on, also if the
/// system chose the port.
async fn coordinator_address(place: &Place, service: &mut RunningService) -> Result<String> {
    let started = Instant::now();
    loop {
        if let Some(address) = place::text(&place.address())?.filter(|address| !address.is_empty()) {
            durable::write(&place.listen(), &format!("{address}\n"), 0o644)
                .map_err(|error| cannot_write(&place.listen(), &error))?;
            return Ok(address);
        }
        if started.elapsed() > READY_LIMIT || !service.may_become_ready(place, Service::Coordinator) {
            return Err(service.not_ready(place, Service::Coordinator, "does not start"));
        }
        sleep(POLL_EVERY).await;
    }
}

async fn wait_until_connected(
    control: &mut ControlClient<Channel>,
    place: &Place,
    identity: &Identity,
    service: &mut RunningService,
) -> Result<()> {
    let started = Instant::now();
    loop {
        match joining::find_host(control, identity).await? {
            Some(status) if joining::is_connected(&status) => return Ok(()),
            Some(_) => {}
            None => {
                return Err(Failure::new(Kind::Refused, format!("the host {} was removed", identity.name))
                    .why("this machine has an identity that the coordinator does not know any more")
                    .next(format!("rm {} && lockstep up", place.identity().display())));
            }
        }
        if started.elapsed() > READY_LIMIT || !service.may_become_ready(place, Service::Agent) {
            return Err(service.not_ready(place, Service::Agent, "does not connect to the coordinator"));
        }
        sleep(POLL_EVERY).await;
    }
}

fn ready(log: &StepLog, coordinator: &str, identity: &Identity) -> Result<()> {
    let output = log.output;
    output.json(&json!({ "coordinator": coordinator, "host": identity.name, "address": identity.address,
                         "changes": log.changes, "said": log.lines }))?;
    match log.changes {
        0 => output.line("Everything was there; nothing was changed.")?,
        changes => output.line(&format!("Ready; changes made: {changes}."))?,
    }
    output.line("next, in the directory of your deployment.yml:")?;
    output.verbatim("  lockstep plan production --image IMAGE:TAG      # show what would happen")?;
    output.verbatim("  lockstep deploy production --image IMAGE:TAG")?;
    // With sudo the credential is root's.
    if let Ok(user) = std::env::var("SUDO_USER") {
        output.line(&format!("to deploy as {user} instead of root:"))?;
        output.verbatim(&format!("  sudo lockstep operator add {user} --role admin | head -1 | sh"))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Refused, format!("{} cannot be written", path.display())).why(error.to_string())
}
