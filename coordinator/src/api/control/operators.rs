//! Add, list and revoke operators.

use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::name::OperatorName;
use lockstep_core::plan::operation::Refusal;
use lockstep_proto::Invalid;
use lockstep_proto::wire::{self, Done};
use tonic::Status;

use super::convert::refuse_reserved;
use super::failure::{not_found, refused, store_status};
use super::hosts::issue_token;
use super::machines;
use super::{Caller, ControlApi};
use crate::identity::operators;
use crate::identity::operators::{Operator, OperatorStanding, Revocation};
use crate::identity::tokens::TokenHolder;

pub(super) async fn add(
    api: &ControlApi,
    caller: &Caller,
    request: wire::AddOperatorRequest,
) -> Result<wire::TokenReply, Status> {
    let wire::AddOperatorRequest { name, environments, role } = request;
    let name: OperatorName = name.parse().map_err(|error| Invalid::because("name", error))?;
    let environments: EnvironmentPattern =
        environments.parse().map_err(|error| Invalid::because("environments", error))?;
    let role: OperatorRole = role.parse().map_err(|error: String| Invalid::because("role", error))?;
    refuse_reserved(&name, format!("lockstep operator add NAME --env {environments} --role {role}"))?;
    let before = operators::find(&*api.context.store, &name).await.map_err(|error| store_status(&error))?;
    if before.is_some_and(|operator| operator.is_active_machine()) {
        return Err(refused(&Refusal {
            what: format!("cannot add the operator {name}"),
            why: "a machine of this name has a token".to_owned(),
            next: format!("lockstep token revoke {name}    # or use another name"),
        }));
    }
    let said = format!("{name} can log in with the role {role} for {environments}");
    let reply = issue_token(api, TokenHolder::Operator { name, environments, role }).await?;
    api.audit(caller, "add operator", None, said).await?;
    Ok(reply)
}

pub(super) async fn list(api: &ControlApi) -> Result<wire::OperatorsReply, Status> {
    let operators = operators::list(&*api.context.store).await.map_err(|error| store_status(&error))?;
    let record = |operator: Operator| wire::OperatorRecord {
        machine: machines::record(&operator),
        name: operator.name.into(),
        environments: operator.environments.to_string(),
        role: operator.role.to_string(),
        certificate_expires_ms: operator.certificate_expires.0,
        revoked: operator.standing != OperatorStanding::Active,
    };
    Ok(wire::OperatorsReply { operators: operators.into_iter().map(record).collect() })
}

pub(super) async fn revoke(
    api: &ControlApi,
    caller: &Caller,
    request: wire::OperatorRef,
) -> Result<Done, Status> {
    let name: OperatorName = request.name.parse().map_err(|error| Invalid::because("name", error))?;
    let store = &*api.context.store;
    let before = operators::find(store, &name).await.map_err(|error| store_status(&error))?;
    let (verb, what) = match before.and_then(|operator| operator.machine) {
        Some(_) => ("revoke token", format!("the token of {name}")),
        None => ("revoke operator", format!("the operator {name}")),
    };
    let now = api.context.clock.now();
    match operators::revoke(store, &name, now).await.map_err(|error| store_status(&error))? {
        Revocation::Done => api.audit(caller, verb, None, format!("{what} is revoked")).await,
        Revocation::Changed => Err(Status::aborted(format!("{what} was changed meanwhile: try again"))),
        Revocation::LastAdministrator => Err(refused(&Refusal {
            what: format!("cannot revoke {what}"),
            why: "no other administrator of all environments could let anybody in".to_owned(),
            next: "lockstep operator add NAME --role admin    # then NAME logs in, and can revoke".to_owned(),
        })),
        Revocation::Absent => Err(not_found(&Refusal {
            what: format!("nothing of the name {name} can be revoked"),
            why: "neither an operator nor a machine has it".to_owned(),
            next: "lockstep operator list\nlockstep token list".to_owned(),
        })),
    }
}
