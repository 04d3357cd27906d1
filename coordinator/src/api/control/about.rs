//! Information about this coordinator, and the audit log.

use lockstep_proto::wire;
use tonic::Status;

use super::convert::environment;
use super::failure::store_status;
use super::{Caller, ControlApi};
use crate::identity::operators;
use crate::record::audit as log;
use crate::record::coordinators;

/// How many changes are told to somebody who does not say.
const AUDIT_USUALLY: usize = 100;

/// The most that are looked through for somebody who may see few of them.
const AUDIT_MAX: usize = 10_000;

pub(super) async fn about(api: &ControlApi, caller: &Caller) -> Result<wire::AboutReply, Status> {
    let name = caller.operator()?;
    let store = &*api.context.store;
    let found = tokio::try_join!(operators::find(store, name), coordinators::addresses(store));
    let (operator, addresses) = found.map_err(|error| store_status(&error))?;
    Ok(wire::AboutReply {
        cluster: api.context.cluster.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clock_ms: api.context.clock.now().0,
        operator: name.to_string(),
        role: operator.map_or_else(String::new, |operator| operator.role.to_string()),
        addresses,
        authority: api.authority.bundle(),
    })
}

pub(super) async fn audit(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<wire::AuditReply, Status> {
    let wanted = match request.environment.as_str() {
        "" => None,
        text => Some(environment(caller, text)?),
    };
    let most = match usize::try_from(request.limit) {
        Ok(limit @ 1..) => limit,
        Ok(0) | Err(_) => AUDIT_USUALLY,
    };
    let entries = log::list(&*api.context.store, wanted.as_ref(), AUDIT_MAX).await;
    let entries = entries.map_err(|error| store_status(&error))?;
    let records = entries
        .into_iter()
        .filter(|entry| match &entry.environment {
            Some(of) => caller.check_environment(of).is_ok(),
            // It may name any environment.
            None if entry.is_refusal() => caller.is_for_all_environments(),
            // What concerns no environment, hosts and operators, is no secret to those who may read any.
            None => true,
        })
        .take(most)
        .map(|entry| wire::AuditRecord {
            seq: entry.seq,
            at_ms: entry.at.0,
            operator: entry.operator.into(),
            verb: entry.verb,
            environment: entry.environment.map_or_else(String::new, String::from),
            said: entry.said,
        })
        .collect();
    Ok(wire::AuditReply { records })
}
