//! The status of environments.

use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;

use crate::clock::now;
use crate::command::deployment::images::any_image;
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
        context.output.next(&first_command(context))?;
    }
    let drawn = environments.iter().flat_map(|one| overview::render(context.output, one, now()));
    drawn.into_iter().try_for_each(|line| context.output.verbatim(&line))
}

/// What leads to the first deployment: of the first environment that the project declares.
fn first_command(context: &Context) -> String {
    let Ok(project) = context.project() else {
        return "man deployment.yml    # four lines declare an application".to_owned();
    };
    let Some(name) = project.environments().next() else {
        return "man deployment.yml    # an application needs an environment".to_owned();
    };
    let image = project.environment(name.as_str()).ok().and_then(|declared| any_image(&declared));
    let image = image.map(|image| format!(" --image {image}")).unwrap_or_default();
    format!("lockstep plan {name}{image}    # shows what a deployment would do")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_deployed_the_next_command_has_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context::for_tests(folder.path());
        assert!(first_command(&context).starts_with("man deployment.yml "));
        let declare = |source: &str| {
            let text = format!("app: notes\n{source}\nport: 8080\nenvironments: {{ production: {{}} }}\n");
            std::fs::write(folder.path().join("deployment.yml"), text).unwrap();
            first_command(&context)
        };
        assert!(declare("image: notes").starts_with("lockstep plan production --image notes:TAG "));
        assert!(declare("build: {}").starts_with("lockstep plan production    # "));
    }
}
