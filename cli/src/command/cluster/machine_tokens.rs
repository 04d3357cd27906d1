//! Tokens of machines.

use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::wire;
use serde_json::json;

use super::operators;
use crate::args::TokenCommand;
use crate::command::reply::{note_if_unreachable, show_done};
use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

pub async fn run(context: &Context, command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create { name, env, allow, repository, branch, life } => {
            let request = wire::MachineTokenRequest {
                name,
                environment: context.key(&env)?.to_string(),
                verbs: allow,
                repository: repository.unwrap_or_default(),
                branch: branch.unwrap_or_default(),
                life_ms: Millis::parse(&life)?.0,
            };
            create(context, request).await
        }
        TokenCommand::List => list(context).await,
        TokenCommand::Renew { name, life } => {
            let request = wire::RenewMachineTokenRequest { name, life_ms: Millis::parse(&life)?.0 };
            let done = context.control().await?.renew_machine_token(request).await?.into_inner();
            show_done(context, &done)
        }
        TokenCommand::Revoke { name } => revoke(context, name).await,
    }
}

/// An operator has no token that could be revoked: who says token does not mean a person's access.
async fn revoke(context: &Context, name: String) -> Result<()> {
    let reply = context.control().await?.list_operators(wire::ListRequest {}).await?.into_inner();
    let is_operator = |operator: &wire::OperatorRecord| operator.name == name && operator.machine.is_none();
    if reply.operators.iter().any(is_operator) {
        return Err(Failure::new(Kind::Refused, format!("{name} is an operator, and not a machine"))
            .why("revoking it would take the access of a person away")
            .next(format!("lockstep operator revoke {name}    # if that is meant")));
    }
    if reply.operators.iter().all(|operator| operator.name != name) {
        return Err(Failure::new(Kind::Refused, format!("there is no token of {name}"))
            .why("no machine has this name")
            .next("lockstep token list"));
    }
    operators::revoke(context, name).await
}

async fn create(context: &Context, request: wire::MachineTokenRequest) -> Result<()> {
    let reply = context.control().await?.create_machine_token(request).await?.into_inner();
    let coordinator = context.reached_at()?;
    note_if_unreachable(context, &coordinator);
    let wire::TokenReply { token, expires_ms } = reply;
    context.output.json(&json!({ "token": token, "coordinator": coordinator, "expires_ms": expires_ms }))?;
    context.output.verbatim(&format!("LOCKSTEP_COORDINATOR={coordinator}"))?;
    context.output.verbatim(&format!("LOCKSTEP_TOKEN={token}"))?;
    let ends = Timestamp(expires_ms);
    context.output.line(&format!(
        "Set both for the machine, the token as a secret. It is not shown again, and good until {ends}."
    ))
}

async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_operators(wire::ListRequest {}).await?.into_inner();
    let machines = reply.operators.into_iter().filter(|operator| !operator.revoked);
    let machines: Vec<_> = machines
        .filter_map(|operator| {
            let machine = operator.machine?;
            Some((operator.name, operator.environments, machine))
        })
        .collect();
    let records: Vec<_> = machines
        .iter()
        .map(|(name, environment, machine)| {
            json!({ "name": name, "environment": environment, "allows": machine.verbs,
                    "repository": machine.repository, "branch": machine.branch, "expires_ms": machine.expires_ms })
        })
        .collect();
    context.output.json(&records)?;
    let heads = ["token", "environment", "allows", "images of", "branch", "until"];
    let mut rows = vec![heads.map(ToOwned::to_owned).to_vec()];
    let any = |text: String| if text.is_empty() { "any".to_owned() } else { text };
    for (name, environment, machine) in machines {
        let wire::MachineRecord { verbs, repository, branch, expires_ms } = machine;
        let until = Timestamp(expires_ms).to_string();
        rows.push(vec![name, environment, verbs.join(", "), any(repository), any(branch), until]);
    }
    context.output.table(&rows)
}
