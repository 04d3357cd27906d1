//! The lock of an environment: who holds it, and freezes.

use lockstep_core::record::claim::ClaimKind;
use lockstep_core::time::Millis;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;

use crate::args::FreezeArgs;
use crate::command::reply::{read_all, show_done};
use crate::context::{Context, client, environment_ref};
use crate::failure::Result;
use crate::output::ago;

pub async fn status(context: &Context, env: &str) -> Result<()> {
    let key = context.key(env)?;
    let reply = context.control().await?.status(environment_ref(&key, 0)).await?.into_inner();
    let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
    let open = environments.into_iter().find_map(|environment| environment.open).map(|status| status.open);
    context.output.json(&open)?;
    let Some(open) = open else { return context.output.line(&format!("{key} is not locked")) };
    let (what, next) = match &open.kind {
        ClaimKind::Building { deployment } => {
            (format!("{deployment} builds its image"), format!("lockstep cancel {key}"))
        }
        ClaimKind::Running { deployment, .. } => {
            (format!("{deployment} runs"), format!("lockstep watch {deployment}"))
        }
        ClaimKind::Stuck { deployment } => {
            (format!("{deployment} is stuck"), format!("lockstep status {key}"))
        }
        ClaimKind::Freeze { reason } => (format!("frozen: {reason}"), format!("lockstep lock thaw {key}")),
    };
    context.output.line(&format!("{what}, by {} on {} (pid {})", open.by, open.hostname, open.pid))?;
    context.output.line(&format!("since {} ({}), until {}", open.since, ago(open.since), open.until))?;
    context.output.next(&next)
}

pub async fn freeze(context: &Context, args: FreezeArgs) -> Result<()> {
    let FreezeArgs { env, reason, r#for: length } = args;
    let length = Millis::parse(&length)?;
    let environment = context.key(&env)?.to_string();
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
