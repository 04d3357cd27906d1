//! Plan, start, cancel, resolve and show deployments.

use lockstep_core::access::machine::Planning;
use lockstep_core::id::StepId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::PlanHash;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::Resolution;
use lockstep_proto::Invalid;
use lockstep_proto::convert::required;
use lockstep_proto::wire::{self, Document, Done};
use tonic::{Status, Streaming};

use super::convert::{
    deployment, environment, non_empty, plan_request, refuse_beyond_token, requester, within_token,
};
use super::failure::{deploy_status, refused, store_status};
use super::{Caller, ControlApi};
use crate::api::forbidden;
use crate::planning;
use crate::planning::image_transfer;
use crate::planning::image_transfer::ImageOffer;
use crate::planning::{Proposed, RequestedOperation, StartRequest, claims};
use crate::record::history as past;
use crate::record::{environments, pending_undos};

/// How many deployments a history has that does not say.
const HISTORY_USUALLY: usize = 20;

pub(super) async fn plan(
    api: &ControlApi,
    caller: &Caller,
    request: wire::PlanRequest,
) -> Result<wire::PlanReply, Status> {
    let ask = plan_request(caller, request)?;
    within_token(caller, &ask, Planning::Shown)?;
    let requester = requester(caller, None)?;
    let Proposed { plan, widening } =
        planning::plan(&api.context, &ask, &requester).await.map_err(deploy_status)?;
    let widening = (!widening.is_empty()).then(|| Document::of_content(&widening));
    Ok(wire::PlanReply { plan: Some(Document::of_content(&plan)), widening })
}

pub(super) async fn claim(
    api: &ControlApi,
    caller: &Caller,
    request: wire::ClaimRequest,
) -> Result<wire::StartReply, Status> {
    let wire::ClaimRequest { environment: text, spec, client } = request;
    let environment = environment(caller, &text)?;
    let spec: lockstep_core::spec::EnvironmentSpec = required(spec.as_ref(), "spec")?;
    caller.check_environment(&spec.key)?;
    let requester = requester(caller, client)?;
    let id = claims::claim_for_build(&api.context, spec, &requester).await.map_err(deploy_status)?;
    api.audit(caller, "claim", Some(&environment), format!("claimed for a build: {id}")).await?;
    Ok(wire::StartReply { deployment: id.into(), plan: None })
}

pub(super) async fn unclaim(
    api: &ControlApi,
    caller: &Caller,
    request: wire::DeploymentRef,
) -> Result<Done, Status> {
    let environment = environment(caller, &request.environment)?;
    let id = request.deployment.parse().map_err(|error| Invalid::because("deployment", error))?;
    claims::unclaim(&api.context, &environment, &id).await.map_err(deploy_status)?;
    api.audit(caller, "unclaim", Some(&environment), format!("the claim {id} is released")).await
}

/// Takes an image from an operator, for an app host.
pub(super) async fn send_image(
    api: &ControlApi,
    caller: &Caller,
    mut incoming: Streaming<wire::ImageSent>,
) -> Result<Done, Status> {
    let first = incoming.message().await?.and_then(|message| message.sent);
    let Some(wire::image_sent::Sent::Offer(offer)) = first else {
        return Err(Invalid::missing("offer").into());
    };
    let wire::ImageOffer { environment: text, spec, claim, image, image_id } = offer;
    let environment = environment(caller, &text)?;
    let offer = ImageOffer {
        environment: environment.clone(),
        spec: required(spec.as_ref(), "offer.spec")?,
        claim: claim.parse().map_err(|error| Invalid::because("offer.claim", error))?,
        image: non_empty(image).ok_or_else(|| Invalid::missing("offer.image"))?,
        image_id: image_id.parse().map_err(|error| Invalid::because("offer.image_id", error))?,
    };
    let beyond = caller.machine().and_then(|machine| machine.refuses_image(&offer.image));
    refuse_beyond_token(caller, &environment, beyond)?;
    let host = image_transfer::receiver(&api.context, &offer, &requester(caller, None)?)
        .await
        .map_err(deploy_status)?;
    let ImageOffer { image, image_id, .. } = offer;
    let said = format!("{image} ({}) is on {}", image_id.short(), host.name);
    let sent = api.images.send(&host.id, (image.clone(), image_id), incoming).await;
    sent.map_err(|status| {
        refused(&Refusal {
            what: format!("cannot send {image} to {}", host.name),
            why: status.message().to_owned(),
            next: "nothing was deployed, and the environment is not locked: deploy again".to_owned(),
        })
    })?;
    api.audit(caller, "send image", Some(&environment), said).await
}

pub(super) async fn start(
    api: &ControlApi,
    caller: &Caller,
    request: wire::StartRequest,
) -> Result<wire::StartReply, Status> {
    let wire::StartRequest { plan, hash, claim, client, grant } = request;
    let mut ask = plan_request(caller, plan.ok_or_else(|| Invalid::missing("plan"))?)?;
    within_token(caller, &ask, Planning::Started)?;
    if let RequestedOperation::Deploy(deploy) = &mut ask.what {
        // What runs is planned from what a host has.
        deploy.offered = None;
    }
    let parse_hash = |text: String| text.parse::<PlanHash>().map_err(|error| Invalid::because("hash", error));
    let hash = non_empty(hash).map(parse_hash).transpose()?;
    if matches!(ask.what, RequestedOperation::Decommission) {
        refuse_decommission(caller, &ask.environment, hash.as_ref())?;
    }
    let parse_claim = |text: String| text.parse().map_err(|error| Invalid::because("claim", error));
    let claim = non_empty(claim).map(parse_claim).transpose()?;
    let parse_grant = |text: String| text.parse().map_err(|error| Invalid::because("grant", error));
    let grant = non_empty(grant).map(parse_grant).transpose()?;
    let requester = requester(caller, client)?;
    let environment = ask.environment.clone();
    let start = StartRequest { ask, hash, claim, grant };
    let (id, plan) = planning::start(&api.context, &start, &requester).await.map_err(deploy_status)?;
    if let Some(hash) = &start.grant {
        api.audit(caller, "grant", Some(&environment), format!("widened with {id}: {hash}")).await?;
    }
    api.audit(caller, "start", Some(&environment), format!("{id}: {}", plan.operation)).await?;
    Ok(wire::StartReply { deployment: id.into(), plan: Some(Document::of_content(&plan)) })
}

/// Only an administrator gives an environment up, who has seen the plan.
fn refuse_decommission(caller: &Caller, key: &EnvironmentKey, hash: Option<&PlanHash>) -> Result<(), Status> {
    let refusal = |why: &str, next: String| Refusal {
        what: format!("{key} is not decommissioned"),
        why: why.to_owned(),
        next,
    };
    if !caller.is_admin() {
        let why = "it takes an operator with the role admin";
        return Err(forbidden(&refusal(
            why,
            format!("ask an administrator of {key} to run: lockstep env decommission {key}"),
        )));
    }
    if hash.is_none() {
        let why = "it starts only with the hash of the plan that was shown";
        return Err(refused(&refusal(why, format!("lockstep env decommission {key}    # shows the plan"))));
    }
    Ok(())
}

pub(super) async fn cancel(
    api: &ControlApi,
    caller: &Caller,
    request: wire::CancelRequest,
) -> Result<Done, Status> {
    let (id, environment) = deployment(api, caller, request.deployment).await?;
    let requester = requester(caller, None)?;
    let said = claims::cancel(&api.context, &environment, &id, &requester).await.map_err(deploy_status)?;
    api.audit(caller, "cancel", Some(&environment), said).await
}

pub(super) async fn resolve(
    api: &ControlApi,
    caller: &Caller,
    request: wire::ResolveRequest,
) -> Result<Done, Status> {
    let wire::ResolveRequest { deployment: reference, how, step } = request;
    let (id, environment) = deployment(api, caller, reference).await?;
    let way = resolution(&how, step)?;
    let store = &*api.context.store;
    let open = environments::open_of(store, &environment, &id).await.map_err(|error| store_status(&error))?;
    let said = match way {
        // A deployment that has ended may still have pending undos.
        Resolution::Skip { step } if open.is_none() => {
            let coordinator = &api.context.coordinator;
            let dropped = pending_undos::drop_for_host(store, &environment, &id, step, coordinator).await;
            let dropped = dropped.map_err(|error| store_status(&error))?;
            let undo = dropped.map_err(|refusal| refused(&refusal))?;
            format!("{} no longer has this pending undo: {}", undo.host_name, undo.change)
        }
        Resolution::Retry | Resolution::Unwind | Resolution::Skip { .. } => {
            let requester = requester(caller, None)?;
            claims::resolve(&api.context, (&environment, &id), way, &requester)
                .await
                .map_err(deploy_status)?
        }
    };
    api.audit(caller, "resolve", Some(&environment), said).await
}

fn resolution(how: &str, step: u32) -> Result<Resolution, Invalid> {
    match how {
        "retry" => Ok(Resolution::Retry),
        "unwind" => Ok(Resolution::Unwind),
        "skip" => match u16::try_from(step) {
            Ok(step @ 1..) => Ok(Resolution::Skip { step: StepId(step) }),
            Ok(0) | Err(_) => Err(Invalid { field: "step", what: "is not the number of a step".to_owned() }),
        },
        other => {
            let what = format!("is {other:?}: write retry, unwind or skip");
            Err(Invalid { field: "how", what })
        }
    }
}

pub(super) async fn history(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<wire::HistoryReply, Status> {
    let environment = environment(caller, &request.environment)?;
    let limit = match usize::try_from(request.limit) {
        Ok(limit @ 1..) => limit,
        Ok(0) | Err(_) => HISTORY_USUALLY,
    };
    let summaries = past::recent(&*api.context.store, &environment, limit).await;
    let summaries = summaries.map_err(|error| store_status(&error))?;
    Ok(wire::HistoryReply { deployments: summaries.iter().map(Document::of_content).collect() })
}

pub(super) async fn show(
    api: &ControlApi,
    caller: &Caller,
    request: wire::DeploymentRef,
) -> Result<wire::ShowReply, Status> {
    let (id, _) = deployment(api, caller, Some(request)).await?;
    let store = &*api.context.store;
    let failed = |error| store_status(&error);
    let summary = past::summary(store, &id).await.map_err(failed)?;
    let plan = past::plan(store, &id).await.map_err(failed)?;
    let entries = past::journal(store, &id).await.map_err(failed)?;
    Ok(wire::ShowReply {
        summary: summary.as_ref().map(Document::of_content),
        plan: plan.as_ref().map(Document::of_content),
        entries: entries.iter().map(Document::of_content).collect(),
    })
}
