//! Authorization: one table of methods and the roles that may call them. A method that is not in the table is refused.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::HostId;
use crate::name::{ApplicationName, CoordinatorName, EnvironmentKey, OperatorName};

pub mod machine;

use machine::MachineLimits;

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// No certificate was shown.
    Nobody,
    Agent(HostId),
    Operator(OperatorName),
    Coordinator(CoordinatorName),
}

/// What an operator may do, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    Read,
    Deploy,
    Admin,
}

/// The environments that an operator's role is for: `*`, `<app>/*` or `<app>/<env>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EnvironmentPattern {
    All,
    Application(ApplicationName),
    One(EnvironmentKey),
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    Anyone,
    /// Any certificate of ours.
    Known,
    Agents,
    Coordinators,
    /// Operators of at least this role. Which environments it is for, the method asks.
    Operators(OperatorRole),
    /// Administrators of every environment: hosts and operators are no single environment's, and who
    /// may add operators may add one for anything.
    Administrators,
}

/// What the record says that an operator may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRights {
    pub role: OperatorRole,
    pub environments: EnvironmentPattern,
    /// Of a machine: what its token allows.
    pub machine: Option<MachineLimits>,
}

/// Every method of every service. A test compares it with the services as generated.
pub const METHODS: &[(&str, Callers)] = &[
    ("/lockstep.v1.Enroll/Join", Callers::Anyone),
    ("/lockstep.v1.Enroll/Renew", Callers::Known),
    ("/lockstep.v1.Session/Attach", Callers::Agents),
    ("/lockstep.v1.Session/TakeImage", Callers::Agents),
    ("/lockstep.v1.Session/GiveImage", Callers::Agents),
    ("/lockstep.v1.Relay/Follow", Callers::Coordinators),
    ("/lockstep.v1.Relay/Ask", Callers::Coordinators),
    ("/lockstep.v1.Relay/Observe", Callers::Coordinators),
    ("/lockstep.v1.Relay/FetchLog", Callers::Coordinators),
    ("/lockstep.v1.Relay/RunErrand", Callers::Coordinators),
    ("/lockstep.v1.Relay/SignAuthority", Callers::Coordinators),
    ("/lockstep.v1.Control/Plan", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/Claim", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Unclaim", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Start", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/SendImage", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Watch", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/Cancel", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Resolve", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Status", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/History", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/Show", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/ExportState", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/Logs", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/Freeze", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Thaw", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/Audit", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/ImportSecrets", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/ListSecrets", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/DiffSecrets", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/ListEnvironments", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/ShowEnvironment", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/ShowGrant", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/ChangeGrant", Callers::Administrators),
    ("/lockstep.v1.Control/RemoveEnvironment", Callers::Operators(OperatorRole::Admin)),
    ("/lockstep.v1.Control/AbandonEnvironment", Callers::Operators(OperatorRole::Admin)),
    ("/lockstep.v1.Control/ListHosts", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/InspectHosts", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/CreateHostToken", Callers::Administrators),
    ("/lockstep.v1.Control/RemoveHost", Callers::Administrators),
    ("/lockstep.v1.Control/LogInToRegistry", Callers::Administrators),
    ("/lockstep.v1.Control/LogOutOfRegistry", Callers::Administrators),
    ("/lockstep.v1.Control/ListRegistries", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/CheckRegistries", Callers::Operators(OperatorRole::Deploy)),
    ("/lockstep.v1.Control/ListCoordinators", Callers::Operators(OperatorRole::Read)),
    ("/lockstep.v1.Control/CreateCoordinatorToken", Callers::Administrators),
    ("/lockstep.v1.Control/RemoveCoordinator", Callers::Administrators),
    ("/lockstep.v1.Control/ShowAuthority", Callers::Administrators),
    ("/lockstep.v1.Control/RotateAuthority", Callers::Administrators),
    ("/lockstep.v1.Control/RetireAuthority", Callers::Administrators),
    ("/lockstep.v1.Control/Backup", Callers::Administrators),
    ("/lockstep.v1.Control/BumpFence", Callers::Administrators),
    ("/lockstep.v1.Control/AddOperator", Callers::Administrators),
    ("/lockstep.v1.Control/ListOperators", Callers::Administrators),
    ("/lockstep.v1.Control/RevokeOperator", Callers::Administrators),
    ("/lockstep.v1.Control/CreateMachineToken", Callers::Administrators),
    ("/lockstep.v1.Control/RenewMachineToken", Callers::Administrators),
    ("/lockstep.v1.Control/About", Callers::Operators(OperatorRole::Read)),
];

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("{method} is not a method of this service")]
    UnknownMethod { method: String },
    #[error("this call needs a client certificate, and the caller presented none")]
    NoCertificate,
    #[error("{who} may not call {method}")]
    WrongRole { who: String, method: String },
    #[error("{operator} has the role {has}, and this command needs the role {needs}")]
    RoleTooLow { operator: OperatorName, has: OperatorRole, needs: OperatorRole },
    #[error(
        "{operator} is an administrator of {has} only, and this command needs an administrator of every environment"
    )]
    NotOfAll { operator: OperatorName, has: EnvironmentPattern },
    #[error("{operator} cannot do this: {why}")]
    BeyondToken { operator: OperatorName, why: String, next: String },
    #[error("{operator} has no access to {environment}")]
    OtherEnvironment { operator: OperatorName, environment: EnvironmentKey },
}

/// Whether `identity` may call `method`. `rights` is what the record says of an operator.
///
/// # Errors
/// Whenever the table does not say yes.
pub fn allow(identity: &Identity, rights: Option<&OperatorRights>, method: &str) -> Result<(), Denied> {
    let callers = METHODS
        .iter()
        .find(|(name, _)| *name == method)
        .map(|(_, callers)| *callers)
        .ok_or_else(|| Denied::UnknownMethod { method: method.to_owned() })?;
    let wrong = || Denied::WrongRole { who: alloc::format!("{identity}"), method: method.to_owned() };
    match (callers, identity) {
        (Callers::Anyone, _)
        | (Callers::Known, Identity::Agent(_) | Identity::Operator(_) | Identity::Coordinator(_))
        | (Callers::Agents, Identity::Agent(_))
        | (Callers::Coordinators, Identity::Coordinator(_)) => Ok(()),
        (
            Callers::Known
            | Callers::Agents
            | Callers::Coordinators
            | Callers::Operators(_)
            | Callers::Administrators,
            Identity::Nobody,
        ) => Err(Denied::NoCertificate),
        (Callers::Operators(needs), Identity::Operator(operator)) => {
            let rights = rights.ok_or_else(wrong)?;
            within_token(operator, rights, method)?;
            of_role(operator, rights, needs)
        }
        (Callers::Administrators, Identity::Operator(operator)) => {
            let rights = rights.ok_or_else(wrong)?;
            within_token(operator, rights, method)?;
            of_role(operator, rights, OperatorRole::Admin)?;
            match &rights.environments {
                EnvironmentPattern::All => Ok(()),
                has @ (EnvironmentPattern::Application(_) | EnvironmentPattern::One(_)) => {
                    Err(Denied::NotOfAll { operator: operator.clone(), has: has.clone() })
                }
            }
        }
        (Callers::Agents, Identity::Operator(_) | Identity::Coordinator(_))
        | (Callers::Coordinators, Identity::Operator(_) | Identity::Agent(_))
        | (Callers::Operators(_) | Callers::Administrators, Identity::Agent(_) | Identity::Coordinator(_)) => {
            Err(wrong())
        }
    }
}

fn within_token(operator: &OperatorName, rights: &OperatorRights, method: &str) -> Result<(), Denied> {
    let Some(beyond) = rights.machine.as_ref().and_then(|machine| machine.refuses_method(method)) else {
        return Ok(());
    };
    let next = beyond.next(operator, &rights.environments);
    Err(Denied::BeyondToken { operator: operator.clone(), why: beyond.why, next })
}

fn of_role(operator: &OperatorName, rights: &OperatorRights, needs: OperatorRole) -> Result<(), Denied> {
    if rights.role >= needs {
        return Ok(());
    }
    Err(Denied::RoleTooLow { operator: operator.clone(), has: rights.role, needs })
}

impl EnvironmentPattern {
    pub fn covers(&self, key: &EnvironmentKey) -> bool {
        match self {
            Self::All => true,
            Self::Application(application) => *application == key.application,
            Self::One(one) => one == key,
        }
    }
}

/// Why a text is not a pattern of environments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a pattern of environments: write *, <app>/* or <app>/<env>")]
pub struct InvalidPattern {
    pub text: String,
}

impl FromStr for EnvironmentPattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern { text: text.to_owned() };
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix("/*") {
            Some(application) => application.parse().map(Self::Application).map_err(|_| invalid()),
            None => text.parse().map(Self::One).map_err(|_| invalid()),
        }
    }
}

impl TryFrom<String> for EnvironmentPattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<EnvironmentPattern> for String {
    fn from(pattern: EnvironmentPattern) -> String {
        alloc::format!("{pattern}")
    }
}

impl fmt::Display for EnvironmentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Application(application) => write!(f, "{application}/*"),
            Self::One(key) => write!(f, "{key}"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("a caller without a certificate"),
            Self::Agent(host) => write!(f, "agent {host}"),
            Self::Operator(name) => write!(f, "operator {name}"),
            Self::Coordinator(id) => write!(f, "coordinator {id}"),
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for OperatorRole {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "deploy" => Ok(Self::Deploy),
            "admin" => Ok(Self::Admin),
            _ => Err(alloc::format!("{text:?} is not a role: write read, deploy or admin")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> [Identity; 4] {
        [
            Identity::Nobody,
            Identity::Agent("host_01JBQR2KXYZ987654321012345".parse().expect("an id")),
            Identity::Operator("anna".parse().expect("a name")),
            Identity::Coordinator("c1".parse().expect("a name")),
        ]
    }

    fn rights(role: OperatorRole, environments: &str) -> OperatorRights {
        OperatorRights { role, environments: environments.parse().expect("a pattern"), machine: None }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_to_everybody() {
        let admin = rights(OperatorRole::Admin, "*");
        for identity in identities() {
            assert!(allow(&identity, Some(&admin), "/lockstep.v1.Control/Nope").is_err(), "{identity}");
        }
    }

    #[test]
    fn an_agent_commands_nothing_and_nobody_only_joins() {
        let [nobody, agent, ..] = identities();
        for (method, callers) in METHODS {
            assert_eq!(allow(&nobody, None, method).is_ok(), *callers == Callers::Anyone, "{method}");
            let may = matches!(callers, Callers::Anyone | Callers::Known | Callers::Agents);
            assert_eq!(allow(&agent, None, method).is_ok(), may, "{method}");
        }
    }

    #[test]
    fn only_coordinators_relay_and_they_command_nothing() {
        let [_, agent, operator, coordinator] = identities();
        let admin = rights(OperatorRole::Admin, "*");
        for (method, callers) in METHODS {
            let relays = *callers == Callers::Coordinators;
            let may = relays || matches!(callers, Callers::Anyone | Callers::Known);
            assert_eq!(allow(&coordinator, None, method).is_ok(), may, "{method}");
            if relays {
                assert!(allow(&agent, None, method).is_err(), "{method}");
                assert!(allow(&operator, Some(&admin), method).is_err(), "{method}");
            }
        }
    }

    #[test]
    fn roles_rise() {
        let [_, _, operator, _] = identities();
        let start = "/lockstep.v1.Control/Start";
        assert!(allow(&operator, Some(&rights(OperatorRole::Read, "*")), start).is_err());
        assert!(allow(&operator, Some(&rights(OperatorRole::Deploy, "*")), start).is_ok());
        assert!(allow(&operator, None, start).is_err());
        let add = "/lockstep.v1.Control/AddOperator";
        assert!(allow(&operator, Some(&rights(OperatorRole::Deploy, "*")), add).is_err());
        assert!(allow(&operator, Some(&rights(OperatorRole::Admin, "*")), add).is_ok());
    }

    #[test]
    fn an_administrator_of_one_application_cannot_become_one_of_all() {
        let [_, _, operator, _] = identities();
        let remove = "/lockstep.v1.Control/RemoveEnvironment";
        for environments in ["notes/*", "notes/production"] {
            let limited = rights(OperatorRole::Admin, environments);
            assert!(allow(&operator, Some(&limited), remove).is_ok());
            for (method, callers) in METHODS {
                if *callers == Callers::Administrators {
                    let denied = allow(&operator, Some(&limited), method);
                    assert!(matches!(denied, Err(Denied::NotOfAll { .. })), "{method}");
                }
            }
        }
    }

    /// Who could call one of them could give themselves whatever the others protect.
    #[test]
    fn what_concerns_every_environment_is_for_administrators_of_all() {
        let [_, _, operator, _] = identities();
        let limited = rights(OperatorRole::Admin, "notes/*");
        for method in [
            "ChangeGrant",
            "CreateHostToken",
            "RemoveHost",
            "LogInToRegistry",
            "LogOutOfRegistry",
            "CreateCoordinatorToken",
            "RemoveCoordinator",
            "RotateAuthority",
            "RetireAuthority",
            "Backup",
            "BumpFence",
            "AddOperator",
            "RevokeOperator",
            "CreateMachineToken",
            "RenewMachineToken",
        ] {
            let method = alloc::format!("/lockstep.v1.Control/{method}");
            let denied = allow(&operator, Some(&limited), &method);
            assert!(matches!(denied, Err(Denied::NotOfAll { .. })), "{method}: {denied:?}");
        }
    }

    #[test]
    fn the_token_of_a_machine_bounds_what_its_role_allows() {
        let [_, _, operator, _] = identities();
        let verbs = [machine::Verb::Secrets].into();
        let limits =
            MachineLimits { verbs, repository: None, branch: None, expires: crate::time::Timestamp(1) };
        let machine =
            OperatorRights { machine: Some(limits), ..rights(OperatorRole::Deploy, "notes/production") };
        assert_eq!(allow(&operator, Some(&machine), "/lockstep.v1.Control/ImportSecrets"), Ok(()));
        for beyond in ["Start", "Freeze", "Cancel"] {
            let denied = allow(&operator, Some(&machine), &alloc::format!("/lockstep.v1.Control/{beyond}"));
            assert!(matches!(denied, Err(Denied::BeyondToken { .. })), "{beyond}: {denied:?}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_names() {
        let key = "notes/production".parse().expect("a key");
        for (pattern, covers) in [
            ("*", true),
            ("notes/*", true),
            ("notes/production", true),
            ("notes/staging", false),
            ("other/*", false),
        ] {
            let pattern: EnvironmentPattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.covers(&key), covers, "{pattern}");
        }
        assert!("*/production".parse::<EnvironmentPattern>().is_err());
    }
}
