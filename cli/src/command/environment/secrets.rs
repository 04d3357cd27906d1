//! The secrets of an environment: names and fingerprints, never values.

use std::collections::BTreeMap;

use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::{has_unencoded_password, weak_secrets};
use lockstep_core::spec::check::is_variable;
use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use serde_json::json;

use crate::context::{Context, environment_ref, read_secret};
use crate::deployment_yml::DeclaredEnvironment;
use crate::env_file;
use crate::failure::{Failure, Kind, Result};
use crate::output::ago;

/// What somebody must know who has just set a value.
const DEPLOYED_LATER: &str = "running containers keep the values that they have; a deployment brings these";

/// The values of the environment's .env file, checked; `None` if there is no file.
///
/// # Errors
/// When the file cannot be deployed with.
pub fn secrets_of(declared: &DeclaredEnvironment) -> Result<Option<BTreeMap<String, String>>> {
    let exposed = |(name, value): (String, Secret)| (name, value.expose().to_owned());
    Ok(file_values(declared)?.map(|values| values.into_iter().map(exposed).collect()))
}

/// As [`secrets_of`], for who does not send them.
///
/// # Errors
/// When the file cannot be deployed with.
pub fn file_values(declared: &DeclaredEnvironment) -> Result<Option<BTreeMap<String, Secret>>> {
    let Some(values) = env_file::read(&declared.env_file)? else { return Ok(None) };
    let required: Vec<String> = declared
        .spec
        .required
        .iter()
        .filter(|name| !declared.spec.env.contains_key(*name))
        .cloned()
        .collect();
    env_file::require(&declared.env_file, &values, &required)?;
    Ok(Some(values))
}

/// What an operator should know of the values in the .env file: which are not masked everywhere, and which passwords
/// programs misread. Names only.
pub fn warnings(declared: &DeclaredEnvironment, values: &BTreeMap<String, Secret>) -> Vec<String> {
    let public = declared.spec.public.iter().cloned().collect();
    let mut warnings: Vec<String> = weak_secrets(values, &public).iter().map(ToString::to_string).collect();
    if !warnings.is_empty() {
        warnings.push("choose longer values for secrets, and list under `public` what is none".to_owned());
    }
    let unencoded = values.iter().filter(|(_, value)| has_unencoded_password(value.expose()));
    warnings.extend(unencoded.map(|(name, _)| {
        format!("the password in {name} has a `/`, `?` or `#`: percent-encode the password (/ is %2F, ? is %3F, # is %23)")
    }));
    warnings
}

fn read_file(declared: &DeclaredEnvironment) -> Result<BTreeMap<String, String>> {
    secrets_of(declared)?.ok_or_else(|| {
        Failure::new(Kind::Refused, format!("there is no {}", declared.env_file.display()))
            .why("the secrets to import are read from this file")
            .next("lockstep secret set ENV NAME < FILE    # sets one without it")
    })
}

pub async fn import(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    let values = read_file(&declared)?.into_iter().collect();
    let request =
        wire::ImportSecretsRequest { environment: declared.spec.key.to_string(), values, replace: true };
    let reply = context.control().await?.import_secrets(request).await?.into_inner();
    show_secrets(context, env, &reply)?;
    context.output.line(DEPLOYED_LATER)
}

/// # Errors
/// When it is not a name, or more than a name was typed: what was typed is not repeated.
pub async fn set(context: &Context, env: &str, name: &str, more: &[String]) -> Result<()> {
    refuse_value(env, name, more)?;
    let environment = context.key(env)?.to_string();
    let value = read_secret(context, &format!("value of {name}"))?;
    let value = value.trim_end_matches('\n');
    if value.is_empty() {
        // A file that is not there yet, or a command that failed, more often than what was meant.
        return Err(Failure::new(Kind::Usage, format!("{name} was not changed: no value was read"))
            .why("standard input is empty; an empty value can be imported from an .env file")
            .next(set_from_file(env, name)));
    }
    let values = [(name.to_owned(), value.to_owned())].into();
    let request = wire::ImportSecretsRequest { environment, values, replace: false };
    let reply = context.control().await?.import_secrets(request).await?.into_inner();
    show_secrets(context, env, &reply)?;
    context.output.line(DEPLOYED_LATER)
}

pub async fn list(context: &Context, env: &str) -> Result<()> {
    let request = environment_ref(&context.key(env)?, 0);
    let reply = context.control().await?.list_secrets(request).await?.into_inner();
    show_secrets(context, env, &reply)?;
    if reply.secrets.is_empty() {
        context.output.next(&format!("lockstep secret set {env} NAME < FILE"))?;
    }
    Ok(())
}

/// # Errors
/// Always: nobody reads a value.
pub fn get(env: &str) -> Result<()> {
    Err(Failure::new(Kind::Refused, "the value of a secret is shown to nobody")
        .why("it leaves the coordinator only for a host that runs a step of the environment")
        .next(format!("lockstep secret list {env}    # names and fingerprints")))
}

fn set_from_file(env: &str, name: &str) -> String {
    format!("lockstep secret set {env} {name} < FILE    # FILE contains the value alone")
}

/// A value that is typed as an argument is in the history of the shell already, and must not get into a log too.
fn refuse_value(env: &str, typed: &str, more: &[String]) -> Result<()> {
    let name = typed.split('=').next().unwrap_or_default();
    let name = if is_variable(name) { name } else { "NAME" };
    let next = set_from_file(env, name);
    if typed.contains('=') || !more.is_empty() {
        return Err(Failure::new(Kind::Usage, "the value of a secret is not an argument")
            .why("arguments are in the history of the shell and in the list of processes: change this value")
            .next(next));
    }
    if is_variable(typed) {
        return Ok(());
    }
    Err(Failure::new(Kind::Usage, "this is not the name of a secret")
        .why("a name has letters, digits and underscores, and begins with no digit")
        .next(next))
}

fn show_secrets(context: &Context, env: &str, reply: &wire::SecretsReply) -> Result<()> {
    let names: BTreeMap<&str, &str> =
        reply.secrets.iter().map(|secret| (secret.name.as_str(), secret.fingerprint.as_str())).collect();
    context.output.json(&json!({ "version": reply.version, "set_by": reply.set_by, "set_at_ms": reply.set_at_ms, "secrets": names }))?;
    if reply.version == 0 {
        let key = context.key(env)?;
        return context.output.line(&format!("{key} has no secrets: none were ever imported or set"));
    }
    context.output.line(&format!(
        "version {}, set by {} {} ({})",
        reply.version,
        reply.set_by,
        ago(Timestamp(reply.set_at_ms)),
        Timestamp(reply.set_at_ms)
    ))?;
    let rows: Vec<Vec<String>> =
        names.iter().map(|(name, print)| vec![(*name).to_owned(), (*print).to_owned()]).collect();
    context.output.table(&rows)
}

pub async fn diff(context: &Context, env: &str) -> Result<()> {
    let declared = context.declared(env)?;
    let values = read_file(&declared)?.into_iter().collect();
    let request = wire::DiffSecretsRequest { environment: declared.spec.key.to_string(), values };
    let reply = context.control().await?.diff_secrets(request).await?.into_inner();
    context.output.json(&json!({ "version": reply.version, "added": reply.added, "changed": reply.changed, "removed": reply.removed }))?;
    let all = [("+", &reply.added), ("~", &reply.changed), ("-", &reply.removed)];
    if all.iter().all(|(_, names)| names.is_empty()) {
        return context.output.line(&format!("no difference from version {}", reply.version));
    }
    all.iter()
        .flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign} {name}")))
        .try_for_each(|line| context.output.line(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_typed_is_never_repeated() {
        let more = ["canary".to_owned()];
        for (typed, more, name) in [
            ("GREETING=canary", &[][..], "GREETING"),
            ("=canary", &[], "NAME"),
            ("canary value=x", &[], "NAME"),
            ("GREETING", &more, "GREETING"),
            ("canary-with-dashes", &[], "NAME"),
        ] {
            let failure = refuse_value("production", typed, more).unwrap_err();
            assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
            let next = format!("lockstep secret set production {name} < FILE ");
            assert!(failure.next.as_ref().unwrap().starts_with(&next), "{failure:?}");
        }
        assert!(refuse_value("production", "GREETING", &[]).is_ok());
    }
}
