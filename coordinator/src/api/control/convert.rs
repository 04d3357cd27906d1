//! Converts wire messages to requests.

use lockstep_core::access::machine::Planning;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::{AnyBranch, ChangedSite, Refusal};
use lockstep_proto::Invalid;
use lockstep_proto::convert::required;
use lockstep_proto::wire;
use tonic::Status;

use super::failure::{forbidden, reference_status};
use super::{Caller, ControlApi};
use crate::planning::{DeployRequest, PlanRequest, RequestedOperation, Requester};
use crate::record::history;
use crate::record::history::Reference;
use lockstep_core::id::DeploymentId;
use lockstep_core::view::printable::is_one_line;

/// The name of an operator's machine.
const HOSTNAME_CHARACTERS_MAX: usize = 255;

/// The name of an image, a commit or a branch.
const NAME_CHARACTERS_MAX: usize = 1024;

/// The environment of a request, if the caller has a say over it.
pub(super) fn environment(caller: &Caller, text: &str) -> Result<EnvironmentKey, Status> {
    let environment = text.parse().map_err(|error| Invalid::because("environment", error))?;
    caller.check_environment(&environment)?;
    Ok(environment)
}

/// Nothing for an empty text.
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A text that is recorded and shown.
pub(super) fn one_line(field: &'static str, text: String, characters_max: usize) -> Result<String, Invalid> {
    if is_one_line(&text, characters_max) {
        return Ok(text);
    }
    let what =
        format!("it is not one line of at most {characters_max} characters without control characters");
    Err(Invalid::because(field, what))
}

pub(super) fn requester(caller: &Caller, client: Option<wire::Client>) -> Result<Requester, Status> {
    let wire::Client { hostname, pid } = client.unwrap_or_default();
    let hostname = one_line("client.hostname", hostname, HOSTNAME_CHARACTERS_MAX)?;
    Ok(Requester { operator: caller.operator()?.clone(), hostname, pid, authority: caller.authority() })
}

pub(super) fn plan_request(caller: &Caller, request: wire::PlanRequest) -> Result<PlanRequest, Status> {
    let wire::PlanRequest { environment: text, what } = request;
    let environment = environment(caller, &text)?;
    let host = |name: String| name.parse().map_err(|error| Invalid::because("host", error));
    let what = match what.ok_or_else(|| Invalid::missing("what"))? {
        wire::plan_request::What::Rollback(wire::RollbackAsk { to, overwrite_site }) => {
            let changed_site = if overwrite_site { ChangedSite::Overwritten } else { ChangedSite::Refused };
            RequestedOperation::Rollback { to: non_empty(to), changed_site }
        }
        wire::plan_request::What::AddHost(name) => RequestedOperation::AddHost(host(name)?),
        wire::plan_request::What::DrainHost(name) => RequestedOperation::DrainHost(host(name)?),
        wire::plan_request::What::RemoveHost(name) => RequestedOperation::RemoveHost(host(name)?),
        wire::plan_request::What::Decommission(true) => RequestedOperation::Decommission,
        wire::plan_request::What::Decommission(false) => return Err(Invalid::missing("what").into()),
        wire::plan_request::What::Deploy(deploy) => {
            let wire::DeployAsk {
                spec,
                image,
                commit,
                branch,
                allow_any_branch,
                overwrite_site,
                image_id,
                offered,
            } = deploy;
            let parse_id =
                |text: String| text.parse().map_err(|error| Invalid::because("deploy.image_id", error));
            RequestedOperation::Deploy(Box::new(DeployRequest {
                spec: required(spec.as_ref(), "deploy.spec")?,
                image: non_empty(one_line("deploy.image", image, NAME_CHARACTERS_MAX)?)
                    .ok_or_else(|| Invalid::missing("deploy.image"))?,
                commit: non_empty(one_line("deploy.commit", commit, NAME_CHARACTERS_MAX)?),
                branch: non_empty(one_line("deploy.branch", branch, NAME_CHARACTERS_MAX)?),
                any_branch: if allow_any_branch { AnyBranch::Allowed } else { AnyBranch::Refused },
                changed_site: if overwrite_site { ChangedSite::Overwritten } else { ChangedSite::Refused },
                image_id: non_empty(image_id).map(parse_id).transpose()?,
                offered: offered.map(|offered| required(Some(&offered), "deploy.offered")).transpose()?,
            }))
        }
    };
    Ok(PlanRequest { environment, what })
}

/// Refuses what the token of a machine does not allow.
pub(super) fn within_token(caller: &Caller, ask: &PlanRequest, planning: Planning) -> Result<(), Status> {
    let Some(machine) = caller.machine() else { return Ok(()) };
    let why = machine.refuses_operation(ask.what.kind(), planning).or_else(|| match &ask.what {
        RequestedOperation::Deploy(deploy) => {
            machine.refuses_image(&deploy.image).or_else(|| machine.refuses_branch(deploy.branch.as_deref()))
        }
        RequestedOperation::Rollback { .. }
        | RequestedOperation::AddHost(_)
        | RequestedOperation::DrainHost(_)
        | RequestedOperation::RemoveHost(_)
        | RequestedOperation::Decommission => None,
    });
    refuse_beyond_token(caller, &ask.environment, why)
}

/// The refusal of what the token of a machine does not allow, for this reason.
pub(super) fn refuse_beyond_token(
    caller: &Caller,
    environment: &EnvironmentKey,
    why: Option<String>,
) -> Result<(), Status> {
    let Some(why) = why else { return Ok(()) };
    Err(forbidden(&Refusal {
        what: format!("{} cannot do this in {environment}", caller.operator()?),
        why,
        next: "ask an administrator for a token that allows it: lockstep token create".to_owned(),
    }))
}

/// A deployment that the caller may see, and its environment.
pub(super) async fn deployment(
    api: &ControlApi,
    caller: &Caller,
    reference: Option<wire::DeploymentRef>,
) -> Result<(DeploymentId, EnvironmentKey), Status> {
    let wire::DeploymentRef { deployment: text, environment: of } =
        reference.ok_or_else(|| Invalid::missing("deployment"))?;
    let named = match non_empty(of) {
        Some(of) => Some(environment(caller, &of)?),
        None => None,
    };
    let store = &*api.context.store;
    let id = history::resolve(store, &Reference { text: text.clone(), environment: named.clone() })
        .await
        .map_err(|unresolved| reference_status(&unresolved))?;
    let summary = history::summary(store, &id).await.map_err(|error| super::store_status(&error))?;
    let environment = match (summary, named) {
        (Some(summary), _) => summary.key,
        // A claim for a build has no summary.
        (None, Some(named)) => named,
        (None, None) => return Err(Status::not_found(format!("there is no deployment {text}"))),
    };
    caller.check_environment(&environment)?;
    Ok((id, environment))
}
