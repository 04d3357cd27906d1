//! The state file, from the records of deployments.

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::record::claim::ClaimKind;
use crate::time::Timestamp;

const SINCE: u64 = 1_769_596_200_000;

fn summary(id: u8, commit: &str, verdict: &str) -> DeploymentSummary {
    let ended = SINCE + u64::from(id) * 60_000;
    let text = serde_json::json!({
        "id": std_id(id),
        "key": "notes/production",
        "kind": "deploy",
        "operator": "anna",
        "release": {
            "image": "notes:1",
            "image_id": crate::id::Digest::of_content(commit.as_bytes()).as_str(),
            "commit": commit,
            "migrations": [],
        },
        "slot": if id.is_multiple_of(2) { "green" } else { "blue" },
        "spec": spec(),
        "secrets_version": null,
        "schema_before": null,
        "schema_after": null,
        "opened_at": ended - 12_500,
        "ended_at": ended,
        "verdict": verdict,
        "failure": null,
        "steps": [],
        "receipt": { "requests": null, "requests_lost": null, "migrations_run": 3, "snapshot": null, "switch_took": null },
    });
    serde_json::from_value(text).expect("a summary")
}

fn spec() -> serde_json::Value {
    serde_json::json!({
        "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
        "mode": "production", "image": { "repository": "notes" }, "processes": {}, "database": null,
        "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
        "deploy": { "lock_timeout": 1_800_000, "drain": 0, "bake": 0, "log_directory": null, "state_file": null },
        "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
    })
}

fn std_id(id: u8) -> String {
    format!("dep_01JBQR2KXYZ98765432101234{id}")
}

fn live(summary: &DeploymentSummary) -> LiveRelease {
    LiveRelease {
        slot: summary.slot,
        release: summary.release.clone(),
        deployment: summary.id.clone(),
        spec: summary.spec.clone(),
        secrets_version: None,
        schema_version: None,
        since: Timestamp(SINCE),
        rollback_count: 2,
        serving: Vec::new(),
        excluded: Vec::new(),
    }
}

fn state(live: Option<&LiveRelease>, history: &[DeploymentSummary], open: Option<&Claim>) -> StateFile {
    let health = SlotHealth { live: Health::Healthy, standby: Health::Unknown };
    state_file_of(&"notes/production".parse().expect("a key"), live, history, open, health)
}

fn history() -> Vec<DeploymentSummary> {
    vec![
        summary(3, "abc1234567890abcdef1234567890abcdef12345", "succeeded"),
        summary(2, "bad1234567890abcdef1234567890abcdef12345", "rolled_back"),
        summary(1, "def1234567890abcdef1234567890abcdef12345", "succeeded"),
    ]
}

#[test]
fn the_live_release_is_active_and_the_one_to_go_back_to_is_superseded() {
    let history = history();
    let state = state(Some(&live(&history[0])), &history, None);
    let current = state.current_deployment.expect("it has one");
    assert_eq!(current.version, "abc1234");
    assert_eq!(current.git_commit.as_deref(), Some("abc1234567890abcdef1234567890abcdef12345"));
    assert_eq!(current.deployed_at, "2026-01-28T10:33:00Z");
    assert_eq!((current.deployed_by.as_str(), current.active_slot.as_str()), ("anna", "blue"));
    assert_eq!((current.health_status.as_str(), current.status.as_str()), ("healthy", "active"));
    assert_eq!((current.migrations_run, current.rollback_count), (3, 2));
    let previous = state.previous_deployment.expect("it has one");
    assert_eq!(previous.id, std_id(1), "one that was rolled back is nothing to go back to");
    assert_eq!(previous.status, "superseded");
    let statuses: Vec<&str> = state.deployment_history.iter().map(|past| past.status.as_str()).collect();
    assert_eq!(statuses, ["active", "rolled_back", "superseded"]);
    assert_eq!(state.deployment_history[0].duration_seconds, 12);
    assert_eq!(state.lock, Lock { locked: false, held: None });
}

#[test]
fn before_the_first_deployment_there_is_nothing_but_perhaps_the_lock() {
    let open = Claim {
        kind: ClaimKind::Building { deployment: std_id(1).parse().expect("an id") },
        by: "anna".parse().expect("a name"),
        since: Timestamp(SINCE),
        until: Timestamp(SINCE + 1_800_000),
        hostname: "ws".to_owned(),
        pid: 12345,
        traceparent: String::new(),
    };
    let state = state(None, &[], Some(&open));
    assert_eq!((state.current_deployment, state.previous_deployment), (None, None));
    let held = state.lock.held.expect("it is locked");
    assert_eq!(held.lock_id, "lock_01JBQR2KXYZ987654321012341");
    assert_eq!(held.locked_at, "2026-01-28T10:30:00Z");
    assert_eq!(held.lock_expires_at, "2026-01-28T11:00:00Z");
    assert_eq!((held.pid, held.hostname.as_str()), (12345, "ws"));
}

#[test]
fn a_hold_locks_without_particulars() {
    let open = Claim {
        kind: ClaimKind::Freeze { reason: "audit".to_owned() },
        by: "anna".parse().expect("a name"),
        since: Timestamp(SINCE),
        until: Timestamp(SINCE + 86_400_000),
        hostname: String::new(),
        pid: 0,
        traceparent: String::new(),
    };
    let state = state(None, &[], Some(&open));
    assert_eq!(state.lock, Lock { locked: true, held: None });
    let json = serde_json::to_string(&state.lock).expect("JSON");
    assert_eq!(json, r#"{"locked":true}"#.to_string());
}
