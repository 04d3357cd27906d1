//! The status of environments.

use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;

use crate::clock::now;
use crate::command::reply::read_all;
use crate::context::{Context, environment_ref};
use crate::failure::Result;

mod next_commands;
mod overview;

pub async fn status(context: &Context, env: Option<&str>) -> Result<()> {
    let request = match env {
        Some(env) => environment_ref(&context.key(env)?, 0),
        None => wire::EnvironmentRef::default(),
    };
    let reply = context.control().await?.status(request).await?.into_inner();
    let environments: Vec<EnvironmentStatus> = read_all(&reply.environments)?;
    context.output.json(&environments)?;
    if environments.is_empty() {
        context.output.line("no environment has been deployed yet")?;
        context.output.verbatim(&format!("next: lockstep deploy {}", first_environment(context)))?;
    }
    let drawn = environments.iter().flat_map(|one| overview::render(context.output, one, now()));
    drawn.into_iter().try_for_each(|line| context.output.verbatim(&line))
}

/// The name to deploy to: the first environment that the project declares.
fn first_environment(context: &Context) -> String {
    let declared = context.project().ok();
    let first = declared.as_ref().and_then(|project| project.environments().next());
    first.map_or_else(|| "ENV".to_owned(), ToString::to_string)
}
