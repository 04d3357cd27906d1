//! Documents as programs store and send them, of every kind, and what is done with each when it enters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_coordinator::identity::operators::Operator;
use lockstep_coordinator::identity::roots::Roots;
use lockstep_coordinator::identity::tokens::TokenRecord;
use lockstep_coordinator::ports::agents::{LogRequest, ObservationRequest, QueriedStatuses, StepQuery};
use lockstep_coordinator::record::coordinators::Coordinator;
use lockstep_coordinator::store::handover::{Assignment, Report};
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::host::Host;
use lockstep_core::plan::operation::{Operation, Refusal};
use lockstep_core::plan::{Action, Plan, Wave, check};
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
use lockstep_core::run::journal::{Entry, Finding, StepFailure};
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::spec::check::check_declared;
use lockstep_core::stored::{self, StoredDocument};
use lockstep_core::view::authority_status::AuthorityStatus;
use lockstep_core::view::coordinator::CoordinatorStatus;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_core::view::host_status::{HostStatus, Vitals};
use lockstep_core::view::state_file::StateFile;

/// More than any report within its limits needs, besides a list of migrations.
const REPORT_BYTES_MAX: usize = 1024 * 1024;

fuzz_target!(|bytes: &[u8]| {
    if let Some(failure) = read::<StepFailure>(bytes) {
        let bounded = failure.bounded();
        assert_eq!(bounded.clone().bounded(), bounded);
    }
    if let Some(finding) = read::<Finding>(bytes) {
        let bounded = finding.bounded();
        assert_eq!(bounded.clone().bounded(), bounded);
    }
    if let Some(observation) = read::<Observation>(bytes) {
        let bounded = observation.bounded();
        assert_eq!(bounded.clone().bounded(), bounded);
        assert!(stored::encode(&bounded).len() < bytes.len() + REPORT_BYTES_MAX);
    }
    if let Some(plan) = read::<Plan>(bytes) {
        // A plan of nobody's making may break any rule, and is refused.
        check::check(&plan);
    }
    if let Some(spec) = read::<EnvironmentSpec>(bytes) {
        check_declared(spec).ok();
    }
    if let Some(action) = read::<Action>(bytes) {
        let again: Action =
            stored::decode(&stored::encode(&action)).expect("what was encoded can be decoded");
        assert_eq!(again.digest(), action.digest());
    }
    read::<AuthorityStatus>(bytes);
    read::<Claim>(bytes);
    read::<CoordinatorStatus>(bytes);
    read::<DeploymentSummary>(bytes);
    read::<Entry>(bytes);
    read::<EnvironmentGrant>(bytes);
    read::<EnvironmentStatus>(bytes);
    read::<Host>(bytes);
    read::<HostStatus>(bytes);
    read::<ImageObservation>(bytes);
    read::<LiveRelease>(bytes);
    read::<LocalChange>(bytes);
    read::<LocalRollback>(bytes);
    read::<Operation>(bytes);
    read::<OwnedNames>(bytes);
    read::<PendingUndos>(bytes);
    read::<PortTable>(bytes);
    read::<Refusal>(bytes);
    read::<Removal>(bytes);
    read::<Resource>(bytes);
    read::<StateFile>(bytes);
    read::<Vitals>(bytes);
    read::<Wave>(bytes);
    read::<Widening>(bytes);
    // What coordinators ask each other, and what the store has of them.
    read::<Assignment>(bytes);
    read::<Coordinator>(bytes);
    read::<HostTask>(bytes);
    read::<LogRequest>(bytes);
    read::<ObservationRequest>(bytes);
    read::<Operator>(bytes);
    read::<QueriedStatuses>(bytes);
    read::<Report>(bytes);
    read::<Roots>(bytes);
    read::<StepQuery>(bytes);
    read::<TokenRecord>(bytes);
});

/// What can be read can be stored, and is the same when it is read again.
fn read<T: StoredDocument>(bytes: &[u8]) -> Option<T> {
    // Of the fifty kinds an input is of one.
    if said_kind(bytes) != Some(T::KIND) {
        return None;
    }
    let content: T = stored::decode(bytes).ok()?;
    let encoded = stored::encode(&content);
    let again: T = stored::decode(&encoded).expect("what was encoded can be decoded");
    assert_eq!(stored::encode(&again), encoded);
    Some(content)
}

/// The kind that stands first in an input, as in everything that programs write.
fn said_kind(bytes: &[u8]) -> Option<&str> {
    let rest = bytes.strip_prefix(b"{\"kind\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}
