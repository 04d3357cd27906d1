//! What a refusal looks like on the wire: its code, its words, and a document with its parts.
//!
//! `ABORTED`: the environment is locked, the details are an `open`. `FAILED_PRECONDITION`: refused before
//! anything started, the details are a `refusal`. `NOT_FOUND`: nothing of that name; of an image, which who asks
//! may have, the details are a `refusal` too.

use std::error::Error;

use lockstep_core::operation::Refusal;
use lockstep_core::record::{Open, OpenKind};
use lockstep_core::stored::encode;
use tonic::{Code, Status};
use tracing::{error, warn};

use crate::deployments::DeployError;
use crate::environments::removal::RemoveError;
use crate::history::Unresolved;
use crate::store::StoreError;

pub(super) fn of(failure: DeployError) -> Status {
    match failure {
        DeployError::Refused(refusal) => refused(&refusal),
        DeployError::ImageAbsent(refusal) => {
            Status::with_details(Code::NotFound, refusal.to_string(), encode(&refusal).into())
        }
        DeployError::Locked { environment, open } => Status::with_details(
            Code::Aborted,
            locked(&environment.to_string(), &open),
            encode(&*open).into(),
        ),
        DeployError::Unresolved(unresolved) => of_unresolved(&unresolved),
        DeployError::Store(error) => of_store(&error),
        DeployError::Secrets(error) => of_secrets(&error),
    }
}

pub(super) fn refused(refusal: &Refusal) -> Status {
    Status::with_details(Code::FailedPrecondition, refusal.to_string(), encode(refusal).into())
}

fn locked(environment: &str, open: &Open) -> String {
    let Open { by, since, until, .. } = open;
    match &open.kind {
        OpenKind::Building { deployment } => {
            format!("{environment} is locked: {by} builds for {deployment} since {since}, until {until}")
        }
        OpenKind::Running { deployment, .. } => {
            format!("{environment} is locked: {deployment} by {by} runs since {since}, until {until} at most")
        }
        OpenKind::Stuck { deployment } => {
            format!("{environment} is locked: {deployment} by {by} is stuck, since {since}")
        }
        OpenKind::Hold { reason } => {
            format!("{environment} is frozen by {by} since {since}, until {until}: {reason}")
        }
    }
}

pub(super) fn of_unresolved(unresolved: &Unresolved) -> Status {
    let (why, next) = match unresolved {
        Unresolved::Store(error) => return of_store(error),
        Unresolved::NoEnvironment { .. } => {
            ("every environment has one of its own", "add --env ENV".to_owned())
        }
        Unresolved::Ambiguous { .. } => ("both begin so", "write more of it".to_owned()),
        Unresolved::NoneOpen(key) => {
            ("what was deployed last has ended", format!("lockstep status {}", key.environment))
        }
        Unresolved::NoneEver(key) => ("its history is empty", format!("lockstep deploy {}", key.environment)),
        Unresolved::Unknown { .. } => {
            ("it is neither the id of one nor the beginning of an id", "lockstep history ENV".to_owned())
        }
    };
    refused(&Refusal { what: unresolved.to_string(), why: why.to_owned(), next })
}

pub(super) fn of_store(failure: &StoreError) -> Status {
    match failure {
        StoreError::Unknown(_) | StoreError::Unavailable(_) => {
            warn!(error = failure as &dyn Error, "a call cannot be answered");
            Status::unavailable(failure.to_string())
        }
        StoreError::ValueTooLarge { .. }
        | StoreError::TooManyOperations { .. }
        | StoreError::TransactionTooLarge { .. } => Status::resource_exhausted(failure.to_string()),
        StoreError::NoSuchLease(_)
        | StoreError::NoEpoch { .. }
        | StoreError::Unreadable { .. }
        | StoreError::WrittenTwice { .. } => {
            error!(error = failure as &dyn Error, "a call cannot be answered");
            Status::internal(failure.to_string())
        }
    }
}

pub(super) fn of_secrets(failure: &anyhow::Error) -> Status {
    warn!(error = %format!("{failure:#}"), "a call about secrets failed");
    Status::internal(format!("{failure:#}"))
}

pub(super) fn of_removal(failure: &RemoveError) -> Status {
    match failure {
        RemoveError::Unknown(_) => Status::not_found(failure.to_string()),
        RemoveError::Refused(refusal) => refused(refusal),
        RemoveError::Locked(environment) | RemoveError::Changed(environment) => refused(&Refusal {
            what: format!("{environment} is not removed"),
            why: failure.to_string(),
            next: format!("lockstep status {environment}"),
        }),
        RemoveError::Store(_, error) => of_store(error),
    }
}
