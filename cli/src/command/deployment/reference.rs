//! The deployment that an operator typed: an id, a prefix of one, `@open`, `@last`, or the environment that it is of.

use lockstep_proto::wire;

use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

/// What was typed, and in which command.
pub(crate) struct Typed<'a> {
    pub(crate) text: &'a str,
    pub(crate) env: Option<&'a str>,
    /// The deployment of an environment that the command is about: `@open` or `@last`.
    pub(crate) of_environment: &'static str,
    /// The command around the reference, for a hint.
    pub(crate) command: (&'static str, &'static str),
}

/// Whether it is typed as a deployment: no environment has such a name.
pub(crate) fn is_deployment(text: &str) -> bool {
    text.starts_with("dep_") || text.starts_with('@')
}

/// The deployment that is meant, with the environment that `@open` and `@last` need.
///
/// # Errors
/// When it needs an environment, and none is named.
pub(crate) fn reference(context: &Context, typed: &Typed<'_>) -> Result<wire::DeploymentRef> {
    let Typed { text, env, of_environment, .. } = *typed;
    let deployment = text.to_owned();
    if let Some(env) = env {
        return Ok(wire::DeploymentRef { deployment, environment: context.key(env)?.to_string() });
    }
    if text.starts_with('@') {
        return Ok(wire::DeploymentRef { deployment, environment: only_environment(context, typed)? });
    }
    if !is_deployment(text) && names_environment(context, text) {
        let environment = context.key(text)?.to_string();
        return Ok(wire::DeploymentRef { deployment: of_environment.to_owned(), environment });
    }
    Ok(wire::DeploymentRef { deployment, environment: String::new() })
}

/// Otherwise it is the beginning of an id.
fn names_environment(context: &Context, text: &str) -> bool {
    let declares = |text: &str| {
        context.project().is_ok_and(|project| project.environments().any(|name| name.as_str() == text))
    };
    text.contains('/') || declares(text)
}

/// Where the project has one environment, there is nothing to choose.
fn only_environment(context: &Context, typed: &Typed<'_>) -> Result<String> {
    let Typed { text, command: (before, after), .. } = typed;
    let needs = || {
        Failure::new(Kind::Usage, format!("{text} needs an environment"))
            .why("every environment has an open and a last deployment of its own")
    };
    let names: Vec<String> = match context.project() {
        Ok(project) => project.environments().map(ToString::to_string).collect(),
        Err(_) => {
            let next =
                format!("lockstep env list    # then: lockstep {before} {text} --env <app>/<env>{after}");
            return Err(needs().next(next));
        }
    };
    if let [only] = names.as_slice() {
        return Ok(context.key(only)?.to_string());
    }
    let commands = names.iter().map(|name| format!("lockstep {before} {text} --env {name}{after}"));
    Err(commands.fold(needs(), Failure::or))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(environments: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("app: notes\nimage: notes\nport: 8080\nenvironments: {environments}\n");
        std::fs::write(folder.path().join("deployment.yml"), text).unwrap();
        folder
    }

    fn resolved(folder: &tempfile::TempDir, text: &str) -> Result<(String, String)> {
        let typed = Typed { text, env: None, of_environment: "@open", command: ("resolve", " --retry") };
        let reference = reference(&Context::for_tests(folder.path()), &typed)?;
        Ok((reference.deployment, reference.environment))
    }

    fn is(deployment: &str, environment: &str) -> (String, String) {
        (deployment.to_owned(), environment.to_owned())
    }

    #[test]
    fn an_environment_stands_for_its_deployment_and_an_id_for_itself() {
        let folder = project("{ production: { url: http://a }, staging: { url: http://b } }");
        assert_eq!(resolved(&folder, "production").unwrap(), is("@open", "notes/production"));
        assert_eq!(resolved(&folder, "other/live").unwrap(), is("@open", "other/live"));
        assert_eq!(resolved(&folder, "dep_01J8").unwrap(), is("dep_01J8", ""));
        assert_eq!(resolved(&folder, "01J8").unwrap(), is("01J8", ""));
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(resolved(&nowhere, "other/live").unwrap(), is("@open", "other/live"));
    }

    #[test]
    fn without_an_environment_the_whole_command_is_named_for_each() {
        let folder = project("{ production: { url: http://a }, staging: { url: http://b } }");
        assert_eq!(
            resolved(&folder, "@open").unwrap_err().next.unwrap(),
            "lockstep resolve @open --env production --retry\nlockstep resolve @open --env staging --retry"
        );
        assert_eq!(
            resolved(&project("{ production: {} }"), "@open").unwrap(),
            is("@open", "notes/production")
        );
        let nowhere = resolved(&tempfile::tempdir().unwrap(), "@open").unwrap_err();
        assert!(nowhere.next.unwrap().starts_with("lockstep env list "));
    }
}
