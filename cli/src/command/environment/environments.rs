//! Environments: their declarations, as recorded and as declared here, their removal, and their state file.

use std::io::{self, IsTerminal};

use lockstep_core::count::counted;
use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::record::grant::{EnvironmentGrant, Resource};
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_core::view::host_status::HostStatus;
use lockstep_core::view::state_file::StateFile;
use lockstep_proto::wire;

use super::secrets::{file_values, warnings};
use crate::args::{GrantArgs, RemoveArgs, ResourceArgs};
use crate::command::confirm::confirm;
use crate::command::deployment::images::any_image;
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
    let values = file_values(&declared)?;
    for warning in values.iter().flat_map(|values| warnings(&declared, values)) {
        context.output.remark(&format!("warning: {warning}"));
    }
    context.output.json(&declared.spec)?;
    let (key, file) = (&declared.spec.key, declared.env_file.display());
    context.output.line(&format!("deployment.yml declares {key}: every key and value is valid"))?;
    context.output.line(&match values {
        Some(values) => format!("{file} has what is required, {} in all", counted(values.len(), "value")),
        None => format!("there is no {file}: the stored secrets were not checked"),
    })?;
    context.output.line("not checked: hosts, image, stored secrets and what is live. A plan checks them:")?;
    let image = any_image(&declared).map(|image| format!(" --image {image}")).unwrap_or_default();
    context.output.next(&format!("lockstep plan {env}{image}"))
}

pub async fn grant(context: &Context, args: GrantArgs) -> Result<()> {
    let GrantArgs { env, resources, own_shared_names } = args;
    let key = context.key(&env)?;
    let granted = resources.resources();
    let mut control = context.control().await?;
    let reply = if granted.is_empty() && !own_shared_names {
        control.show_grant(environment_ref(&key, 0)).await?
    } else {
        let granted = granted.iter().map(wire::Document::of_content).collect();
        let environment = key.to_string();
        control
            .change_grant(wire::GrantRequest { environment, granted, own_shared_names, ..Default::default() })
            .await?
    };
    show_grant(context, &key, &reply.into_inner())?;
    let named: Vec<&HostName> = granted.iter().filter_map(granted_host).collect();
    if named.is_empty() {
        return Ok(());
    }
    let hosts = control.list_hosts(wire::ListRequest {}).await?.into_inner();
    let hosts: Vec<HostStatus> = read_all(&hosts.hosts)?;
    for name in not_joined(&named, &hosts) {
        context.output.remark(&format!(
            "warning: no host of the name {name} has joined: the grant counts when one does (lockstep host list)"
        ));
    }
    Ok(())
}

/// The host that a resource is.
fn granted_host(resource: &Resource) -> Option<&HostName> {
    match resource {
        Resource::Host(name) => Some(name),
        Resource::SiteName(_)
        | Resource::HostPath(_)
        | Resource::Network(_)
        | Resource::SnapshotDirectory(_)
        | Resource::CertificateFile(_) => None,
    }
}

/// Who of `named` is no host. A grant before its host joins may be meant, so it is no error.
fn not_joined<'a>(named: &[&'a HostName], hosts: &[HostStatus]) -> Vec<&'a HostName> {
    let is_there = |name: &HostName| hosts.iter().any(|status| status.host.name == *name);
    named.iter().copied().filter(|name| !is_there(name)).collect()
}

pub async fn revoke(context: &Context, env: &str, resources: &ResourceArgs) -> Result<()> {
    let key = context.key(env)?;
    let revoked: Vec<_> = resources.resources().iter().map(wire::Document::of_content).collect();
    if revoked.is_empty() {
        return Err(Failure::new(Kind::Refused, "no option says what to revoke")
            .next(format!("lockstep env grant {key}    # what is granted")));
    }
    let environment = key.to_string();
    let request = wire::GrantRequest { environment, revoked, ..Default::default() };
    let reply = context.control().await?.change_grant(request).await?.into_inner();
    show_grant(context, &key, &reply)
}

fn show_grant(context: &Context, key: &EnvironmentKey, reply: &wire::GrantReply) -> Result<()> {
    let Some(document) = &reply.grant else {
        context.output.json(&serde_json::Value::Null)?;
        return context.output.line(&format!(
            "{key} has no grant yet: its first deployment by an administrator grants its hosts and host names"
        ));
    };
    let grant: EnvironmentGrant = read(Some(document))?;
    context.output.json(&grant)?;
    context.output.line(&format!("{key} may use"))?;
    for resource in &grant.resources {
        context.output.line(&format!("  {resource}"))?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_for_a_host_that_has_not_joined_is_noticed() {
        let host: HostStatus = serde_json::from_value(serde_json::json!({
            "host": { "id": "host_01JBQR2KXYZ987654321012345", "name": "app-1", "address": "10.0.0.5", "roles": ["app"] },
            "presence": "absent", "agent_version": null, "instances": [], "slots": [], "last_seen": null,
        }))
        .unwrap();
        let [joined, typo]: [HostName; 2] = ["app-1", "no-such-host"].map(|name| name.parse().unwrap());
        let granted =
            [Resource::Host(joined), Resource::Host(typo.clone()), Resource::Network("db".to_owned())];
        let named: Vec<&HostName> = granted.iter().filter_map(granted_host).collect();
        assert_eq!(not_joined(&named, &[host]), [&typo]);
    }
}
