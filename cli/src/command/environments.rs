//! What belongs to an environment beside its deployments: declaration, secrets, lock, logs, state.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use lockstep_core::record::claim::ClaimKind;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_core::view::state_file::StateFile;
use lockstep_proto::wire;
use serde_json::json;

use super::operators::show_done;
use super::resolve::ask;
use super::{read, read_all};
use crate::args::{LogsArgs, RemoveArgs};
use crate::context::{Context, client, environment_ref, read_input};
use crate::deployment_yml::{self, DeclaredEnvironment, Effective};
use crate::env_file;
use crate::failure::{Failure, Kind, Result};
use crate::output::{ago, table};

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
    table(&rows).iter().try_for_each(|row| context.output.line(row))
}

pub async fn show(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let document = context.control().await?.show_environment(request).await?.into_inner();
    let spec: EnvironmentSpec = read(Some(&document))?;
    context.output.json(&spec)?;
    let text = serde_json::to_string_pretty(&spec).unwrap_or_default();
    context.output.line(&text)
}

/// # Errors
/// When the environment is not declared here.
pub fn effective(context: &Context, env: &str) -> Result<()> {
    let all = context.effective(env)?;
    let key = context.key(env)?;
    context.output.json(&all)?;
    let mut rows = vec![["key", "value", "from"].map(ToOwned::to_owned).to_vec()];
    for Effective { key: path, value, from } in all {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        rows.push(vec![path, value, from.place(&key.environment)]);
    }
    table(&rows).iter().try_for_each(|row| context.output.line(row))
}

/// # Errors
/// When nobody reads it.
pub fn schema(context: &Context) -> Result<()> {
    let schema = deployment_yml::schema();
    context.output.json(&schema)?;
    context.output.line(&format!("{schema:#}"))
}

/// # Errors
/// When the declaration or the .env file cannot be deployed with.
pub fn check(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    secrets_of(&declared)?;
    context.output.json(&declared.spec)?;
    context.output.line(&format!("{} can be deployed as declared", declared.spec.key))
}

pub async fn remove(context: &Context, args: RemoveArgs) -> Result<()> {
    let RemoveArgs { env, abandon, yes } = args;
    let key = context.key(&env)?;
    let mut control = context.control().await?;
    let request = environment_ref(&key, 0);
    if abandon && !yes && io::stdin().is_terminal() {
        // Whatever forbids it is what is asked about; if nothing does, nothing is abandoned.
        let refused = match control.remove_environment(request.clone()).await {
            Ok(done) => return show_done(context, &done.into_inner()),
            Err(status) => Failure::from(status),
        };
        let reply = control.status(request.clone()).await?.into_inner();
        let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
        // An open deployment is not abandoned: there is nothing to ask.
        if refused.kind != Kind::Refused || environments.iter().any(|environment| environment.open.is_some())
        {
            return Err(refused);
        }
        context.output.failure(&refused);
        ask(context)?;
    }
    let done = if abandon {
        control.abandon_environment(request).await?.into_inner()
    } else {
        control.remove_environment(request).await?.into_inner()
    };
    show_done(context, &done)
}

/// The values of the environment's file, checked; nothing where there is no file.
///
/// # Errors
/// When the file cannot be deployed with.
pub fn secrets_of(declared: &DeclaredEnvironment) -> Result<Option<BTreeMap<String, String>>> {
    let Some(values) = env_file::read(&declared.env_file)? else { return Ok(None) };
    let required: Vec<String> = declared
        .spec
        .required
        .iter()
        .filter(|name| !declared.spec.env.contains_key(*name))
        .cloned()
        .collect();
    env_file::require(&declared.env_file, &values, &required)?;
    Ok(Some(values.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()))
}

fn file_of(declared: &DeclaredEnvironment) -> Result<BTreeMap<String, String>> {
    secrets_of(declared)?
        .ok_or_else(|| Failure::new(Kind::Refused, format!("there is no {}", declared.env_file.display())))
}

pub async fn import(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    let values = file_of(&declared)?.into_iter().collect();
    let request =
        wire::ImportSecretsRequest { environment: declared.spec.key.to_string(), values, replace: true };
    let reply = context.control().await?.import_secrets(request).await?.into_inner();
    show_secrets(context, &reply)
}

pub async fn set(context: &Context, env: &str, name: String) -> Result<()> {
    let environment = context.key(env)?.to_string();
    let value = read_input()?;
    let values = [(name, value.trim_end_matches('\n').to_owned())].into();
    let request = wire::ImportSecretsRequest { environment, values, replace: false };
    let reply = context.control().await?.import_secrets(request).await?.into_inner();
    show_secrets(context, &reply)
}

pub async fn secrets(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let reply = context.control().await?.list_secrets(request).await?.into_inner();
    show_secrets(context, &reply)
}

fn show_secrets(context: &Context, reply: &wire::SecretsReply) -> Result<()> {
    let names: BTreeMap<&str, &str> =
        reply.secrets.iter().map(|secret| (secret.name.as_str(), secret.fingerprint.as_str())).collect();
    context.output.json(&json!({ "version": reply.version, "set_by": reply.set_by, "set_at_ms": reply.set_at_ms, "secrets": names }))?;
    context.output.line(&format!(
        "version {}, by {} {} ({})",
        reply.version,
        reply.set_by,
        ago(Timestamp(reply.set_at_ms)),
        Timestamp(reply.set_at_ms)
    ))?;
    let rows: Vec<Vec<String>> =
        names.iter().map(|(name, print)| vec![(*name).to_owned(), (*print).to_owned()]).collect();
    table(&rows).iter().try_for_each(|row| context.output.line(row))
}

pub async fn diff(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    let values = file_of(&declared)?.into_iter().collect();
    let request = wire::DiffSecretsRequest { environment: declared.spec.key.to_string(), values };
    let reply = context.control().await?.diff_secrets(request).await?.into_inner();
    context.output.json(&json!({ "version": reply.version, "added": reply.added, "changed": reply.changed, "removed": reply.removed }))?;
    let all = [("+", &reply.added), ("~", &reply.changed), ("-", &reply.removed)];
    if all.iter().all(|(_, names)| names.is_empty()) {
        return context.output.line(&format!("nothing differs from version {}", reply.version));
    }
    all.iter()
        .flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign} {name}")))
        .try_for_each(|line| context.output.line(&line))
}

pub async fn lock_status(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let reply = context.control().await?.status(request).await?.into_inner();
    let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
    let open = environments.into_iter().find_map(|environment| environment.open).map(|status| status.open);
    context.output.json(&open)?;
    let Some(open) = open else { return context.output.line("nobody: it can be deployed to") };
    let what = match &open.kind {
        ClaimKind::Building { deployment } => format!("{deployment} is being built"),
        ClaimKind::Running { deployment, .. } => format!("{deployment} runs"),
        ClaimKind::Stuck { deployment } => format!("{deployment} is stuck"),
        ClaimKind::Freeze { reason } => format!("frozen: {reason}"),
    };
    context.output.line(&format!("{what}, by {} on {} (pid {})", open.by, open.hostname, open.pid))?;
    context.output.line(&format!("since {} ({}), until {}", open.since, ago(open.since), open.until))
}

pub async fn freeze(context: &Context, env: &str, reason: String, length: &str) -> Result<()> {
    let length = Millis::parse(length).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    let environment = context.key(env)?.to_string();
    let mut control = context.control().await?;
    let now = control.about(wire::ListRequest {}).await?.into_inner().clock_ms;
    let request = wire::FreezeRequest {
        environment,
        reason,
        until_ms: now.saturating_add(length.0),
        client: Some(client()),
    };
    let done = control.freeze(request).await?.into_inner();
    show_done(context, &done)
}

pub async fn thaw(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let done = context.control().await?.thaw(request).await?.into_inner();
    show_done(context, &done)
}

pub async fn audit(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let records = context.control().await?.audit(request).await?.into_inner().records;
    let documents: Vec<_> = records
        .iter()
        .map(|record| {
            json!({ "seq": record.seq, "at_ms": record.at_ms, "operator": record.operator,
                    "verb": record.verb, "environment": record.environment, "said": record.said })
        })
        .collect();
    context.output.json(&documents)?;
    let mut rows = vec![["at", "operator", "", "what"].map(ToOwned::to_owned).to_vec()];
    for wire::AuditRecord { at_ms, operator, verb, said, .. } in records {
        rows.push(vec![Timestamp(at_ms).to_string(), operator, verb, said]);
    }
    table(&rows).iter().try_for_each(|row| context.output.line(row))
}

pub async fn logs(context: &Context, args: &LogsArgs) -> Result<()> {
    let environment = context.key(&args.env)?.to_string();
    let step = match args.step.as_deref().map(str::parse::<lockstep_core::id::StepId>) {
        None => 0,
        Some(Ok(step)) => step.0.into(),
        Some(Err(error)) => return Err(Failure::new(Kind::Usage, error.to_string())),
    };
    let deployment = args
        .deployment
        .clone()
        .map(|deployment| wire::DeploymentRef { deployment, environment: environment.clone() });
    let request = wire::LogsRequest {
        environment,
        deployment,
        step,
        process: args.process.clone().unwrap_or_default(),
        tail: args.tail,
        follow: args.follow,
    };
    let mut lines = context.control().await?.logs(request).await?.into_inner();
    while let Some(line) = lines.message().await? {
        context.output.json(&json!({ "line": line.line }))?;
        context.output.line(&line.line)?;
    }
    Ok(())
}

/// Always JSON: the file's own form.
pub async fn export(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let document = context.control().await?.export_state(request).await?.into_inner();
    let state: StateFile = read(Some(&document))?;
    context.output.json(&state)?;
    context.output.line(&serde_json::to_string_pretty(&state).unwrap_or_default())
}
