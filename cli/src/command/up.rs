//! `lockstep up`: coordinator and agent on this machine, ready to deploy; `lockstep down` ends them.
//!
//! What must stay true: run again, it finds what it did and does nothing; what it did not make it does
//! not take over; every line says what was found (`there`) or done (`did`), as `deploy/setup.sh` does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use lockstep_proto::wire::control_client::ControlClient;
use lockstep_supervisor::units::has_systemd;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::args::UpArgs;
use crate::context::Context;
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;
use lockstep_core::host::HostRole;

mod detached;
pub mod down;
mod joining;
mod machine;
mod place;
mod systemd;
mod units;

use joining::{Identity, Reached};
use place::{Made, Place, SERVICES, Service};

/// Where the coordinator listens that was never told.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// How long a service may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much of a log is shown of a service that did not become ready.
const LOG_LINES: usize = 15;

/// What was found and done, told as it is.
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

/// Who keeps a service running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Systemd,
    Nobody,
}

/// A service that was seen to, and may yet end.
enum ServiceManager {
    BySystemd,
    /// It ran already.
    ByItself,
    Started(Child),
}

impl ServiceManager {
    /// Whether it may still become ready: what systemd keeps is started again and again.
    fn may_become_ready(&mut self, place: &Place, service: Service) -> bool {
        match self {
            Self::BySystemd => true,
            Self::ByItself => detached::running(place, service).is_some(),
            // A process that is just becoming its program has no name, so its parent is asked.
            Self::Started(child) => matches!(child.try_wait(), Ok(None)),
        }
    }

    fn not_ready(&self, place: &Place, service: Service, what: &str) -> Failure {
        let (log, next) = match self {
            Self::BySystemd => {
                (systemd::tail(service, LOG_LINES), format!("journalctl -u {}", service.name()))
            }
            Self::ByItself | Self::Started(_) => {
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
/// When something that a host needs is not there, or a service does not become ready.
pub async fn up(context: &Context, args: &UpArgs) -> Result<()> {
    require_root("lockstep up", "it installs services, and the agent drives Docker and nginx")?;
    for service in SERVICES {
        place::program(service)?;
    }
    let place = Place::new(&args.directory)?;
    let mut told = StepLog::new(context.output);
    let roles = roles(args);
    machine::prepare(&place, &roles, &mut told)?;
    let known = joining::identity(&place)?;
    refuse_another_address(args, known.as_ref())?;
    let host_address = match &known {
        Some(identity) => identity.address.clone(),
        None => machine::address(args.address)?.to_string(),
    };
    let listen = listen(&place, args.listen)?;
    let keeper = keeper(&place, args)?;
    make(&place, &mut told)?;
    std::fs::write(place.listen(), format!("{listen}\n"))
        .map_err(|error| cannot_write(&place.listen(), &error))?;

    let mut kept = keep(&place, Service::Coordinator, keeper, &mut told)?;
    let coordinator = coordinator_address(&place, &mut kept).await?;
    let mut control = joining::log_in(context, &place, &coordinator, &mut told).await?;
    let identity = match known {
        Some(identity) => {
            told.unchanged(&format!("the host {} at {}", identity.name, identity.address))?;
            identity
        }
        None => {
            let reached = Reached { coordinator: &coordinator, host: &host_address };
            let identity = joining::join(&mut control, &place, args, reached).await?;
            told.changed(&format!("joined as the host {} at {}", identity.name, identity.address))?;
            identity
        }
    };
    let mut kept = keep(&place, Service::Agent, keeper, &mut told)?;
    wait_until_connected(&mut control, &place, &identity, &mut kept).await?;
    ready(&told, &coordinator, &identity)
}

/// # Errors
/// When this is not root's process.
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
    let Some((wished, identity)) = args.address.zip(known) else { return Ok(()) };
    if identity.address == wished.to_string() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("the host {} is at {}", identity.name, identity.address))
        .why(format!("a host's address is chosen when it joins, and {wished} is another"))
        .next("lockstep up without --address; to begin anew: lockstep down --purge"))
}

/// Where the coordinator is to listen: as wished, else as it did before.
fn listen(place: &Place, wished: Option<SocketAddr>) -> Result<SocketAddr> {
    let Some(before) = place::text(&place.listen())? else { return Ok(wished.unwrap_or(LISTEN)) };
    let before: SocketAddr = before.parse().map_err(|_| {
        Failure::new(Kind::Refused, format!("{} is not understood", place.listen().display()))
            .why(format!("{before:?} is no address with a port"))
    })?;
    match wished {
        // Port 0: whichever was free then.
        Some(wished) if wished != before && (wished.ip() != before.ip() || wished.port() != 0) => {
            Err(Failure::new(Kind::Refused, format!("the coordinator here listens on {before}"))
                .why(format!("its agent and its operators know it by that, and {wished} is another"))
                .next("lockstep up without --listen; to begin anew: lockstep down --purge"))
        }
        Some(_) | None => Ok(before),
    }
}

fn keeper(place: &Place, args: &UpArgs) -> Result<Keeper> {
    let runs_detached = SERVICES.iter().any(|service| detached::running(place, *service).is_some());
    if args.without_systemd || runs_detached || !has_systemd() {
        return Ok(Keeper::Nobody);
    }
    for service in SERVICES {
        systemd::is_installed(place, service)?;
    }
    Ok(Keeper::Systemd)
}

fn make(place: &Place, told: &mut StepLog) -> Result<()> {
    let directory = place.directory().display().to_string();
    match place.make()? {
        Made::Yes => told.changed(&format!("made {directory}")),
        Made::WasThere => told.unchanged(&directory),
    }
}

/// Sees to it that the service runs.
fn keep(place: &Place, service: Service, keeper: Keeper, told: &mut StepLog) -> Result<ServiceManager> {
    let command_line = command_line(place, service)?;
    let name = service.name();
    match keeper {
        Keeper::Nobody => {
            if let Some(number) = detached::running(place, service) {
                told.unchanged(&format!("{name}, process {number}"))?;
                return Ok(ServiceManager::ByItself);
            }
            forget_address(place, service)?;
            let child = detached::start(place, service, &command_line)?;
            let log = place.log(service);
            told.changed(&format!("started {name}, process {}, log in {}", child.id(), log.display()))?;
            Ok(ServiceManager::Started(child))
        }
        Keeper::Systemd => {
            let made = systemd::install(place, service, &command_line, told)?;
            let as_it_should_be = systemd::is_active(service) && systemd::is_enabled(service);
            if made == Made::WasThere && as_it_should_be {
                told.unchanged(&format!("{name}, kept by systemd"))?;
                return Ok(ServiceManager::BySystemd);
            }
            forget_address(place, service)?;
            systemd::start(service)?;
            told.changed(&format!("started {name}, kept by systemd, log: journalctl -u {name}"))?;
            Ok(ServiceManager::BySystemd)
        }
    }
}

/// One that was killed has left its address behind.
fn forget_address(place: &Place, service: Service) -> Result<()> {
    let file = place.address();
    match service {
        Service::Coordinator if file.exists() => {
            std::fs::remove_file(&file).map_err(|error| cannot_write(&file, &error))
        }
        Service::Coordinator | Service::Agent => Ok(()),
    }
}

fn command_line(place: &Place, service: Service) -> Result<Vec<String>> {
    let program = place::program(service)?.display().to_string();
    let own = place.own(service).display().to_string();
    Ok(match service {
        Service::Coordinator => {
            let listen = place::text(&place.listen())?.unwrap_or_else(|| LISTEN.to_string());
            vec![program, "--directory".to_owned(), own, "--listen".to_owned(), listen]
        }
        Service::Agent => vec![program, "run".to_owned(), "--directory".to_owned(), own],
    })
}

/// The address that the coordinator has written; where the system chose its port, it keeps it from here on.
async fn coordinator_address(place: &Place, kept: &mut ServiceManager) -> Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(address) = place::text(&place.address())?.filter(|address| !address.is_empty()) {
            std::fs::write(place.listen(), format!("{address}\n"))
                .map_err(|error| cannot_write(&place.listen(), &error))?;
            return Ok(address);
        }
        if begun.elapsed() > READY_LIMIT || !kept.may_become_ready(place, Service::Coordinator) {
            return Err(kept.not_ready(place, Service::Coordinator, "does not serve"));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn wait_until_connected(
    control: &mut ControlClient<Channel>,
    place: &Place,
    identity: &Identity,
    kept: &mut ServiceManager,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        match joining::host(control, identity).await? {
            Some(status) if joining::is_connected(&status) => return Ok(()),
            Some(_) => {}
            None => {
                return Err(Failure::new(Kind::Refused, format!("the host {} was removed", identity.name))
                    .why("this machine joined, and the coordinator does not know it any more")
                    .next(format!("rm {}, then: lockstep up", place.identity().display())));
            }
        }
        if begun.elapsed() > READY_LIMIT || !kept.may_become_ready(place, Service::Agent) {
            return Err(kept.not_ready(place, Service::Agent, "does not connect"));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn ready(told: &StepLog, coordinator: &str, identity: &Identity) -> Result<()> {
    let output = told.output;
    output.json(&json!({ "coordinator": coordinator, "host": identity.name, "address": identity.address,
                         "changes": told.changes, "said": told.lines }))?;
    match told.changes {
        0 => output.line("Everything was there; nothing was changed.")?,
        changes => output.line(&format!("Ready; changes made: {changes}."))?,
    }
    output.line("next, where your deployment.yml is:")?;
    output
        .line("  lockstep plan production --image IMAGE:TAG      what would happen, and nothing happens")?;
    output.line("  lockstep deploy production --image IMAGE:TAG")?;
    // With sudo the credential is root's.
    if let Ok(user) = std::env::var("SUDO_USER") {
        output.line(&format!("to deploy as {user} instead of root:"))?;
        output.line(&format!(
            "  sudo lockstep operator add {user} --role admin | head -1 | lockstep login --coordinator {coordinator}"
        ))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Refused, format!("{} cannot be written", path.display())).why(error.to_string())
}
