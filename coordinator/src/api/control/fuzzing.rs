//! The requests of operators, for their fuzz target in `tests/fuzz`. Only a build with `cfg(fuzzing)` has this module.

use lockstep_core::access::{EnvironmentPattern, Identity, OperatorRights, OperatorRole};
use lockstep_core::name::OperatorName;
use lockstep_proto::wire;
use tonic::Status;

use super::convert;
use crate::api::Caller;
use crate::planning::{PlanRequest, Requester};

/// A request for a plan, as its planner gets it.
///
/// # Errors
/// When it is not valid.
pub fn plan_request(operator: OperatorName, request: wire::PlanRequest) -> Result<PlanRequest, Status> {
    convert::plan_request(&administrator(operator), request)
}

/// Who asks, as it is recorded.
///
/// # Errors
/// When it is not valid.
pub fn requester(operator: OperatorName, client: Option<wire::Client>) -> Result<Requester, Status> {
    convert::requester(&administrator(operator), client)
}

fn administrator(operator: OperatorName) -> Caller {
    let rights =
        OperatorRights { role: OperatorRole::Admin, environments: EnvironmentPattern::All, machine: None };
    Caller { identity: Identity::Operator(operator), signed_by: None, rights: Some(rights) }
}
