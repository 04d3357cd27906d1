//! The journal on a real file: what was written stands after the process has gone, and what may not
//! follow is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lockstep_agent::journal::assignment::Assignment;
use lockstep_agent::journal::{
    Acceptance, BeginOutcome, GivenTraffic, IdleReason, Journal, JournalError, JournaledStatus, LocalRefusal,
    Refusal,
};
use lockstep_core::agent::fence;
use lockstep_core::agent::fence::Token;
use lockstep_core::id::StepId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Action;
use lockstep_core::plan::action::SwitchTraffic;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::slot::Slot;
use lockstep_core::time::{Millis, Timestamp};

const OURS: &str = "cl_01JBQR2KXYZ987654321012345";
const OTHER: &str = "cl_01JBQR2KXYZ987654321012346";

fn token(epoch: u64, seq: u64) -> Token {
    Token { cluster: OURS.parse().unwrap(), epoch, seq }
}

fn key(step: u16, direction: Direction) -> StepKey {
    StepKey { deployment: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(), step: StepId(step), direction }
}

fn environment() -> EnvironmentKey {
    "notes/production".parse().unwrap()
}

fn assignment(key: StepKey, token: Token) -> Assignment {
    Assignment {
        token,
        key,
        environment: environment(),
        action: Some(Action::StopSlot { slot: Slot::Blue }),
        limit: Millis::from_secs(30),
        traceparent: String::new(),
    }
}

fn do_step(step: u16, token: Token) -> Assignment {
    assignment(key(step, Direction::Do), token)
}

fn undo_step(step: u16, token: Token) -> Assignment {
    assignment(key(step, Direction::Undo), token)
}

fn said(text: &str) -> Finding {
    Finding { said: text.to_owned(), ..Finding::default() }
}

struct Bed {
    folder: tempfile::TempDir,
    journal: Journal,
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&path(folder.path())).await.unwrap();
        Self { folder, journal }
    }

    /// As after `kill -9` and a new start.
    async fn restarted(self) -> Self {
        let Self { folder, journal } = self;
        drop(journal);
        let journal = Journal::open(&path(folder.path())).await.unwrap();
        journal.interrupt().await.unwrap();
        Self { folder, journal }
    }

    async fn accept(&self, assignment: &Assignment) -> Acceptance {
        self.journal.accept(assignment).await.unwrap()
    }

    async fn begin(&self, key: &StepKey) -> BeginOutcome {
        self.journal.begin(key).await.unwrap()
    }

    async fn query_statuses(&self, token: Token, key: &StepKey) -> JournaledStatus {
        let answer =
            self.journal.query_statuses(&token, &environment(), std::slice::from_ref(key)).await.unwrap();
        answer.unwrap().remove(0).1
    }
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join("journal.sqlite")
}

#[tokio::test]
async fn a_step_sent_again_has_the_outcome_that_it_had_also_after_a_restart() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    assert_eq!(bed.accept(&step).await, Acceptance::Begin);
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
    let ended = bed.journal.finish(&step.key, Ok(said("well"))).await.unwrap();
    assert_eq!(ended.token, token(1, 2));

    assert_eq!(bed.accept(&step).await, Acceptance::Ended(Ok(said("well"))));
    let bed = bed.restarted().await;
    assert_eq!(bed.accept(&do_step(1, token(2, 1))).await, Acceptance::Ended(Ok(said("well"))));
    assert_eq!(bed.query_statuses(token(3, 1), &step.key).await, JournaledStatus::Ended(Ok(said("well"))));
}

/// Whether an assignment of `late` is fenced off after a restart, where the fence is at epoch 4, sequence 7.
async fn is_fenced_off_after_a_restart(late: Token) -> bool {
    let bed = Bed::new().await;
    assert_eq!(
        bed.query_statuses(token(4, 7), &key(1, Direction::Do)).await,
        JournaledStatus::Idle(IdleReason::NeverAccepted)
    );
    let bed = bed.restarted().await;
    let acceptance = bed.accept(&do_step(1, late)).await;
    matches!(acceptance, Acceptance::Refused(Refusal::Fence(_)))
}

#[tokio::test]
async fn an_earlier_epoch_is_fenced_off_after_a_restart() {
    assert!(is_fenced_off_after_a_restart(token(3, 9)).await);
}

#[tokio::test]
async fn an_earlier_sequence_is_fenced_off_after_a_restart() {
    assert!(is_fenced_off_after_a_restart(token(4, 6)).await);
}

#[tokio::test]
async fn the_next_sequence_is_accepted_after_a_restart() {
    assert!(!is_fenced_off_after_a_restart(token(4, 8)).await);
}

#[tokio::test]
async fn another_cluster_is_fenced_off_after_a_restart() {
    let foreign = Token { cluster: OTHER.parse().unwrap(), epoch: 99, seq: 1 };
    assert!(is_fenced_off_after_a_restart(foreign).await);
}

#[tokio::test]
async fn each_environment_has_a_fence_of_its_own() {
    let bed = Bed::new().await;
    assert_eq!(bed.accept(&do_step(1, token(9, 9))).await, Acceptance::Begin);
    let mut staging = do_step(1, token(1, 1));
    staging.environment = "notes/staging".parse().unwrap();
    staging.key.deployment = "dep_01JBQR2KXYZ987654321012399".parse().unwrap();
    assert_eq!(bed.accept(&staging).await, Acceptance::Begin);
}

#[tokio::test]
async fn the_same_token_with_other_content_is_an_error_and_not_a_repeat() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    assert_eq!(bed.accept(&step).await, Acceptance::Begin);
    let other = Assignment { action: Some(Action::StopSlot { slot: Slot::Green }), ..step.clone() };
    let refused = bed.accept(&other).await;
    assert!(
        matches!(refused, Acceptance::Refused(Refusal::Fence(fence::FenceError::DifferentContent { .. }))),
        "{refused:?}"
    );
    // Nor is the same step with other work, under a token of its own.
    let other = Assignment { token: token(1, 3), ..other };
    assert!(matches!(bed.accept(&other).await, Acceptance::Refused(Refusal::DifferentAction { .. })));
}

#[tokio::test]
async fn what_was_undone_does_not_begin_again() {
    let bed = Bed::new().await;
    // The undo overtakes a "do" that this host has never heard of.
    assert_eq!(bed.accept(&undo_step(1, token(1, 4))).await, Acceptance::Begin);
    let late = bed.accept(&do_step(1, token(1, 2))).await;
    assert!(matches!(late, Acceptance::Refused(Refusal::Fence(_))), "{late:?}");
    let bed = bed.restarted().await;
    let late = bed.accept(&do_step(1, token(2, 1))).await;
    assert!(matches!(late, Acceptance::Refused(Refusal::Undone { .. })), "{late:?}");
}

#[tokio::test]
async fn a_do_that_waits_is_withdrawn_when_its_undo_or_a_successor_comes() {
    let bed = Bed::new().await;
    let waiting = do_step(1, token(1, 2));
    assert_eq!(bed.accept(&waiting).await, Acceptance::Begin);
    assert_eq!(bed.accept(&undo_step(1, token(1, 4))).await, Acceptance::Begin);
    assert_eq!(bed.begin(&waiting.key).await, BeginOutcome::Withdrawn);

    let waiting = do_step(2, token(1, 6));
    assert_eq!(bed.accept(&waiting).await, Acceptance::Begin);
    assert_eq!(
        bed.query_statuses(token(2, 1), &waiting.key).await,
        JournaledStatus::Idle(IdleReason::Accepted)
    );
    assert_eq!(bed.begin(&waiting.key).await, BeginOutcome::Withdrawn);
    // The successor sends it again: the same work under its own token.
    assert_eq!(bed.accept(&do_step(2, token(2, 2))).await, Acceptance::Begin);
    assert_eq!(bed.begin(&waiting.key).await, BeginOutcome::Begun);
}

#[tokio::test]
async fn a_step_that_runs_is_joined_and_reported_under_the_newest_token() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    assert_eq!(bed.accept(&step).await, Acceptance::Begin);
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
    assert_eq!(bed.accept(&step).await, Acceptance::Attached);
    assert_eq!(bed.query_statuses(token(2, 1), &step.key).await, JournaledStatus::Running);
    assert_eq!(bed.accept(&do_step(1, token(2, 2))).await, Acceptance::Attached);
    let ended = bed.journal.finish(&step.key, Err(StepFailure::new("it broke"))).await.unwrap();
    assert_eq!(ended.token, token(2, 2));
    // A "do" that failed has failed, whoever asks again.
    let again = bed.accept(&do_step(1, token(2, 3))).await;
    assert_eq!(again, Acceptance::Ended(Err(StepFailure::new("it broke"))));
}

#[tokio::test]
async fn a_driver_that_only_asked_gets_the_report_under_its_own_token() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    bed.begin(&step.key).await;
    assert_eq!(bed.query_statuses(token(2, 1), &step.key).await, JournaledStatus::Running);
    let ended = bed.journal.finish(&step.key, Ok(said("well"))).await.unwrap();
    assert_eq!(ended.token, token(2, 1));
}

#[tokio::test]
async fn what_ran_when_the_process_ended_is_interrupted_and_carried_out_again() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    assert_eq!(bed.accept(&step).await, Acceptance::Begin);
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
    let bed = bed.restarted().await;
    assert_eq!(
        bed.query_statuses(token(1, 2), &step.key).await,
        JournaledStatus::Idle(IdleReason::Interrupted)
    );
    assert_eq!(bed.accept(&step).await, Acceptance::Begin);
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
}

#[tokio::test]
async fn a_failed_undo_is_tried_again_under_a_newer_token_only() {
    let bed = Bed::new().await;
    let undo = undo_step(1, token(1, 4));
    let failed = StepFailure::new("nginx did not answer");
    assert_eq!(bed.accept(&undo).await, Acceptance::Begin);
    assert_eq!(bed.begin(&undo.key).await, BeginOutcome::Begun);
    bed.journal.finish(&undo.key, Err(failed.clone())).await.unwrap();
    assert_eq!(bed.accept(&undo).await, Acceptance::Ended(Err(failed)));
    assert_eq!(bed.accept(&undo_step(1, token(1, 6))).await, Acceptance::Begin);
    assert_eq!(bed.begin(&undo.key).await, BeginOutcome::Begun);
    bed.journal.finish(&undo.key, Ok(said("back"))).await.unwrap();
    assert_eq!(bed.accept(&undo_step(1, token(1, 8))).await, Acceptance::Ended(Ok(said("back"))));
}

/// It may have any of its secrets.
#[tokio::test]
async fn what_an_application_said_is_reported_and_not_written() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    bed.begin(&step.key).await;
    let failure = StepFailure {
        tail: vec!["canary in a backtrace".to_owned()],
        ..StepFailure::new("it is not healthy")
    };
    let outcome = Err(failure.why("500 canary"));
    let ended = bed.journal.finish_quoting(&step.key, outcome.clone()).await.unwrap();
    assert_eq!(ended.outcome, outcome);
    assert_eq!(bed.journal.unsettled().await.unwrap(), [ended]);
    assert_eq!(bed.accept(&do_step(1, token(1, 3))).await, Acceptance::Ended(outcome));
    // A report that went out under an older token settles nothing.
    bed.journal.settle(&step.key, &token(1, 2)).await.unwrap();
    assert!(
        bed.journal.unsettled().await.unwrap()[0]
            .outcome
            .clone()
            .unwrap_err()
            .why
            .unwrap()
            .contains("canary")
    );
    for entry in std::fs::read_dir(bed.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"canary"), "it is on the disk");
    }
    let bed = bed.restarted().await;
    let [ended] = &bed.journal.unsettled().await.unwrap()[..] else { panic!("one is unsettled") };
    let failure = ended.outcome.clone().unwrap_err();
    assert_eq!(failure.what, "it is not healthy");
    assert!(failure.why.unwrap().contains("is not kept: the agent restarted"));
}

#[tokio::test]
async fn an_outcome_is_unsettled_until_the_coordinator_has_it() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    bed.begin(&step.key).await;
    assert_eq!(bed.journal.unsettled().await.unwrap(), []);
    let ended = bed.journal.finish(&step.key, Ok(said("well"))).await.unwrap();
    let bed = bed.restarted().await;
    assert_eq!(bed.journal.unsettled().await.unwrap(), [ended]);
    // A report that went out under an older token settles nothing.
    bed.journal.settle(&step.key, &token(1, 1)).await.unwrap();
    assert_eq!(bed.journal.unsettled().await.unwrap().len(), 1);
    bed.journal.settle(&step.key, &token(1, 2)).await.unwrap();
    assert_eq!(bed.journal.unsettled().await.unwrap(), []);
}

#[tokio::test]
async fn a_newer_journal_is_refused_and_nobody_else_reads_one() {
    use std::process::Command;

    let bed = Bed::new().await;
    bed.accept(&do_step(1, token(1, 2))).await;
    let Bed { folder, journal } = bed;
    for file in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()) {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    journal.close().await.unwrap();
    let sqlite = |sql: &str| {
        let output = Command::new("sqlite3").arg(path(folder.path())).arg(sql).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(sqlite("PRAGMA journal_mode"), "wal");
    sqlite("PRAGMA user_version = 4");
    let refused = Journal::open(&path(folder.path())).await;
    assert!(matches!(refused, Err(JournalError::Newer { found: 4 })), "{refused:?}");
}

fn local_rollback() -> LocalRollback {
    LocalRollback {
        seq: 0,
        environment: environment(),
        at: Timestamp(1_769_596_200_000),
        by: "root".to_owned(),
        from: Slot::Green,
        to: Slot::Blue,
        deployment: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_local_rollback_waits_for_what_moves_traffic_and_then_holds_every_step_until_it_is_taken_in() {
    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    bed.begin(&step.key).await;
    // The command is another process on the same file.
    let command = Journal::open(&path(bed.folder.path())).await.unwrap();
    let withheld = command.begin_local(local_rollback()).await.unwrap();
    assert_eq!(withheld, Err(LocalRefusal::StepRuns { work: "stop".to_owned() }));
    bed.journal.finish(&step.key, Ok(said("done"))).await.unwrap();
    let begun = command.begin_local(local_rollback()).await.unwrap().unwrap();

    // From its first line on: what it has not done yet is perhaps done.
    let next = do_step(2, token(1, 3));
    assert_eq!(bed.accept(&next).await, Acceptance::Begin);
    assert_eq!(bed.begin(&next.key).await, BeginOutcome::Held(begun.clone()));
    assert_eq!(bed.journal.local_done().await.unwrap(), []);
    command.end_local(begun.seq).await.unwrap();
    let bed = bed.restarted().await;
    assert_eq!(bed.journal.local_done().await.unwrap(), std::slice::from_ref(&begun));
    let again = bed.journal.begin(&next.key).await.unwrap();
    assert_eq!(again, BeginOutcome::Held(begun.clone()), "a restart has lifted the hold");

    bed.journal.mark_adopted(begun.seq).await.unwrap();
    assert_eq!(bed.journal.local_done().await.unwrap(), []);
    let last = do_step(3, token(1, 4));
    bed.accept(&last).await;
    assert_eq!(bed.begin(&last.key).await, BeginOutcome::Begun);
}

#[tokio::test]
async fn another_environment_is_not_held() {
    let bed = Bed::new().await;
    let elsewhere = LocalRollback { environment: "shop/production".parse().unwrap(), ..local_rollback() };
    bed.journal.begin_local(elsewhere).await.unwrap().unwrap();
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
}

#[tokio::test]
async fn a_journal_of_version_1_is_read_on() {
    use std::process::Command;

    let bed = Bed::new().await;
    let step = do_step(1, token(1, 2));
    bed.accept(&step).await;
    let Bed { folder, journal } = bed;
    journal.close().await.unwrap();
    let before = "DROP TABLE object_name; DROP TABLE given; DROP TABLE local_rollback; ALTER TABLE step DROP COLUMN work; PRAGMA user_version = 1";
    let output = Command::new("sqlite3").arg(path(folder.path())).arg(before).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let journal = Journal::open(&path(folder.path())).await.unwrap();
    let bed = Bed { folder, journal };
    assert_eq!(bed.begin(&step.key).await, BeginOutcome::Begun);
    let switch = SwitchTraffic {
        to: Slot::Blue,
        server_name: "notes.example".to_owned(),
        listen_port: 80,
        health_path: "/health".to_owned(),
        endpoints: Vec::new(),
        secrets_version: None,
    };
    let deployment = step.key.deployment.clone();
    let given =
        GivenTraffic { environment: environment(), deployment, switch, containers: vec!["web".to_owned()] };
    bed.journal.record_traffic(&given).await.unwrap();
    assert_eq!(bed.journal.traffic_records().await.unwrap(), std::slice::from_ref(&given));
    let newest = bed.journal.newest_deployment(&environment()).await.unwrap();
    assert_eq!(newest, Some(given.deployment.clone()));
    bed.journal.withdraw_traffic(&environment(), Slot::Blue).await.unwrap();
    assert_eq!(bed.journal.traffic_records().await.unwrap(), []);
}
