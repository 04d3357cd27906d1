//! How a command fails: what happened, why, and the next command. The hints of the command line are in this file.

use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::stored::decode;
use lockstep_core::time::InvalidDuration;
use lockstep_proto::dial::DialError;
use tonic::{Code, Status};

use crate::credential::CredentialError;
use crate::deployment_yml::{DeclarationError, Hint};
use crate::env_file::EnvFileError;
use crate::this_machine::ThisMachine;

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

impl Kind {
    /// As `--output json` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Locked => "locked",
            Self::Unreachable => "unreachable",
            Self::Stuck => "stuck",
            Self::Unread => "unread",
            Self::Interrupted => "interrupted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub what: String,
    pub why: Option<String>,
    /// What helps: a command with its effect after `    # `, or a sentence. Each alternative is a line.
    pub next: Option<String>,
    /// What holds the lock, if that is why.
    pub lock: Option<ClaimKind>,
}

pub type Result<T> = std::result::Result<T, Failure>;

/// What a hint calls the environment where the code that writes it does not know its name.
const ENV: &str = "ENV";

/// What a hint calls the address of the coordinator where the code that writes it does not know it.
const ADDRESS: &str = "HOST:PORT";

/// What a hint calls an image where the code that writes it does not know one.
const IMAGE: &str = "IMAGE";

impl Failure {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, next: None, lock: None }
    }

    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The same with one more command that helps.
    pub fn or(self, next: impl Into<String>) -> Self {
        let next = match &self.next {
            Some(first) => format!("{first}\n{}", next.into()),
            None => next.into(),
        };
        Self { next: Some(next), ..self }
    }

    /// The same, with the name of the environment in its hint, so that the hint can be pasted.
    pub fn in_environment(self, name: &str) -> Self {
        Self { next: self.next.map(|next| fill(&next, ENV, name)), ..self }
    }

    /// The same, with the address of the coordinator in its hint.
    pub fn at_coordinator(self, address: &str) -> Self {
        Self { next: self.next.map(|next| fill(&next, ADDRESS, address)), ..self }
    }

    /// The same for a machine, which comes with its token and never logs in.
    pub fn of_machine(self) -> Self {
        let is_for_people = self.next.as_ref().is_some_and(|next| *next == NEW_TOKEN || *next == login());
        if is_for_people { self.next(NEW_MACHINE_TOKEN) } else { self }
    }

    /// Whether its hint lacks the name of an image.
    pub fn lacks_image(&self) -> bool {
        self.next.as_ref().is_some_and(|next| fill(next, IMAGE, "") != *next)
    }

    /// The same, with an image in its hint.
    pub fn with_image(self, image: &str) -> Self {
        Self { next: self.next.map(|next| fill(&next, IMAGE, image)), ..self }
    }

    /// The same, for an environment whose image is built from the commit at HEAD.
    pub fn with_built_image(self) -> Self {
        Self { next: self.next.map(|next| next.replace(&format!(" --image {IMAGE}"), "")), ..self }
    }

    /// That there is no usable credential, with the command that gets one on this machine.
    pub fn without_credential(error: CredentialError, machine: &ThisMachine) -> Self {
        let is_absent = matches!(error, CredentialError::None { .. });
        let failure = Self::from(error);
        if !is_absent {
            return failure;
        }
        match machine.login() {
            Some(command) => failure.next(format!("{command}    # at the coordinator of this machine")),
            None => failure.next(format!("{}    # sets up this machine, with a coordinator", machine.up())),
        }
        .or(login())
    }

    /// That no coordinator answers, with the command that starts the one of this machine.
    pub fn unreachable(error: DialError, machine: &ThisMachine) -> Self {
        let is_here =
            matches!(&error, DialError::Unreachable { address, .. } if machine.has_coordinator_at(address));
        let failure = Self::from(error);
        if !is_here {
            return failure;
        }
        failure
            .why("the coordinator of this machine does not run")
            .next(format!("{}    # starts it again", machine.up()))
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
        "lockstep login --coordinator {ADDRESS} < token    # an admin gets the token by: lockstep operator add NAME"
    )
}

/// Only an administrator can run it, on a machine of theirs.
const NEW_TOKEN: &str =
    "lockstep operator add NAME    # run by an admin: prints the command that lets NAME in";

/// What a machine needs instead, where the coordinator does not say whose token it was.
const NEW_MACHINE_TOKEN: &str =
    "lockstep token create NAME --env ENV    # run by an admin: prints another one";

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let failure = Self::new(Kind::Unreachable, error.to_string());
        match error {
            DialError::Unreachable { .. } => {
                failure.why("no coordinator runs there, or a firewall blocks the connection").next(
                    "systemctl start lockstep-coordinator    # on its machine; --coordinator names another",
                )
            }
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
            DialError::Refused { next: Some(next), .. } => Self { kind: Kind::Refused, ..failure }.next(next),
            DialError::Token(_) | DialError::Refused { next: None, .. } => {
                Self { kind: Kind::Refused, ..failure }.next(NEW_TOKEN)
            }
        }
    }
}

impl Failure {
    fn locked(what: String, holder: ClaimKind) -> Self {
        let next = match &holder {
            ClaimKind::Freeze { .. } => format!("lockstep lock thaw {ENV}    # ends the freeze"),
            ClaimKind::Stuck { .. } => format!("lockstep status {ENV}    # every resolution and its cost"),
            // A build has no journal to follow.
            ClaimKind::Building { .. } => {
                format!("lockstep lock status {ENV}    # who builds, and since when")
            }
            ClaimKind::Running { deployment, .. } => format!("lockstep watch {deployment}"),
        };
        Self { lock: Some(holder), ..Self::new(Kind::Locked, what).next(next) }
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
                Ok(open) => Self::locked(what, open.kind),
                Err(_) => Self::new(Kind::Refused, what),
            },
            Code::PermissionDenied => match decode::<Refusal>(status.details()) {
                Ok(Refusal { what, why, next }) => Self::new(Kind::Refused, what).why(why).next(next),
                Err(_) => Self::new(Kind::Refused, what).next(NEW_TOKEN),
            },
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
            // No message of this size gets through: nothing was done.
            Code::OutOfRange => Self::new(Kind::Refused, "the request or its reply is too large")
                .why(what)
                .next(format!("lockstep env check {ENV}    # what is too large in deployment.yml")),
            Code::Ok | Code::Internal | Code::DataLoss => Self::new(Kind::Unreachable, what)
                .next("journalctl -u lockstep-coordinator    # on its machine"),
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
                .next("cd DIR    # the directory with the deployment.yml of the application"),
            DeclarationError::Read { source, .. } => failure.why(source.to_string()),
            DeclarationError::TooLarge { .. } => failure
                .why("that is the most that is read: it declares environments, and is no place for data")
                .next(format!(
                    "lockstep env check {ENV}    # once what is large is in a file of its own, mounted with `volumes`"
                )),
            DeclarationError::Parse { diagnostic, hint, .. } => {
                let failure = failure.why(diagnostic);
                match hint {
                    Some(Hint::Nearest(nearest)) => failure.next(format!("did you mean `{nearest}`?")),
                    Some(Hint::Known(known)) => failure.next(format!("write one of: {}", known.join(", "))),
                    None => failure.next(format!("lockstep env check {ENV}    # once the line is corrected")),
                }
            }
            DeclarationError::NoEnvironment { known, nearest, .. } => {
                let failure = failure.why(format!("it declares: {}", known.join(", ")));
                match nearest {
                    Some(nearest) => failure.next(format!("did you mean `{nearest}`?")),
                    None => failure,
                }
            }
            DeclarationError::Problems { problems, .. } => failure
                .why(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       "))
                .next(format!("lockstep env check {ENV}    # once deployment.yml is corrected")),
        }
    }
}

fn check_again(once: &str) -> String {
    format!("lockstep env check {ENV}    # once {once}")
}

impl From<InvalidDuration> for Failure {
    fn from(error: InvalidDuration) -> Self {
        Self::new(Kind::Usage, error.to_string())
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
            EnvFileError::ModeOfAnother { path, .. } => failure
                .why("only its owner may read a file of secrets, and this one is not yours to change")
                .next(format!("replace {} by a file of your own with mode 0600", path.display())),
            EnvFileError::NotAFile { path, kind } => failure
                .why(format!("it is {kind}, and secrets are read from a regular file"))
                .next(format!("replace {} by a file with lines NAME=value and mode 0600", path.display())),
            EnvFileError::Nul { path, .. } => failure
                .why("no variable of a process can have one")
                .next(format!("lockstep env check {ENV}    # once {} is corrected", path.display())),
            EnvFileError::Placeholder { path, .. } => failure
                .why("it is a placeholder, not a value")
                .next(format!("write the value into {}", path.display())),
            EnvFileError::Missing { path, .. } => failure
                .why("deployment.yml lists them under `required`")
                .next(format!("add them to {}", path.display())),
            EnvFileError::TooLarge { path, why } => failure
                .why(why)
                .next(format!("mount what is large as a file, and remove it from {}", path.display())),
            EnvFileError::Line { .. } => failure
                .why("a name has letters, digits and underscores; a quoted value ends with its quote")
                .next(check_again("it is corrected, or begins with #")),
            EnvFileError::Unclosed { .. } => failure
                .why("a value that begins with a quote ends with the same quote")
                .next(check_again("the quote is closed")),
            EnvFileError::Twice { .. } => failure
                .why("only one of the two values can be meant")
                .next(check_again("one of the two lines is removed")),
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

    /// Who may do it instead is said, where the coordinator knows it.
    #[test]
    fn what_is_denied_comes_with_the_command_of_who_may() {
        let refusal = Refusal {
            what: "shop/production is not granted what its declaration uses".to_owned(),
            why: "not granted: the host app-2".to_owned(),
            next: "ask an administrator to run: lockstep env grant shop/production --host app-2".to_owned(),
        };
        let details = lockstep_core::stored::encode(&refusal).into();
        let status = Status::with_details(Code::PermissionDenied, refusal.to_string(), details);
        let failure = Failure::from(status);
        let Refusal { what, why, next } = refusal;
        assert_eq!(failure, Failure::new(Kind::Refused, what).why(why).next(next));
        let failure = Failure::from(Status::permission_denied("eve has no access to shop/production"));
        assert_eq!((failure.kind, failure.next.as_deref()), (Kind::Refused, Some(NEW_TOKEN)));
    }

    #[test]
    fn a_machine_is_not_told_to_log_in() {
        let refused = |next: Option<&str>| {
            let next = next.map(ToOwned::to_owned);
            Failure::from(DialError::Refused { why: "it has expired".to_owned(), next }).of_machine().next
        };
        assert_eq!(refused(None).as_deref(), Some(NEW_MACHINE_TOKEN));
        assert_eq!(refused(Some("lockstep token renew ci")).as_deref(), Some("lockstep token renew ci"));
        let unknown = Failure::from(Status::unauthenticated("unknown")).of_machine();
        assert_eq!(unknown.next.as_deref(), Some(NEW_MACHINE_TOKEN));
    }

    #[test]
    fn the_next_command_is_of_what_holds_the_lock() {
        let deployment: lockstep_core::id::DeploymentId = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
        let next = |kind| {
            Failure::locked("it is locked".to_owned(), kind).in_environment("production").next.unwrap()
        };
        let frozen = next(ClaimKind::Freeze { reason: "fair".to_owned() });
        assert!(frozen.starts_with("lockstep lock thaw production"), "{frozen}");
        let stuck = next(ClaimKind::Stuck { deployment: deployment.clone() });
        assert!(stuck.starts_with("lockstep status production"), "{stuck}");
        let request = lockstep_core::record::claim::OperatorRequest::None;
        let running = next(ClaimKind::Running { deployment: deployment.clone(), request });
        assert_eq!(running, format!("lockstep watch {deployment}"));
    }

    #[test]
    fn a_hint_gets_the_image_that_it_lacks_and_none_for_one_that_is_built() {
        let failure =
            Failure::new(Kind::Refused, "x").next("lockstep deploy production --image IMAGE    # again");
        assert!(failure.lacks_image());
        let named = failure.clone().with_image("notes:2");
        assert_eq!(named.next.as_deref(), Some("lockstep deploy production --image notes:2    # again"));
        assert!(!named.lacks_image());
        assert_eq!(failure.with_built_image().next.as_deref(), Some("lockstep deploy production    # again"));
    }
}
