//! What an error of etcd or of the connection says about a call: it was not sent, etcd refused it, or its outcome is
//! unknown. Only in the first two cases nothing has happened.

use std::error::Error;
use std::fmt;

use tonic::{Code, ConnectError, Status};

use crate::store::{Source, StoreError};

/// Why a call to one member has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The member did not get it.
    NotSent(MemberFailure),
    /// The member answered that it does not do this, and has done nothing.
    Refused(Status),
    /// The member may have done it.
    Lost(MemberFailure),
}

/// What was wrong, with whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberFailure {
    pub(super) endpoint: String,
    pub(super) why: String,
}

impl fmt::Display for MemberFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.why)
    }
}

/// The troubles with each member that was tried, newest last.
#[derive(Debug, Default)]
pub(super) struct MemberFailures(Vec<MemberFailure>);

impl MemberFailures {
    pub(super) fn add(&mut self, failure: MemberFailure) {
        if !self.0.contains(&failure) {
            self.0.push(failure);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add_all(&mut self, others: Self) {
        others.0.into_iter().for_each(|failure| self.add(failure));
    }
}

impl fmt::Display for MemberFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

impl Error for MemberFailures {}

/// Why a call to whichever member answers has no result.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No member got it.
    NotSent(MemberFailures),
    Refused(Status),
    /// A member may have done it.
    Lost(MemberFailures),
}

impl Unanswered {
    /// For a call that changes nothing, or the same thing however often it is sent.
    pub(super) fn of_repeatable(self) -> StoreError {
        StoreError::Unavailable(self.into_source())
    }

    /// For a transaction.
    pub(super) fn of_transaction(self) -> StoreError {
        match self {
            Self::NotSent(_) | Self::Refused(_) => StoreError::Unavailable(self.into_source()),
            Self::Lost(_) => StoreError::Unknown(self.into_source()),
        }
    }

    pub(super) fn into_source(self) -> Source {
        match self {
            Self::NotSent(failures) | Self::Lost(failures) => Box::new(failures),
            Self::Refused(status) => status.message().to_owned().into(),
        }
    }
}

impl Failure {
    pub(super) fn classify(endpoint: &str, error: etcd_client::Error) -> Self {
        let failure = MemberFailure { endpoint: endpoint.to_owned(), why: chain(&error) };
        let etcd_client::Error::GRpcStatus(status) = error else {
            return Self::Lost(failure);
        };
        if never_sent(&status) {
            Self::NotSent(failure)
        } else if is_an_answer(&status) {
            Self::Refused(status)
        } else {
            Self::Lost(failure)
        }
    }
}

/// Whether the connection that the call was for could not be made.
fn never_sent(status: &Status) -> bool {
    let first: &(dyn Error + 'static) = status;
    std::iter::successors(Some(first), |error| (*error).source()).any(|cause| cause.is::<ConnectError>())
}

/// Whether a status is etcd's own word on the call. The other codes may be about the way to it, or come while
/// the call is on its way through the cluster.
fn is_an_answer(status: &Status) -> bool {
    // One that was made on this side has the cause with it: a connection that ends can look like a refusal.
    if status.source().is_some() {
        return false;
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// The error and what is under it; the crate's own type does not say.
fn causes(error: &etcd_client::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = if let etcd_client::Error::GRpcStatus(status) = error {
        status
    } else if let etcd_client::Error::TransportError(transport) = error {
        transport
    } else {
        error
    };
    std::iter::successors(Some(first), |error| (*error).source())
}

/// All that an error says, each thing once.
fn chain(error: &etcd_client::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error) {
        // A status in words repeats what is under it; its message does not.
        let text = cause
            .downcast_ref::<Status>()
            .map_or_else(|| cause.to_string(), |status| status.message().to_owned());
        if !text.is_empty() && !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}
