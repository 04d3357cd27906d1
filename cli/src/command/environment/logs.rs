//! The logs of an environment: its audit log, the output of its processes, the logs of its deployments.

use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use serde_json::json;

use crate::args::LogsArgs;
use crate::context::{Context, environment_ref};
use crate::failure::{Failure, Kind, Result};

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
    let mut rows = vec![["at", "operator", "verb", "what"].map(ToOwned::to_owned).to_vec()];
    for wire::AuditRecord { at_ms, operator, verb, said, .. } in records {
        rows.push(vec![Timestamp(at_ms).to_string(), operator, verb, said]);
    }
    context.output.table(&rows)
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
        no_lines: args.tail == 0,
    };
    let mut lines = context.control().await?.logs(request).await?.into_inner();
    while let Some(line) = lines.message().await? {
        context.output.json(&json!({ "line": line.line }))?;
        context.output.verbatim(&line.line)?;
    }
    Ok(())
}
