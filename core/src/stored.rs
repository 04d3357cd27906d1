//! The envelope of every stored or sent document: kind, version and content. An unknown kind or version is refused.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of every shape below; a shape that must change gets a module of its own and a higher one.
pub const VERSION: u32 = 1;

/// A type that is kept or sent.
pub trait StoredDocument: Serialize + DeserializeOwned {
    /// The name in the envelope; never reused.
    const KIND: &'static str;
}

macro_rules! kept {
    ($($type:ty => $kind:literal),* $(,)?) => {
        $(impl StoredDocument for $type {
            const KIND: &'static str = $kind;
        })*
    };
}

kept! {
    crate::view::authority_status::AuthorityStatus => "authority_status",
    crate::view::host_status::HostStatus => "host_status",
    crate::view::host_status::Vitals => "vitals",
    crate::run::journal::Entry => "journal_entry",
    crate::run::journal::Finding => "finding",
    crate::run::journal::StepFailure => "step_failure",
    crate::plan::operation::Operation => "operation",
    crate::plan::operation::Refusal => "refusal",
    crate::plan::Action => "action",
    crate::plan::Plan => "plan",
    crate::plan::Wave => "wave",
    crate::view::coordinator::CoordinatorStatus => "coordinator_status",
    crate::record::pending_undo::PendingUndos => "debts",
    crate::view::environment::EnvironmentStatus => "environment_status",
    crate::host::Host => "host",
    crate::record::observed::ImageObservation => "image_found",
    crate::record::grant::EnvironmentGrant => "grant",
    crate::record::grant::Resource => "resource",
    crate::record::grant::Widening => "widening",
    crate::record::live::LiveRelease => "live",
    crate::record::local_rollback::LocalChange => "local_change",
    crate::record::local_rollback::LocalRollback => "local_rollback",
    crate::record::observed::Observation => "observation",
    crate::record::owned_names::OwnedNames => "owned_names",
    crate::record::claim::Claim => "open",
    crate::record::ports::PortTable => "port_table",
    crate::record::removal::Removal => "removal",
    crate::record::history::DeploymentSummary => "summary",
    crate::spec::EnvironmentSpec => "environment_spec",
    crate::view::state_file::StateFile => "state_file",
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    kind: &'a str,
    version: u32,
    content: &'a T,
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
}

#[derive(Deserialize)]
struct Whole<'a, T> {
    kind: &'a str,
    version: u32,
    content: T,
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("this is not a Lockstep document: {0}")]
    NotOurs(String),
    #[error("this is a {found}, not a {expected}")]
    OtherKind { expected: &'static str, found: String },
    #[error("this {kind} has version {found}; this program reads versions up to {VERSION}")]
    NewerVersion { kind: &'static str, found: u32 },
    #[error("this {kind} cannot be read: {why}")]
    Damaged { kind: &'static str, why: String },
}

/// The bytes of `content` in its envelope.
pub fn encode<T: StoredDocument>(content: &T) -> Vec<u8> {
    serde_json::to_vec(&Envelope { kind: T::KIND, version: VERSION, content })
        .expect("a kept type has only text, numbers, lists and maps with text keys")
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are not an envelope, or of another kind, or of a version that is not known.
pub fn decode<T: StoredDocument>(bytes: &[u8]) -> Result<T, Unreadable> {
    let text = core::str::from_utf8(bytes).map_err(|error| Unreadable::NotOurs(error.to_string()))?;
    // What is as it should be is read in one go; only what is not is looked at twice, to say what it is.
    let why = match serde_json::from_str::<Whole<'_, T>>(text) {
        Ok(whole) if whole.kind == T::KIND && whole.version == VERSION => return Ok(whole.content),
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let head: Head = serde_json::from_str(text).map_err(|error| Unreadable::NotOurs(error.to_string()))?;
    if head.kind != T::KIND {
        return Err(Unreadable::OtherKind { expected: T::KIND, found: head.kind });
    }
    if head.version != VERSION {
        return Err(Unreadable::NewerVersion { kind: T::KIND, found: head.version });
    }
    Err(Unreadable::Damaged { kind: T::KIND, why })
}
