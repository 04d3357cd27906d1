//! One environment on one screen: the live release, the slots and the traffic of each host, the open deployment, and the
//! next commands.
//!
//! What must stay true: a pipe gets the same words as a terminal, which also has colours, bars and broken lines. A
//! command has a line of its own, which is never broken, so that it can be pasted.

use lockstep_core::health::Health;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::ClaimKind;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::local_rollback::{Adoption, LocalChange, LocalRollback};
use lockstep_core::record::observed::SiteChangeOn;
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::record::removal::Removal;
use lockstep_core::run::journal::Direction;
use lockstep_core::slot::Slot;
use lockstep_core::time::Timestamp;
use lockstep_core::view::environment::{ClaimStatus, EnvironmentStatus};
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
            let takes = ready.takes.map_or_else(
                || "which must be started first".to_owned(),
                |takes| format!("takes about {takes}"),
            );
            let to = &ready.release.image;
            self.line("rollback", &format!("to {to}, {takes}"));
            self.command(&format!("lockstep rollback {}", status.key), "");
        }
        status.local.iter().for_each(|change| self.local(change));
        status.pending_undos.iter().for_each(|undo| self.pending_undo(undo));
        if let Some(last) = &status.last {
            self.last(last);
        }
        status.drift.iter().for_each(|drift| self.problem_line("drift", drift));
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
        let live = status.live.as_ref().map(|live| live.slot);
        let open = status.open.as_ref().and_then(|open| open.open.deployment());
        // Hosts with a problem come first if not all have room.
        let mut hosts: Vec<&HostStatus> = status.hosts.iter().collect();
        if hosts.len() > HOSTS_MAX {
            hosts.sort_by_key(|host| is_well(host, live));
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
            let well = left.iter().filter(|host| is_well(host, live)).count();
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
        let percent: u8 = status.slots.iter().map(|seen| seen.traffic_percent).sum();
        let name = status.host.name.to_string();
        vec![name, agent, slot(Slot::Blue), slot(Slot::Green), self.traffic(percent, bars)]
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

    fn traffic(&self, percent: u8, bars: Bars) -> String {
        if percent == 0 {
            return NOTHING.to_owned();
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
    let live = status.live.as_ref().map(|live| live.slot);
    if status.removal.is_some() {
        return (Tone::Bad, "being removed".to_owned());
    }
    match status.open.as_ref().map(|open| (&open.open.kind, open.direction)) {
        Some((ClaimKind::Stuck { .. }, _)) => (Tone::Bad, "stuck".to_owned()),
        Some((ClaimKind::Freeze { .. }, _)) => (Tone::Strong, "frozen".to_owned()),
        Some((ClaimKind::Building { .. }, _)) => (Tone::Strong, "building".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Do)) => (Tone::Strong, "deploying".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Undo)) => (Tone::Bad, "reverting".to_owned()),
        None if live.is_none() => (Tone::Quiet, "nothing is live".to_owned()),
        None if is_degraded(status, live) => (Tone::Bad, "degraded: lockstep doctor".to_owned()),
        None => (Tone::Good, "all is well".to_owned()),
    }
}

fn is_degraded(status: &EnvironmentStatus, live: Option<Slot>) -> bool {
    let is_recorded = |change: &LocalChange| change.adopted.is_some();
    !status.drift.is_empty()
        || status.site_changed.is_some()
        || !status.pending_undos.is_empty()
        || !status.local.iter().all(is_recorded)
        || !status.hosts.iter().all(|host| is_well(host, live))
}

/// Whether a host has no problem, so that it need not be shown.
fn is_well(status: &HostStatus, live: Option<Slot>) -> bool {
    let serves = status.slots.iter().filter(|seen| live == Some(seen.slot));
    status.presence == Presence::Connected
        && status.second.is_none()
        && serves.into_iter().all(|seen| seen.running == seen.containers && seen.health != Health::Unhealthy)
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
        (Use::Standby, _) => (Tone::Quiet, "warm".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    const DIGEST: &str = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";

    fn ago(seconds: u64) -> u64 {
        NOW.0 - seconds * 1000
    }

    fn release(version: u32) -> Value {
        let commit = format!("{version}").repeat(40);
        json!({ "image": format!("registry.example/notes:1.{version}"), "image_id": DIGEST,
                "commit": commit, "migrations": [] })
    }

    fn id(number: u32) -> String {
        format!("dep_01JBQR2KXYZ98765432101234{number}")
    }

    fn spec() -> Value {
        json!({
            "key": "notes/production", "description": null, "url": "https://notes.example", "branch": null,
            "mode": "production", "image": { "repository": "notes" }, "processes": {}, "database": null,
            "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
            "deploy": { "lock_timeout": 1_800_000, "drain": 0, "bake": 0, "log_directory": null, "state_file": null },
            "env": {}, "required": [], "public": [],
            "hosts": { "app": ["app-1", "app-2"], "lb": ["edge-1"], "db": [] },
        })
    }

    fn host(name: &str, presence: &str, seen: u64, slots: Value) -> Value {
        json!({
            "host": { "id": "host_01JBQR2KXYZ987654321012345", "name": name, "address": "10.0.0.5", "roles": ["app"] },
            "presence": presence, "agent_version": "0.1.0", "instances": [], "slots": slots,
            "last_seen": ago(seen),
        })
    }

    fn slot(slot: &str, version: u32, (running, health): (u32, &str), percent: u8) -> Value {
        json!({ "slot": slot, "deployment": id(version), "release": release(version), "running": running,
                "containers": 2, "health": health, "traffic_percent": percent })
    }

    fn status() -> Value {
        let slots = || json!([slot("blue", 2, (2, "healthy"), 50), slot("green", 1, (2, "unknown"), 0)]);
        json!({
            "key": "notes/production", "url": "https://notes.example", "description": null, "branch": null,
            "live": {
                "slot": "blue", "release": release(2), "deployment": id(2), "spec": spec(), "secrets_version": null,
                "schema_version": 42, "since": ago(3 * 24 * 3600), "rollback_count": 0,
                "serving": ["app-1", "app-2"],
            },
            "rollback": { "deployment": id(1), "release": release(1), "takes": 400 },
            "open": null,
            "last": {
                "id": id(2), "key": "notes/production", "kind": "deploy", "operator": "anna", "release": release(2),
                "slot": "blue", "spec": spec(), "secrets_version": null, "schema_before": 41, "schema_after": 42,
                "opened_at": ago(3 * 24 * 3600 + 23), "ended_at": ago(3 * 24 * 3600), "verdict": "succeeded",
                "failure": null, "steps": [],
                "receipt": { "requests": 41_233, "requests_lost": 0, "migrations_run": 1, "snapshot": null,
                             "switch_took": 400 },
            },
            "hosts": [
                host("app-1", "connected", 4, slots()), host("app-2", "connected", 7, slots()),
                host("edge-1", "connected", 2, json!([])),
            ],
            "traffic": { "host": "edge-1", "slot": "blue" }, "drift": [],
        })
    }

    /// A deployment bakes, one host is gone, and half of what is live does not answer.
    fn at_three_in_the_morning() -> Value {
        let mut status = status();
        status["open"] = json!({
            "open": {
                "kind": { "running": { "deployment": id(3), "wish": "none" } }, "by": "ben", "since": ago(96),
                "until": ago(0) + 1_704_000, "hostname": "desk", "pid": 7,
            },
            "release": release(3), "direction": "do", "steps_done": 9, "steps_all": 14,
            "running": [{ "step": 10, "name": "bake", "host": "app-1", "since": ago(6), "usual": 20_000,
                          "tail": "healthy under traffic for 6 s" }],
            "failure": null, "traffic_moved": "moved",
        });
        status["hosts"] = json!([
            host(
                "app-1",
                "connected",
                4,
                json!([slot("blue", 2, (1, "unhealthy"), 50), slot("green", 3, (2, "healthy"), 0),])
            ),
            host("app-2", "absent", 190, json!([])),
            host("edge-1", "connected", 2, json!([])),
        ]);
        status["live"]["spec"]["hosts"]["app"] = json!(["app-1", "app-2", "app-3", "app-4"]);
        status["live"]["passed_by"] = json!(["app-4"]);
        status["drift"] = json!(["web of blue does not run on app-1", "app-2: its agent is not connected"]);
        status
    }

    fn drawn(output: Output, status: Value) -> String {
        let status: EnvironmentStatus = serde_json::from_value(status).unwrap();
        let lines: Vec<String> = render(output, &status, NOW).iter().map(|line| output.shown(line)).collect();
        lines.join("\n").replace('\u{1b}', "^")
    }

    #[test]
    fn a_terminal_shows_an_environment_at_a_glance() {
        insta::assert_snapshot!("terminal_well", drawn(Output::on_terminal(), status()));
        insta::assert_snapshot!("terminal_at_three", drawn(Output::on_terminal(), at_three_in_the_morning()));
    }

    /// What a terminal of 80 columns would break itself, it breaks within a word.
    #[test]
    fn a_terminal_breaks_no_word_and_no_command() {
        for status in [status(), at_three_in_the_morning()] {
            let words = |output| {
                let status: EnvironmentStatus = serde_json::from_value(status.clone()).unwrap();
                render(output, &status, NOW)
            };
            let (terminal, pipe) = (words(Output::on_terminal()), words(Output::in_pipe()));
            let plain: Vec<String> =
                terminal.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
            for line in &plain {
                assert!(console::measure_text_width(line) <= 80, "{line:?} is too wide");
            }
            let commands = pipe
                .iter()
                .filter_map(|line| line.split_once("lockstep "))
                .map(|(_, rest)| rest.split("    #").next().unwrap_or(rest).to_owned());
            for command in commands {
                assert!(
                    plain.iter().any(|line| line.contains(&command)),
                    "{command:?} is broken: {plain:#?}"
                );
            }
        }
    }

    #[test]
    fn a_pipe_gets_the_same_words() {
        insta::assert_snapshot!("pipe_well", drawn(Output::in_pipe(), status()));
        let three = drawn(Output::in_pipe(), at_three_in_the_morning());
        assert!(three.lines().count() <= 24, "{three}");
        insta::assert_snapshot!("pipe_at_three", three);
    }

    #[test]
    fn an_unfinished_removal_is_shown_with_the_command_that_finishes_it() {
        let mut status = status();
        status["removal"] = json!({ "by": "anna", "since": ago(60), "left_behind": [] });
        let text = drawn(Output::in_pipe(), status);
        assert!(text.lines().next().unwrap().ends_with("being removed"), "{text}");
        assert!(text.contains("next      lockstep env remove notes/production"), "{text}");
        assert!(!text.contains("lockstep rollback"), "{text}");
    }

    /// Of many hosts those are shown that somebody has to look at.
    #[test]
    fn a_fleet_is_one_screen() {
        let mut status = status();
        let well = host("app-3", "connected", 4, json!([slot("blue", 2, (2, "healthy"), 1)]));
        let mut hosts = vec![well; 99];
        hosts.push(host("app-100", "absent", 3700, json!([])));
        status["hosts"] = json!(hosts);
        let text = drawn(Output::in_pipe(), status);
        assert!(text.lines().count() <= 24, "{text}");
        assert!(
            text.contains("app-100  offline 1 h") && text.contains("and 90 more, 90 of them well"),
            "{text}"
        );
    }
}
