//! The logs of an environment: its audit log, the output of its processes, the logs of its deployments.

use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use serde_json::json;

use crate::args::LogsArgs;
use crate::command::deployment::{Typed, is_deployment, reference};
use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

/// Shows the audit log of one environment, or of all that the operator may see.
///
/// # Errors
/// When the environment is unknown, or the coordinator refuses.
pub async fn audit(context: &Context, env: Option<&str>) -> Result<()> {
    let environment = env.map(|env| context.key(env)).transpose()?;
    let environment = environment.map(|key| key.to_string()).unwrap_or_default();
    let request = wire::EnvironmentRef { environment, limit: 0 };
    let records = context.control().await?.audit(request).await?.into_inner().records;
    let documents: Vec<_> = records
        .iter()
        .map(|record| {
            json!({ "seq": record.seq, "at_ms": record.at_ms, "operator": record.operator,
                    "verb": record.verb, "environment": record.environment, "said": record.said })
        })
        .collect();
    context.output.json(&documents)?;
    let mut rows = vec![["at", "operator", "verb", "what"].map(ToOwned::to_owned).to_vec()];
    for wire::AuditRecord { at_ms, operator, verb, said, .. } in records {
        rows.push(vec![Timestamp(at_ms).to_string(), operator, verb, said]);
    }
    context.output.table(&rows)
}

pub async fn logs(context: &Context, args: &LogsArgs) -> Result<()> {
    let (environment, deployment) = source(context, args)?;
    let step = match args.step.as_deref().map(str::parse::<lockstep_core::id::StepId>) {
        None => 0,
        Some(Ok(step)) => step.0.into(),
        Some(Err(error)) => return Err(Failure::new(Kind::Usage, error.to_string())),
    };
    let request = wire::LogsRequest {
        environment,
        deployment,
        step,
        process: args.process.clone().unwrap_or_default(),
        tail: args.tail,
        follow: args.follow,
        no_lines: args.tail == 0,
    };
    let mut lines = context.control().await?.logs(request).await?.into_inner();
    let mut shown = 0_u64;
    while let Some(line) = lines.message().await? {
        shown += 1;
        context.output.json(&json!({ "line": line.line }))?;
        context.output.verbatim(&line.line)?;
    }
    if let (0, Some(step)) = (shown, &args.step) {
        context.output.remark(&format!(
            "{step} printed nothing; what became of it is in the whole log, without --step"
        ));
    }
    Ok(())
}

/// The environment, and the deployment whose log is meant; a deployment may also be typed in the place of the
/// environment.
fn source(context: &Context, args: &LogsArgs) -> Result<(String, Option<wire::DeploymentRef>)> {
    if args.deployment.is_none() && is_deployment(&args.env) {
        let (text, command) = (args.env.as_str(), ("logs", ""));
        let typed = Typed { text, env: None, of_environment: "@last", command };
        let deployment =
            reference(context, &typed).map_err(|failure| named_by_flag(context, failure, text))?;
        return Ok((deployment.environment.clone(), Some(deployment)));
    }
    let environment = context.key(&args.env)?.to_string();
    let of = |deployment| wire::DeploymentRef { deployment, environment: environment.clone() };
    Ok((environment.clone(), args.deployment.clone().map(of)))
}

/// `logs` has no `--env`: the environment is its argument.
fn named_by_flag(context: &Context, failure: Failure, deployment: &str) -> Failure {
    let Ok(project) = context.project() else {
        return failure.next(format!(
            "lockstep env list    # then: lockstep logs <app>/<env> --deployment {deployment}"
        ));
    };
    let commands =
        project.environments().map(|name| format!("lockstep logs {name} --deployment {deployment}"));
    commands.fold(Failure { next: None, ..failure }, Failure::or)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_deployment_is_found_without_its_flag_or_with_the_command_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let declaration = "app: notes\nimage: notes\nport: 8080\n\
                           environments: { production: { url: http://a }, staging: { url: http://b } }\n";
        std::fs::write(folder.path().join("deployment.yml"), declaration).unwrap();
        let context = Context::for_tests(folder.path());
        let args = |env: &str, deployment: Option<&str>| LogsArgs {
            env: env.to_owned(),
            deployment: deployment.map(ToOwned::to_owned),
            step: None,
            process: None,
            tail: 100,
            follow: false,
        };
        let (environment, deployment) = source(&context, &args("dep_01J8", None)).unwrap();
        assert_eq!((environment.as_str(), deployment.unwrap().deployment.as_str()), ("", "dep_01J8"));
        let (environment, deployment) = source(&context, &args("production", Some("@last"))).unwrap();
        assert_eq!(environment, "notes/production");
        assert_eq!(deployment.unwrap().environment, "notes/production");
        assert_eq!(
            source(&context, &args("@last", None)).unwrap_err().next.unwrap(),
            "lockstep logs production --deployment @last\nlockstep logs staging --deployment @last"
        );
    }
}
