//! One environment on a terminal and in a pipe.

use super::*;
use lockstep_core::id::Digest;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn ago(seconds: u64) -> u64 {
    NOW.0 - seconds * 1000
}

fn release(version: u32) -> Value {
    let commit = format!("{version}").repeat(40);
    let image = format!("registry.example/notes:1.{version}");
    let image_id = Digest::of_content(image.as_bytes());
    json!({ "image": image, "image_id": image_id.as_str(),
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
            assert!(plain.iter().any(|line| line.contains(&command)), "{command:?} is broken: {plain:#?}");
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
    assert!(text.contains("app-100  offline 1 h") && text.contains("and 90 more, 90 of them well"), "{text}");
}

/// What is live has ended on one of its hosts, or was removed there.
#[test]
fn where_nothing_answers_neither_a_share_nor_health_is_shown() {
    let mut status = status();
    let ended = host("app-1", "connected", 4, json!([slot("blue", 2, (0, "healthy"), 100)]));
    status["hosts"] = json!([ended, host("edge-1", "connected", 2, json!([]))]);
    let text = drawn(Output::in_pipe(), status.clone());
    assert!(text.contains("notes:1.2 does not run") && text.contains("fails"), "{text}");
    assert!(!text.contains("100 %") && !text.contains("healthy"), "{text}");
    assert!(text.lines().next().unwrap().ends_with("degraded: lockstep doctor"), "{text}");
    status["hosts"] = json!([host("app-1", "connected", 4, json!([]))]);
    let text = drawn(Output::in_pipe(), status.clone());
    assert!(text.lines().next().unwrap().ends_with("degraded: lockstep doctor"), "{text}");
    status["open"] = json!({
        "open": { "kind": { "hold": { "reason": "fair" } }, "by": "ben", "since": ago(96), "until": ago(0) + 60_000,
                  "hostname": "desk", "pid": 7 },
        "release": null, "direction": "do", "steps_done": 0, "steps_all": 0, "running": [], "failure": null,
        "traffic_moved": "not_yet",
    });
    let text = drawn(Output::in_pipe(), status);
    assert!(text.lines().next().unwrap().ends_with("frozen, degraded: lockstep doctor"), "{text}");
}

#[test]
fn after_a_rollback_the_release_that_is_still_warm_is_offered() {
    let mut status = status();
    status["last"]["kind"] = json!("rollback");
    status["last"]["release"] = release(1);
    let slots = || json!([slot("blue", 1, (2, "healthy"), 50), slot("green", 2, (2, "unknown"), 0)]);
    status["hosts"] = json!([host("app-1", "connected", 4, slots()), host("app-2", "connected", 7, slots())]);
    status["rollback"] = json!(null);
    let text = drawn(Output::in_pipe(), status.clone());
    let offer = format!("lockstep rollback notes/production --to {}", id(2));
    assert!(text.contains("forward   to registry.example/notes:1.2") && text.contains(&offer), "{text}");
    status["last"]["kind"] = json!("deploy");
    assert!(!drawn(Output::in_pipe(), status).contains("forward"));
}

#[test]
fn secrets_that_the_containers_do_not_have_are_not_all_well() {
    let mut status = status();
    status["live"]["secrets_version"] = json!(2);
    status["undeployed_secrets"] = json!({ "version": 3, "by": "anna", "at": ago(120) });
    let text = drawn(Output::in_pipe(), status.clone());
    assert!(text.lines().next().unwrap().ends_with("newer secrets are not deployed"), "{text}");
    let line = "secrets   version 3, set by anna 2 min ago, is not in the containers, which have version 2";
    assert!(text.contains(line), "{text}");
    let deploy = "lockstep deploy notes/production --image registry.example/notes:1.2    # the same image";
    assert!(text.contains(deploy), "{text}");
    // A problem is named before what is merely not deployed, and nothing is deployed while somebody holds the lock.
    status["live"]["secrets_version"] = Value::Null;
    status["open"] = json!({
        "open": { "kind": { "hold": { "reason": "audit" } }, "by": "ben", "since": ago(60),
                  "until": ago(0) + 600_000, "hostname": "desk", "pid": 7 },
        "release": null, "direction": "do", "steps_done": 0, "steps_all": 0, "running": [],
        "failure": null, "traffic_moved": "not_yet",
    });
    let text = drawn(Output::in_pipe(), status);
    assert!(text.contains("which have none") && !text.contains("lockstep deploy"), "{text}");
    assert!(text.lines().next().unwrap().ends_with("frozen"), "{text}");
}

#[test]
fn a_standby_that_is_not_well_is_not_called_warm() {
    let mut status = status();
    let slots = || json!([slot("blue", 2, (2, "healthy"), 50), slot("green", 1, (2, "unhealthy"), 0)]);
    status["hosts"] = json!([host("app-1", "connected", 4, slots()), host("app-2", "connected", 7, slots())]);
    let screen = drawn(Output::in_pipe(), status);
    assert!(screen.contains("notes:1.1, which is not healthy now"), "{screen}");
    assert!(!screen.contains("warm") && screen.contains("notes:1.1 unhealthy"), "{screen}");
}
