//! One environment on one screen: what is live, what each host holds and gets of the traffic, what goes on, and the
//! commands that make sense next.
//!
//! What must stay true: a pipe gets the same words as a terminal, which has colours and bars besides.

use lockstep_core::health::Health;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::{ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::local_rollback::{Adoption, LocalChange, LocalRollback};
use lockstep_core::record::observed::SiteChangeOn;
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::record::removal::Removal;
use lockstep_core::run::journal::Direction;
use lockstep_core::slot::Slot;
use lockstep_core::time::Timestamp;
use lockstep_core::view::environment::{ClaimStatus, EnvironmentStatus, TrafficMoved};
use lockstep_core::view::host_status::{HostStatus, Presence, SlotObservation};

use crate::command::deployment::verdict;
use crate::output::{Output, Tone, length, table};

/// More hosts than this are not one screen.
const HOSTS_MAX: usize = 10;

/// How many cells of a bar are all of the traffic.
const BAR: u8 = 10;

const NOTHING: &str = "-";

/// The lines of one environment at `now`.
pub(super) fn render(output: Output, status: &EnvironmentStatus, now: Timestamp) -> Vec<String> {
    let mut picture = Picture { output, now, lines: Vec::new() };
    picture.draw(status);
    picture.lines
}

struct Picture {
    output: Output,
    now: Timestamp,
    lines: Vec<String>,
}

impl Picture {
    fn draw(&mut self, status: &EnvironmentStatus) {
        let (tone, state) = state(status);
        let key = self.output.toned(Tone::Strong, &status.key.to_string());
        let state = self.output.toned(tone, &state);
        self.lines.push(format!("{key}  {}  {state}", status.url));
        match &status.live {
            None => self.line("live", "nothing yet"),
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
            let how = format!("by {by} since {since}, unfinished: lockstep env remove {}", status.key);
            self.problem_line("removed", &how);
        }
        self.hosts(status);
        if let Some(open) = &status.open {
            self.open(&status.key, open);
        } else if let Some(ready) = status.rollback.as_ref().filter(|_| status.removal.is_none()) {
            let takes = ready
                .takes
                .map_or_else(|| "it would be started first".to_owned(), |takes| format!("about {takes}"));
            let to = &ready.release.image;
            self.line("rollback", &format!("to {to}, {takes}: lockstep rollback {}", status.key));
        }
        status.local.iter().for_each(|change| self.local(change));
        status.debts.iter().for_each(|debt| self.pending_undo(debt));
        if let Some(last) = &status.last {
            self.last(last);
        }
        status.drift.iter().for_each(|drift| self.problem_line("drift", drift));
        if let Some(SiteChangeOn { host, change }) = &status.site_changed {
            let site = format!("the nginx site on {host} was changed by hand ({change})");
            self.problem_line("drift", &format!("{site}: lockstep doctor {}", status.key));
        }
    }

    /// `  label     text`
    fn line(&mut self, label: &str, text: &str) {
        self.lines.push(format!("  {label:8}  {text}"));
    }

    fn problem_line(&mut self, label: &str, text: &str) {
        let label = self.output.toned(Tone::Bad, &format!("{label:8}"));
        self.lines.push(format!("  {label}  {text}"));
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
        // What is not as it should be comes first, where not all have room.
        let mut hosts: Vec<&HostStatus> = status.hosts.iter().collect();
        if hosts.len() > HOSTS_MAX {
            hosts.sort_by_key(|host| is_well(host, live));
        }
        let shown = &hosts[..hosts.len().min(HOSTS_MAX)];
        let header = ["host", "agent", "blue", "green", "traffic"];
        let mut rows = vec![header.map(|word| self.output.toned(Tone::Quiet, word)).to_vec()];
        rows.extend(shown.iter().map(|host| {
            let part = |seen: &SlotObservation| {
                let serves = live == Some(seen.slot) || seen.traffic_percent > 0;
                if serves || open == Some(&seen.deployment) { Part::Serving } else { Part::Waiting }
            };
            self.host(host, part)
        }));
        self.lines.push(String::new());
        self.lines.extend(table(&rows).into_iter().map(|row| format!("  {row}")));
        let left = &hosts[shown.len()..];
        if !left.is_empty() {
            let well = left.iter().filter(|host| is_well(host, live)).count();
            self.lines.push(format!("  and {} more, {well} of them well: lockstep host list", left.len()));
        }
        let declared =
            status.live.iter().flat_map(|live| live.spec.hosts.app.iter().map(move |host| (live, host)));
        for (_, host) in declared.filter(|(live, host)| live.is_drained(host)) {
            self.lines.push(format!("  {host} is drained: lockstep host add {} {host}", status.key));
        }
        for host in status.live.iter().flat_map(|live| &live.passed_by) {
            let words = format!("{host} was passed by, and comes back when it is well: lockstep host list");
            self.lines.push(format!("  {}", self.output.toned(Tone::Bad, &words)));
        }
        if let Some(seen) = &status.traffic {
            // While a deployment is open, the traffic is where it has put it.
            let is_right = live == Some(seen.slot) || open.is_some();
            let tone = if is_right { Tone::Quiet } else { Tone::Bad };
            let sends = format!("nginx on {} sends it to {}", seen.host, seen.slot);
            self.lines.push(format!("  {}", self.output.toned(tone, &sends)));
        }
        self.lines.push(String::new());
    }

    fn host(&self, status: &HostStatus, part: impl Fn(&SlotObservation) -> Part) -> Vec<String> {
        let agent = match (status.presence, status.last_seen) {
            (Presence::Connected, _) => self.output.toned(Tone::Good, "connected"),
            (Presence::Absent, Some(seen)) => {
                self.output.toned(Tone::Bad, &format!("gone {}", length(self.now.since(seen))))
            }
            (Presence::Absent, None) => self.output.toned(Tone::Bad, "gone"),
        };
        let slot = |slot: Slot| {
            let seen = status.slots.iter().find(|seen| seen.slot == slot);
            seen.map_or_else(|| NOTHING.to_owned(), |seen| self.slot(seen, describe(seen, part(seen))))
        };
        let percent: u8 = status.slots.iter().map(|seen| seen.traffic_percent).sum();
        let name = status.host.name.to_string();
        vec![name, agent, slot(Slot::Blue), slot(Slot::Green), self.traffic(percent)]
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

    fn traffic(&self, percent: u8) -> String {
        if percent == 0 {
            return NOTHING.to_owned();
        }
        if !self.output.is_live() {
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
        self.line("last", &format!("{}{when}, by {by}: lockstep show {id}", verdict(last)));
    }

    fn local(&mut self, change: &LocalChange) {
        let LocalRollback { by, from, to, at, .. } = &change.rollback;
        let recorded = match &change.adopted {
            Some(Adoption { deployment: Some(id), .. }) => format!("recorded as {id}"),
            Some(_) | None => "not recorded yet: its host keeps the traffic there until it is".to_owned(),
        };
        let (host, ago) = (&change.host_name, self.ago(*at));
        self.problem_line(
            "local",
            &format!(
                "{by} on {host} gave the traffic from {from} to {to} without a coordinator, {ago} ({at}); {recorded}"
            ),
        );
    }

    fn pending_undo(&mut self, debt: &PendingUndo) {
        let failed = debt
            .failure
            .as_ref()
            .map(|failure| format!(" · it failed: {}", failure.what))
            .unwrap_or_default();
        let PendingUndo { host_name, change, key, .. } = debt;
        self.problem_line("owes", &format!("{host_name}, {}: {change}{failed}", self.ago(debt.since)));
        self.line(
            "next",
            &format!(
                "done by itself as soon as {host_name} can; to answer for it: lockstep resolve {} --skip {}",
                key.deployment, key.step
            ),
        );
    }

    fn open(&mut self, key: &EnvironmentKey, status: &ClaimStatus) {
        let open = &status.open;
        match (&open.kind, open.deployment()) {
            (ClaimKind::Freeze { reason }, _) => {
                let (by, ago, until) = (&open.by, self.ago(open.since), open.until);
                self.line(
                    "frozen",
                    &format!("{reason} · by {by} {ago}, until {until}: lockstep lock thaw {key}"),
                );
            }
            (_, deployment) => {
                let way = match status.direction {
                    Direction::Do => "deploys",
                    Direction::Undo => "is being unwound",
                };
                let what = status.release.as_ref().map_or("an image that is built", |release| &release.image);
                let id = deployment.map(ToString::to_string).unwrap_or_default();
                let (done, all) = (status.steps_done, status.steps_all);
                let (by, since) = (&open.by, length(self.now.since(open.since)));
                let until = open.until;
                self.line(
                    "open",
                    &format!(
                        "{what} {way}: {done} of {all} steps, by {by} for {since}, until {until} at most · {id}"
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
        for way in resolutions(key, status) {
            self.line("next", &way);
        }
    }
}

/// How the environment is, in a word.
fn state(status: &EnvironmentStatus) -> (Tone, String) {
    let live = status.live.as_ref().map(|live| live.slot);
    if status.removal.is_some() {
        return (Tone::Bad, "is being removed".to_owned());
    }
    match status.open.as_ref().map(|open| (&open.open.kind, open.direction)) {
        Some((ClaimKind::Stuck { .. }, _)) => (Tone::Bad, "stuck".to_owned()),
        Some((ClaimKind::Freeze { .. }, _)) => (Tone::Strong, "frozen".to_owned()),
        Some((ClaimKind::Building { .. }, _)) => (Tone::Strong, "builds".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Do)) => (Tone::Strong, "deploys".to_owned()),
        Some((ClaimKind::Running { .. }, Direction::Undo)) => (Tone::Bad, "is being unwound".to_owned()),
        None if live.is_none() => (Tone::Quiet, "nothing is live".to_owned()),
        None if needs_a_look(status, live) => (Tone::Bad, "needs a look: lockstep doctor".to_owned()),
        None => (Tone::Good, "all is well".to_owned()),
    }
}

fn needs_a_look(status: &EnvironmentStatus, live: Option<Slot>) -> bool {
    let is_recorded = |change: &LocalChange| change.adopted.is_some();
    !status.drift.is_empty()
        || status.site_changed.is_some()
        || !status.debts.is_empty()
        || !status.local.iter().all(is_recorded)
        || !status.hosts.iter().all(|host| is_well(host, live))
}

/// Whether a host that is looked at by somebody in a hurry can be passed over.
fn is_well(status: &HostStatus, live: Option<Slot>) -> bool {
    let serves = status.slots.iter().filter(|seen| live == Some(seen.slot));
    status.presence == Presence::Connected
        && status.second.is_none()
        && serves.into_iter().all(|seen| seen.running == seen.containers && seen.health != Health::Unhealthy)
}

/// What a slot is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It has the traffic, or is about to get it.
    Serving,
    /// For a rollback.
    Waiting,
}

/// What is in a slot, in a word: of one that serves its health counts, of the other whether it is warm.
fn describe(seen: &SlotObservation, part: Part) -> (Tone, String) {
    let SlotObservation { running, containers, health, .. } = seen;
    match (part, running) {
        (Part::Serving, 0) => (Tone::Bad, "does not run".to_owned()),
        (Part::Waiting, 0) => (Tone::Quiet, "stopped".to_owned()),
        (Part::Serving, running) if running < containers => {
            (Tone::Bad, format!("{running} of {containers} run"))
        }
        (Part::Serving, _) => match health {
            Health::Healthy => (Tone::Good, "healthy".to_owned()),
            Health::Degraded | Health::Unhealthy => (Tone::Bad, health.to_string()),
            Health::Unknown => (Tone::Quiet, "runs".to_owned()),
        },
        (Part::Waiting, _) => (Tone::Quiet, "warm".to_owned()),
    }
}

/// The commands that make sense, each with what it costs.
fn resolutions(key: &EnvironmentKey, status: &ClaimStatus) -> Vec<String> {
    let cost = match status.traffic_moved {
        TrafficMoved::NotYet => "traffic untouched",
        TrafficMoved::Moved => "traffic goes back to the release before",
    };
    match (&status.open.kind, status.direction) {
        (ClaimKind::Freeze { .. }, _) => Vec::new(),
        (ClaimKind::Building { .. }, _) => vec![format!("lockstep cancel {key}: the build comes to nothing")],
        (ClaimKind::Stuck { deployment }, _) => {
            let show = format!("lockstep show {deployment}: what could not be taken back, and why");
            let possible = status.resolutions.iter().filter(|out| out.refused.is_none());
            let resolve = possible.map(|out| {
                let way = match out.resolution {
                    Resolution::Retry => "--retry".to_owned(),
                    Resolution::Unwind => "--unwind".to_owned(),
                    Resolution::Skip { step } => format!("--skip {step}"),
                };
                format!("lockstep resolve {deployment} {way}: {}", out.cost)
            });
            [show].into_iter().chain(resolve).collect()
        }
        (ClaimKind::Running { deployment, .. }, Direction::Undo) => {
            vec![format!("lockstep watch {deployment}")]
        }
        (ClaimKind::Running { deployment, .. }, Direction::Do) => {
            vec![format!("lockstep watch {deployment}"), format!("lockstep cancel {key}: {cost}")]
        }
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
        render(output, &status, NOW).join("\n").replace('\u{1b}', "^")
    }

    #[test]
    fn a_terminal_shows_an_environment_at_a_glance() {
        insta::assert_snapshot!("terminal_well", drawn(Output::on_terminal(), status()));
        insta::assert_snapshot!("terminal_at_three", drawn(Output::on_terminal(), at_three_in_the_morning()));
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
        assert!(text.lines().next().unwrap().ends_with("is being removed"), "{text}");
        assert!(text.contains("unfinished: lockstep env remove notes/production"), "{text}");
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
            text.contains("app-100  gone 1 h") && text.contains("and 90 more, 90 of them well"),
            "{text}"
        );
    }
}
