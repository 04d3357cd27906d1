//! The methods for operators: each call aims at an environment, a deployment or a name that is not the caller's.

use std::collections::HashMap;

use lockstep_core::access::OperatorRole::{Admin, Deploy, Read};
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::plan_request::What;

use crate::cluster::{Aim, MINE, THEIRS};
use crate::methods::Callers::{AdministratorsOfAll, Operators};
use crate::methods::Machines::{May, MayNot};
use crate::methods::Reach::{Cluster, Environment};
use crate::methods::{Method, answered, streamed};

macro_rules! method {
    ($method:ident, $call:ident, $callers:expr, |$aim:ident| $request:expr) => {
        method!($method, $call, $callers, answered, |$aim| $request)
    };
    ($method:ident, $call:ident, $callers:expr, $answered:ident, |$aim:ident| $request:expr) => {
        Method {
            path: concat!("/lockstep.v1.Control/", stringify!($method)),
            callers: $callers,
            call: |channel, $aim| {
                let request = $request;
                $answered(async move { ControlClient::new(channel).$call(request).await })
            },
        }
    };
}

pub(crate) fn deployments() -> Vec<Method> {
    vec![
        method!(Plan, plan, Operators(Read, Environment, May), |aim| aim.rollback(THEIRS)),
        method!(Claim, claim, Operators(Deploy, Environment, May), |aim| wire::ClaimRequest {
            environment: THEIRS.to_owned(),
            spec: Some(aim.spec.clone()),
            client: None,
        }),
        method!(Unclaim, unclaim, Operators(Deploy, Environment, May), |aim| wire::DeploymentRef {
            environment: THEIRS.to_owned(),
            ..their_deployment(aim)
        }),
        method!(SendImage, send_image, Operators(Deploy, Environment, May), |aim| {
            let offer = wire::ImageOffer {
                environment: THEIRS.to_owned(),
                spec: Some(aim.spec.clone()),
                claim: aim.open.clone(),
                image: "theirs:evil".to_owned(),
                image_id: aim.image_id.clone(),
            };
            let sent = wire::ImageSent { sent: Some(wire::image_sent::Sent::Offer(offer)) };
            futures::stream::iter([sent])
        }),
        method!(Start, start, Operators(Deploy, Environment, May), |aim| wire::StartRequest {
            plan: Some(aim.rollback(THEIRS)),
            ..wire::StartRequest::default()
        }),
        method!(Watch, watch, Operators(Read, Environment, May), streamed, |aim| wire::WatchRequest {
            deployment: Some(their_deployment(aim)),
            after_seq: 0,
        }),
        method!(Cancel, cancel, Operators(Deploy, Environment, MayNot), |aim| wire::CancelRequest {
            deployment: Some(their_deployment(aim)),
        }),
        method!(Resolve, resolve, Operators(Deploy, Environment, MayNot), |aim| wire::ResolveRequest {
            deployment: Some(their_deployment(aim)),
            how: "retry".to_owned(),
            step: 0,
        }),
        method!(History, history, Operators(Read, Environment, May), |_aim| theirs()),
        method!(Show, show, Operators(Read, Environment, May), |aim| their_deployment(aim)),
        method!(Logs, logs, Operators(Read, Environment, MayNot), streamed, |aim| wire::LogsRequest {
            environment: MINE.to_owned(),
            deployment: Some(their_deployment(aim)),
            ..wire::LogsRequest::default()
        }),
    ]
}

pub(crate) fn environments() -> Vec<Method> {
    vec![
        method!(Status, status, Operators(Read, Environment, May), |_aim| theirs()),
        method!(ExportState, export_state, Operators(Read, Environment, MayNot), |_aim| theirs()),
        method!(Freeze, freeze, Operators(Deploy, Environment, MayNot), |_aim| wire::FreezeRequest {
            environment: THEIRS.to_owned(),
            reason: "fair".to_owned(),
            until_ms: u64::MAX / 2,
            client: None,
        }),
        method!(Thaw, thaw, Operators(Deploy, Environment, MayNot), |_aim| theirs()),
        method!(Audit, audit, Operators(Read, Environment, MayNot), |_aim| theirs()),
        method!(ImportSecrets, import_secrets, Operators(Deploy, Environment, May), |_aim| {
            wire::ImportSecretsRequest { environment: THEIRS.to_owned(), values: values(), replace: true }
        }),
        method!(ListSecrets, list_secrets, Operators(Read, Environment, May), |_aim| theirs()),
        method!(DiffSecrets, diff_secrets, Operators(Deploy, Environment, May), |_aim| {
            wire::DiffSecretsRequest { environment: THEIRS.to_owned(), values: values() }
        }),
        method!(ListEnvironments, list_environments, Operators(Read, Cluster, MayNot), |_aim| list()),
        method!(ShowEnvironment, show_environment, Operators(Read, Environment, May), |_aim| theirs()),
        method!(ShowGrant, show_grant, Operators(Read, Environment, MayNot), |_aim| theirs()),
        method!(ChangeGrant, change_grant, AdministratorsOfAll, |aim| wire::GrantRequest {
            environment: MINE.to_owned(),
            granted: vec![aim.host_of_others.clone()],
            ..wire::GrantRequest::default()
        }),
        method!(RemoveEnvironment, remove_environment, Operators(Admin, Environment, MayNot), |_aim| theirs(
        )),
        method!(AbandonEnvironment, abandon_environment, Operators(Admin, Environment, MayNot), |_aim| {
            theirs()
        }),
        method!(InspectHosts, inspect_hosts, Operators(Read, Environment, MayNot), |_aim| theirs()),
        method!(BumpFence, bump_fence, AdministratorsOfAll, |_aim| theirs()),
    ]
}

pub(crate) fn cluster() -> Vec<Method> {
    vec![
        method!(ListHosts, list_hosts, Operators(Read, Cluster, MayNot), |_aim| list()),
        method!(CreateHostToken, create_host_token, AdministratorsOfAll, |_aim| {
            wire::HostTokenRequest { name: "evil".to_owned(), roles: Vec::new() }
        }),
        method!(RemoveHost, remove_host, AdministratorsOfAll, |_aim| wire::HostRef {
            host: "idle-1".to_owned()
        }),
        method!(LogInToRegistry, log_in_to_registry, AdministratorsOfAll, |_aim| {
            wire::RegistryLoginRequest {
                registry: "registry.example".to_owned(),
                username: "eve".to_owned(),
                password: "evil".to_owned(),
            }
        }),
        method!(LogOutOfRegistry, log_out_of_registry, AdministratorsOfAll, |_aim| registry()),
        method!(ListRegistries, list_registries, Operators(Read, Cluster, MayNot), |_aim| list()),
        method!(CheckRegistries, check_registries, Operators(Deploy, Cluster, MayNot), |_aim| registry()),
        method!(ListCoordinators, list_coordinators, Operators(Read, Cluster, MayNot), |_aim| list()),
        method!(CreateCoordinatorToken, create_coordinator_token, AdministratorsOfAll, |_aim| {
            wire::CoordinatorRef { name: "evil".to_owned() }
        }),
        method!(RemoveCoordinator, remove_coordinator, AdministratorsOfAll, |_aim| {
            wire::CoordinatorRef { name: "coordinator-1".to_owned() }
        }),
        method!(ShowAuthority, show_authority, AdministratorsOfAll, |_aim| list()),
        method!(RotateAuthority, rotate_authority, AdministratorsOfAll, |_aim| {
            wire::RotateAuthorityRequest {}
        }),
        method!(RetireAuthority, retire_authority, AdministratorsOfAll, |_aim| {
            wire::RetireAuthorityRequest { force: true }
        }),
        method!(Backup, backup, AdministratorsOfAll, streamed, |_aim| wire::BackupRequest {
            passphrase: "correct horse battery staple".to_owned()
        }),
        method!(AddOperator, add_operator, AdministratorsOfAll, |_aim| wire::AddOperatorRequest {
            name: "evil".to_owned(),
            environments: "*".to_owned(),
            role: "admin".to_owned(),
        }),
        method!(ListOperators, list_operators, AdministratorsOfAll, |_aim| list()),
        method!(RevokeOperator, revoke_operator, AdministratorsOfAll, |_aim| wire::OperatorRef {
            name: "admin".to_owned()
        }),
        method!(CreateMachineToken, create_machine_token, AdministratorsOfAll, |_aim| {
            wire::MachineTokenRequest {
                name: "evil".to_owned(),
                environment: THEIRS.to_owned(),
                verbs: vec!["deploy".to_owned()],
                life_ms: 3_600_000,
                ..wire::MachineTokenRequest::default()
            }
        }),
        method!(RenewMachineToken, renew_machine_token, AdministratorsOfAll, |_aim| {
            wire::RenewMachineTokenRequest { name: "machine".to_owned(), life_ms: 400 * 24 * 3_600_000 }
        }),
        method!(About, about, Operators(Read, Cluster, May), |_aim| list()),
    ]
}

fn theirs() -> wire::EnvironmentRef {
    wire::EnvironmentRef { environment: THEIRS.to_owned(), limit: 0 }
}

/// Names the caller's own environment, and a deployment of another.
fn their_deployment(aim: &Aim) -> wire::DeploymentRef {
    wire::DeploymentRef { deployment: aim.open.clone(), environment: MINE.to_owned() }
}

fn list() -> wire::ListRequest {
    wire::ListRequest {}
}

fn registry() -> wire::RegistryRef {
    wire::RegistryRef { registry: "registry.example".to_owned() }
}

fn values() -> HashMap<String, String> {
    HashMap::from([("TOKEN".to_owned(), "evil".to_owned())])
}

impl Aim {
    /// A rollback of an environment.
    pub(crate) fn rollback(&self, environment: &str) -> wire::PlanRequest {
        let rollback = wire::RollbackAsk { to: self.earlier.clone(), overwrite_site: false };
        wire::PlanRequest { environment: environment.to_owned(), what: Some(What::Rollback(rollback)) }
    }
}
