//! Operators, and the login of one.

use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use serde_json::json;

use crate::command::reply::{note_if_unreachable, quoted, show_done};
use crate::context::{Context, read_secret};
use crate::failure::Result;

pub async fn login(context: &Context) -> Result<()> {
    let address = context.coordinator()?;
    // From standard input, so that it is in no shell history.
    let token = read_secret(context, "one-time token")?;
    let name = context.log_in(address, token.trim()).await?;
    context.output.json(&json!({ "operator": name }))?;
    context.output.line(&format!("logged in as the operator {name}"))
}

pub async fn add(context: &Context, name: String, environments: String, role: String) -> Result<()> {
    let request = wire::AddOperatorRequest { name, environments, role };
    let reply = context.control().await?.add_operator(request).await?.into_inner();
    let address = context.reached_at()?;
    note_if_unreachable(context, &address);
    let wire::TokenReply { token, expires_ms } = reply;
    let line = format!("echo {token} | lockstep login --coordinator {}", quoted(&address));
    context.output.json(&json!({ "token": token, "expires_ms": expires_ms, "login": line }))?;
    context.output.verbatim(&line)?;
    let ends = Timestamp(expires_ms);
    context
        .output
        .line(&format!("The operator runs this line on their machine. It works once, until {ends}."))
}

pub async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_operators(wire::ListRequest {}).await?.into_inner();
    // Their certificates live for one run, and what counts is until when their tokens are good.
    let (machines, operators): (Vec<_>, Vec<_>) =
        reply.operators.into_iter().partition(|operator| operator.machine.is_some());
    let records: Vec<_> = operators
        .iter()
        .map(|operator| {
            json!({ "name": operator.name, "environments": operator.environments, "role": operator.role,
                    "certificate_expires_ms": operator.certificate_expires_ms, "revoked": operator.revoked })
        })
        .collect();
    context.output.json(&records)?;
    let mut rows =
        vec![["operator", "environments", "role", "certificate expires"].map(ToOwned::to_owned).to_vec()];
    for operator in operators {
        let until = if operator.revoked {
            "revoked".to_owned()
        } else {
            Timestamp(operator.certificate_expires_ms).to_string()
        };
        rows.push(vec![operator.name, operator.environments, operator.role, until]);
    }
    context.output.table(&rows)?;
    if machines.iter().any(|machine| !machine.revoked) {
        context.output.next("lockstep token list    # machines are not in this list")?;
    }
    Ok(())
}

pub async fn revoke(context: &Context, name: String) -> Result<()> {
    let done = context.control().await?.revoke_operator(wire::OperatorRef { name }).await?.into_inner();
    show_done(context, &done)
}
