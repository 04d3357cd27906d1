//! Converts refusals and errors to gRPC statuses: a code, a message, and a document as details.
//!
//! `ABORTED`: the environment is locked; the details are an `open`. `FAILED_PRECONDITION`: refused before anything
//! started; the details are a `refusal`. `PERMISSION_DENIED`: somebody else may do it; the details are a `refusal`, if
//! the command that helps is known. `NOT_FOUND`: there is nothing of that name; if an environment is missing, or an
//! image that the caller may have, the details are a `refusal` too.

use std::error::Error;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::stored::encode;
use tonic::{Code, Status};
use tracing::{error, warn};

use crate::api::{forbidden, with_refusal};
use crate::drive::removal::RemoveError;
use crate::planning::DeployError;
use crate::record::history::ReferenceError;
use crate::record::vault::ImportError;
use crate::store::{OPERATIONS_MAX, StoreError, TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX};

pub(super) fn deploy_status(failure: DeployError) -> Status {
    match failure {
        DeployError::Refused(refusal) => refused(&refusal),
        DeployError::NotGranted(refusal) => forbidden(&refusal),
        DeployError::ImageAbsent(refusal) => not_found(&refusal),
        DeployError::Locked { environment, open } => Status::with_details(
            Code::Aborted,
            locked(&environment.to_string(), &open),
            encode(&*open).into(),
        ),
        DeployError::Unresolved(unresolved) => reference_status(&unresolved),
        DeployError::Store(error) => store_status(&error),
        DeployError::Secrets(error) => secrets_status(&error),
    }
}

pub(super) fn refused(refusal: &Refusal) -> Status {
    with_refusal(Code::FailedPrecondition, refusal)
}

/// What is not there, and what to look at instead.
pub(super) fn not_found(refusal: &Refusal) -> Status {
    with_refusal(Code::NotFound, refusal)
}

fn locked(environment: &str, open: &Claim) -> String {
    let Claim { by, since, until, .. } = open;
    match &open.kind {
        ClaimKind::Building { deployment } => {
            format!(
                "{environment} is locked: {by} has been building an image for {deployment} since {since}, until {until} at most"
            )
        }
        ClaimKind::Running { deployment, .. } => {
            format!(
                "{environment} is locked: {deployment} by {by} has been running since {since}, until {until} at most"
            )
        }
        ClaimKind::Stuck { deployment } => {
            format!("{environment} is locked: {deployment} by {by} has been stuck since {since}")
        }
        ClaimKind::Freeze { reason } => {
            format!("{environment} is frozen: by {by} since {since}, until {until}: {reason}")
        }
    }
}

pub(super) fn reference_status(unresolved: &ReferenceError) -> Status {
    let (why, next) = match unresolved {
        ReferenceError::Store(error) => return store_status(error),
        ReferenceError::NoEnvironment { .. } => {
            ("the reference is relative to an environment", "add --env ENV".to_owned())
        }
        ReferenceError::Ambiguous { .. } => {
            ("both ids begin with it", "write more characters of the id".to_owned())
        }
        ReferenceError::NoneOpen(key) => ("the last deployment has ended", format!("lockstep status {key}")),
        ReferenceError::NoneEver(key) => {
            ("its history is empty", format!("lockstep deploy {key} --image IMAGE"))
        }
        ReferenceError::Unknown { .. } => (
            "it is not an id of a deployment, nor the beginning of one",
            "lockstep status    # the last deployment of every environment".to_owned(),
        ),
    };
    refused(&Refusal { what: unresolved.to_string(), why: why.to_owned(), next })
}

pub(super) fn store_status(failure: &StoreError) -> Status {
    match failure {
        StoreError::Unknown(_) | StoreError::Unavailable(_) => {
            warn!(error = failure as &dyn Error, "cannot answer a call");
            Status::unavailable(failure.to_string())
        }
        StoreError::ValueTooLarge { bytes, .. } => too_large(&format!(
            "one document would have {} KiB, and a document has at most {} KiB",
            bytes.div_ceil(1024),
            VALUE_BYTES_MAX / 1024
        )),
        StoreError::TransactionTooLarge { bytes } => too_large(&format!(
            "what is stored together would have {} KiB, and the limit is {} KiB",
            bytes.div_ceil(1024),
            TRANSACTION_BYTES_MAX / 1024
        )),
        StoreError::TooManyOperations { operations } => too_large(&format!(
            "{operations} documents would change together, and the limit is {OPERATIONS_MAX}"
        )),
        StoreError::NoSuchLease(_)
        | StoreError::NoEpoch { .. }
        | StoreError::Unreadable { .. }
        | StoreError::WrittenTwice { .. } => {
            error!(error = failure as &dyn Error, "cannot answer a call");
            Status::internal(failure.to_string())
        }
    }
}

/// What the record cannot take is no fault of the coordinator: whoever asked can ask for less.
fn too_large(why: &str) -> Status {
    refused(&Refusal {
        what: "the request is too large to be stored".to_owned(),
        why: why.to_owned(),
        next: "lockstep env check ENV    # what is too large in deployment.yml; nothing was changed"
            .to_owned(),
    })
}

pub(super) fn secrets_status(failure: &anyhow::Error) -> Status {
    warn!(error = %format!("{failure:#}"), "cannot answer a call about secrets");
    Status::internal(format!("{failure:#}"))
}

pub(super) fn import_status(environment: &EnvironmentKey, failure: &ImportError) -> Status {
    let next = match failure {
        ImportError::Failed(error) => return secrets_status(error),
        ImportError::TooLarge(_) => "mount what is large as a file instead".to_owned(),
        ImportError::AtTheSameTime => format!("lockstep secret list {environment}    # then import again"),
    };
    refused(&Refusal {
        what: format!("cannot store the secrets of {environment}"),
        why: failure.to_string(),
        next,
    })
}

pub(super) fn removal_status(failure: &RemoveError) -> Status {
    match failure {
        RemoveError::Absent(refusal) => not_found(refusal),
        RemoveError::Refused(refusal) => refused(refusal),
        RemoveError::Locked(environment) | RemoveError::Changed(environment) => refused(&Refusal {
            what: format!("cannot remove {environment}"),
            why: failure.to_string(),
            next: format!("lockstep status {environment}"),
        }),
        RemoveError::Store(_, error) => store_status(error),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::stored::decode;

    use super::*;
    use crate::store::keys;

    /// The names of keys are the store's own, and help nobody.
    #[test]
    fn what_is_too_large_for_the_store_is_a_refusal_without_the_key() {
        let id = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
        let key = keys::plan(&id).key().clone();
        let errors = [
            StoreError::ValueTooLarge { key, bytes: 1_266_150 },
            StoreError::TransactionTooLarge { bytes: 2_000_000 },
            StoreError::TooManyOperations { operations: 1000 },
        ];
        for error in errors {
            let status = store_status(&error);
            assert_eq!(status.code(), Code::FailedPrecondition, "{error}");
            let refusal: Refusal = decode(status.details()).unwrap();
            assert!(!refusal.to_string().contains("dep_"), "{refusal}");
            assert!(refusal.next.starts_with("lockstep env check ENV"), "{refusal}");
        }
    }
}
