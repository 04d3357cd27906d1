//! The API for operators. Each method converts, authorizes, calls and converts. The files beside this one do the work,
//! one for each noun.

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_core::name::EnvironmentKey;
use lockstep_proto::trace;
use lockstep_proto::wire::control_server::Control;
use lockstep_proto::wire::{self, Done};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, info_span};

use crate::api::Caller;
use crate::context::Context;
use crate::drive::removal::WhileServing;
use crate::identity::authority::Authority;
use crate::record::audit;
use crate::record::audit::Change;
use crate::record::vault::Vault;
use crate::sessions::images::Images;

mod about;
mod authority;
mod backups;
mod convert;
mod coordinators;
mod deployments;
mod environments;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hosts;
mod logs;
mod machines;
mod operators;
mod registries;
mod secrets;
mod watching;

use failure::store_status;

/// What the methods work with.
#[derive(Clone)]
pub struct ControlApi {
    pub context: Context,
    pub vault: Arc<Vault>,
    pub authority: Arc<Authority>,
    pub images: Arc<Images>,
    pub record_in: RecordIn,
    /// Where the coordinator's private files are.
    pub directory: PathBuf,
}

/// Who can reach the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordIn {
    /// This coordinator and no other.
    OneMachine,
    /// Every coordinator of the cluster.
    Etcd,
}

type Answer<T> = Result<Response<T>, Status>;

impl ControlApi {
    /// Writes a change down. A change that happened is told of though the writing failed: the error says
    /// what is missing.
    async fn audit(
        &self,
        caller: &Caller,
        verb: &'static str,
        environment: Option<&EnvironmentKey>,
        said: String,
    ) -> Result<Done, Status> {
        let change = Change {
            operator: caller.operator()?.clone(),
            verb,
            environment: environment.cloned(),
            said: said.clone(),
        };
        let written = audit::append(&*self.context.store, self.context.clock.now(), change).await;
        written.map_err(|error| store_status(&error))?;
        Ok(Done { said })
    }
}

#[tonic::async_trait]
impl Control for ControlApi {
    type WatchStream = BoxStream<wire::WatchEvent>;
    type LogsStream = BoxStream<wire::LogLine>;
    type BackupStream = BoxStream<wire::BackupPart>;

    async fn plan(&self, request: Request<wire::PlanRequest>) -> Answer<wire::PlanReply> {
        let caller = Caller::from_request(&request)?;
        deployments::plan(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn claim(&self, request: Request<wire::ClaimRequest>) -> Answer<wire::StartReply> {
        let caller = Caller::from_request(&request)?;
        deployments::claim(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn unclaim(&self, request: Request<wire::DeploymentRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        deployments::unclaim(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn send_image(&self, request: Request<Streaming<wire::ImageSent>>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        deployments::send_image(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn start(&self, request: Request<wire::StartRequest>) -> Answer<wire::StartReply> {
        let caller = Caller::from_request(&request)?;
        let span = info_span!("start");
        trace::follow(&span, trace::extract(request.metadata()));
        deployments::start(self, &caller, request.into_inner()).instrument(span).await.map(Response::new)
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Answer<Self::WatchStream> {
        let caller = Caller::from_request(&request)?;
        watching::watch(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        deployments::cancel(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn resolve(&self, request: Request<wire::ResolveRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        deployments::resolve(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::StatusReply> {
        let caller = Caller::from_request(&request)?;
        environments::status(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn history(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::HistoryReply> {
        let caller = Caller::from_request(&request)?;
        deployments::history(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn show(&self, request: Request<wire::DeploymentRef>) -> Answer<wire::ShowReply> {
        let caller = Caller::from_request(&request)?;
        deployments::show(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn export_state(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::Document> {
        let caller = Caller::from_request(&request)?;
        environments::export_state(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Answer<Self::LogsStream> {
        let caller = Caller::from_request(&request)?;
        logs::logs(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn freeze(&self, request: Request<wire::FreezeRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        environments::freeze(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn thaw(&self, request: Request<wire::EnvironmentRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        environments::thaw(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn audit(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::AuditReply> {
        let caller = Caller::from_request(&request)?;
        about::audit(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn import_secrets(
        &self,
        request: Request<wire::ImportSecretsRequest>,
    ) -> Answer<wire::SecretsReply> {
        let caller = Caller::from_request(&request)?;
        secrets::import(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_secrets(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::SecretsReply> {
        let caller = Caller::from_request(&request)?;
        secrets::list(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn diff_secrets(
        &self,
        request: Request<wire::DiffSecretsRequest>,
    ) -> Answer<wire::DiffSecretsReply> {
        let caller = Caller::from_request(&request)?;
        secrets::diff(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_environments(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Answer<wire::EnvironmentsReply> {
        let caller = Caller::from_request(&request)?;
        environments::list(self, &caller).await.map(Response::new)
    }

    async fn show_environment(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::Document> {
        let caller = Caller::from_request(&request)?;
        environments::show(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn show_grant(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::GrantReply> {
        let caller = Caller::from_request(&request)?;
        environments::show_grant(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn change_grant(&self, request: Request<wire::GrantRequest>) -> Answer<wire::GrantReply> {
        let caller = Caller::from_request(&request)?;
        environments::change_grant(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn remove_environment(&self, request: Request<wire::EnvironmentRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        environments::remove(self, &caller, request.into_inner(), WhileServing::Refused)
            .await
            .map(Response::new)
    }

    async fn abandon_environment(&self, request: Request<wire::EnvironmentRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        environments::remove(self, &caller, request.into_inner(), WhileServing::Abandoned)
            .await
            .map(Response::new)
    }

    async fn list_hosts(&self, request: Request<wire::ListRequest>) -> Answer<wire::HostsReply> {
        let caller = Caller::from_request(&request)?;
        hosts::list(self, &caller).await.map(Response::new)
    }

    async fn inspect_hosts(&self, request: Request<wire::EnvironmentRef>) -> Answer<wire::InspectReply> {
        let caller = Caller::from_request(&request)?;
        hosts::inspect(self, &caller, &request.into_inner().environment).await.map(Response::new)
    }

    async fn create_host_token(&self, request: Request<wire::HostTokenRequest>) -> Answer<wire::TokenReply> {
        let caller = Caller::from_request(&request)?;
        hosts::create_token(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn remove_host(&self, request: Request<wire::HostRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        hosts::remove(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn log_in_to_registry(&self, request: Request<wire::RegistryLoginRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        registries::log_in(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn log_out_of_registry(&self, request: Request<wire::RegistryRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        registries::log_out(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_registries(&self, request: Request<wire::ListRequest>) -> Answer<wire::RegistriesReply> {
        Caller::from_request(&request)?.operator()?;
        registries::list(self).await.map(Response::new)
    }

    async fn check_registries(
        &self,
        request: Request<wire::RegistryRef>,
    ) -> Answer<wire::RegistryChecksReply> {
        Caller::from_request(&request)?.operator()?;
        registries::check(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_coordinators(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Answer<wire::CoordinatorsReply> {
        let caller = Caller::from_request(&request)?;
        coordinators::list(self, &caller).await.map(Response::new)
    }

    async fn create_coordinator_token(
        &self,
        request: Request<wire::CoordinatorRef>,
    ) -> Answer<wire::TokenReply> {
        let caller = Caller::from_request(&request)?;
        coordinators::create_token(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn remove_coordinator(&self, request: Request<wire::CoordinatorRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        coordinators::remove(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn show_authority(&self, _: Request<wire::ListRequest>) -> Answer<wire::Document> {
        authority::show(self).await.map(Response::new)
    }

    async fn rotate_authority(&self, request: Request<wire::RotateAuthorityRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        authority::rotate(self, &caller).await.map(Response::new)
    }

    async fn retire_authority(&self, request: Request<wire::RetireAuthorityRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        authority::retire(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Answer<Self::BackupStream> {
        let caller = Caller::from_request(&request)?;
        backups::backup(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn bump_fence(&self, request: Request<wire::EnvironmentRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        backups::bump_fence(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn add_operator(&self, request: Request<wire::AddOperatorRequest>) -> Answer<wire::TokenReply> {
        let caller = Caller::from_request(&request)?;
        operators::add(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn create_machine_token(
        &self,
        request: Request<wire::MachineTokenRequest>,
    ) -> Answer<wire::TokenReply> {
        let caller = Caller::from_request(&request)?;
        machines::create(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn renew_machine_token(&self, request: Request<wire::RenewMachineTokenRequest>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        machines::renew(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_operators(&self, request: Request<wire::ListRequest>) -> Answer<wire::OperatorsReply> {
        Caller::from_request(&request)?.operator()?;
        operators::list(self).await.map(Response::new)
    }

    async fn revoke_operator(&self, request: Request<wire::OperatorRef>) -> Answer<Done> {
        let caller = Caller::from_request(&request)?;
        operators::revoke(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn about(&self, request: Request<wire::ListRequest>) -> Answer<wire::AboutReply> {
        let caller = Caller::from_request(&request)?;
        about::about(self, &caller).await.map(Response::new)
    }
}
