//! The deployment that an operator typed: an id, a prefix of one, `@open` or `@last`.

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
                    let names: Vec<String> =
                        project.environments().map(|name| format!("--env {name}")).collect();
                    return Err(Failure::new(Kind::Usage, format!("{deployment} needs an environment"))
                        .why("every environment has an open and a last deployment of its own")
                        .next(format!("add {}", names.join(" or "))));
                }
            }
        }
        None => String::new(),
    };
    Ok(wire::DeploymentRef { deployment, environment })
}
