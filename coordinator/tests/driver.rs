//! The driver over the memory store: whatever dies or gets lost, and whenever, a deployment comes to the
//! end that it would have come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_coordinator::planning::{DeployError, claims};
use lockstep_coordinator::record::{environments, history};
use lockstep_coordinator::store::guarded::{self, epoch_of, report};
use lockstep_coordinator::store::handover::{Assignment, Report, Reported};
use lockstep_coordinator::store::memory::Fault;
use lockstep_coordinator::store::{Key, Store, keys};
use lockstep_coordinator::view::status;
use lockstep_core::id::DeploymentId;
use lockstep_core::record::claim::{ClaimKind, Resolution};
use lockstep_core::record::grant::Resource;
use lockstep_core::record::local_rollback::{LocalChange, LocalRollback};
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Direction, Entry, Event};
use lockstep_core::slot::Slot;
use lockstep_core::spec::EnvironmentSpec;
use tokio::sync::Notify;

#[path = "driver/absent.rs"]
mod absent;
#[path = "driver/debts.rs"]
mod debts;
#[path = "driver/fixture.rs"]
mod fixture;
#[path = "driver/grants.rs"]
mod grants;
#[path = "driver/hosts.rs"]
mod hosts;
#[path = "driver/idle.rs"]
mod idle;
#[path = "driver/lease.rs"]
mod lease;
#[path = "driver/local_changes.rs"]
mod local_changes;
#[path = "driver/masked_health.rs"]
mod masked_health;
#[path = "driver/neighbours.rs"]
mod neighbours;
#[path = "driver/newer_secrets.rs"]
mod newer_secrets;
#[path = "driver/opening.rs"]
mod opening;
#[path = "driver/owned_names.rs"]
mod owned_names;
#[path = "driver/readers.rs"]
mod readers;
#[path = "driver/removal.rs"]
mod removal;
#[path = "driver/reports.rs"]
mod reports;
#[path = "driver/returning.rs"]
mod returning;
#[path = "driver/several.rs"]
mod several;
#[path = "driver/state_file.rs"]
mod state_file;
#[path = "driver/waiting.rs"]
mod waiting;

use fixture::{Fixture, anna, environment, found, host_id, spec};
use hosts::Does;

/// More entries than any journal here has: where an enumeration must have ended.
const ENTRIES_MAX: usize = 100;

#[tokio::test(start_paused = true)]
async fn a_deployment_goes_step_by_step_to_its_end() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    assert_eq!(first.slot, Slot::Blue);
    assert_eq!(
        fixture.hosts.effects(),
        [
            "preflight do",
            "image do",
            "start do",
            "health do",
            "site do",
            "switch do",
            "bake do",
            "clean up do"
        ]
    );
    let second = fixture.deploy("notes:2").await;
    fixture.check_ended(&second, Verdict::Succeeded).await;
    assert_eq!(second.slot, Slot::Green);
    let past = history::recent(&*fixture.store, &environment(), 10).await.expect("read");
    let ids: Vec<_> = past.iter().map(|summary| summary.id.clone()).collect();
    assert_eq!(ids, [second.id.clone(), first.id], "newest first");
    assert!(!second.steps.is_empty(), "its steps have times");
    let log = fixture.logs.path().join(format!("production_{}.log", second.id));
    let is_whole = |text: &String| text.ends_with("ended: succeeded\n");
    let log = found(|| std::fs::read_to_string(&log).ok().filter(is_whole)).await;
    assert!(log.contains("s3 start on app-1 done"), "{log}");
    fixture.shut_down().await;
}

/// What is written must be readable by who comes after: a change of this form is a change of its version.
#[tokio::test(start_paused = true)]
async fn what_is_kept_has_this_form() {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let second = fixture.deploy("notes:2").await;
    fixture.check_ended(&second, Verdict::RolledBack).await;
    fixture.hosts.script("stop", Direction::Undo, Does::Fails);
    let (third, _) = fixture.start("notes:3").await.expect("it starts");
    fixture.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    // What it owes is kept as it is while it is away.
    fixture.hosts.absent(&host_id());
    claims::resolve(&fixture.parts, (&environment(), &third), Resolution::Unwind, &anna())
        .await
        .expect("wished for");
    fixture.ended(&third).await;
    drop(drivers);
    let rollback = LocalRollback {
        seq: 1,
        environment: environment(),
        at: fixture.parts.clock.now(),
        by: "root".to_owned(),
        from: Slot::Green,
        to: Slot::Blue,
        deployment: first.id.clone(),
    };
    let host_name = "app-1".parse().expect("a name");
    let change = LocalChange { host: host_id(), host_name, rollback, adopted: None };
    guarded::local_change(&*fixture.store, &change).await.expect("the memory store answers");
    let mut text = String::new();
    let all = fixture.store.list(&keys::all()).await.expect("the memory store answers");
    // A lock is there or not: it is bound to a lease.
    for stored in all.into_iter().filter(|stored| stored.key.last() != "lock") {
        // Few values are no documents: a number, an id.
        let plain = String::from_utf8_lossy(&stored.value);
        let value = serde_json::from_slice(&stored.value).unwrap_or(serde_json::Value::from(&*plain));
        text.push_str(&format!("{}\n{value:#}\n\n", stored.key));
    }
    insta::with_settings!({ filters => [
        (r"dep_[0-9A-Z]{26}", "[deployment]"),
        (r"sha256:[0-9a-f]{64}", "[digest]"),
        (r"[0-9a-f]{64}", "[digest]"),
        (r"\b17[0-9]{11}\b", "[time]"),
        (r"[0-9a-f]{6}(-[0-9a-f]{6}){3}", "[hash]"),
    ] }, {
        insta::assert_snapshot!(text);
    });
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_undone_with_all_before_it() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let first = fixture.deploy("notes:1").await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let before = fixture.hosts.effects().len();
    let second = fixture.deploy("notes:2").await;
    fixture.check_ended(&second, Verdict::RolledBack).await;
    assert_eq!(
        fixture.hosts.effects()[before..],
        ["preflight do", "image do", "start do", "health do", "stop undo"]
    );
    let failed = second.failure.expect("it says why");
    assert_eq!((failed.step.as_str(), failed.failure.what.as_str()), ("health", "health broke"));
    let live = environments::live(&*fixture.store, &environment()).await.expect("read").expect("live");
    assert_eq!(live.deployment, first.id, "what was live is live");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_known_outcome_is_undone_too() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("start", Direction::Do, Does::Nothing);
    let summary = fixture.deploy("notes:1").await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    assert_eq!(fixture.hosts.effects().last().map(String::as_str), Some("stop undo"));
    fixture.shut_down().await;
}

/// How a case of the enumerations below goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Succeeds,
    Unwinds,
}

impl Ending {
    fn verdict(self) -> Verdict {
        match self {
            Self::Succeeds => Verdict::Succeeded,
            Self::Unwinds => Verdict::RolledBack,
        }
    }

    /// What the hosts have done at the end, whatever happened in between.
    fn effects(self) -> Vec<&'static str> {
        match self {
            Self::Succeeds => {
                vec![
                    "preflight do",
                    "image do",
                    "start do",
                    "health do",
                    "site do",
                    "switch do",
                    "bake do",
                    "clean up do",
                ]
            }
            Self::Unwinds => {
                vec![
                    "preflight do",
                    "image do",
                    "start do",
                    "health do",
                    "site do",
                    "switch do",
                    "remove site undo",
                    "stop undo",
                ]
            }
        }
    }

    async fn fixture(self) -> Fixture {
        let fixture = Fixture::new().await;
        if self == Self::Unwinds {
            fixture.hosts.script("switch", Direction::Do, Does::Fails);
        }
        fixture
    }
}

fn writes_journal(written: &[&Key]) -> bool {
    written.iter().any(|key| key.as_str().contains("/journal/"))
}

/// Lets `fault` happen to the `nth` transaction that writes to a journal; says when it has.
fn at_journal_entry(fixture: &Fixture, nth: usize, fault: Fault) -> Arc<Notify> {
    let happened = Arc::new(Notify::new());
    let seen = AtomicUsize::new(0);
    let tell = happened.clone();
    fixture.store.inject(Box::new(move |keys| {
        if writes_journal(keys) && seen.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            tell.notify_one();
            return fault;
        }
        Fault::None
    }));
    happened
}

/// The coordinator dies after each entry of the journal, one after the other; another goes on.
async fn check_deaths(ending: Ending) {
    let mut deaths = 0;
    for nth in 1..ENTRIES_MAX {
        let fixture = ending.fixture().await;
        let died = at_journal_entry(&fixture, nth, Fault::Silence);
        let drivers = fixture.drivers();
        let (id, _) = fixture.start("notes:1").await.expect("it starts");
        tokio::select! {
            () = died.notified() => {}
            summary = fixture.ended(&id) => {
                assert_eq!(summary.verdict, Some(ending.verdict()));
                fixture.shut_down().await;
                break;
            }
        }
        drop(drivers);
        deaths += 1;
        fixture.store.heal();
        let _successor = fixture.drivers();
        let summary = fixture.ended(&id).await;
        fixture.check_ended(&summary, ending.verdict()).await;
        assert_eq!(fixture.hosts.effects(), ending.effects(), "dead after entry {nth} of {ending:?}");
        fixture.shut_down().await;
    }
    assert!(deaths > 8, "{ending:?} has more transactions than {deaths}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_after_any_entry_is_succeeded_by_one_that_goes_on() {
    check_deaths(Ending::Succeeds).await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_after_any_entry_of_a_rollback_is_succeeded_by_one_that_goes_on() {
    check_deaths(Ending::Unwinds).await;
}

/// Each entry of the journal meets `fault`, one after the other, and nothing is different for it.
async fn check_losses(ending: Ending, fault: Fault) {
    for nth in 1..ENTRIES_MAX {
        let fixture = ending.fixture().await;
        let lost = at_journal_entry(&fixture, nth, fault);
        let _drivers = fixture.drivers();
        let summary = fixture.deploy("notes:1").await;
        fixture.check_ended(&summary, ending.verdict()).await;
        assert_eq!(fixture.hosts.effects(), ending.effects(), "{fault:?} at entry {nth} of {ending:?}");
        let entries = history::journal(&*fixture.store, &summary.id).await.expect("read");
        assert!(entries.iter().all(|entry| entry.epoch == 1), "it was taken twice");
        fixture.shut_down().await;
        let happened = tokio::time::timeout(std::time::Duration::ZERO, lost.notified()).await;
        if happened.is_err() {
            assert!(nth > 8, "{ending:?} has more transactions than {nth}");
            return;
        }
    }
    panic!("{ending:?} has more transactions than {ENTRIES_MAX}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_gets_lost_changes_nothing() {
    check_losses(Ending::Succeeds, Fault::AnswerLost).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gets_lost_changes_nothing() {
    check_losses(Ending::Succeeds, Fault::RequestLost).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_changes_nothing() {
    check_losses(Ending::Succeeds, Fault::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_gets_lost_in_a_rollback_changes_nothing() {
    check_losses(Ending::Unwinds, Fault::AnswerLost).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gets_lost_in_a_rollback_changes_nothing() {
    check_losses(Ending::Unwinds, Fault::RequestLost).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_of_a_rollback_changes_nothing() {
    check_losses(Ending::Unwinds, Fault::Unavailable).await;
}

/// A deployment whose driver died when the third step, the start, had been handed out.
async fn dead_at_the_start(does: Does) -> (Fixture, DeploymentId) {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("start", Direction::Do, does);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    let mut wakeups = fixture.store.watch(&keys::journal(&id));
    let is_start = |entry: &Entry| matches!(entry.event, Event::Begun { step, .. } if step.0 == 3);
    while !history::journal(&*fixture.store, &id).await.expect("read").iter().any(is_start) {
        wakeups.changed().await;
    }
    drop(drivers);
    (fixture, id)
}

#[tokio::test(start_paused = true)]
async fn a_report_that_came_while_nobody_drove_is_taken_in() {
    let (fixture, id) = dead_at_the_start(Does::Waits).await;
    fixture.hosts.unscript();
    let reports = keys::reports(&environment());
    let mut wakeups = fixture.store.watch(&reports);
    while fixture.store.list(&reports).await.expect("listed").is_empty() {
        wakeups.changed().await;
    }
    let _successor = fixture.drivers();
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    assert_eq!(fixture.hosts.effects(), Ending::Succeeds.effects());
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_host_answers_counts_though_its_report_is_lost() {
    let (fixture, id) = dead_at_the_start(Does::Unreported).await;
    let _successor = fixture.drivers();
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    assert_eq!(fixture.hosts.effects(), Ending::Succeeds.effects());
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_host_has_not_heard_of_is_sent_again_under_the_new_token() {
    let (fixture, id) = dead_at_the_start(Does::Waits).await;
    fixture.hosts.slow(&host_id());
    fixture.hosts.unscript();
    let _successor = fixture.drivers();
    let mut wakeups = fixture.store.watch(&keys::assignments_to(&host_id()));
    while fixture.hosts.answered() == 0 {
        wakeups.changed().await;
    }
    // The question fenced it: what the predecessor had handed out is refused.
    fixture.hosts.quick(&host_id());
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    assert_eq!(fixture.hosts.effects(), Ending::Succeeds.effects());
    fixture.shut_down().await;
}

/// A question fences what a predecessor has handed out, so a host that hears of that late refuses it.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_a_predecessor_handed_out_is_no_failure() {
    let (fixture, id) = dead_at_the_start(Does::Waits).await;
    fixture.hosts.slow(&host_id());
    fixture.hosts.unscript();
    let handed = fixture.store.list(&keys::assignments_to(&host_id())).await.expect("listed");
    let Assignment { token, key, environment, .. } = handed[0].read().expect("an assignment");
    let outcome = Reported::Refused { why: "its sender has been deposed".to_owned() };
    report(&*fixture.store, &host_id(), &Report { token, key, environment, outcome }).await.expect("written");
    let _successor = fixture.drivers();
    let mut wakeups = fixture.store.watch(&keys::reports(&crate::fixture::environment()));
    while !fixture
        .store
        .list(&keys::reports(&crate::fixture::environment()))
        .await
        .expect("listed")
        .is_empty()
    {
        wakeups.changed().await;
    }
    fixture.hosts.quick(&host_id());
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    assert_eq!(fixture.hosts.effects(), Ending::Succeeds.effects());
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_at_the_take_over_is_waited_for() {
    let (fixture, id) = dead_at_the_start(Does::Waits).await;
    fixture.hosts.absent(&host_id());
    fixture.hosts.unscript();
    let _successor = fixture.drivers();
    let mut wakeups = fixture.store.watch(&keys::environment(&environment()));
    let epoch = keys::epoch(&environment());
    while epoch_of(fixture.store.get(epoch.key()).await.expect("read").as_ref()).expect("a number") < 2 {
        wakeups.changed().await;
    }
    fixture.hosts.present(&host_id());
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_comes_back_leaves_a_deployment_that_is_stuck_and_names_it() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("start", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    fixture.hosts.script("stop", Direction::Undo, Does::Waits);
    fixture.until(|open| matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))).await;
    // Its operator brings it back and says so.
    fixture.hosts.unscript();
    claims::resolve(&fixture.parts, (&environment(), &id), Resolution::Retry, &anna())
        .await
        .expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_tried_again_and_then_waits_for_an_operator() {
    let fixture = Fixture::new().await;
    let drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    fixture.hosts.script("stop", Direction::Undo, Does::Fails);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    let is_stuck = |open: Option<&lockstep_core::record::claim::Claim>| {
        matches!(open.map(|open| &open.kind), Some(ClaimKind::Stuck { .. }))
    };
    fixture.until(is_stuck).await;
    let tries = fixture.hosts.effects().iter().filter(|effect| *effect == "stop undo").count();
    assert_eq!(tries, 3);
    let refused = claims::cancel(&fixture.parts, &environment(), &id, &anna()).await;
    assert!(matches!(refused, Err(DeployError::Refused(_))), "{refused:?}");
    // What is stuck stays so for whoever drives it next.
    drop(drivers);
    let _successor = fixture.drivers();
    fixture.hosts.unscript();
    claims::resolve(&fixture.parts, (&environment(), &id), Resolution::Retry, &anna())
        .await
        .expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_cancelled_is_unwound() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    claims::cancel(&fixture.parts, &environment(), &id, &anna()).await.expect("it is wished for");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::RolledBack).await;
    assert_eq!(summary.failure.expect("it says why").step, "cancelled by anna");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_is_owned_by_one() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:1").await.expect("it starts");
    match fixture.start("notes:2").await {
        Err(DeployError::Locked { open, .. }) => assert_eq!(open.deployment(), Some(&id)),
        other => panic!("two deployments are open: {other:?}"),
    }
    fixture.hosts.unscript();
    fixture.ended(&id).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_keeps_deployments_out_until_it_ends_by_itself() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    let until = fixture.parts.clock.now() + lockstep_core::time::Millis::from_secs(60);
    claims::freeze(&fixture.parts, &environment(), "audit".to_owned(), until, &anna()).await.expect("frozen");
    assert!(matches!(fixture.start("notes:1").await, Err(DeployError::Locked { .. })));
    fixture.until(|open| open.is_none()).await;
    assert!(fixture.parts.clock.now() >= until, "it ended early");
    let summary = fixture.deploy("notes:1").await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_live_already_is_not_cancelled() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.hosts.script("clean up", Direction::Do, Does::Waits);
    let (id, plan) = fixture.start("notes:1").await.expect("it starts");
    let clean_up = plan.steps().find(|step| step.action.name() == "clean up").expect("it cleans up").id;
    fixture.until_begun(&id, clean_up.0).await;
    let refused = claims::cancel(&fixture.parts, &environment(), &id, &anna()).await;
    let Err(DeployError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.next, "lockstep rollback notes/production    # once it has ended");
    let summary = fixture.ended(&id).await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_serves_is_shown_as_it_was_declared_when_a_later_declaration_failed() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    let wanted = EnvironmentSpec { url: "http://other.example".to_owned(), ..spec() };
    fixture.grant(&environment(), Resource::SiteName("other.example".to_owned())).await;
    fixture.hosts.script("health", Direction::Do, Does::Fails);
    let failed = fixture.deploy_as(wanted.clone(), "notes:2").await;
    fixture.check_ended(&failed, Verdict::RolledBack).await;
    let seen = status::load_status(&fixture.parts, &wanted).await.expect("read");
    assert_eq!(seen.url, spec().url);
    fixture.shut_down().await;
}
