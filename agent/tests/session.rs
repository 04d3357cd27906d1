//! The agent as it runs, against a coordinator of which only the wire is real: what is said, and what
//! is said again after either side was lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "session/coordinator.rs"]
mod coordinator;

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator::{Bed, Heard, do_key, undo_key};
use lockstep_agent::host::clock;
use lockstep_core::plan::Action;
use lockstep_core::plan::action::{DatabaseRef, Endpoint, TakeSnapshot};
use lockstep_core::run::journal::{Certainty, StepKey};
use lockstep_core::slot::Slot;
use lockstep_core::time::Millis;
use lockstep_proto::wire;
use rustix::process::{Pid, Signal};
use tokio::net::{TcpListener, TcpStream};

/// A drain with nothing to wait for: the shortest work that there is.
fn quick() -> Action {
    drain(Vec::new())
}

fn drain(ports: Vec<Endpoint>) -> Action {
    Action::DrainSlot { slot: Slot::Blue, ports, deadline: Millis::from_secs(600) }
}

/// Work that needs secrets.
fn snapshot() -> Action {
    let database = DatabaseRef { url_from: "DATABASE_URL".to_owned(), secrets_version: 3 };
    Action::TakeSnapshot(TakeSnapshot { database, directory: "/nonexistent".to_owned() })
}

/// A drain that goes on until the connection is closed.
struct Busy {
    _listener: TcpListener,
    _connection: TcpStream,
    action: Action,
}

impl Busy {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let action = drain(vec![Endpoint { address: "127.0.0.1".to_owned(), port }]);
        Self { _listener: listener, _connection: connection, action }
    }
}

#[tokio::test]
async fn a_step_is_carried_out_once_and_its_outcome_is_said_as_often_as_it_is_asked_for() {
    let mut bed = Bed::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&quick())).await;
    let first = session.report().await;
    assert_eq!((first.key.clone(), first.token), (do_key(1), (1, 2)));
    let outcome = first.outcome.unwrap();

    session.assign(do_key(1), (1, 2), Some(&quick())).await;
    assert_eq!(session.report().await.outcome, Ok(outcome.clone()));
    let standings = session.ask((2, 1), &[do_key(1), do_key(2)]).await;
    assert!(matches!(standings[0].standing, Some(wire::step_standing::Standing::Ended(_))));
    assert!(matches!(standings[1].standing, Some(wire::step_standing::Standing::Unheard(true))));

    session.assign(do_key(3), (1, 9), Some(&quick())).await;
    let refused = session.refused().await;
    assert!(refused.why.contains("another driver has taken over"), "{refused:?}");
}

#[tokio::test]
async fn an_outcome_is_said_again_to_a_coordinator_that_comes_back() {
    let mut bed = Bed::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&quick())).await;
    let outcome = session.report().await.outcome;
    drop(session);
    let again = bed.attached().await.report().await;
    assert_eq!((again.key, again.outcome), (do_key(1), outcome));
}

#[tokio::test]
async fn work_goes_on_without_a_coordinator_and_is_reported_to_the_next() {
    let mut bed = Bed::new().await;
    let busy = Busy::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&busy.action)).await;
    session.running(&do_key(1), (1, 2)).await;
    drop(session);
    drop(busy);
    let report = bed.attached().await.report().await;
    assert_eq!(report.key, do_key(1));
    assert!(report.outcome.is_ok(), "{report:?}");
}

#[tokio::test]
async fn an_undo_stops_the_do_of_its_step_and_waits_for_its_end() {
    let mut bed = Bed::new().await;
    let busy = Busy::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&busy.action)).await;
    session.running(&do_key(1), (1, 2)).await;
    session.assign(undo_key(1), (1, 4), None).await;
    let stopped = session.report().await;
    assert_eq!(stopped.key, do_key(1));
    assert!(stopped.outcome.unwrap_err().what.contains("undone"));
    let undone = session.report().await;
    assert_eq!(undone.key, undo_key(1));
    assert!(undone.outcome.is_ok());
    // Late, and under a token that the fence would let pass.
    session.assign(do_key(1), (1, 6), Some(&busy.action)).await;
    assert!(session.refused().await.why.contains("has been undone"));
}

#[tokio::test]
async fn one_step_of_an_environment_runs_at_a_time() {
    let mut bed = Bed::new().await;
    let busy = Busy::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&busy.action)).await;
    session.running(&do_key(1), (1, 2)).await;
    session.assign(do_key(2), (1, 3), Some(&quick())).await;
    // Each question is a write to the disk: many times what the second step would take.
    for _ in 0..50 {
        let standings = session.ask((1, 3), &[do_key(2)]).await;
        assert!(matches!(standings[0].standing, Some(wire::step_standing::Standing::Unheard(true))));
    }
    drop(busy);
    assert_eq!(session.report().await.key, do_key(1));
    assert_eq!(session.report().await.key, do_key(2));
}

#[tokio::test]
async fn a_step_that_passes_its_limit_is_stopped_and_has_failed() {
    let mut bed = Bed::new().await;
    let busy = Busy::new().await;
    let mut session = bed.attached().await;
    session.assign_with_limit(do_key(1), (1, 2), Some(&busy.action), Duration::from_millis(200)).await;
    let failure = session.report().await.outcome.unwrap_err();
    assert_eq!(failure.certainty, Certainty::Failed);
    assert!(failure.what.contains("limit of 200 ms"), "{failure:?}");
}

#[tokio::test]
async fn what_an_agent_that_died_was_doing_is_unheard_and_carried_out_again() {
    let mut bed = Bed::new().await;
    let busy = Busy::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&busy.action)).await;
    session.running(&do_key(1), (1, 2)).await;
    bed.kill_agent().await;
    bed.start_agent();
    let mut session = bed.attached().await;
    let standings = session.ask((2, 1), &[do_key(1)]).await;
    assert!(matches!(standings[0].standing, Some(wire::step_standing::Standing::Unheard(true))));
    session.assign(do_key(1), (2, 2), Some(&busy.action)).await;
    session.running(&do_key(1), (2, 2)).await;
    drop(busy);
    let report = session.report().await;
    assert_eq!((report.key.clone(), report.token), (do_key(1), (2, 2)));
    assert!(report.outcome.is_ok(), "{report:?}");
}

#[tokio::test]
async fn secrets_are_asked_for_until_there_is_an_answer() {
    let mut bed = Bed::new().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&snapshot())).await;
    assert_eq!(session.secrets_wanted().await.version, 3);
    drop(session);
    let mut session = bed.attached().await;
    let wanted = session.secrets_wanted().await;
    assert_eq!((wanted.environment.as_str(), wanted.version), ("notes/production", 3));
    assert_eq!(wanted.names, ["DATABASE_URL"], "no more than the step uses");
    session.refuse_secrets(wanted.request, "version 3 was removed").await;
    let failure = session.report().await.outcome.unwrap_err();
    assert_eq!(failure.why.as_deref(), Some("version 3 was removed"));
}

#[tokio::test]
async fn a_step_that_waits_for_secrets_stays_open_when_the_agent_is_asked_to_end() {
    let mut bed = Bed::new().await;
    let mut agent = bed.start_agent_process().await;
    let mut session = bed.attached().await;
    session.assign(do_key(1), (1, 2), Some(&snapshot())).await;
    session.secrets_wanted().await;
    drop(session);
    bed.end_coordinator();
    let pid = Pid::from_raw(i32::try_from(agent.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(agent.wait().await.unwrap().success());
    let journal = bed.journal().await;
    assert_eq!(journal.unsettled().await.unwrap(), []);
    let interrupted: Vec<StepKey> =
        journal.interrupt().await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(interrupted, [do_key(1)]);
}

#[tokio::test]
async fn an_assignment_that_is_not_understood_is_refused_and_the_session_goes_on() {
    let mut bed = Bed::new().await;
    let mut session = bed.attached().await;
    session.send_unreadable_assignment(do_key(1), (1, 2)).await;
    let refused = session.refused().await;
    assert_eq!(StepKey::try_from(refused.key.unwrap()), Ok(do_key(1)));
    assert!(refused.why.contains("assign.action"), "{}", refused.why);
    session.assign(do_key(1), (1, 2), Some(&quick())).await;
    assert!(session.report().await.outcome.is_ok());
}

#[tokio::test]
async fn a_steps_log_can_be_fetched() {
    let mut bed = Bed::new().await;
    let folder = bed.steps().join(do_key(1).deployment.as_str());
    std::fs::create_dir_all(&folder).unwrap();
    let printed: BTreeSet<String> =
        (0..9000).map(|number| format!("{number:04} {}", "x".repeat(100))).collect();
    std::fs::write(
        folder.join("s1-do.log"),
        printed.iter().map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    let mut session = bed.attached().await;
    let lines = session.fetch_log(&do_key(1), 0).await;
    assert!(lines.iter().eq(printed.iter()), "{} lines", lines.len());
    assert_eq!(session.fetch_log(&do_key(1), 2).await, lines[8998..]);
}

#[tokio::test]
async fn an_agent_says_how_its_machine_is_when_it_is_asked() {
    let mut bed = Bed::new().await;
    let mut session = bed.attached().await;
    let before = clock::now();
    let said = session.vitals(7).await;
    assert_eq!(said.request, 7);
    assert!((before.0..=clock::now().0).contains(&said.clock_ms), "{said:?}");
    assert!(0 < said.disk_free_bytes && said.disk_free_bytes < said.disk_size_bytes, "{said:?}");
    assert!(said.certificate_from_ms < before.0 && before.0 < said.certificate_until_ms, "{said:?}");
}

#[tokio::test]
async fn a_coordinator_of_another_cluster_is_left() {
    let mut bed = Bed::new().await;
    let mut session = bed.connected().await;
    session.welcome("cl_01JBQR2KXYZ987654321099999").await;
    assert!(matches!(session.heard().await, Heard::Gone));
}
