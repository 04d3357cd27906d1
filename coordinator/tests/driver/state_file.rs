//! The seed's `deployment-state.json`: written at each end, true to its schema, and the schema refuses
//! what the seed refuses.

use lockstep_coordinator::export::state_file::export;
use lockstep_coordinator::planning::DeployError;
use lockstep_coordinator::store::guarded::{Accompanying, OwnedWrite, give_away};
use lockstep_coordinator::store::keys;
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Millis;
use lockstep_core::view::state_file::StateFile;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture, environment, found};
use crate::hosts::Does;

const SCHEMA: &str = include_str!("../../../deploy/schema/deployment-state.schema.json");

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn check(state: &Value) {
    let broken: Vec<String> = validator().iter_errors(state).map(|error| error.to_string()).collect();
    assert!(broken.is_empty(), "{broken:#?}\n{state:#}");
}

async fn exported(fixture: &Fixture) -> Value {
    let state: StateFile = export(&fixture.parts, &environment()).await.expect("exported");
    serde_json::to_value(state).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn what_is_exported_is_true_to_the_schema_at_every_moment() {
    let fixture = Fixture::new().await;
    check(&exported(&fixture).await);
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    fixture.deploy("notes:2").await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    assert_eq!(fixture.deploy("notes:3").await.verdict, Some(Verdict::RolledBack));
    let state = exported(&fixture).await;
    check(&state);
    assert_eq!(state["current_deployment"]["active_slot"], "green");
    assert_eq!(state["previous_deployment"]["status"], "superseded");
    let statuses: Vec<&Value> =
        state["deployment_history"].as_array().expect("a list").iter().map(|past| &past["status"]).collect();
    assert_eq!(statuses, ["rolled_back", "active", "superseded"]);
    assert_eq!(state["lock"], json!({ "locked": false }));

    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:4").await.expect("it starts");
    let state = exported(&fixture).await;
    check(&state);
    assert_eq!(state["lock"]["deployment_id"], id.as_str());
    // What a schema cannot say: a lock is never longer than half an hour.
    let open = fixture.open().await.expect("it is open");
    assert!(open.until.since(open.since) <= Millis::from_secs(30 * 60), "{open:?}");
    assert_eq!(state["lock"]["lock_expires_at"], open.until.to_string());
    fixture.hosts.unscript();
    fixture.ended(&id).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_file_is_kept_current() {
    let fixture = Fixture::new().await;
    let path = fixture.logs.path().join("state/notes/production/deployment-state.json");
    let _drivers = fixture.drivers();
    let summary = fixture.deploy("notes:1").await;
    let read = || {
        let text = std::fs::read_to_string(&path).ok()?;
        serde_json::from_str::<Value>(&text).ok().filter(|state| state["lock"]["locked"] == false)
    };
    let state = found(read).await;
    check(&state);
    assert_eq!(state["current_deployment"]["id"], summary.id.as_str());
    fixture.shut_down().await;
}

/// A state as the seed writes it.
fn good() -> Value {
    json!({
        "environment": "production",
        "current_deployment": {
            "id": "dep_01JBQR2KXYZ987654321012345", "version": "abc1234",
            "git_commit": "abc1234567890def1234567890abcdef12345678", "deployed_at": "2026-01-28T10:30:00Z",
            "deployed_by": "anna", "active_slot": "blue", "health_status": "healthy", "status": "active",
            "migrations_run": 3, "rollback_count": 0,
        },
        "previous_deployment": null,
        "deployment_history": [],
        "lock": { "locked": false },
    })
}

#[test]
fn what_the_seed_takes_is_taken() {
    check(&good());
}

/// The state is refused with `bad` in one place.
fn check_refused(pointer: &str, bad: Value) {
    let mut state = good();
    *state.pointer_mut(pointer).expect("it is there") = bad.clone();
    assert!(!validator().is_valid(&state), "{pointer} = {bad} passes");
}

#[test]
fn a_version_that_is_no_commit_is_refused() {
    check_refused("/current_deployment/version", json!("xyz5678"));
}

#[test]
fn a_version_that_is_too_long_is_refused() {
    check_refused("/current_deployment/version", json!("abc12345"));
}

#[test]
fn a_date_of_another_form_is_refused() {
    check_refused("/current_deployment/deployed_at", json!("28.01.2026"));
}

#[test]
fn an_unknown_health_is_refused() {
    check_refused("/current_deployment/health_status", json!("fine"));
}

#[test]
fn an_unknown_slot_is_refused() {
    check_refused("/current_deployment/active_slot", json!("red"));
}

#[test]
fn a_lock_without_its_holder_is_refused() {
    check_refused("/lock", json!({ "locked": true, "lock_id": "lock_01JBQR2KXYZ987654321012345" }));
}

#[test]
fn an_empty_lock_is_refused() {
    check_refused("/lock", json!({}));
}

#[tokio::test(start_paused = true)]
async fn no_declaration_names_a_path_of_the_coordinator() {
    let fixture = Fixture::new().await;
    let (mut log, mut state) = (fixture::spec(), fixture::spec());
    log.deploy.log_directory = Some("/etc".to_owned());
    state.deploy.state_file = Some("/var/lib/lockstep/coordinator/secrets.key".to_owned());
    for (spec, key) in [(log, "deploy.log_directory"), (state, "deploy.state_file")] {
        let refused = fixture.plan(&Fixture::ask(spec, "notes:1")).await;
        let Err(DeployError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.what, format!("{key} cannot be declared"));
    }
    fixture.shut_down().await;
}

/// What an earlier version recorded is not written to any more, and forbids nothing.
#[tokio::test(start_paused = true)]
async fn a_recorded_path_of_the_coordinator_is_ignored() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    let path = fixture.logs.path().join("recorded.json");
    let mut spec = fixture::spec();
    spec.deploy.state_file = Some(path.display().to_string());
    let with =
        Accompanying { guards: Vec::new(), writes: vec![OwnedWrite::put(keys::spec(&spec.key), &spec)] };
    give_away(&*fixture.store, &spec.key, with).await.expect("a memory store");
    fixture.deploy("notes:2").await;
    assert!(!path.exists());
    fixture.shut_down().await;
}
