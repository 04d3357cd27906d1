//! Which deployment a command means: an id, the beginning of one, `@open` or `@last`.

use lockstep_proto::wire;

use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

/// A deployment as typed, with the environment that `@open` and `@last` need.
pub(super) fn reference(
    context: &Context,
    deployment: String,
    env: Option<&str>,
) -> Result<wire::DeploymentRef> {
    let environment = match env {
        Some(env) => context.key(env)?.to_string(),
        // Where the project has one environment, there is nothing to choose.
        None if deployment.starts_with('@') => {
            let project = context.project()?;
            let mut environments = project.environments();
            match (environments.next(), environments.next()) {
                (Some(only), None) => context.key(only.as_str())?.to_string(),
                (Some(_) | None, _) => {
                    return Err(Failure::new(Kind::Usage, format!("{deployment} of which environment?"))
                        .next("add --env ENV"));
                }
            }
        }
        None => String::new(),
    };
    Ok(wire::DeploymentRef { deployment, environment })
}
