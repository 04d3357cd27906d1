//! How this machine's operator and host come to their certificates.
//!
//! Tokens go through memory and standard input, never through arguments.

use std::io::Write;
use std::process::{Command, Stdio};

use lockstep_core::view::host_status::{HostStatus, Presence};
use lockstep_proto::dial;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use serde::Deserialize;
use tonic::transport::Channel;

use super::StepLog;
use super::place::{self, Place, Service};
use crate::args::UpArgs;
use crate::command::reply::read_all;
use crate::context::Context;
use crate::credential::{self, CredentialError};
use crate::failure::{Failure, Kind, Result};
use lockstep_core::host::HostRole;

/// What of `identity.toml` concerns this command.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Identity {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) address: String,
}

/// Sees to it that there is an operator here whom the coordinator at `address` knows.
pub(super) async fn log_in(
    context: &Context,
    place: &Place,
    address: &str,
    told: &mut StepLog,
) -> Result<ControlClient<Channel>> {
    let directory = context.credential();
    let authority = place::text(&place.authority())?.unwrap_or_default();
    match credential::load(directory) {
        Ok((credential, known_at)) if credential.authority.trim() != authority => {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} has the credential of another cluster", directory.display()),
            )
            .why(format!("its coordinator is at {known_at}, and a credential is of one cluster"))
            .next("the same command with --credential DIR, a directory of its own"));
        }
        Ok((credential, _)) => {
            if let Ok(mut control) = dial::connect(address, &credential).await.map(ControlClient::new)
                && let Ok(about) = control.about(wire::ListRequest {}).await
            {
                told.unchanged(&format!(
                    "the operator {}, credential in {}",
                    about.into_inner().operator,
                    directory.display()
                ))?;
                return Ok(control);
            }
        }
        Err(CredentialError::None { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let token = place::text(&place.first_token())?.ok_or_else(|| {
        Failure::new(Kind::Refused, format!("no credential in {} is taken", directory.display()))
            .why("the coordinator has an administrator already, who lets others in")
            .next(format!(
                "as the administrator: lockstep operator add NAME --role admin | head -1 | lockstep login --coordinator {address}"
            ))
    })?;
    let name = context.join(address, &token).await?;
    told.changed(&format!("logged in as the operator {name}, credential in {}", directory.display()))?;
    let (credential, _) = credential::load(directory)?;
    Ok(ControlClient::new(dial::connect(address, &credential).await?))
}

/// Who this machine's agent is, if it has joined.
pub(super) fn identity(place: &Place) -> Result<Option<Identity>> {
    let file = place.identity();
    let Some(text) = place::text(&file)? else { return Ok(None) };
    let identity = toml::from_str(&text).map_err(|error| {
        Failure::new(Kind::Refused, format!("{} cannot be understood", file.display())).why(error.to_string())
    })?;
    Ok(Some(identity))
}

/// Makes this machine a host.
pub(super) async fn join(
    control: &mut ControlClient<Channel>,
    place: &Place,
    args: &UpArgs,
    reached: Reached<'_>,
) -> Result<Identity> {
    let request = wire::HostTokenRequest {
        name: args.name.clone().unwrap_or_default(),
        roles: args.roles.iter().map(HostRole::to_string).collect(),
    };
    let token = control.create_host_token(request).await?.into_inner().token;
    let mut command = Command::new(place::program(Service::Agent)?);
    command.arg("join").arg("--directory").arg(place.own(Service::Agent)).args([
        "--coordinator",
        reached.coordinator,
        "--address",
        reached.host,
    ]);
    give(&mut command, &token)?;
    identity(place)?
        .ok_or_else(|| Failure::new(Kind::Refused, "lockstep-agent did not join, and did not say why"))
}

/// Where coordinator and host are reached.
pub(super) struct Reached<'a> {
    pub(super) coordinator: &'a str,
    pub(super) host: &'a str,
}

fn give(command: &mut Command, token: &str) -> Result<()> {
    let failed = |why: String| Failure::new(Kind::Refused, "this machine cannot join as a host").why(why);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading it says why on its own.
        input.write_all(token.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("error: ").to_owned())
        .next("lockstep host list, then: lockstep host forget NAME, or --name with another"))
}

/// The host as the coordinator knows it, if it does.
pub(super) async fn host(
    control: &mut ControlClient<Channel>,
    identity: &Identity,
) -> Result<Option<HostStatus>> {
    let reply = control.list_hosts(wire::ListRequest {}).await?.into_inner();
    let hosts: Vec<HostStatus> = read_all(&reply.hosts)?;
    Ok(hosts.into_iter().find(|status| status.host.id.as_str() == identity.host))
}

pub(super) fn is_connected(status: &HostStatus) -> bool {
    status.presence == Presence::Connected
}
