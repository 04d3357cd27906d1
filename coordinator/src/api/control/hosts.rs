//! List, inspect and remove hosts, and create tokens for new ones.

use lockstep_core::host::HostRole;
use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::view::host_status::HostStatus;
use lockstep_proto::Invalid;
use lockstep_proto::wire::{self, Document, Done};
use tonic::Status;

use super::convert::{environment, non_empty};
use super::failure::{not_found, store_status};
use super::{Caller, ControlApi};
use crate::identity::tokens;
use crate::identity::tokens::{TOKEN_LIFE, TokenHolder};
use crate::ports::agents::ObservationRequest;
use crate::record::{environments, hosts};
use crate::view::status as state;

/// A key that no environment has: names begin with a letter, and this one is nobody's application.
const NO_ENVIRONMENT: &str = "lockstep/none";

/// Every host; of its pending undos, those of environments that the caller may see.
pub(super) async fn visible_hosts(api: &ControlApi, caller: &Caller) -> Result<Vec<HostStatus>, Status> {
    let may = |environment: &EnvironmentKey| caller.check_environment(environment).is_ok();
    state::all_hosts(&api.context, may).await.map_err(|error| store_status(&error))
}

pub(super) async fn list(api: &ControlApi, caller: &Caller) -> Result<wire::HostsReply, Status> {
    let hosts = visible_hosts(api, caller).await?;
    Ok(wire::HostsReply { hosts: hosts.iter().map(Document::of_content).collect() })
}

/// Looks at every host, all at once. Without an environment, for what belongs to none.
pub(super) async fn inspect(
    api: &ControlApi,
    caller: &Caller,
    text: &str,
) -> Result<wire::InspectReply, Status> {
    let environment = match text {
        "" => NO_ENVIRONMENT.parse().map_err(|error| Invalid::because("environment", error))?,
        text => environment(caller, text)?,
    };
    let question = ObservationRequest::of(environment);
    let hosts = visible_hosts(api, caller).await?;
    let looks = hosts.iter().map(|status| async {
        let (seen, why) = match api.context.agents.observe(&status.host.id, question.clone()).await {
            Ok(seen) => (Some(Document::of_content(&seen)), String::new()),
            Err(error) => (None, error.to_string()),
        };
        wire::InspectedHost { host: Some(Document::of_content(status)), seen, why }
    });
    Ok(wire::InspectReply { hosts: futures::future::join_all(looks).await })
}

pub(super) async fn create_token(
    api: &ControlApi,
    caller: &Caller,
    request: wire::HostTokenRequest,
) -> Result<wire::TokenReply, Status> {
    let parse = |text: String| text.parse::<HostName>().map_err(|error| Invalid::because("name", error));
    let name = non_empty(request.name).map(parse).transpose()?;
    let role = |text: &String| text.parse::<HostRole>().map_err(|error| Invalid::because("roles", error));
    let roles = request.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    let said = match &name {
        Some(name) => format!("a token for the host {name}"),
        None => "a token for a host".to_owned(),
    };
    let reply = issue_token(api, TokenHolder::Host { name, roles }).await?;
    api.audit(caller, "create host token", None, said).await?;
    Ok(reply)
}

/// A fresh token that admits whoever has it, once.
pub(super) async fn issue_token(api: &ControlApi, admits: TokenHolder) -> Result<wire::TokenReply, Status> {
    let expires = api.context.clock.now() + TOKEN_LIFE;
    let token = tokens::make(&*api.context.store, &api.authority.pin(), admits, expires)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(wire::TokenReply { token: token.expose(), expires_ms: expires.0 })
}

fn absent(name: &HostName) -> Status {
    not_found(&Refusal {
        what: format!("there is no host {name}"),
        why: "no host of this name has joined, or it was removed".to_owned(),
        next: "lockstep host list".to_owned(),
    })
}

pub(super) async fn remove(
    api: &ControlApi,
    caller: &Caller,
    request: wire::HostRef,
) -> Result<Done, Status> {
    let name: HostName = request.host.parse().map_err(|error| Invalid::because("host", error))?;
    let store = &*api.context.store;
    let failed = |error| store_status(&error);
    let host = hosts::named(store, &name).await.map_err(failed)?;
    let host = host.ok_or_else(|| absent(&name))?;
    let specs = environments::declared(store).await.map_err(failed)?;
    let users: Vec<String> = specs
        .iter()
        .filter(|spec| {
            let roles = &spec.hosts;
            roles.app.iter().chain(&roles.lb).chain(&roles.db).any(|named| *named == name)
        })
        .map(|spec| spec.key.to_string())
        .collect();
    if !users.is_empty() {
        return Err(super::failure::refused(&Refusal {
            what: format!("cannot remove the host {name}"),
            why: format!("it is a declared host of {}", users.join(", ")),
            next: format!(
                "lockstep host remove {0} {name}    # or remove it from deployment.yml and deploy, or: lockstep env remove {0}",
                users[0]
            ),
        }));
    }
    hosts::remove(store, &host.id).await.map_err(failed)?;
    api.audit(
        caller,
        "remove host",
        None,
        format!("the host {name} is removed; its certificate is no longer accepted"),
    )
    .await
}
