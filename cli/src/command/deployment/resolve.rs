//! The resolution of a stuck deployment. Its cost is shown before it is requested.

use std::io::{self, IsTerminal};

use lockstep_core::record::claim::{ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;

use super::reference::{Typed, reference};
use crate::args::{ResolutionArgs, ResolveArgs};
use crate::command::confirm::confirm;
use crate::command::reply::{read, show_done};
use crate::context::{Context, environment_ref};
use crate::failure::Result;

pub async fn resolve(context: &Context, args: ResolveArgs) -> Result<()> {
    let ResolveArgs { dep, resolution: ResolutionArgs { unwind, skip, retry: _ }, env, yes } = args;
    let resolution = match (unwind, skip) {
        (_, Some(step)) => Resolution::Skip { step },
        (true, None) => Resolution::Unwind,
        (false, None) => Resolution::Retry,
    };
    let (text, command) = (dep.as_str(), ("resolve", " --retry"));
    let typed = Typed { text, env: env.as_deref(), of_environment: "@open", command };
    let reference = reference(context, &typed)?;
    let mut control = context.control().await?;
    let shown = control.show(reference.clone()).await?.into_inner();
    let summary: DeploymentSummary = read(shown.summary.as_ref())?;
    let reply = control.status(environment_ref(&summary.key, 0)).await?.into_inner();
    let status: EnvironmentStatus = read(reply.environments.first())?;
    if let Some(cost) = find_cost(&status, &summary, resolution) {
        context.output.remark(&format!("{}: {cost}", summary.id));
        if !yes && io::stdin().is_terminal() {
            confirm(context)?;
        }
    }
    let (how, step) = match resolution {
        Resolution::Retry => ("retry", 0),
        Resolution::Unwind => ("unwind", 0),
        Resolution::Skip { step } => ("skip", step.0.into()),
    };
    let request = wire::ResolveRequest { deployment: Some(reference), how: how.to_owned(), step };
    let done = control.resolve(request).await?.into_inner();
    show_done(context, &done)
}

/// What `resolution` costs; `None` if it will be refused, because then there is nothing to confirm.
fn find_cost(
    status: &EnvironmentStatus,
    summary: &DeploymentSummary,
    resolution: Resolution,
) -> Option<String> {
    let stuck = status.open.as_ref().filter(
        |open| matches!(&open.open.kind, ClaimKind::Stuck { deployment } if *deployment == summary.id),
    );
    if let Some(stuck) = stuck {
        let option = stuck.resolutions.iter().find(|option| option.resolution == resolution)?;
        return option.refused.is_none().then(|| option.cost.clone());
    }
    let Resolution::Skip { step } = resolution else { return None };
    let undo = status
        .pending_undos
        .iter()
        .find(|undo| undo.key.deployment == summary.id && undo.key.step == step)?;
    Some(format!("this undo will never run on {}: {}", undo.host_name, undo.change))
}
