//! List and remove coordinators, and create tokens for new ones.

use lockstep_core::name::CoordinatorName;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::view::coordinator::RootKey;
use lockstep_proto::Invalid;
use lockstep_proto::wire::{self, Document, Done};
use tonic::Status;

use super::convert::non_empty;
use super::failure::{not_found, refused, store_status};
use super::hosts::issue_token;
use super::{Caller, ControlApi, RecordIn};
use crate::identity::tokens::TokenHolder;
use crate::record::coordinators;

/// Of the environments that each drives, the caller sees its own.
pub(super) async fn list(api: &ControlApi, caller: &Caller) -> Result<wire::CoordinatorsReply, Status> {
    let mut statuses =
        coordinators::statuses(&*api.context.store).await.map_err(|error| store_status(&error))?;
    for status in &mut statuses {
        status.drives.retain(|environment| caller.check_environment(environment).is_ok());
    }
    let coordinators = statuses.iter().map(Document::of_content).collect();
    Ok(wire::CoordinatorsReply { coordinators, authority: api.authority.bundle() })
}

pub(super) async fn create_token(
    api: &ControlApi,
    caller: &Caller,
    request: wire::CoordinatorRef,
) -> Result<wire::TokenReply, Status> {
    let parse =
        |text: String| text.parse::<CoordinatorName>().map_err(|error| Invalid::because("name", error));
    let name = non_empty(request.name).map(parse).transpose()?;
    if api.record_in == RecordIn::OneMachine {
        return Err(refused(&Refusal {
            what: "no coordinator can join".to_owned(),
            why: "the record is in a file on this coordinator, and no other coordinator can reach it"
                .to_owned(),
            next:
                "lockstep backup --to FILE < passphrase    # then restore it to etcd: lockstep restore FILE"
                    .to_owned(),
        }));
    }
    let said = match &name {
        Some(name) => format!("a token for the coordinator {name}"),
        None => "a token for a coordinator".to_owned(),
    };
    let reply = issue_token(api, TokenHolder::Coordinator { name }).await?;
    api.audit(caller, "create coordinator token", None, said).await?;
    Ok(reply)
}

pub(super) async fn remove(
    api: &ControlApi,
    caller: &Caller,
    request: wire::CoordinatorRef,
) -> Result<Done, Status> {
    let name: CoordinatorName = request.name.parse().map_err(|error| Invalid::because("name", error))?;
    let store = &*api.context.store;
    let there = coordinators::find(store, &name).await.map_err(|error| store_status(&error))?;
    let there = there.ok_or_else(|| {
        not_found(&Refusal {
            what: format!("there is no coordinator {name}"),
            why: "no coordinator of this name has joined, or it was removed".to_owned(),
            next: "lockstep coordinator list".to_owned(),
        })
    })?;
    if there.root_key == RootKey::Here {
        return Err(refused(&Refusal {
            what: format!("cannot remove the coordinator {name}"),
            why: "it has the root key of the cluster, and without the key no coordinator can join again"
                .to_owned(),
            next: "keep it; it may be stopped while no coordinator joins".to_owned(),
        }));
    }
    coordinators::remove(store, &name).await.map_err(|error| store_status(&error))?;
    let said = format!(
        "the coordinator {name} is removed; the certificates that it signed are no longer accepted: hosts and operators \
         that joined or renewed there must join again"
    );
    api.audit(caller, "remove coordinator", None, said).await
}
