//! The certificates of this machine's operator and of its host.
//!
//! Tokens are passed in memory and on standard input, never as arguments.

use std::io::Write;
use std::process::{Command, Stdio};

use lockstep_core::view::host_status::{HostStatus, Presence};
use lockstep_proto::dial;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_runtime::durable;
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

/// The fields of `identity.toml` that are used here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Identity {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) address: String,
    #[serde(default)]
    pub(super) coordinators: Vec<String>,
}

/// Logs in at the coordinator at `address`, unless the credential of this machine is accepted.
pub(super) async fn log_in(
    context: &Context,
    place: &Place,
    address: &str,
    log: &mut StepLog,
) -> Result<ControlClient<Channel>> {
    let directory = context.credential();
    let authority = place::text(&place.authority())?.unwrap_or_default();
    match credential::load(directory) {
        Ok((credential, known_at)) if credential.authority.trim() != authority => {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} has the credential of another cluster", directory.display()),
            )
            .why(format!("its coordinator is at {known_at}, and a credential is for one cluster"))
            .next("lockstep up --credential DIR    # DIR: another directory"));
        }
        Ok((credential, _)) => {
            if let Ok(mut control) = dial::connect(address, &credential).await.map(ControlClient::new)
                && let Ok(about) = control.about(wire::ListRequest {}).await
            {
                log.unchanged(&format!(
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
        Failure::new(Kind::Refused, format!("the coordinator accepts no credential in {}", directory.display()))
            .why("it has an administrator, who adds further operators")
            .next(format!(
                "ask the administrator for a token (lockstep operator add NAME --role admin), then: lockstep login --coordinator {address} < token"
            ))
    })?;
    let name = context.log_in(address, &token).await?;
    log.changed(&format!("logged in as the operator {name}, credential in {}", directory.display()))?;
    let (credential, _) = credential::load(directory)?;
    Ok(ControlClient::new(dial::connect(address, &credential).await?))
}

/// The identity of this machine's agent; `None` if it has not joined.
pub(super) fn identity(place: &Place) -> Result<Option<Identity>> {
    let file = place.identity();
    let Some(text) = place::text(&file)? else { return Ok(None) };
    let identity = toml::from_str(&text).map_err(|error| {
        Failure::new(Kind::Refused, format!("{} is damaged", file.display())).why(error.to_string())
    })?;
    Ok(Some(identity))
}

/// Lets the agent of this machine, which does not run, dial the coordinator at `to`, and no longer at `from`.
pub(super) fn set_coordinator(place: &Place, from: Option<&str>, to: &str) -> Result<()> {
    let file = place.identity();
    let damaged =
        |why: String| Failure::new(Kind::Refused, format!("{} cannot be changed", file.display())).why(why);
    let Some(text) = place::text(&file)? else { return Ok(()) };
    let changed = with_coordinator(&text, from, to).map_err(damaged)?;
    durable::write(&file, &changed, 0o600).map_err(|error| damaged(error.to_string()))
}

/// `identity.toml` with the address `to` first, and without `from`.
fn with_coordinator(text: &str, from: Option<&str>, to: &str) -> std::result::Result<String, String> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let before = table.get("coordinators").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let others = before.iter().filter_map(toml::Value::as_str).filter(|address| Some(*address) != from);
    let all = [to].into_iter().chain(others.filter(|address| *address != to));
    table.insert("coordinators".to_owned(), toml::Value::Array(all.map(toml::Value::from).collect()));
    toml::to_string(&table).map_err(|error| error.to_string())
}

/// Joins this machine as a host.
pub(super) async fn join(
    control: &mut ControlClient<Channel>,
    place: &Place,
    args: &UpArgs,
    addresses: Addresses<'_>,
) -> Result<Identity> {
    let request = wire::HostTokenRequest {
        name: args.name.clone().unwrap_or_default(),
        roles: args.roles.iter().map(HostRole::to_string).collect(),
    };
    let token = control.create_host_token(request).await?.into_inner().token;
    let mut command = Command::new(place::program(Service::Agent)?);
    command.arg("join").arg("--directory").arg(place.own(Service::Agent)).args([
        "--coordinator",
        addresses.coordinator,
        "--address",
        addresses.host,
    ]);
    run_with_input(&mut command, &token)?;
    identity(place)?
        .ok_or_else(|| Failure::new(Kind::Refused, "lockstep-agent did not join and gave no reason"))
}

/// The addresses of coordinator and host.
pub(super) struct Addresses<'a> {
    pub(super) coordinator: &'a str,
    pub(super) host: &'a str,
}

fn run_with_input(command: &mut Command, token: &str) -> Result<()> {
    let failed = |why: String| Failure::new(Kind::Refused, "this machine cannot join as a host").why(why);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends without reading it reports the reason itself.
        input.write_all(token.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("error: ").to_owned())
        .next("lockstep host list    # if the name is taken: lockstep host forget NAME, or lockstep up --name OTHER"))
}

/// The host as the coordinator knows it; `None` if it does not.
pub(super) async fn find_host(
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

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str = "cluster = \"cl_01\"\nhost = \"host_01\"\nname = \"app-1\"\naddress = \"172.17.0.1\"\n\
                            coordinators = [\"127.0.0.1:7443\", \"10.0.0.2:7443\"]\n";

    #[test]
    fn the_agent_dials_the_new_address_and_stays_the_same_host() {
        let changed = with_coordinator(IDENTITY, Some("127.0.0.1:7443"), "10.0.0.1:7443").unwrap();
        let Identity { host, name, address, coordinators } = toml::from_str(&changed).unwrap();
        assert_eq!((host.as_str(), name.as_str(), address.as_str()), ("host_01", "app-1", "172.17.0.1"));
        assert_eq!(coordinators, ["10.0.0.1:7443", "10.0.0.2:7443"]);
        assert!(changed.contains("cl_01"), "{changed}");
        // As after a move that was interrupted: where it was is not known any more.
        let again = with_coordinator(&changed, None, "10.0.0.3:7443").unwrap();
        let Identity { coordinators, .. } = toml::from_str(&again).unwrap();
        assert_eq!(coordinators, ["10.0.0.3:7443", "10.0.0.1:7443", "10.0.0.2:7443"]);
    }

    #[test]
    fn the_file_is_replaced_whole_and_nobody_else_can_read_it() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        place.create().unwrap();
        fs::write(place.identity(), IDENTITY).unwrap();
        set_coordinator(&place, Some("127.0.0.1:7443"), "10.0.0.1:7443").unwrap();
        let mode = fs::metadata(place.identity()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(identity(&place).unwrap().unwrap().coordinators[0], "10.0.0.1:7443");
    }
}
