//! What a machine may do that comes with a token, as a CI system does: less than an operator, and only what the token says.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::{repository, same_repository};
use crate::name::OperatorName;
use crate::plan::operation::OperationKind;
use crate::time::Timestamp;

use super::{EnvironmentPattern, OperatorRole};

/// What a token can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Make plans, without starting any.
    Plan,
    Deploy,
    Rollback,
    /// Import, compare and list secrets; values are not shown to anybody.
    Secrets,
}

impl Verb {
    const ALL: [Self; 4] = [Self::Plan, Self::Deploy, Self::Rollback, Self::Secrets];
}

/// What binds a machine, beside its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineLimits {
    pub verbs: BTreeSet<Verb>,
    /// Of the images that it deploys; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// From which it deploys; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// When its token ends.
    pub expires: Timestamp,
}

/// The methods that machines may call, each with the verbs of which they need one; with none, any token will do. The rest is
/// for people.
const METHODS: &[(&str, &[Verb])] = &[
    ("/lockstep.v1.Control/About", &[]),
    ("/lockstep.v1.Control/Status", &[]),
    ("/lockstep.v1.Control/History", &[]),
    ("/lockstep.v1.Control/Show", &[]),
    ("/lockstep.v1.Control/Watch", &[]),
    ("/lockstep.v1.Control/ShowEnvironment", &[]),
    ("/lockstep.v1.Control/Plan", &[Verb::Plan, Verb::Deploy, Verb::Rollback]),
    ("/lockstep.v1.Control/Claim", &[Verb::Deploy]),
    ("/lockstep.v1.Control/Unclaim", &[Verb::Deploy]),
    ("/lockstep.v1.Control/SendImage", &[Verb::Deploy]),
    ("/lockstep.v1.Control/Start", &[Verb::Deploy, Verb::Rollback]),
    ("/lockstep.v1.Control/ImportSecrets", &[Verb::Secrets]),
    ("/lockstep.v1.Control/DiffSecrets", &[Verb::Secrets]),
    ("/lockstep.v1.Control/ListSecrets", &[Verb::Secrets]),
];

/// What the name of an image begins with that is named by its id.
const BY_ID: &str = "sha256:";

/// Whether a plan is only shown, or started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planning {
    Shown,
    Started,
}

/// What a token does not allow, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeyondToken {
    pub why: String,
    pub instead: Instead,
}

/// What allows what a token does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// No token can: it is for people.
    Operator,
    /// A token with these limits.
    Token(MachineLimits),
    /// The same token, if what is deployed is of this branch.
    Branch(String),
}

impl BeyondToken {
    fn for_people(why: &str) -> Self {
        Self { why: why.to_owned(), instead: Instead::Operator }
    }

    /// The command that helps, for the token of `name`.
    pub fn next(&self, name: &OperatorName, environments: &EnvironmentPattern) -> String {
        match &self.instead {
            Instead::Operator => "unset LOCKSTEP_TOKEN    # then run it as an operator".to_owned(),
            Instead::Token(limits) => format!(
                "lockstep token revoke {name} && {}    # run by an admin; the machine needs the new token",
                limits.create_command(name, environments)
            ),
            Instead::Branch(branch) => {
                let branch = shell_word(branch);
                format!("git switch {branch}    # or add --branch {branch}, if it is of that branch")
            }
        }
    }
}

impl MachineLimits {
    /// The command that creates a token with these limits.
    pub fn create_command(&self, name: &OperatorName, environments: &EnvironmentPattern) -> String {
        let verbs: Vec<String> = self.verbs.iter().map(Verb::to_string).collect();
        let option = |flag: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(" {flag} {}", shell_word(value)))
        };
        format!(
            "lockstep token create {name} --env {} --allow {}{}{}",
            shell_word(&environments.to_string()),
            verbs.join(","),
            option("--repository", &self.repository),
            option("--branch", &self.branch)
        )
    }

    /// The role of an operator that includes what is allowed.
    pub fn role(&self) -> OperatorRole {
        if self.verbs.iter().all(|verb| *verb == Verb::Plan) {
            OperatorRole::Read
        } else {
            OperatorRole::Deploy
        }
    }

    /// Why the machine may not call `method`; `None` if it may.
    pub fn refuses_method(&self, method: &str) -> Option<BeyondToken> {
        let Some((_, verbs)) = METHODS.iter().find(|(name, _)| *name == method) else {
            return Some(BeyondToken::for_people("it is for people, and not for tokens"));
        };
        (!verbs.is_empty() && !verbs.iter().any(|verb| self.verbs.contains(verb))).then(|| self.needs(verbs))
    }

    /// Why the machine may not plan or start an operation; `None` if it may.
    pub fn refuses_operation(&self, kind: OperationKind, planning: Planning) -> Option<BeyondToken> {
        let verb = match kind {
            OperationKind::Deploy => Verb::Deploy,
            OperationKind::Rollback => Verb::Rollback,
            OperationKind::AddHost | OperationKind::DrainHost | OperationKind::RemoveHost => {
                return Some(BeyondToken::for_people(
                    "adding and removing hosts is for people, and not for tokens",
                ));
            }
            OperationKind::Decommission => {
                return Some(BeyondToken::for_people(
                    "giving an environment up is for people, and not for tokens",
                ));
            }
        };
        let may =
            self.verbs.contains(&verb) || (planning == Planning::Shown && self.verbs.contains(&Verb::Plan));
        (!may).then(|| self.needs(&[verb]))
    }

    /// Why the machine may not deploy `image`; `None` if it may.
    pub fn refuses_image(&self, image: &str) -> Option<BeyondToken> {
        let wanted = self.repository.as_ref().filter(|repository| !same_repository(image, repository))?;
        // An id has no repository.
        let of_image = (!image.starts_with(BY_ID)).then(|| repository(image).to_owned());
        Some(BeyondToken {
            why: format!("its token is for images of {wanted}"),
            instead: Instead::Token(Self { repository: of_image, ..self.clone() }),
        })
    }

    /// Why the machine may not deploy from `branch`; `None` if it may.
    pub fn refuses_branch(&self, branch: Option<&str>) -> Option<BeyondToken> {
        let wanted = self.branch.as_deref().filter(|wanted| branch != Some(*wanted))?;
        let (found, instead) = match branch {
            None => ("no branch".to_owned(), Instead::Branch(wanted.to_owned())),
            Some(branch) => {
                let limits = Self { branch: Some(branch.to_owned()), ..self.clone() };
                (format!("the branch {branch}"), Instead::Token(limits))
            }
        };
        Some(BeyondToken {
            why: format!("its token is for the branch {wanted}, and this is {found}"),
            instead,
        })
    }

    fn needs(&self, verbs: &[Verb]) -> BeyondToken {
        let names = |verbs: &mut dyn Iterator<Item = &Verb>| verbs.map(Verb::to_string).collect::<Vec<_>>();
        let (allowed, needed) = (names(&mut self.verbs.iter()), names(&mut verbs.iter()));
        let mut limits = self.clone();
        // Any of them will do.
        limits.verbs.extend(verbs.first());
        BeyondToken {
            why: format!("its token allows {}, and not {}", allowed.join(", "), needed.join(" or ")),
            instead: Instead::Token(limits),
        }
    }
}

/// `text` as one word of a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Secrets => "secrets",
        })
    }
}

impl FromStr for Verb {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|verb| verb.to_string() == text);
        found.ok_or_else(|| {
            let all: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            format!("{text:?} cannot be allowed: write {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access;

    fn limits(verbs: &[Verb]) -> MachineLimits {
        MachineLimits {
            verbs: verbs.iter().copied().collect(),
            repository: Some("ghcr.io/acme/shop".to_owned()),
            branch: Some("main".to_owned()),
            expires: Timestamp(1),
        }
    }

    fn next(beyond: &BeyondToken) -> String {
        let environments = "shop/production".parse().expect("a pattern");
        beyond.next(&"ci".parse().expect("a name"), &environments)
    }

    #[test]
    fn every_method_of_machines_is_one_of_operators_of_their_role() {
        for (method, _) in METHODS {
            let callers =
                access::METHODS.iter().find(|(name, _)| name == method).map(|(_, callers)| *callers);
            let is_enough = matches!(
                callers,
                Some(access::Callers::Operators(OperatorRole::Read | OperatorRole::Deploy))
            );
            assert!(is_enough, "{method}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_what_is() {
        let deploys = limits(&[Verb::Deploy]);
        assert_eq!(deploys.refuses_method("/lockstep.v1.Control/Start"), None);
        let secrets = deploys.refuses_method("/lockstep.v1.Control/ImportSecrets");
        let secrets = secrets.expect("it is refused");
        assert_eq!(secrets.why, "its token allows deploy, and not secrets");
        assert_eq!(
            next(&secrets),
            "lockstep token revoke ci && lockstep token create ci --env shop/production --allow deploy,secrets \
             --repository ghcr.io/acme/shop --branch main    # run by an admin; the machine needs the new token"
        );
        let freeze = deploys.refuses_method("/lockstep.v1.Control/Freeze").expect("it is refused");
        assert_eq!(next(&freeze), "unset LOCKSTEP_TOKEN    # then run it as an operator");
        assert!(deploys.refuses_method("/lockstep.v1.Control/Logs").is_some());
        assert_eq!(deploys.refuses_operation(OperationKind::Deploy, Planning::Started), None);
        assert!(deploys.refuses_operation(OperationKind::Rollback, Planning::Shown).is_some());
        assert!(deploys.refuses_operation(OperationKind::AddHost, Planning::Shown).is_some());
        assert!(deploys.refuses_operation(OperationKind::Decommission, Planning::Shown).is_some());
        let plans = limits(&[Verb::Plan]);
        assert_eq!(plans.role(), OperatorRole::Read);
        assert_eq!(plans.refuses_operation(OperationKind::Rollback, Planning::Shown), None);
        assert!(plans.refuses_operation(OperationKind::Rollback, Planning::Started).is_some());
    }

    #[test]
    fn other_images_and_branches_are_refused() {
        let limits = limits(&[Verb::Deploy]);
        assert_eq!(limits.refuses_image("ghcr.io/acme/shop:1"), None);
        assert_eq!(limits.refuses_image("ghcr.io/acme/shop@sha256:00"), None);
        for other in ["ghcr.io/acme/shop-evil:1", "ghcr.io/evil/shop:1", "shop:1", "sha256:0011"] {
            assert!(limits.refuses_image(other).is_some(), "{other}");
        }
        assert_eq!(limits.refuses_branch(Some("main")), None);
        for other in [None, Some("feature"), Some("HEAD"), Some("Main")] {
            assert!(limits.refuses_branch(other).is_some(), "{other:?}");
        }
        let feature = limits.refuses_branch(Some("it's new")).expect("it is refused");
        assert!(next(&feature).contains(r"--branch 'it'\''s new'    #"), "{}", next(&feature));
        let detached = limits.refuses_branch(None).expect("it is refused");
        assert!(next(&detached).starts_with("git switch main    # or add --branch main"));
        let id = limits.refuses_image("sha256:0011").expect("it is refused");
        assert!(!next(&id).contains("--repository sha256"), "{}", next(&id));
    }
}
