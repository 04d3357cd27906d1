//! A way out of a deployment that is stuck: what it costs is said before it is taken.

use std::io::{self, IsTerminal};

use lockstep_core::record::claim::{ClaimKind, Resolution};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::wire;

use super::reference::reference;
use crate::args::{ResolutionArgs, ResolveArgs};
use crate::command::confirm::confirm;
use crate::command::reply::{read, show_done};
use crate::context::{Context, environment_ref};
use crate::failure::Result;

pub async fn resolve(context: &Context, args: ResolveArgs) -> Result<()> {
    let ResolveArgs { dep, way: ResolutionArgs { unwind, skip, retry: _ }, env, yes } = args;
    let way = match (unwind, skip) {
        (_, Some(step)) => Resolution::Skip { step },
        (true, None) => Resolution::Unwind,
        (false, None) => Resolution::Retry,
    };
    let reference = reference(context, dep, env.as_deref())?;
    let mut control = context.control().await?;
    let shown = control.show(reference.clone()).await?.into_inner();
    let summary: DeploymentSummary = read(shown.summary.as_ref())?;
    let reply = control.status(environment_ref(&summary.key, 0)).await?.into_inner();
    let status: EnvironmentStatus = read(reply.environments.first())?;
    if let Some(costs) = cost_of(&status, &summary, way) {
        context.output.remark(&format!("{}: {costs}", summary.id));
        if !yes && io::stdin().is_terminal() {
            confirm(context)?;
        }
    }
    let (how, step) = match way {
        Resolution::Retry => ("retry", 0),
        Resolution::Unwind => ("unwind", 0),
        Resolution::Skip { step } => ("skip", step.0.into()),
    };
    let request = wire::ResolveRequest { deployment: Some(reference), how: how.to_owned(), step };
    let done = control.resolve(request).await?.into_inner();
    show_done(context, &done)
}

/// What `way` costs; nothing where it will be refused, because then there is nothing to ask.
fn cost_of(status: &EnvironmentStatus, summary: &DeploymentSummary, way: Resolution) -> Option<String> {
    let stuck = status.open.as_ref().filter(
        |open| matches!(&open.open.kind, ClaimKind::Stuck { deployment } if *deployment == summary.id),
    );
    if let Some(stuck) = stuck {
        let out = stuck.resolutions.iter().find(|out| out.resolution == way)?;
        return out.refused.is_none().then(|| out.cost.clone());
    }
    let Resolution::Skip { step } = way else { return None };
    let debt = status.debts.iter().find(|debt| debt.key.deployment == summary.id && debt.key.step == step)?;
    Some(format!("this is never done on {}, and you answer for it: {}", debt.host_name, debt.change))
}
