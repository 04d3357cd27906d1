//! Show, freeze, thaw and remove environments.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::grant::{Resource, options};
use lockstep_core::time::Timestamp;
use lockstep_core::view::printable::is_one_line;
use lockstep_proto::convert::required;
use lockstep_proto::wire::{self, Document, Done};
use tonic::Status;

use super::convert::{environment, requester};
use super::failure::{deploy_status, not_found, refused, removal_status, store_status};
use super::hosts::visible_hosts;
use super::{Caller, ControlApi};
use crate::drive::removal::{self, WhileServing};
use crate::export::state_file;
use crate::planning::grants::{Authority, GrantChange};
use crate::planning::{claims, grants, names};
use crate::record::audit::{ABANDON_ENVIRONMENT, REMOVE_ENVIRONMENT};
use crate::record::environments::Recorded;
use crate::record::{absent, environments};
use crate::view::status::{self as state, DatabaseLook};

/// The length of the reason of a freeze.
const REASON_CHARACTERS_MAX: usize = 200;

pub(super) async fn status(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<wire::StatusReply, Status> {
    let (recorded, databases) = if request.environment.is_empty() {
        (all_recorded(api, caller).await?, DatabaseLook::Skip)
    } else {
        let databases = match caller.authority() {
            Authority::Reader => DatabaseLook::Skip,
            Authority::Deployer | Authority::Administrator => DatabaseLook::Ask,
        };
        (vec![recorded_spec(api, caller, &request.environment).await?], databases)
    };
    let statuses =
        state::of_all(&api.context, recorded, databases).await.map_err(|error| store_status(&error))?;
    let environments = statuses.iter().map(Document::of_content).collect();
    // Hosts are for people.
    let hosts = if caller.machine().is_some() { Vec::new() } else { visible_hosts(api, caller).await? };
    Ok(wire::StatusReply { environments, hosts: hosts.iter().map(Document::of_content).collect() })
}

pub(super) async fn list(api: &ControlApi, caller: &Caller) -> Result<wire::EnvironmentsReply, Status> {
    let recorded = all_recorded(api, caller).await?;
    let statuses = state::all_recorded(&api.context, recorded).await.map_err(|error| store_status(&error))?;
    Ok(wire::EnvironmentsReply { environments: statuses.iter().map(Document::of_content).collect() })
}

pub(super) async fn show(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<Document, Status> {
    Ok(Document::of_content(&recorded_spec(api, caller, &request.environment).await?.spec))
}

pub(super) async fn show_grant(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<wire::GrantReply, Status> {
    let environment = environment(caller, &request.environment)?;
    let grant = environments::grant(&*api.context.store, &environment).await;
    let grant = grant.map_err(|error| store_status(&error))?;
    Ok(wire::GrantReply { grant: grant.map(|grant| Document::of_content(&grant.content)) })
}

pub(super) async fn change_grant(
    api: &ControlApi,
    caller: &Caller,
    request: wire::GrantRequest,
) -> Result<wire::GrantReply, Status> {
    let wire::GrantRequest { environment: text, granted, revoked, own_shared_names } = request;
    let environment = environment(caller, &text)?;
    let resources = |documents: Vec<Document>, field| {
        documents
            .iter()
            .map(|document| required::<Resource>(Some(document), field))
            .collect::<Result<Vec<_>, _>>()
    };
    let change =
        GrantChange { granted: resources(granted, "granted")?, revoked: resources(revoked, "revoked")? };
    let store = &*api.context.store;
    if own_shared_names {
        names::own_shared_names(store, &environment).await.map_err(deploy_status)?;
        let said = format!("{environment} owns the names that it shared with another environment");
        api.audit(caller, "own shared names", Some(&environment), said).await?;
    }
    let grant = grants::change_grant(store, &environment, &change).await.map_err(deploy_status)?;
    for (verb, resources) in [("grant", &change.granted), ("revoke", &change.revoked)] {
        if !resources.is_empty() {
            api.audit(caller, verb, Some(&environment), options(resources)).await?;
        }
    }
    Ok(wire::GrantReply { grant: Some(Document::of_content(&grant)) })
}

pub(super) async fn export_state(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<Document, Status> {
    let spec = recorded_spec(api, caller, &request.environment).await?.spec;
    let state = state_file::export(&api.context, &spec.key).await.map_err(|error| store_status(&error))?;
    Ok(Document::of_content(&state))
}

pub(super) async fn freeze(
    api: &ControlApi,
    caller: &Caller,
    request: wire::FreezeRequest,
) -> Result<Done, Status> {
    let wire::FreezeRequest { environment: text, reason, until_ms, client } = request;
    let environment = environment(caller, &text)?;
    check_reason(&environment, &reason).map_err(|refusal| refused(&refusal))?;
    let requester = requester(caller, client)?;
    let until = Timestamp(until_ms);
    claims::freeze(&api.context, &environment, reason.clone(), until, &requester)
        .await
        .map_err(deploy_status)?;
    let said = format!("{environment} is frozen until {until}: {reason}");
    api.audit(caller, "freeze", Some(&environment), said).await
}

/// The reason is shown to everybody whose deployment is refused.
fn check_reason(environment: &EnvironmentKey, reason: &str) -> Result<(), Refusal> {
    if !reason.trim().is_empty() && is_one_line(reason, REASON_CHARACTERS_MAX) {
        return Ok(());
    }
    Err(Refusal {
        what: format!(
            "the reason of a freeze is one line of at most {REASON_CHARACTERS_MAX} characters, without control characters"
        ),
        why: "it is shown to every operator whose deployment is refused".to_owned(),
        next: format!("lockstep lock freeze {} --reason 'trade fair' --for 3h", environment.environment),
    })
}

pub(super) async fn thaw(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<Done, Status> {
    let environment = environment(caller, &request.environment)?;
    claims::thaw(&api.context, &environment).await.map_err(deploy_status)?;
    api.audit(caller, "thaw", Some(&environment), format!("{environment} is no longer frozen")).await
}

pub(super) async fn remove(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
    while_serving: WhileServing,
) -> Result<Done, Status> {
    let environment = environment(caller, &request.environment)?;
    let verb = match while_serving {
        WhileServing::Refused => REMOVE_ENVIRONMENT,
        WhileServing::Abandoned => ABANDON_ENVIRONMENT,
    };
    let removed = removal::remove(&api.context, &environment, caller.operator()?, while_serving).await;
    let said = removed.map_err(|error| removal_status(&error))?.receipt(&environment);
    api.audit(caller, verb, Some(&environment), said).await
}

/// An environment that the caller may see.
async fn recorded_spec(api: &ControlApi, caller: &Caller, text: &str) -> Result<Recorded, Status> {
    let environment = environment(caller, text)?;
    let store = &*api.context.store;
    let recorded = environments::recorded(store, &environment).await.map_err(|error| store_status(&error))?;
    match recorded {
        Some(recorded) => Ok(recorded),
        None => {
            let refusal = absent::refusal(store, &environment, absent::LIST.to_owned()).await;
            Err(not_found(&refusal.map_err(|error| store_status(&error))?))
        }
    }
}

/// Those that the caller may see.
async fn all_recorded(api: &ControlApi, caller: &Caller) -> Result<Vec<Recorded>, Status> {
    let may = |environment: &EnvironmentKey| caller.check_environment(environment).is_ok();
    environments::all_recorded(&*api.context.store, may).await.map_err(|error| store_status(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_does_nothing_to_a_terminal() {
        let environment: EnvironmentKey = "notes/production".parse().unwrap();
        for reason in ["trade fair", "Messe „Zürich“, bis 3. Mai", &"ä".repeat(200)] {
            assert_eq!(check_reason(&environment, reason), Ok(()), "{reason}");
        }
        let long = "a".repeat(20_000);
        for reason in ["", "  ", "two\nlines", "\u{1b}[2J", "a\rb", "\u{202e}evil", "\u{9b}31m", &long] {
            let refused = check_reason(&environment, reason).unwrap_err();
            assert!(refused.what.contains("one line of at most 200 characters"), "{refused:?}");
            assert!(!format!("{refused:?}").contains(&reason.repeat(2)) || reason.trim().is_empty());
        }
    }
}
