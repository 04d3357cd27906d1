//! Log in to registries, log out and list them. A password is never returned.

use futures::future::join_all;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::host::{Host, HostRole};
use lockstep_core::image::{Login, RegistryName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::secret::Secret;
use lockstep_proto::Invalid;
use lockstep_proto::wire::{self, Done};
use tonic::Status;

use super::convert::non_empty;
use super::failure::{refused, secrets_status, store_status};
use super::{Caller, ControlApi};
use crate::ports::agents::AgentError;
use crate::record::hosts;
use crate::record::vault::ListedLogin;

pub(super) async fn log_in(
    api: &ControlApi,
    caller: &Caller,
    request: wire::RegistryLoginRequest,
) -> Result<Done, Status> {
    let wire::RegistryLoginRequest { registry, username, password } = request;
    // From here on it cannot get into a log.
    let password = Secret::new(password);
    let registry = registry_of(&registry)?;
    if username.is_empty() || password.expose().is_empty() {
        return Err(Invalid { field: "login", what: "needs a user name and a password".to_owned() }.into());
    }
    let said = format!("hosts log in to {registry} as {username}");
    let by = (caller.operator()?.clone(), api.context.clock.now());
    let login = Login { registry, username, password };
    api.vault.log_in(&login, by).await.map_err(|error| secrets_status(&error))?;
    api.audit(caller, "registry login", None, said).await
}

pub(super) async fn log_out(
    api: &ControlApi,
    caller: &Caller,
    request: wire::RegistryRef,
) -> Result<Done, Status> {
    let registry = registry_of(&request.registry)?;
    if !api.vault.log_out(&registry).await.map_err(|error| store_status(&error))? {
        return Err(unknown(&registry));
    }
    api.audit(caller, "registry logout", None, format!("hosts no longer log in to {registry}")).await
}

pub(super) async fn list(api: &ControlApi) -> Result<wire::RegistriesReply, Status> {
    let logins = api.vault.logins().await.map_err(|error| store_status(&error))?;
    let record = |ListedLogin { registry, username, at, by }| wire::RegistryRecord {
        registry: registry.into(),
        username,
        set_at_ms: at.0,
        set_by: by.into(),
    };
    Ok(wire::RegistriesReply { registries: logins.into_iter().map(record).collect() })
}

/// Every app host with every registry that is asked for, all at once.
pub(super) async fn check(
    api: &ControlApi,
    request: wire::RegistryRef,
) -> Result<wire::RegistryChecksReply, Status> {
    let wanted = non_empty(request.registry).map(|text| registry_of(&text)).transpose()?;
    let logins = api.vault.logins().await.map_err(|error| store_status(&error))?;
    let mut registries: Vec<RegistryName> = logins.into_iter().map(|login| login.registry).collect();
    if let Some(wanted) = wanted {
        registries.retain(|registry| *registry == wanted);
        if registries.is_empty() {
            return Err(unknown(&wanted));
        }
    }
    let hosts = hosts::list(&*api.context.store).await.map_err(|error| store_status(&error))?;
    let hosts: Vec<&Host> = hosts.iter().filter(|host| host.roles.contains(&HostRole::App)).collect();
    let pairs = registries.iter().flat_map(|registry| hosts.iter().map(move |host| (registry, *host)));
    let checks = pairs.map(|(registry, host)| async move {
        let task = HostTask::LogIn { registry: registry.clone() };
        let why_not = match api.context.agents.run_task(&host.id, task).await {
            Ok(()) => String::new(),
            Err(AgentError::Refused { why, .. }) => why,
            Err(error @ (AgentError::Absent { .. } | AgentError::NoAnswer { .. })) => error.to_string(),
        };
        wire::RegistryCheck { registry: registry.to_string(), host: host.name.to_string(), why_not }
    });
    Ok(wire::RegistryChecksReply { checks: join_all(checks).await })
}

fn registry_of(text: &str) -> Result<RegistryName, Invalid> {
    text.parse().map_err(|error| Invalid::because("registry", error))
}

fn unknown(registry: &RegistryName) -> Status {
    refused(&Refusal {
        what: format!("there is no login for {registry}"),
        why: "no user name and no password are stored for it".to_owned(),
        next: format!("lockstep registry login {registry} --username NAME < token"),
    })
}
