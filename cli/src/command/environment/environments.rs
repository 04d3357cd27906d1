//! Environments: their declarations, as recorded and as declared here, their removal, and their state file.

use std::io::{self, IsTerminal};

use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_core::view::state_file::StateFile;
use lockstep_proto::wire;

use super::secrets;
use crate::args::RemoveArgs;
use crate::command::confirm::confirm;
use crate::command::reply::{read, read_all, show_done};
use crate::context::{Context, environment_ref};
use crate::deployment_yml::Effective;
use crate::failure::{Failure, Kind, Result};

pub async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_environments(wire::ListRequest {}).await?.into_inner();
    let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
    context.output.json(&environments)?;
    let mut rows = vec![["environment", "url", "live", "branch"].map(ToOwned::to_owned).to_vec()];
    for environment in environments {
        let live = match (&environment.removal, environment.live) {
            (Some(_), _) => "being removed".to_owned(),
            (None, Some(live)) => live.release.image,
            (None, None) => "nothing".to_owned(),
        };
        rows.push(vec![
            environment.key.to_string(),
            environment.url,
            live,
            environment.branch.unwrap_or_default(),
        ]);
    }
    context.output.table(&rows)
}

pub async fn show(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let document = context.control().await?.show_environment(request).await?.into_inner();
    let spec: EnvironmentSpec = read(Some(&document))?;
    context.output.json(&spec)?;
    context.output.pretty_json(&spec)
}

/// # Errors
/// When the environment is not declared here.
pub fn effective(context: &Context, env: &str) -> Result<()> {
    let all = context.effective(env)?;
    let key = context.key(env)?;
    context.output.json(&all)?;
    let mut rows = vec![["key", "value", "set in"].map(ToOwned::to_owned).to_vec()];
    for Effective { key: path, value, from } in all {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        rows.push(vec![path, value, from.place(&key.environment)]);
    }
    context.output.table(&rows)
}

/// # Errors
/// When the declaration or the .env file cannot be deployed with.
pub fn check(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    for warning in secrets::warnings(&declared)? {
        context.output.remark(&format!("warning: {warning}"));
    }
    context.output.json(&declared.spec)?;
    context.output.line(&format!("deployment.yml and the .env file of {} are valid", declared.spec.key))
}

pub async fn remove(context: &Context, args: RemoveArgs) -> Result<()> {
    let RemoveArgs { env, abandon, yes } = args;
    let key = context.key(&env)?;
    let mut control = context.control().await?;
    let request = environment_ref(&key, 0);
    if abandon && !yes && io::stdin().is_terminal() {
        // The reason for the refusal is what the operator confirms. If nothing is refused, nothing is abandoned.
        let refused = match control.remove_environment(request.clone()).await {
            Ok(done) => return show_done(context, &done.into_inner()),
            Err(status) => Failure::from(status),
        };
        let reply = control.status(request.clone()).await?.into_inner();
        let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
        // An open deployment cannot be abandoned, so there is nothing to confirm.
        if refused.kind != Kind::Refused || environments.iter().any(|environment| environment.open.is_some())
        {
            return Err(refused);
        }
        context.output.failure(&refused);
        confirm(context)?;
    }
    let done = if abandon {
        control.abandon_environment(request).await?.into_inner()
    } else {
        control.remove_environment(request).await?.into_inner()
    };
    show_done(context, &done)
}

/// Always JSON: the file's own form.
pub async fn export(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let document = context.control().await?.export_state(request).await?.into_inner();
    let state: StateFile = read(Some(&document))?;
    context.output.json(&state)?;
    context.output.pretty_json(&state)
}
