//! The credentials with which hosts pull from registries, and whether registries accept them.

use lockstep_core::image::RegistryName;
use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use serde_json::json;

use crate::args::RegistryCommand;
use crate::command::reply::show_done;
use crate::context::{Context, read_secret};
use crate::failure::{Failure, Kind, Result};

/// The user name for a registry that checks only the token.
const TOKEN_USER: &str = "token";

pub async fn run(context: &Context, command: RegistryCommand) -> Result<()> {
    match command {
        RegistryCommand::Login { registry, username } => log_in(context, &registry, username).await,
        RegistryCommand::List => list(context).await,
        RegistryCommand::Check { registry } => check(context, registry).await,
        RegistryCommand::Logout { registry } => log_out(context, &registry).await,
    }
}

async fn log_in(context: &Context, registry: &str, username: Option<String>) -> Result<()> {
    let registry = parse_registry(registry)?;
    // From standard input, so that it is in no shell history.
    let password = read_secret(context, &format!("password or token of {registry}"))?
        .trim_end_matches(['\r', '\n'])
        .to_owned();
    if password.is_empty() {
        return Err(Failure::new(Kind::Usage, "standard input is empty")
            .why("the password or token is read from it")
            .next(format!("lockstep registry login {registry} --username NAME < token")));
    }
    let username = username.unwrap_or_else(|| TOKEN_USER.to_owned());
    let request = wire::RegistryLoginRequest { registry: registry.to_string(), username, password };
    let done = context.control().await?.log_in_to_registry(request).await?.into_inner();
    show_done(context, &done)?;
    context.output.next(&format!("lockstep registry check {registry}"))
}

async fn log_out(context: &Context, registry: &str) -> Result<()> {
    let request = wire::RegistryRef { registry: parse_registry(registry)?.into() };
    let done = context.control().await?.log_out_of_registry(request).await?.into_inner();
    show_done(context, &done)
}

async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_registries(wire::ListRequest {}).await?.into_inner();
    let records: Vec<_> = reply
        .registries
        .iter()
        .map(|record| {
            json!({ "registry": record.registry, "username": record.username,
                    "set_at_ms": record.set_at_ms, "set_by": record.set_by })
        })
        .collect();
    context.output.json(&records)?;
    if reply.registries.is_empty() {
        return show_none(context);
    }
    let mut rows = vec![["registry", "user", "since", "by"].map(ToOwned::to_owned).to_vec()];
    for wire::RegistryRecord { registry, username, set_at_ms, set_by } in reply.registries {
        rows.push(vec![registry, username, Timestamp(set_at_ms).to_string(), set_by]);
    }
    context.output.table(&rows)
}

async fn check(context: &Context, registry: Option<String>) -> Result<()> {
    let registry = registry.as_deref().map(parse_registry).transpose()?;
    let request = wire::RegistryRef { registry: registry.map(String::from).unwrap_or_default() };
    let checks = context.control().await?.check_registries(request).await?.into_inner().checks;
    let records: Vec<_> = checks
        .iter()
        .map(|check| {
            let why_not = (!check.why_not.is_empty()).then_some(&check.why_not);
            json!({ "registry": check.registry, "host": check.host, "why_not": why_not })
        })
        .collect();
    context.output.json(&records)?;
    if checks.is_empty() {
        return show_none(context);
    }
    let mut rows = vec![["registry", "host", "accepted"].map(ToOwned::to_owned).to_vec()];
    for check in &checks {
        let answer =
            if check.why_not.is_empty() { "yes".to_owned() } else { format!("no: {}", check.why_not) };
        rows.push(vec![check.registry.clone(), check.host.clone(), answer]);
    }
    context.output.table(&rows)?;
    let refused: Vec<&wire::RegistryCheck> =
        checks.iter().filter(|check| !check.why_not.is_empty()).collect();
    let Some(first) = refused.first() else { return Ok(()) };
    let hosts: Vec<&str> = refused.iter().map(|check| check.host.as_str()).collect();
    Err(Failure::new(Kind::Failed, format!("the credential was refused on {}", hosts.join(", ")))
        .next(format!("lockstep registry login {} --username NAME < token", first.registry)))
}

/// No registry has a credential, or no app host could use one.
fn show_none(context: &Context) -> Result<()> {
    context.output.line("no registry has a credential that an app host uses")?;
    context.output.next("lockstep registry login REGISTRY --username NAME < token")
}

fn parse_registry(text: &str) -> Result<RegistryName> {
    text.parse::<RegistryName>().map_err(|error| Failure::new(Kind::Usage, error.to_string()))
}
