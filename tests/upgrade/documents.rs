//! Every document that is stored or sent, by its kind: `documents.jsonl` has one in each line, `store.txt` those
//! that stand in the store.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lockstep_agent::journal::GivenTraffic;
use lockstep_coordinator::identity::certificate::IssuingName;
use lockstep_coordinator::identity::operators::Operator;
use lockstep_coordinator::identity::roots::Roots;
use lockstep_coordinator::identity::tokens::TokenRecord;
use lockstep_coordinator::ports::agents::{
    LogRequest, ObservationRequest, QueriedStatuses, SessionInfo, StepQuery,
};
use lockstep_coordinator::record::audit::AuditEntry;
use lockstep_coordinator::record::cluster::Meta;
use lockstep_coordinator::record::coordinators::{AgentSessionRecord, Alive, Coordinator};
use lockstep_coordinator::record::history::PlanParts;
use lockstep_coordinator::record::hosts::SecondSessionRecord;
use lockstep_coordinator::record::vault::{LoginRecord, VersionRecord};
use lockstep_coordinator::store::guarded::LockRecord;
use lockstep_coordinator::store::handover::{Assignment, Report};
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::host::Host;
use lockstep_core::plan::operation::{Operation, Refusal};
use lockstep_core::plan::{Action, Plan, Wave};
use lockstep_core::record::claim::Claim;
use lockstep_core::record::grant::{EnvironmentGrant, Resource, Widening};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::local_rollback::{LocalChange, LocalRollback};
use lockstep_core::record::observed::{ImageObservation, Observation};
use lockstep_core::record::owned_names::OwnedNames;
use lockstep_core::record::pending_undo::PendingUndos;
use lockstep_core::record::ports::PortTable;
use lockstep_core::record::removal::Removal;
use lockstep_core::run::journal::{Deferral, Entry, Event, Finding, RevertReason, StepFailure};
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::stored::{self, StoredDocument};
use lockstep_core::view::authority_status::AuthorityStatus;
use lockstep_core::view::coordinator::CoordinatorStatus;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_core::view::host_status::{HostStatus, Vitals};
use lockstep_core::view::state_file::StateFile;
use serde_json::Value;

use crate::coverage::Coverage;
use crate::golden::{self, ADVICE};
use crate::store;

/// Variants that are the default of their field and are left out when they are written: no document can have them.
const LEFT_OUT: &[&str] = &["refused", "managed", "off", "not_said", "file", "registry"];

/// A kind of document, and how it is read and written.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Reads a document and writes it again.
    pub(crate) rewrite: fn(&[u8]) -> Result<Vec<u8>, stored::Unreadable>,
    show: fn(&Coverage, &Value) -> Result<(), serde_json::Error>,
}

macro_rules! kinds {
    ($($type:ty),* $(,)?) => {
        pub(crate) const KINDS: &[Kind] = &[$(
            Kind { name: <$type as StoredDocument>::KIND, rewrite: rewrite::<$type>, show: show::<$type> }
        ),*];
    };
}

kinds! {
    Action, Alive, Assignment, AuditEntry, AuthorityStatus, Coordinator, CoordinatorStatus, PendingUndos, Entry,
    EnvironmentGrant, EnvironmentSpec, EnvironmentStatus, HostTask, Finding, GivenTraffic, Host, HostStatus, ImageObservation, IssuingName, LiveRelease,
    LocalChange, LocalRollback, LockRecord, LoginRecord, LogRequest, ObservationRequest, Meta, Observation, OwnedNames, Claim, Operation,
    Operator, Plan, PlanParts, PortTable, Removal, StepQuery, Refusal, Report, Resource, Roots, SecondSessionRecord, AgentSessionRecord, SessionInfo,
    QueriedStatuses, StateFile, StepFailure, DeploymentSummary, TokenRecord, VersionRecord, Vitals, Wave, Widening,
}

fn rewrite<T: StoredDocument>(bytes: &[u8]) -> Result<Vec<u8>, stored::Unreadable> {
    stored::decode::<T>(bytes).map(|content| stored::encode(&content))
}

fn show<T: StoredDocument>(coverage: &Coverage, content: &Value) -> Result<(), serde_json::Error> {
    coverage.read::<T>(content).map(drop)
}

pub(crate) fn lines(version: &str) -> Vec<String> {
    golden::text(version, "documents.jsonl").lines().map(str::to_owned).collect()
}

/// Every document of a version: those of the store are among them.
fn all(version: &str) -> Vec<String> {
    let mut all = lines(version);
    let in_store = store::entries(version).into_iter().map(|(_, value)| value);
    all.extend(in_store.filter(|value| kind_of(value).is_some()));
    all
}

/// The kind in the envelope; nothing where the text is no document.
pub(crate) fn kind_of(text: &str) -> Option<&'static Kind> {
    let value: Value = serde_json::from_str(text).ok()?;
    let name = value.get("kind")?.as_str()?;
    Some(
        KINDS
            .iter()
            .find(|kind| kind.name == name)
            .unwrap_or_else(|| panic!("no program has a {name}: {ADVICE}")),
    )
}

/// The contents of all documents of one kind, as they stand in `documents.jsonl`.
pub(crate) fn of<T: StoredDocument>(version: &str) -> Vec<T> {
    let is_one = |line: &String| kind_of(line).is_some_and(|kind| kind.name == T::KIND);
    let read = |line: String| stored::decode(line.as_bytes()).expect("it is of that kind");
    lines(version).into_iter().filter(is_one).map(read).collect()
}

#[test]
fn every_document_is_read_and_written_as_it_was() {
    let mut problems = Vec::new();
    for version in golden::folders() {
        for line in all(version) {
            let kind = kind_of(&line).expect("every line is a document");
            match (kind.rewrite)(line.as_bytes()) {
                Err(error) => problems.push(format!("{version}: {error}\n  {line}")),
                Ok(written) if golden::is_newest(version) && written != line.as_bytes() => {
                    let written = String::from_utf8_lossy(&written).into_owned();
                    problems.push(format!("{version}: it was\n  {line}\nand is\n  {written}"));
                }
                Ok(_) => {}
            }
        }
    }
    assert!(problems.is_empty(), "{}\n{ADVICE}", problems.join("\n"));
}

#[test]
fn every_kind_field_and_variant_has_a_golden_document() {
    let mut values = Vec::new();
    for line in golden::folders().flat_map(all) {
        let value: Value = serde_json::from_str(&line).expect("a document");
        values.push((kind_of(&line).expect("a document"), value));
    }
    let coverage = Coverage::default();
    let mut seen = BTreeSet::new();
    for (kind, value) in &values {
        seen.insert(kind.name);
        (kind.show)(&coverage, &value["content"]).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    }
    let unseen = KINDS.iter().filter(|kind| !seen.contains(kind.name));
    let mut missing: Vec<String> = unseen.map(|kind| format!("the kind `{}`", kind.name)).collect();
    let is_left_out =
        |one: &String| LEFT_OUT.iter().any(|name| one.starts_with(&format!("the variant `{name}`")));
    missing.extend(coverage.missing().into_iter().filter(|one| !is_left_out(one)));
    assert!(missing.is_empty(), "no golden document has\n{}\n{ADVICE}", missing.join("\n"));
}

/// `StoredDocument` is the programs' own list of what is stored and sent.
#[test]
fn every_kind_of_the_programs_is_known_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace");
    let mut found = BTreeSet::new();
    for program in ["core", "proto", "coordinator", "agent", "cli"] {
        collect_kinds(&root.join(program).join("src"), &mut found);
    }
    let known: BTreeSet<String> = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
    assert_eq!(
        found, known,
        "a kind that is missing on the right goes into kinds! above, with a golden document"
    );
}

fn collect_kinds(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_kinds(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source");
        let listed =
            source.split("\nkept! {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
        let lines = listed.lines().filter(|line| line.contains("=>"));
        let lines = lines.chain(source.lines().filter(|line| line.contains("const KIND: &'static str = ")));
        found.extend(lines.filter_map(|line| Some(line.split('"').nth(1)?.to_owned())));
    }
}

fn event(event: &Event) -> String {
    match event {
        Event::LockTaken { by } => format!("taken by {by}"),
        Event::Begun { step, direction } => format!("begun {step} {direction}"),
        Event::Done { step, direction, finding } => format!("done {step} {direction}: {}", finding.said),
        Event::Failed { step, direction, failure } => format!("failed {step} {direction}: {}", failure.what),
        Event::Excluded { host, because } => format!("without {host} because of {because}"),
        Event::RevertStarted { because: RevertReason::StepFailed { step } } => {
            format!("turned: {step} failed")
        }
        Event::RevertStarted { because: RevertReason::LockTimeout } => "turned: time".to_owned(),
        Event::RevertStarted { because: RevertReason::Cancelled { by } } => format!("turned by {by}"),
        Event::Stuck { step, failure } => format!("stuck at {step}: {}", failure.what),
        Event::Resumed { by } => format!("resumed by {by}"),
        Event::UndoDeferred { step, how: Deferral::Pending { because, by } } => {
            let by = by.as_ref().map_or("nobody", |by| by.as_str());
            format!("{step} owed, decided by {by}: {because}")
        }
        Event::UndoDeferred { step, how: Deferral::Skipped { by } } => format!("{step} skipped by {by}"),
        Event::Ended { verdict } => format!("ended: {verdict}"),
    }
}

#[test]
fn the_entries_of_a_journal_say_what_they_said() {
    let entries: Vec<Entry> = of("da8beec");
    let said: Vec<String> = entries.iter().map(|entry| event(&entry.event)).collect();
    let wanted = [
        "taken by coordinator-1",
        "begun s1 do",
        "done s1 do: applied 2 migrations",
        "begun s2 do",
        "failed s2 do: web is not healthy",
        "without host_01JBQR2KXYZ987654321012346 because of s2",
        "turned: s2 failed",
        "turned: time",
        "turned by anna",
        "begun s1 undo",
        "stuck at s1: stop broke",
        "resumed by anna",
        "s1 owed, decided by anna: the host is away",
        "s2 owed, decided by nobody: the host is away",
        "s3 skipped by anna",
        "ended: rolled back",
        "ended: succeeded",
    ];
    assert_eq!(said, wanted);
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq && entry.epoch == 7));
}

fn action(action: &Action) -> String {
    let kind = match action {
        Action::Preflight(_) => "preflight",
        Action::PresentImage(_) => "present image",
        Action::AdmitHosts(_) => "admit hosts",
        Action::TakeSnapshot(_) => "take snapshot",
        Action::Migrate(_) => "migrate",
        Action::StartSlot { .. } => "start slot",
        Action::StopSlot { .. } => "stop slot",
        Action::CheckHealth(_) => "check health",
        Action::InstallSite { .. } => "install site",
        Action::RemoveSite => "remove site",
        Action::RestoreSite => "restore site",
        Action::SwitchTraffic(_) => "switch traffic",
        Action::MoveWorkers { .. } => "move workers",
        Action::Bake { .. } => "bake",
        Action::DrainSlot { .. } => "drain slot",
        Action::CleanUp(_) => "clean up",
    };
    // Agents keep the name and compare the digest.
    format!("{kind} | {} | {}", action.name(), action.digest().short())
}

/// What each action of a version is.
pub(crate) fn actions_text(version: &str) -> String {
    of::<Action>(version).iter().map(|one| action(one) + "\n").collect()
}

#[test]
fn actions_do_what_they_did_and_agents_recognise_them() {
    let version = golden::newest();
    assert_eq!(actions_text(version), golden::text(version, "actions.txt"), "{ADVICE}");
}

#[test]
fn a_later_version_of_a_document_is_refused() {
    let later = lines(golden::newest())[0].replace(r#""version":1"#, r#""version":2"#);
    let kind = kind_of(&later).expect("a document");
    assert!(matches!(
        (kind.rewrite)(later.as_bytes()),
        Err(stored::Unreadable::NewerVersion { found: 2, .. })
    ));
}
