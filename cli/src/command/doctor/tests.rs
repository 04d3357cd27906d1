//! Which fault is told once, and with which command.

use super::*;
use lockstep_core::health::InstanceHealth;
use serde_json::json;

fn status(presence: &str, drift: &[&str]) -> EnvironmentStatus {
    let release = json!({ "image": "notes:1", "commit": null, "migrations": [],
        "image_id": lockstep_core::id::Digest::of_content(b"notes:1").as_str() });
    let spec = json!({
        "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
        "mode": "production", "image": { "repository": "notes" }, "processes": {}, "database": null,
        "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
        "deploy": { "lock_timeout": 1_800_000, "drain": 0, "bake": 0, "log_directory": null, "state_file": null },
        "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
    });
    serde_json::from_value(json!({
        "key": "notes/production", "url": "http://notes.example", "description": null, "branch": null,
        "live": {
            "slot": "blue", "release": release, "deployment": "dep_01JBQR2KXYZ987654321012345", "spec": spec,
            "secrets_version": null, "schema_version": null, "since": 0, "rollback_count": 0, "serving": ["app-1"],
        },
        "rollback": null, "open": null, "last": null, "drift": drift,
        "hosts": [{
            "host": { "id": "host_01JBQR2KXYZ987654321012345", "name": "app-1", "address": "10.0.0.5", "roles": ["app"] },
            "presence": presence, "agent_version": null, "instances": [], "slots": [], "last_seen": null,
        }],
    }))
    .unwrap()
}

fn wrong(checks: &Checks) -> Vec<(&str, &str)> {
    let wrong = checks.0.iter().filter(|check| check.verdict == Verdict::Wrong);
    wrong.map(|check| (check.detail.as_str(), check.next.as_deref().unwrap_or_default())).collect()
}

#[test]
fn an_agent_that_is_offline_is_one_fault_and_no_deployment_repairs_it() {
    let mut checks = Checks::default();
    let next = starting(&"app-1".parse().unwrap(), Init::Other);
    checks.wrong("host app-1", "its agent is not connected", next);
    let drift = ["app-1: its agent is not connected", "nginx on edge-1 has no site for notes/production"];
    environment(&status("absent", &drift), &mut checks);
    let found = wrong(&checks);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1.starts_with("lockstep up    # on app-1"), "{found:?}");
    assert_eq!(found[1].0, drift[1]);
    assert!(found[1].1.starts_with("lockstep doctor notes/production"), "{found:?}");
    // Who may not see the host sees the fault with the environment.
    let mut checks = Checks::default();
    environment(&status("absent", &drift[..1]), &mut checks);
    assert_eq!(wrong(&checks).len(), 1);
}

#[test]
fn what_a_host_says_is_looked_up_there_and_other_drift_is_planned_away() {
    let mut checks = Checks::default();
    let drift = ["app-1: docker does not answer", "web of blue does not run on app-1"];
    environment(&status("connected", &drift), &mut checks);
    let found = wrong(&checks);
    assert!(found[0].1.starts_with("journalctl -u lockstep-agent    # on app-1"), "{found:?}");
    assert!(found[1].1.starts_with("lockstep plan notes/production --image notes:1 "), "{found:?}");
}

#[test]
fn what_waits_for_a_rollback_is_noted_and_what_serves_is_a_fault() {
    let mut seen = status("connected", &[]);
    let unhealthy = |container: &str| InstanceHealth {
        container: container.to_owned(),
        health: Health::Unhealthy,
        probes: Vec::new(),
    };
    seen.hosts[0].instances = vec![
        unhealthy("ls-notes_production-web-blue-21012345"),
        unhealthy("ls-notes_production-web-green-21012344"),
    ];
    let mut checks = Checks::default();
    environment(&seen, &mut checks);
    let found = wrong(&checks);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.starts_with("ls-notes_production-web-blue-"), "{found:?}");
    let notes: Vec<&str> = checks
        .0
        .iter()
        .filter(|check| check.verdict == Verdict::Note)
        .map(|check| check.detail.as_str())
        .collect();
    assert!(
        notes.iter().any(|note| note.contains("green-21012344, which waits for a rollback")),
        "{notes:?}"
    );
}

#[test]
fn of_a_database_that_only_an_offline_agent_asks_nothing_more_is_said() {
    let database = json!({ "host": "app-1", "seen": { "unknown": { "why": "its agent is not connected" } } });
    for (presence, told) in [("absent", 0), ("connected", 1)] {
        let mut seen = status(presence, &[]);
        seen.database = Some(serde_json::from_value(database.clone()).unwrap());
        let mut checks = Checks::default();
        environment(&seen, &mut checks);
        assert_eq!(wrong(&checks).len(), told, "{presence}");
    }
}
