//! Checks of this machine, the cluster and its environments; each problem with the command that fixes it.

use std::fmt;

use futures::stream::{self, StreamExt};
use lockstep_core::health::Health;
use lockstep_core::host::HostRole;
use lockstep_core::name::HostName;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::ClaimKind;
use lockstep_core::record::observed::{Observation, SiteChangeOn};
use lockstep_core::stored::decode;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::environment::{DatabaseStatus, EnvironmentStatus, SecretsSet};
use lockstep_core::view::host_status::{HostStatus, Presence, Validity, Vitals};
use lockstep_proto::wire;
use lockstep_runtime::systemd::units::has_systemd;
use serde::Serialize;

use super::environment::secrets::{file_values, warnings};
use super::reply::{read, read_all};
use crate::clock::now;
use crate::context::Context;
use crate::credential;
use crate::failure::{Failure, Kind, Result};
use crate::output::{Tone, ago};
use crate::this_machine::ThisMachine;

/// A larger difference between clocks is reported: recorded times are hard to read then, and at five minutes no
/// certificate is valid.
const SKEW_NOTED: Millis = Millis::from_secs(5);

/// From this version on, a reload keeps idle connections of clients open for a while:
/// <https://nginx.org/en/docs/http/ngx_http_core_module.html#keepalive_min_timeout>.
const NGINX_KEEPS_IDLE: (u32, u32, u32) = (1, 27, 4);

/// How many environments are asked about at a time.
const ASKED_AT_A_TIME: usize = 8;

/// Shows the log of an agent, on its host.
const AGENT_LOG: &str = "journalctl -u lockstep-agent";

/// The same where there is no systemd.
const AGENT_LOG_FILE: &str = "less /var/lib/lockstep/agent.log";

/// What belongs to a check begins here.
const DETAIL_INDENT: usize = 7;

/// A verdict, and the gap after it.
const VERDICT_WIDTH: usize = "wrong  ".len();

/// A detail that begins further right than this continues at the beginning of its line.
const HANG_MAX: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// For information: nothing has to be done.
    Note,
    Wrong,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Wrong => "wrong",
        })
    }
}

/// One check and its result.
#[derive(Debug, Clone, Serialize)]
struct Check {
    what: String,
    verdict: Verdict,
    #[serde(rename = "said")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The whole difference, if a line cannot show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, what: &str, detail: impl Into<String>) {
        self.add(what, Verdict::Good, detail.into(), None);
    }

    fn note(&mut self, what: &str, detail: impl Into<String>) {
        self.add(what, Verdict::Note, detail.into(), None);
    }

    fn wrong(&mut self, what: &str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(what, Verdict::Wrong, detail.into(), Some(next.into()));
    }

    fn add(&mut self, what: &str, verdict: Verdict, detail: String, next: Option<String>) {
        self.0.push(Check { what: what.to_owned(), verdict, detail, next, diff: None });
    }

    /// A change that an administrator wants to keep needs no action: it stays as long as no other site is needed.
    fn site_changed(&mut self, what: &str, on: &SiteChangeOn, overwriting: &str) {
        let SiteChangeOn { host, change } = on;
        let detail = format!("the nginx site on {host} was changed by hand ({change})");
        let next =
            format!("{overwriting}    # first copy what you need into the folder that the site includes");
        let diff = Some(change.diff.clone());
        self.0.push(Check { what: what.to_owned(), verdict: Verdict::Wrong, detail, next: Some(next), diff });
    }

    fn is_wrong(&self, what: &str) -> bool {
        self.0.iter().any(|check| check.what == what && check.verdict == Verdict::Wrong)
    }

    fn failed(&mut self, what: &str, failure: Failure) {
        let why = failure.why.map(|why| format!(": {why}")).unwrap_or_default();
        self.wrong(what, format!("{}{why}", failure.what), failure.next.unwrap_or_default());
    }
}

/// Checks everything: of one environment, or of all.
///
/// # Errors
/// When a check finds a problem.
pub async fn doctor(context: &Context, env: Option<&str>) -> Result<()> {
    let mut checks = Checks::default();
    if let Some(env) = env {
        declaration(context, env, &mut checks);
    }
    certificate(context, &mut checks);
    match coordinator(context, &mut checks).await {
        Ok(version) => {
            hosts(context, &version, &mut checks).await?;
            environments(context, env, &mut checks).await?;
        }
        Err(failure) => checks.failed("coordinator", context.complete_hint(failure, env)),
    }
    show_checks(context, &checks.0)
}

fn declaration(context: &Context, env: &str, checks: &mut Checks) {
    let declared = match context.declared(env) {
        Ok(declared) => declared,
        // From any directory, there is none to be checked.
        Err(_) if env.contains('/') && !context.is_in_project_of(env) => {
            return checks
                .note("deployment.yml", format!("that of {env} is not in this directory: not checked"));
        }
        Err(failure) => return checks.failed("deployment.yml", context.complete_hint(failure, Some(env))),
    };
    checks.ok("deployment.yml", format!("declares {}", declared.spec.key));
    match file_values(&declared) {
        Ok(Some(values)) => {
            checks.ok("secrets", format!("{} in {}", values.len(), declared.env_file.display()));
            warnings(&declared, &values).into_iter().for_each(|warning| checks.note("secrets", warning));
        }
        Ok(None) => {
            checks.note("secrets", format!("no {}: the stored secrets are used", declared.env_file.display()))
        }
        Err(failure) => checks.failed("secrets", context.complete_hint(failure, Some(env))),
    }
}

fn certificate(context: &Context, checks: &mut Checks) {
    let loaded = match context.load_credential(&ThisMachine::look()) {
        Ok((credential, _)) => credential,
        Err(failure) => return checks.failed("credential", context.complete_hint(failure, None)),
    };
    match credential::validity(&loaded.certificate) {
        Some((_, ends)) if ends > now() => {
            checks.ok("credential", format!("valid for {}, renewed by use", rounded(ends.since(now()))));
        }
        Some((_, ends)) => checks.wrong(
            "credential",
            format!("expired at {ends}"),
            format!("{}    # an admin gets the token by: lockstep operator add NAME", login(context)),
        ),
        None => checks.wrong("credential", "its certificate cannot be read", login(context)),
    }
}

/// The command that replaces the credential.
fn login(context: &Context) -> String {
    let address = context.known_address().unwrap_or_else(|| "HOST:PORT".to_owned());
    format!("lockstep login --coordinator {address} < token")
}

/// Checks the coordinator, and returns its version.
async fn coordinator(context: &Context, checks: &mut Checks) -> Result<String> {
    let about = context.control().await?.about(wire::ListRequest {}).await?.into_inner();
    let own = env!("CARGO_PKG_VERSION");
    checks.ok(
        "coordinator",
        format!("version {}, for {} with the role {}", about.version, about.operator, about.role),
    );
    if about.version != own {
        checks.note("versions", format!("this command line has {own}, the coordinator {}", about.version));
    }
    let (here, there) = (now(), Timestamp(about.clock_ms));
    let skew = Millis(here.0.abs_diff(there.0));
    if skew < SKEW_NOTED {
        checks.ok("clock", format!("{skew} from the coordinator's"));
    } else {
        checks.wrong(
            "clock",
            format!("{skew} from the coordinator's"),
            "timedatectl set-ntp true    # on the machine whose clock is wrong",
        );
    }
    Ok(about.version)
}

/// What starts services where this command runs: the hosts of a cluster are most often alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    Systemd,
    Other,
}

impl Init {
    fn of_this_machine() -> Self {
        if has_systemd() { Self::Systemd } else { Self::Other }
    }
}

/// The commands that start an agent, the likely one first.
fn starting(host: &HostName, init: Init) -> String {
    let unit = format!("systemctl restart lockstep-agent    # on {host}; its log: {AGENT_LOG}");
    let up = format!("lockstep up    # on {host}, where there is no systemd; its log: {AGENT_LOG_FILE}");
    match init {
        Init::Systemd => format!("{unit}\n{up}"),
        Init::Other => format!("{up}\n{unit}"),
    }
}

/// What the checks of a host are named.
fn about(host: &HostName) -> String {
    format!("host {host}")
}

async fn hosts(context: &Context, version: &str, checks: &mut Checks) -> Result<()> {
    let request = wire::EnvironmentRef::default();
    let reply = context.control().await?.inspect_hosts(request).await?.into_inner();
    if reply.hosts.is_empty() {
        checks.wrong(
            "hosts",
            "no host has joined",
            "lockstep up    # makes this machine a host\nlockstep host token    # prints the command for another",
        );
    }
    for inspected in reply.hosts {
        let status: HostStatus = read(inspected.host.as_ref())?;
        let what = about(&status.host.name);
        if status.presence == Presence::Absent {
            checks.wrong(
                &what,
                "its agent is not connected",
                starting(&status.host.name, Init::of_this_machine()),
            );
            continue;
        }
        let agent = status.agent_version.clone().unwrap_or_default();
        if agent != version {
            checks.note(&what, format!("its agent has {agent}, the coordinator {version}"));
        }
        if let Some(second) = &status.second {
            checks.wrong(
                &what,
                format!("two machines use its key: the one at {} was refused, last {}", second.from, ago(second.last)),
                "stop the agent of the copy, remove its data directory, and join it as a new host: lockstep host token",
            );
        }
        match &status.vitals {
            Some(seen) => vitals(&what, &status, seen, checks),
            None => checks.note(&what, "its agent has not reported its clock and its disk yet"),
        }
        match &inspected.seen {
            Some(seen) => tools(&what, &status, &read(Some(seen))?, checks),
            None => checks.wrong(
                &what,
                inspected.why,
                format!("{AGENT_LOG}    # on {}; without systemd: {AGENT_LOG_FILE}", status.host.name),
            ),
        }
    }
    Ok(())
}

fn vitals(what: &str, status: &HostStatus, seen: &Vitals, checks: &mut Checks) {
    let name = &status.host.name;
    let Vitals { clock, disk, certificate, heard_at: _ } = seen;
    if clock.is_off() {
        checks.wrong(
            what,
            format!("its clock is {clock} from the coordinator's"),
            format!("timedatectl set-ntp true    # on {name}, if the coordinator's clock is right"),
        );
    } else {
        checks.ok(what, format!("its clock is {clock} from the coordinator's"));
    }
    match disk {
        Some(disk) if disk.is_nearly_full() => checks.wrong(
            what,
            format!("only {} MiB of disk are free", disk.free_bytes >> 20),
            format!("docker image prune    # on {name}; or keep fewer snapshots (database.snapshot.keep)"),
        ),
        Some(disk) => checks.ok(what, format!("{} GiB of disk are free", disk.free_bytes >> 30)),
        None => checks.note(what, "its free disk space is unknown"),
    }
    match certificate {
        Some(Validity { issued, ends }) if ends.since(now()).0 < ends.since(*issued).0 / 2 => checks.wrong(
            what,
            format!("its certificate expires {ends} and was not renewed"),
            format!(
                "{AGENT_LOG}    # on {name}; without systemd: {AGENT_LOG_FILE}; an agent renews after a third of the lifetime"
            ),
        ),
        Some(_) => {}
        None => checks.note(what, "its certificate cannot be read"),
    }
}

fn tools(what: &str, status: &HostStatus, seen: &Observation, checks: &mut Checks) {
    let wanted = [
        (HostRole::App, "docker", "apt-get install docker.io && systemctl start docker"),
        (HostRole::Lb, "nginx", "apt-get install nginx"),
        (HostRole::Db, "pg_dump", "apt-get install postgresql-client"),
    ];
    let mut there = Vec::new();
    for (role, tool, next) in wanted.into_iter().filter(|(role, ..)| status.host.roles.contains(role)) {
        match seen.tools.get(tool) {
            Some(version) => there.push(format!("{tool} {version}")),
            None => checks.wrong(
                what,
                format!("{tool} is missing, and the role {role} needs it"),
                format!("{next}    # on {}", status.host.name),
            ),
        }
    }
    checks.ok(what, there.join(", "));
    for problem in &seen.problems {
        checks.wrong(
            what,
            problem.clone(),
            format!("fix this on {}, then: lockstep doctor", status.host.name),
        );
    }
    if let Some(version) =
        seen.tools.get("nginx").filter(|version| parse_version(version) < Some(NGINX_KEEPS_IDLE))
    {
        checks.note(
            what,
            format!("nginx {version}: a change of the site, unlike a deployment, can lose a request of a keep-alive client"),
        );
    }
}

/// `1.22.1` as numbers that can be compared.
fn parse_version(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

async fn environments(context: &Context, env: Option<&str>, checks: &mut Checks) -> Result<()> {
    let keys: Vec<String> = match env {
        Some(env) => vec![context.key(env)?.to_string()],
        None => {
            let all = context.control().await?.list_environments(wire::ListRequest {}).await?.into_inner();
            let all: Vec<EnvironmentStatus> = read_all(&all.environments)?;
            all.into_iter().map(|status| status.key.to_string()).collect()
        }
    };
    let control = context.control().await?;
    // Each by itself: its database is asked only where one environment is named.
    let answers = keys.into_iter().map(|key| {
        let mut control = control.clone();
        async move {
            let request = wire::EnvironmentRef { environment: key.clone(), limit: 0 };
            (key, control.status(request).await)
        }
    });
    let mut answers = stream::iter(answers).buffered(ASKED_AT_A_TIME);
    while let Some((key, answer)) = answers.next().await {
        match answer {
            Ok(reply) => {
                let statuses: Vec<EnvironmentStatus> = read_all(&reply.into_inner().environments)?;
                statuses.iter().for_each(|status| environment(status, checks));
            }
            Err(status) if status.code() == tonic::Code::NotFound => absent(&key, &status, checks),
            Err(status) => return Err(status.into()),
        }
    }
    Ok(())
}

/// Nothing is wrong with an environment that is not there yet, or that was given up.
fn absent(key: &str, status: &tonic::Status, checks: &mut Checks) {
    match decode::<Refusal>(status.details()) {
        Ok(Refusal { what, why, next }) => {
            checks.add(key, Verdict::Note, format!("{what}: {why}"), Some(next));
        }
        Err(_) => checks.note(key, status.message()),
    }
}

fn environment(status: &EnvironmentStatus, checks: &mut Checks) {
    let what = status.key.to_string();
    match &status.live {
        Some(live) => checks.ok(&what, format!("{} in {}", live.release.image, live.slot)),
        None => checks.note(&what, "nothing is live"),
    }
    if let (Some(SecretsSet { version, .. }), Some(live)) = (&status.undeployed_secrets, &status.live) {
        let deploy = format!("lockstep deploy {what} --image {}", live.release.image);
        let detail = format!("version {version} of its secrets is not in the containers");
        checks.add(&what, Verdict::Note, detail, Some(deploy));
    }
    if let Some(on) = &status.site_changed {
        let image = status.live.as_ref().map(|live| format!(" --image {}", live.release.image));
        let overwriting = format!("lockstep deploy {what}{} --overwrite-site", image.unwrap_or_default());
        checks.site_changed(&what, on, &overwriting);
    }
    for drift in &status.drift {
        match told_by(status, drift) {
            // The host's own check has said it, with what helps.
            Some(host) if checks.is_wrong(&about(&host.host.name)) && host.presence == Presence::Absent => {}
            Some(host) => checks.wrong(
                &what,
                drift.clone(),
                format!("{AGENT_LOG}    # on {}; without systemd: {AGENT_LOG_FILE}", host.host.name),
            ),
            None => checks.wrong(&what, drift.clone(), restoring(status)),
        }
    }
    match status.database_told().map(DatabaseStatus::problem) {
        Some(Some((problem, repair))) => checks.wrong(&what, problem, repair),
        Some(None) => checks.ok(&what, "its database answers"),
        None => {}
    }
    for on in &status.restarts {
        checks.wrong(&what, on.to_string(), format!("lockstep logs {what} --process {}", on.process));
    }
    for instance in status.hosts.iter().flat_map(|host| &host.instances) {
        if matches!(instance.health, Health::Unhealthy | Health::Degraded) {
            let last = instance.probes.last().map(ToString::to_string).unwrap_or_default();
            if status.live.as_ref().is_some_and(|live| instance.slot() == Some(live.slot.other())) {
                let is = instance.health;
                checks.note(
                    &what,
                    format!("{}, which waits for a rollback, is {is}: {last}", instance.container),
                );
                continue;
            }
            checks.wrong(
                &what,
                format!("{} is {}: {last}", instance.container, instance.health),
                format!("lockstep logs {what}"),
            );
        }
    }
    let Some(open) = status.open.as_ref().map(|status| &status.open) else { return };
    match &open.kind {
        ClaimKind::Stuck { deployment } => {
            checks.wrong(
                &what,
                format!("{deployment} is stuck"),
                format!("lockstep status {what}    # every resolution and its cost"),
            );
        }
        ClaimKind::Freeze { reason } => checks.note(&what, format!("frozen until {}: {reason}", open.until)),
        ClaimKind::Building { .. } | ClaimKind::Running { .. } => {
            checks.note(&what, format!("{} has been deploying since {}", open.by, open.since));
        }
    }
}

/// The host whose own problem a drift is, as its name before it says.
fn told_by<'a>(status: &'a EnvironmentStatus, drift: &str) -> Option<&'a HostStatus> {
    let (name, _) = drift.split_once(": ")?;
    status.hosts.iter().find(|status| status.host.name.as_str() == name)
}

/// The command that tells how the declared state is restored: a plan is refused where a deployment would not restore it.
/// While an agent is offline, its host comes first.
fn restoring(status: &EnvironmentStatus) -> String {
    let is_offline = |host: &HostStatus| host.presence == Presence::Absent;
    match &status.live {
        Some(_) if status.hosts.iter().any(is_offline) => {
            format!("lockstep doctor {}    # again, when every agent is connected", status.key)
        }
        Some(live) => {
            format!(
                "lockstep plan {} --image {}    # what a deployment would restore, or why it cannot",
                status.key, live.release.image
            )
        }
        None => format!("lockstep status {}", status.key),
    }
}

fn rounded(length: Millis) -> String {
    const DAY: u64 = 24 * 3600 * 1000;
    if length.0 >= 2 * DAY { format!("{} days", length.0 / DAY) } else { length.to_string() }
}

fn show_checks(context: &Context, checks: &[Check]) -> Result<()> {
    context.output.json(&checks)?;
    let rows: Vec<[String; 3]> = checks
        .iter()
        .map(|check| {
            let tone = match check.verdict {
                Verdict::Good => Tone::Good,
                Verdict::Note => Tone::Quiet,
                Verdict::Wrong => Tone::Bad,
            };
            let verdict = context.output.toned(tone, &format!("{:5}", check.verdict));
            [verdict, check.what.clone(), check.detail.clone()]
        })
        .collect();
    let width = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
    // What continues a detail stands below it, as long as it has room there.
    let hang = Some(VERDICT_WIDTH + width + 2).filter(|hang| *hang <= HANG_MAX).unwrap_or(DETAIL_INDENT);
    for ([verdict, what, detail], check) in rows.iter().zip(checks) {
        let line = format!("{verdict}  {what:width$}  {detail}");
        context.output.lines(&context.output.wrap(&line, hang))?;
        for line in check.diff.iter().flat_map(|diff| diff.lines()) {
            context.output.verbatim(&format!("{:DETAIL_INDENT$}{line}", ""))?;
        }
        if let Some(next) = check.next.as_ref().filter(|next| !next.is_empty()) {
            context.output.next_at(DETAIL_INDENT, next)?;
        }
    }
    let wrong: Vec<&Check> = checks.iter().filter(|check| check.verdict == Verdict::Wrong).collect();
    let Some(first) = wrong.first() else { return context.output.line("no problem found") };
    let failure =
        Failure::new(Kind::Failed, format!("{} of {} checks found a problem", wrong.len(), checks.len()));
    Err(match &first.next {
        Some(next) if !next.is_empty() => failure.next(next.clone()),
        Some(_) | None => failure,
    })
}

#[cfg(test)]
mod tests;
