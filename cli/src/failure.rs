//! What went wrong, why, and the next command: every hint stands here.

use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::stored::decode;
use lockstep_proto::dial::DialError;
use tonic::{Code, Status};

use crate::credential::CredentialError;
use crate::deployment_yml::{DeclarationError, Hint};
use crate::env_file::EnvFileError;

/// How a command ends when it does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    Locked = 4,
    Unreachable = 5,
    Stuck = 6,
    /// Whoever read the answer has enough, as in `| head -1`: nothing is said, and nothing has failed. The number is
    /// a shell's for what ends because nobody reads.
    Unread = 141,
    /// The command line was told to end; what it watched goes on.
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
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let failure = Self::new(Kind::Unreachable, error.to_string());
        match error {
            DialError::Unreachable { .. } => failure
                .why("no coordinator runs there, or a firewall is between")
                .next("start lockstep-coordinator there, or name another with --coordinator"),
            DialError::OtherAuthority { .. } => failure
                .why("it is another cluster, or the credential is of an earlier one, or of a root that was retired")
                .next("lockstep login"),
            DialError::CertificateTime { .. } => failure
                .why("one of the two clocks is wrong, or the coordinator could not renew its certificate")
                .next("compare the clocks of both machines: date --utc"),
            DialError::CertificateRefused { .. } => Self { kind: Kind::Refused, ..failure }
                .why("the credential is of another cluster or of a root that was retired, or a clock is wrong")
                .next("lockstep login"),
            DialError::Tls { .. } => {
                failure.why("who answers there does not speak TLS as a coordinator does").next("lockstep doctor")
            }
            DialError::Credential { .. } => failure.next("lockstep login"),
            DialError::Token(_) | DialError::Refused { .. } => {
                Self { kind: Kind::Refused, ..failure }.next("ask for a new token: lockstep operator add")
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
                    ClaimKind::Freeze { .. } => "wait for its end, or: lockstep lock thaw ENV",
                    ClaimKind::Stuck { .. } => {
                        "lockstep status ENV: what could not be taken back, and what each way out costs"
                    }
                    ClaimKind::Building { .. } | ClaimKind::Running { .. } => {
                        "lockstep watch @open, or the same command with --wait-lock 10m"
                    }
                }),
                Err(_) => Self::new(Kind::Refused, what),
            },
            Code::PermissionDenied => {
                Self::new(Kind::Refused, what).next("ask an admin: lockstep operator add")
            }
            Code::Unauthenticated => Self::new(Kind::Refused, what).next("lockstep login"),
            Code::InvalidArgument | Code::AlreadyExists | Code::Unimplemented | Code::ResourceExhausted => {
                Self::new(Kind::Refused, what)
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => Self::new(
                Kind::Unreachable,
                if what.is_empty() { "the coordinator does not answer".to_owned() } else { what },
            )
            .why("the connection broke")
            .next("lockstep doctor"),
            Code::Ok | Code::OutOfRange | Code::Internal | Code::DataLoss => {
                Self::new(Kind::Unreachable, what).next("the coordinator's log says why")
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
                    "looked for deployment.yml and deploy/deployment.yml in {}",
                    looked_in.display()
                ))
                .next("go to the project's directory, or name the environment as <app>/<env>"),
            DeclarationError::Read { source, .. } => failure.why(source.to_string()),
            DeclarationError::Parse { diagnostic, hint, .. } => {
                let failure = failure.why(diagnostic);
                match hint {
                    Some(Hint::Nearest(nearest)) => failure.next(format!("did you mean `{nearest}`?")),
                    Some(Hint::Known(known)) => failure.next(format!("write one of: {}", known.join(", "))),
                    None => failure.next("correct that line, then: lockstep env check ENV"),
                }
            }
            DeclarationError::NoEnvironment { known, nearest, .. } => {
                let failure = failure.why(format!("it has: {}", known.join(", ")));
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
            EnvFileError::Mode { path, .. } => failure.next(format!("chmod 600 {}", path.display())),
            EnvFileError::Placeholder { .. } => failure.next("write the real value"),
            EnvFileError::Missing { .. } => {
                failure.why("the application needs it").next("add it to the file")
            }
            EnvFileError::Line { .. } | EnvFileError::Unclosed { .. } | EnvFileError::Twice { .. } => failure,
        }
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let failure = Self::new(Kind::Refused, error.to_string());
        match error {
            CredentialError::None { .. } => failure
                .why("this machine has no operator's credential")
                .next("lockstep login --coordinator HOST:PORT, with a token from `lockstep operator add`"),
            CredentialError::Ended { .. } => failure
                .why("a certificate that is used is renewed by itself; this one was not used for too long")
                .next("lockstep login, with a new token from `lockstep operator add`"),
            CredentialError::NotYet { .. } => {
                failure.next("compare the clocks of this machine and of the coordinator's")
            }
            CredentialError::Open { path } => failure.next(format!("chmod 600 {}", path.display())),
            CredentialError::Read { source, .. } | CredentialError::Write { source, .. } => {
                failure.why(source.to_string())
            }
        }
    }
}
