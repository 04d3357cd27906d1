//! How a command fails: what happened, why, and the next command. The hints of the command line are in this file.

use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::stored::decode;
use lockstep_proto::dial::DialError;
use tonic::{Code, Status};

use crate::credential::CredentialError;
use crate::deployment_yml::{DeclarationError, Hint};
use crate::env_file::EnvFileError;

/// How a command ends when it does not succeed: its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    Locked = 4,
    Unreachable = 5,
    Stuck = 6,
    /// The reader of the output closed it, as in `| head -1`. Nothing failed, so nothing is printed. The number is
    /// the one that a shell gives a program that SIGPIPE ended.
    Unread = 141,
    /// The command was interrupted. The deployment that it followed continues.
    Interrupted = 130,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub what: String,
    pub why: Option<String>,
    pub next: Option<String>,
}

pub type Result<T> = std::result::Result<T, Failure>;

/// What a hint calls the environment where the code that writes it does not know its name.
const ENV: &str = "ENV";

/// What a hint calls the address of the coordinator where the code that writes it does not know it.
const ADDRESS: &str = "HOST:PORT";

impl Failure {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, next: None }
    }

    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The same, with the name of the environment in its hint, so that the hint can be pasted.
    pub fn in_environment(self, name: &str) -> Self {
        Self { next: self.next.map(|next| fill(&next, ENV, name)), ..self }
    }

    /// The same, with the address of the coordinator in its hint.
    pub fn at_coordinator(self, address: &str) -> Self {
        Self { next: self.next.map(|next| fill(&next, ADDRESS, address)), ..self }
    }
}

/// `hint` with `value` wherever `placeholder` is a word.
fn fill(hint: &str, placeholder: &str, value: &str) -> String {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let is_word =
        |at: usize| !hint[..at].ends_with(letter) && !hint[at + placeholder.len()..].starts_with(letter);
    let mut filled = String::new();
    let mut rest = 0;
    for (at, _) in hint.match_indices(placeholder).filter(|(at, _)| is_word(*at)) {
        filled.push_str(&hint[rest..at]);
        filled.push_str(value);
        rest = at + placeholder.len();
    }
    filled + &hint[rest..]
}

fn login() -> String {
    format!(
        "lockstep login --coordinator {ADDRESS} < token    # an admin gets a token by: lockstep operator add"
    )
}

/// What somebody can do whose command met a lock.
const WAIT: &str = "or wait for the lock: --wait-lock 10m";

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let failure = Self::new(Kind::Unreachable, error.to_string());
        match error {
            DialError::Unreachable { .. } => failure
                .why("no coordinator runs there, or a firewall blocks the connection")
                .next("systemctl start lockstep-coordinator    # on its machine; or name another with --coordinator"),
            DialError::OtherAuthority { .. } => failure
                .why("the coordinator belongs to another cluster, or your credential is of a retired root")
                .next(login()),
            DialError::CertificateTime { .. } => failure
                .why("one of the two clocks is wrong, or the coordinator could not renew its certificate")
                .next("date --utc    # on both machines: compare the clocks"),
            DialError::CertificateRefused { .. } => Self { kind: Kind::Refused, ..failure }
                .why("your credential is of another cluster or of a retired root, or a clock is wrong")
                .next(login()),
            DialError::Tls { .. } => {
                failure.why("the server at this address is not a coordinator").next("lockstep doctor")
            }
            DialError::Credential { .. } => failure.next(login()),
            DialError::Token(_) | DialError::Refused { .. } => {
                Self { kind: Kind::Refused, ..failure }.next("ask an admin for a new token: lockstep operator add")
            }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let what = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition | Code::NotFound => match decode::<Refusal>(status.details()) {
                Ok(Refusal { what, why, next }) => Self::new(Kind::Refused, what).why(why).next(next),
                Err(_) if status.code() == Code::NotFound => {
                    Self::new(Kind::Refused, what).next("lockstep env list")
                }
                Err(_) => Self::new(Kind::Refused, what),
            },
            Code::Aborted => match decode::<Claim>(status.details()) {
                Ok(open) => Self::new(Kind::Locked, what).next(match open.kind {
                    ClaimKind::Freeze { .. } => format!("lockstep lock thaw {ENV}"),
                    ClaimKind::Stuck { .. } => format!("lockstep status {ENV}"),
                    // A build has no journal to follow.
                    ClaimKind::Building { .. } => format!("lockstep status {ENV}    # {WAIT}"),
                    ClaimKind::Running { deployment, .. } => {
                        format!("lockstep watch {deployment}    # {WAIT}")
                    }
                }),
                Err(_) => Self::new(Kind::Refused, what),
            },
            Code::PermissionDenied => {
                Self::new(Kind::Refused, what).next("ask an admin for a token: lockstep operator add")
            }
            Code::Unauthenticated => Self::new(Kind::Refused, what).next(login()),
            Code::InvalidArgument | Code::AlreadyExists | Code::Unimplemented | Code::ResourceExhausted => {
                Self::new(Kind::Refused, what)
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => Self::new(
                Kind::Unreachable,
                if what.is_empty() { "the coordinator does not answer".to_owned() } else { what },
            )
            .why("the connection to the coordinator broke")
            .next("lockstep doctor"),
            Code::Ok | Code::OutOfRange | Code::Internal | Code::DataLoss => {
                Self::new(Kind::Unreachable, what)
                    .next("journalctl -u lockstep-coordinator    # on its machine")
            }
        }
    }
}

impl From<DeclarationError> for Failure {
    fn from(error: DeclarationError) -> Self {
        let failure = Self::new(Kind::Refused, error.to_string());
        match error {
            DeclarationError::Missing { looked_in } => failure
                .why(format!(
                    "neither deployment.yml nor deploy/deployment.yml is in {}",
                    looked_in.display()
                ))
                .next("cd to the project, or name the environment as <app>/<env>"),
            DeclarationError::Read { source, .. } => failure.why(source.to_string()),
            DeclarationError::Parse { diagnostic, hint, .. } => {
                let failure = failure.why(diagnostic);
                match hint {
                    Some(Hint::Nearest(nearest)) => failure.next(format!("did you mean `{nearest}`?")),
                    Some(Hint::Known(known)) => failure.next(format!("write one of: {}", known.join(", "))),
                    None => failure.next(format!("lockstep env check {ENV}    # after correcting the line")),
                }
            }
            DeclarationError::NoEnvironment { known, nearest, .. } => {
                let failure = failure.why(format!("it declares: {}", known.join(", ")));
                match nearest {
                    Some(nearest) => failure.next(format!("did you mean `{nearest}`?")),
                    None => failure,
                }
            }
            DeclarationError::Problems { problems, .. } => {
                failure.why(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       "))
            }
        }
    }
}

impl From<EnvFileError> for Failure {
    fn from(error: EnvFileError) -> Self {
        let failure = Self::new(Kind::Refused, error.to_string());
        match error {
            EnvFileError::Read { source, .. } => failure.why(source.to_string()),
            EnvFileError::Mode { path, .. } => failure
                .why("only its owner may read a file of secrets")
                .next(format!("chmod 600 {}", path.display())),
            EnvFileError::Placeholder { path, .. } => failure
                .why("it is a placeholder, not a value")
                .next(format!("write the value into {}", path.display())),
            EnvFileError::Missing { path, .. } => failure
                .why("deployment.yml lists them under `required`")
                .next(format!("add them to {}", path.display())),
            EnvFileError::Line { .. } | EnvFileError::Unclosed { .. } | EnvFileError::Twice { .. } => failure,
        }
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let failure = Self::new(Kind::Refused, error.to_string());
        match error {
            CredentialError::None { .. } => {
                failure.why("you have not logged in on this machine").next(login())
            }
            CredentialError::Ended { .. } => failure
                .why("a certificate is renewed when a command uses it; this one was not used in time")
                .next(login()),
            CredentialError::NotYet { .. } => failure
                .why("the clock of this machine or of the coordinator is wrong")
                .next("date --utc    # on both machines: compare the clocks"),
            CredentialError::Open { path } => failure
                .why("only you may read your private key")
                .next(format!("chmod 600 {}", path.display())),
            CredentialError::Read { source, .. } | CredentialError::Write { source, .. } => {
                failure.why(source.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_environment_and_changes_nothing_else() {
        let hint = |next: &str| {
            let failure = Failure::new(Kind::Locked, "production is frozen").next(next);
            failure.in_environment("notes/production").next.unwrap()
        };
        assert_eq!(hint("lockstep lock thaw ENV"), "lockstep lock thaw notes/production");
        assert_eq!(
            hint("lockstep status ENV; set LOCKSTEP_ENV"),
            "lockstep status notes/production; set LOCKSTEP_ENV"
        );
        assert_eq!(hint("lockstep watch dep_01J8"), "lockstep watch dep_01J8");
        let failure = Failure::new(Kind::Refused, "expired").next(login()).at_coordinator("10.0.0.1:7443");
        assert!(failure.next.unwrap().starts_with("lockstep login --coordinator 10.0.0.1:7443 < token"));
        assert_eq!(
            hint("lockstep cancel ENV, or ENV"),
            "lockstep cancel notes/production, or notes/production"
        );
    }
}
