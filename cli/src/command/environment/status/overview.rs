//! One environment on one screen: the live release, the slots and the traffic of each host, the open deployment, and the
//! next commands.
//!
//! What must stay true: a pipe gets the same words as a terminal, which also has colours, bars and broken lines. A
//! command has a line of its own, which is never broken, so that it can be pasted.

use lockstep_core::health::Health;
use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::claim::ClaimKind;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{Adoption, LocalChange, LocalRollback};
use lockstep_core::record::observed::SiteChangeOn;
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::record::removal::Removal;
use lockstep_core::run::journal::{Direction, Verdict};
use lockstep_core::slot::Slot;
use lockstep_core::time::Timestamp;
use lockstep_core::view::environment::{ClaimStatus, DatabaseStatus, EnvironmentStatus, SecretsSet};
use lockstep_core::view::host_status::{HostStatus, Presence, SlotObservation};

use super::next_commands::{NextCommand, next_commands};
use crate::command::deployment::verdict;
use crate::output::{Output, Tone, length};

/// More hosts do not fit on one screen.
const HOSTS_MAX: usize = 10;

/// How many cells of a bar mean all of the traffic.
const BAR: u8 = 10;

const NOTHING: &str = "-";

/// How many spaces a line begins with.
const MARGIN: usize = 2;

/// The text of a line begins here, after its label.
const TEXT_INDENT: usize = 12;

/// The lines of one environment at `now`.
pub(super) fn render(output: Output, status: &EnvironmentStatus, now: Timestamp) -> Vec<String> {
    let mut screen = Screen { output, now, lines: Vec::new() };
    screen.draw(status);
    screen.lines
}

/// Whether a terminal has room for bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bars {
    Drawn,
    None,
}

struct Screen {
    output: Output,
    now: Timestamp,
    lines: Vec<String>,
}

impl Screen {
    fn draw(&mut self, status: &EnvironmentStatus) {
        let (tone, state) = state(status);
        let key = self.output.toned(Tone::Strong, &status.key.to_string());
        let state = self.output.toned(tone, &state);
        let heading = self.output.wrap(&format!("{key}  {}  {state}", status.url), 2);
        self.lines.extend(heading);
        match &status.live {
            None => self.line("live", "nothing"),
            Some(live) => self.line(
                "live",
                &format!(
                    "{} ({}) in {} since {}, {}",
                    live.release.image,
                    live.release.version(),
                    live.slot,
                    live.since,
                    self.ago(live.since)
                ),
            ),
        }
        if let Some(Removal { by, since, left_behind: _ }) = &status.removal {
            self.problem_line("removal", &format!("started by {by} at {since}, not finished"));
            self.next(&format!("lockstep env remove {}", status.key), "");
        }
        self.hosts(status);
        if let Some(open) = &status.open {
            self.open(&status.key, open);
        } else if let Some(ready) = status.rollback.as_ref().filter(|_| status.removal.is_none()) {
            let takes = match ready.takes {
                _ if is_unhealthy(status, &ready.deployment) => "which is not healthy now".to_owned(),
                Some(takes) => format!("takes about {takes}"),
                None => "which must be started first".to_owned(),
            };
            let to = &ready.release.image;
            let is_live = |live: &LiveRelease| live.release.image_id == ready.release.image_id;
            let of = if status.live.as_ref().is_some_and(is_live) {
                format!(" with the configuration of {}", ready.deployment)
            } else {
                String::new()
            };
            self.line("rollback", &format!("to {to}{of}, {takes}"));
            self.command(&format!("lockstep rollback {}", status.key), "");
        }
        if let Some(SlotObservation { deployment, release: Some(release), .. }) = left_by_rollback(status) {
            self.line("forward", &format!("to {}, from which it was rolled back: warm", release.image));
            self.command(&format!("lockstep rollback {} --to {deployment}", status.key), "");
        }
        status.local.iter().for_each(|change| self.local(change));
        status.pending_undos.iter().for_each(|undo| self.pending_undo(undo));
        if let Some(last) = &status.last {
            self.last(last);
        }
        self.secrets(status);
        status.drift.iter().for_each(|drift| self.problem_line("drift", drift));
        if let Some((problem, repair)) = status.database_told().and_then(DatabaseStatus::problem) {
            self.problem_line("database", &problem);
            self.next(&repair, "");
        }
        for on in &status.restarts {
            self.problem_line("restarts", &on.to_string());
            self.next(&format!("lockstep logs {} --process {}", status.key, on.process), "");
        }
        if let Some(SiteChangeOn { host, change }) = &status.site_changed {
            self.problem_line("drift", &format!("the nginx site on {host} was changed by hand ({change})"));
            self.next(&format!("lockstep doctor {}", status.key), "shows the changes");
        }
    }

    /// `  label     text`
    fn line(&mut self, label: &str, text: &str) {
        self.lines.extend(self.output.wrap(&format!("  {label:8}  {text}"), TEXT_INDENT));
    }

    fn problem_line(&mut self, label: &str, text: &str) {
        let label = self.output.toned(Tone::Bad, &format!("{label:8}"));
        self.lines.extend(self.output.wrap(&format!("  {label}  {text}"), TEXT_INDENT));
    }

    /// A command below the line that it belongs to. What it does is a comment of the shell.
    fn command(&mut self, command: &str, effect: &str) {
        self.labelled_command("", command, effect);
    }

    /// The command to run next.
    fn next(&mut self, command: &str, effect: &str) {
        self.labelled_command("next", command, effect);
    }

    /// The effect stands below a command if both do not fit in one line.
    fn labelled_command(&mut self, label: &str, command: &str, effect: &str) {
        let line = format!("  {label:8}  {command}");
        if effect.is_empty() {
            return self.lines.push(line);
        }
        let whole = format!("{line}    # {effect}");
        if self.output.fits(&whole) {
            return self.lines.push(whole);
        }
        self.lines.push(line);
        self.lines.extend(self.output.wrap(&format!("{:TEXT_INDENT$}# {effect}", ""), TEXT_INDENT + 2));
    }

    fn ago(&self, at: Timestamp) -> String {
        format!("{} ago", length(self.now.since(at)))
    }

    fn hosts(&mut self, status: &EnvironmentStatus) {
        if status.hosts.is_empty() {
            return;
        }
        let release = status.live.as_ref();
        let live = release.map(|live| live.slot);
        let open = status.open.as_ref().and_then(|open| open.open.deployment());
        // Hosts with a problem come first if not all have room.
        let mut hosts: Vec<&HostStatus> = status.hosts.iter().collect();
        if hosts.len() > HOSTS_MAX {
            hosts.sort_by_key(|host| is_well(host, release));
        }
        let shown = &hosts[..hosts.len().min(HOSTS_MAX)];
        let purpose = |seen: &SlotObservation| {
            let serves = live == Some(seen.slot) || seen.traffic_percent > 0;
            if serves || open == Some(&seen.deployment) { Use::Traffic } else { Use::Standby }
        };
        let with_bars = self.host_rows(shown, purpose, Bars::Drawn);
        let rows = match self.output.fits_table(&with_bars, MARGIN) {
            true => with_bars,
            false => self.host_rows(shown, purpose, Bars::None),
        };
        self.lines.push(String::new());
        self.lines.extend(self.output.table_lines(&rows, MARGIN));
        let left = &hosts[shown.len()..];
        if !left.is_empty() {
            let well = left.iter().filter(|host| is_well(host, release)).count();
            self.lines
                .push(format!("  and {} more, {well} of them well; see: lockstep host list", left.len()));
        }
        let declared =
            status.live.iter().flat_map(|live| live.spec.hosts.app.iter().map(move |host| (live, host)));
        for (_, host) in declared.filter(|(live, host)| live.is_drained(host)) {
            self.lines.push(format!(
                "  {host} is drained; to bring it back: lockstep host add {} {host}",
                status.key
            ));
        }
        for host in status.live.iter().flat_map(|live| &live.excluded) {
            let words = format!("{host} is excluded; it is re-admitted when it is well");
            self.lines.push(format!("  {}", self.output.toned(Tone::Bad, &words)));
        }
        if let Some(seen) = &status.traffic {
            // An open deployment may have switched the traffic already.
            let is_right = live == Some(seen.slot) || open.is_some();
            let tone = if is_right { Tone::Quiet } else { Tone::Bad };
            let sends = format!("nginx on {} sends traffic to {}", seen.host, seen.slot);
            self.lines.push(format!("  {}", self.output.toned(tone, &sends)));
        }
        self.lines.push(String::new());
    }

    fn host_rows(
        &self,
        hosts: &[&HostStatus],
        purpose: impl Fn(&SlotObservation) -> Use + Copy,
        bars: Bars,
    ) -> Vec<Vec<String>> {
        let header = ["host", "agent", "blue", "green", "traffic"];
        let header = header.map(|word| self.output.toned(Tone::Quiet, word)).to_vec();
        let rows = hosts.iter().map(|host| self.host(host, purpose, bars));
        std::iter::once(header).chain(rows).collect()
    }

    fn host(
        &self,
        status: &HostStatus,
        purpose: impl Fn(&SlotObservation) -> Use,
        bars: Bars,
    ) -> Vec<String> {
        let agent = match (status.presence, status.last_seen) {
            (Presence::Connected, _) => self.output.toned(Tone::Good, "connected"),
            (Presence::Absent, Some(seen)) => {
                self.output.toned(Tone::Bad, &format!("offline {}", length(self.now.since(seen))))
            }
            (Presence::Absent, None) => self.output.toned(Tone::Bad, "offline"),
        };
        let slot = |slot: Slot| {
            let seen = status.slots.iter().find(|seen| seen.slot == slot);
            seen.map_or_else(|| NOTHING.to_owned(), |seen| self.slot(seen, describe(seen, purpose(seen))))
        };
        let name = status.host.name.to_string();
        vec![name, agent, slot(Slot::Blue), slot(Slot::Green), self.traffic(status, bars)]
    }

    /// `notes:2 healthy`
    fn slot(&self, seen: &SlotObservation, (tone, how): (Tone, String)) -> String {
        let what = match &seen.release {
            // Without the registry: the application is known.
            Some(release) => release.image.rsplit('/').next().unwrap_or_default(),
            None => seen.deployment.as_str(),
        };
        self.output.toned(tone, &format!("{what} {how}"))
    }

    fn traffic(&self, status: &HostStatus, bars: Bars) -> String {
        let percent: u8 = status.slots.iter().map(|seen| seen.traffic_percent).sum();
        if percent == 0 {
            return NOTHING.to_owned();
        }
        // nginx sends requests there, and nothing is left to answer them.
        if status.slots.iter().all(|seen| seen.traffic_percent == 0 || seen.running == 0) {
            return self.output.toned(Tone::Bad, "fails");
        }
        if bars == Bars::None || !self.output.is_live() {
            return format!("{percent} %");
        }
        let full = percent.div_ceil(100 / BAR).min(BAR);
        let bar = "█".repeat(full.into());
        let rest = self.output.toned(Tone::Quiet, &"░".repeat((BAR - full).into()));
        format!("{bar}{rest} {percent:3} %")
    }

    fn last(&mut self, last: &DeploymentSummary) {
        let when = last.ended_at.map(|ended| format!(", {}", self.ago(ended))).unwrap_or_default();
        let (by, id) = (&last.operator, &last.id);
        self.line("last", &format!("{}{when}, by {by}", verdict(last)));
        self.command(&format!("lockstep show {id}"), "");
    }

    /// Containers keep the secrets with which they were started.
    fn secrets(&mut self, status: &EnvironmentStatus) {
        let (Some(newest), Some(live)) = (&status.undeployed_secrets, &status.live) else { return };
        let SecretsSet { version, by, at } = newest;
        let deployed = live.secrets_version.map_or_else(|| "none".to_owned(), |it| format!("version {it}"));
        let ago = self.ago(*at);
        self.line(
            "secrets",
            &format!("version {version}, set by {by} {ago}, is not in the containers, which have {deployed}"),
        );
        // While the environment is locked, a deployment is refused.
        if status.open.is_none() && status.removal.is_none() {
            let deploy = format!("lockstep deploy {} --image {}", status.key, live.release.image);
            self.next(&deploy, &format!("the same image with version {version}"));
        }
    }

    fn local(&mut self, change: &LocalChange) {
        let LocalRollback { by, from, to, at, .. } = &change.rollback;
        let recorded = match &change.adopted {
            Some(Adoption { deployment: Some(id), .. }) => format!("recorded as {id}"),
            Some(_) | None => "not recorded yet, so the host keeps the traffic there".to_owned(),
        };
        let (host, ago) = (&change.host_name, self.ago(*at));
        self.problem_line(
            "local",
            &format!(
                "{by} on {host} switched the traffic from {from} to {to} without a coordinator, {ago} ({at}); {recorded}"
            ),
        );
    }

    fn pending_undo(&mut self, undo: &PendingUndo) {
        let failed = undo
            .failure
            .as_ref()
            .map(|failure| format!(" · it failed: {}", failure.what))
            .unwrap_or_default();
        let PendingUndo { host_name, change, key, .. } = undo;
        let since = self.ago(undo.since);
        self.problem_line("pending", &format!("undo on {host_name}, since {since}: {change}{failed}"));
        self.line("", &format!("It runs when {host_name} is well. To give it up:"));
        self.command(&format!("lockstep resolve {} --skip {}", key.deployment, key.step), "");
    }

    fn open(&mut self, key: &EnvironmentKey, status: &ClaimStatus) {
        let open = &status.open;
        match (&open.kind, open.deployment()) {
            (ClaimKind::Freeze { reason }, _) => {
                let (by, ago, until) = (&open.by, self.ago(open.since), open.until);
                self.line("frozen", &format!("{reason} · by {by} {ago}, until {until}"));
                self.next(&format!("lockstep lock thaw {key}"), "");
            }
            (_, deployment) => {
                let doing = match (&open.kind, status.direction) {
                    (ClaimKind::Building { .. }, _) => "builds",
                    (_, Direction::Do) => "deploys",
                    (_, Direction::Undo) => "reverts",
                };
                let what = status.release.as_ref().map_or("an image", |release| &release.image);
                let id = deployment.map(ToString::to_string).unwrap_or_default();
                let (done, all) = (status.steps_done, status.steps_all);
                let (by, since) = (&open.by, length(self.now.since(open.since)));
                let until = open.until;
                self.line(
                    "open",
                    &format!(
                        "{id} {doing} {what}: {done} of {all} steps, by {by} for {since}, until {until} at most"
                    ),
                );
            }
        }
        for step in &status.running {
            let usual = step.usual.map(|usual| format!(", usually {usual}")).unwrap_or_default();
            let runs = length(self.now.since(step.since));
            self.line("step", &format!("{} on {} for {runs}{usual}", step.name, step.host));
            if let Some(tail) = &step.tail {
                self.line("", &self.output.toned(Tone::Quiet, &format!("| {tail}")));
            }
        }
        if let Some(failure) = &status.failure {
            self.line("failed", &format!("{}: {}", failure.step, failure.failure.what));
        }
        for NextCommand { command, effect } in next_commands(key, status) {
            self.next(&command, &effect);
        }
    }
}

/// The state of the environment in a word.
fn state(status: &EnvironmentStatus) -> (Tone, String) {
    if status.removal.is_some() {
        return (Tone::Bad, "being removed".to_owned());
    }
    let degraded = || "degraded: lockstep doctor".to_owned();
    match status.open.as_ref().map(|open| (&open.open.kind, open.direction)) {
        Some((ClaimKind::Stuck { .. }, _)) => (Tone::Bad, "stuck".to_owned()),
        Some((ClaimKind::Freeze { .. }, _)) if is_degraded(status) => {
            (Tone::Bad, format!("frozen, {}", degraded()))
        }
        Some((ClaimKind::Freeze { .. }, _)) => (Tone::Strong, "frozen".to_owned()),
        Some((ClaimKind::Building { .. }, _)) => (Tone::Strong, "building".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Do)) => (Tone::Strong, "deploying".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Undo)) => (Tone::Bad, "reverting".to_owned()),
        None if status.live.is_none() => (Tone::Quiet, "nothing is live".to_owned()),
        None if is_degraded(status) => (Tone::Bad, degraded()),
        None if status.undeployed_secrets.is_some() => {
            (Tone::Strong, "newer secrets are not deployed".to_owned())
        }
        None => (Tone::Good, "all is well".to_owned()),
    }
}

fn is_degraded(status: &EnvironmentStatus) -> bool {
    let is_recorded = |change: &LocalChange| change.adopted.is_some();
    !status.drift.is_empty()
        || !status.restarts.is_empty()
        || status.database.as_ref().is_some_and(|database| database.problem().is_some())
        || status.site_changed.is_some()
        || !status.pending_undos.is_empty()
        || !status.local.iter().all(is_recorded)
        || !status.hosts.iter().all(|host| is_well(host, status.live.as_ref()))
}

/// Whether a running instance of a deployment answers that it is not well, or does not answer.
fn is_unhealthy(status: &EnvironmentStatus, deployment: &DeploymentId) -> bool {
    let mut slots = status.hosts.iter().flat_map(|host| &host.slots);
    slots.any(|seen| seen.deployment == *deployment && seen.running > 0 && seen.health == Health::Unhealthy)
}

/// The slot that a rollback left, while it is warm: the release that was live before.
fn left_by_rollback(status: &EnvironmentStatus) -> Option<&SlotObservation> {
    let live = status.live.as_ref().filter(|_| status.open.is_none() && status.removal.is_none())?;
    let is_rollback = |last: &DeploymentSummary| {
        last.kind == OperationKind::Rollback && last.verdict == Some(Verdict::Succeeded)
    };
    status.last.as_ref().filter(|last| is_rollback(last))?;
    let usual = status.rollback.as_ref().map(|rollback| &rollback.deployment);
    let is_left = |seen: &&SlotObservation| {
        seen.slot == live.slot.other() && seen.running > 0 && usual != Some(&seen.deployment)
    };
    status.hosts.iter().flat_map(|host| &host.slots).find(is_left)
}

/// Whether a host has no problem, so that it need not be shown.
fn is_well(status: &HostStatus, live: Option<&LiveRelease>) -> bool {
    let serves = status.slots.iter().filter(|seen| live.is_some_and(|live| live.slot == seen.slot));
    let must_serve = live.is_some_and(|live| live.serving.contains(&status.host.name));
    let is_healthy = |seen: &SlotObservation| {
        seen.running > 0 && seen.running == seen.containers && seen.health != Health::Unhealthy
    };
    status.presence == Presence::Connected
        && status.second.is_none()
        && (!must_serve || serves.clone().next().is_some())
        && serves.into_iter().all(is_healthy)
}

/// What a slot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It has the traffic, or is about to get it.
    Traffic,
    /// It waits for a rollback.
    Standby,
}

/// The state of a slot in a word: the health of one with traffic, and whether a standby is warm.
fn describe(seen: &SlotObservation, purpose: Use) -> (Tone, String) {
    let SlotObservation { running, containers, health, .. } = seen;
    match (purpose, running) {
        (Use::Traffic, 0) => (Tone::Bad, "does not run".to_owned()),
        (Use::Standby, 0) => (Tone::Quiet, "stopped".to_owned()),
        (Use::Traffic, running) if running < containers => {
            (Tone::Bad, format!("{running} of {containers} run"))
        }
        (Use::Traffic, _) => match health {
            Health::Healthy => (Tone::Good, "healthy".to_owned()),
            Health::Degraded | Health::Unhealthy => (Tone::Bad, health.to_string()),
            Health::Unknown => (Tone::Quiet, "runs".to_owned()),
        },
        (Use::Standby, _) if *health == Health::Unhealthy => (Tone::Quiet, health.to_string()),
        (Use::Standby, _) => (Tone::Quiet, "warm".to_owned()),
    }
}

#[cfg(test)]
mod tests;
