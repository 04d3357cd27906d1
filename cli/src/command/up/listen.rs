//! The address on which the coordinator listens, and its change by `lockstep up --listen`.
//!
//! What must stay true: an address is stored when the coordinator listens on it, and not before. A host or coordinator
//! elsewhere that knows the address before can still reach the coordinator, or nothing is changed.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use lockstep_core::view::coordinator::CoordinatorStatus;
use lockstep_core::view::host_status::HostStatus;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use tonic::transport::Channel;

use super::joining::Identity;
use super::place::{self, Place};
use super::{LISTEN, StepLog, Supervision, is_running, joining, restart_on, start_coordinator};
use crate::command::reply::read_all;
use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

/// Where the coordinator is to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listen {
    /// As before, or for the first time.
    At(SocketAddr),
    Moves {
        from: SocketAddr,
        to: SocketAddr,
    },
}

/// What a change needs of the command that makes it.
pub(super) struct Move<'a> {
    pub(super) context: &'a Context,
    pub(super) place: &'a Place,
    pub(super) supervision: Supervision,
    pub(super) own_host: Option<&'a Identity>,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// As wanted, else as before.
///
/// # Errors
/// When the file with the address is damaged.
pub(super) fn choose(place: &Place, wanted: Option<SocketAddr>) -> Result<Listen> {
    let Some(before) = place::text(&place.listen())? else {
        return Ok(Listen::At(wanted.unwrap_or(LISTEN)));
    };
    let from: SocketAddr = before.parse().map_err(|_| {
        Failure::new(Kind::Refused, format!("{} is damaged", place.listen().display()))
            .why(format!("{before:?} is not an address with a port"))
            .next(format!("rm {} && lockstep up --listen ADDR:PORT", place.listen().display()))
    })?;
    Ok(match wanted {
        // Port 0 stands for the port that was free the first time.
        Some(to) if to != from && (to.ip() != from.ip() || to.port() != 0) => Listen::Moves { from, to },
        Some(_) | None => Listen::At(from),
    })
}

/// Refuses an address on which no program of this machine can listen.
///
/// # Errors
/// When it is not an address of this machine, or something else has the port.
pub(super) fn refuse_unusable(address: SocketAddr) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => {
            let next = if error.kind() == ErrorKind::AddrInUse {
                format!("ss -ltnp 'sport = :{}'    # what listens there", address.port())
            } else {
                "ip -brief address    # the addresses of this machine".to_owned()
            };
            let failure = Failure::new(Kind::Refused, format!("cannot listen on {address}"));
            Err(failure.why(error.to_string()).next(next))
        }
    }
}

impl Move<'_> {
    /// Moves the coordinator, and returns its address. If it does not start there, it listens as before.
    ///
    /// # Errors
    /// When it cannot listen there, or somebody would no longer reach it.
    pub(super) async fn carry_out(&self, log: &mut StepLog) -> Result<String> {
        let Self { place, supervision, from, to, .. } = *self;
        let runs = is_running(place, supervision);
        // The port of a coordinator that runs is free as soon as it is stopped.
        let probe = if runs && overlap(from, to) { SocketAddr::new(to.ip(), 0) } else { to };
        refuse_unusable(probe)?;
        // If it cannot listen where it listened, nobody reaches it there anyway.
        let is_reachable = runs || refuse_unusable(from).is_ok();
        if is_reachable && !is_served_by(from, to) {
            self.refuse_if_known(log).await?;
        }
        let moved = restart_on(place, to, supervision, log).await;
        let moved = moved.and_then(|address| refuse_other(place, &address, to));
        let failure = match moved {
            Ok(address) => {
                log.changed(&format!("the coordinator listens on {address}, and no longer on {from}"))?;
                return Ok(address);
            }
            Err(failure) => failure,
        };
        let so = match restart_on(place, from, supervision, log).await {
            Ok(_) => format!("so it listens on {from} again"),
            Err(again) => format!("and it does not start on {from} either ({})", again.what),
        };
        let why = failure.why.clone().map(|why| format!("; {why}")).unwrap_or_default();
        Err(Failure { what: format!("the coordinator cannot be moved to {to}"), ..failure.clone() }
            .why(format!("{}, {so}{why}", failure.what)))
    }

    /// Asks the coordinator who else knows it by its address.
    async fn refuse_if_known(&self, log: &mut StepLog) -> Result<()> {
        let Self { context, place, supervision, own_host, from, .. } = *self;
        let address = start_coordinator(place, from, supervision, log).await?;
        let mut control = joining::log_in(context, place, &address, log).await?;
        match others(&mut control, own_host, &address).await?.as_slice() {
            [] => Ok(()),
            known => Err(self.still_known_by(known)),
        }
    }

    fn still_known_by(&self, known: &[String]) -> Failure {
        let Self { from, to, .. } = self;
        let any = if from.is_ipv4() { "0.0.0.0" } else { "[::]" };
        let next = match from.ip().is_unspecified() {
            true => format!("lockstep up    # without --listen: it stays on {from}"),
            false => format!("lockstep up --listen {any}:{}    # reached at {from} too", from.port()),
        };
        Failure::new(Kind::Refused, format!("the coordinator stays on {from}"))
            .why(format!("{} may not reach it on {to}", known.join(", ")))
            .next(next)
    }
}

/// The other hosts and coordinators of the cluster.
async fn others(
    control: &mut ControlClient<Channel>,
    own_host: Option<&Identity>,
    own_address: &str,
) -> Result<Vec<String>> {
    let hosts = control.list_hosts(wire::ListRequest {}).await?.into_inner();
    let hosts: Vec<HostStatus> = read_all(&hosts.hosts)?;
    let is_own = |status: &HostStatus| own_host.is_some_and(|own| own.host == status.host.id.as_str());
    let coordinators = control.list_coordinators(wire::ListRequest {}).await?.into_inner();
    let coordinators: Vec<CoordinatorStatus> = read_all(&coordinators.coordinators)?;
    let is_alone = coordinators.len() < 2;
    let hosts =
        hosts.iter().filter(|status| !is_own(status)).map(|status| format!("host {}", status.host.name));
    let coordinators = coordinators
        .iter()
        .filter(|status| !is_alone && status.address != own_address)
        .map(|status| format!("coordinator {}", status.name));
    Ok(hosts.chain(coordinators).collect())
}

/// A coordinator that was started without `--listen`, because that is the default, listens as its settings say.
fn refuse_other(place: &Place, address: &str, wanted: SocketAddr) -> Result<String> {
    if wanted.port() == 0 || address == wanted.to_string() {
        return Ok(address.to_owned());
    }
    let settings = place.coordinator_settings();
    Err(Failure::new(Kind::Refused, format!("the coordinator listens on {address}"))
        .why(format!("{} sets `listen`", settings.display()))
        .next(format!("remove `listen` from {}", settings.display())))
}

/// Whether whoever knows `from` reaches a coordinator that listens on `to`.
fn is_served_by(from: SocketAddr, to: SocketAddr) -> bool {
    from == to || (to.ip().is_unspecified() && to.port() == from.port() && to.is_ipv6() >= from.is_ipv6())
}

/// Whether only one of two programs can listen on them.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn chosen(before: Option<&str>, wanted: Option<&str>) -> Listen {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        if let Some(before) = before {
            fs::write(place.listen(), before).unwrap();
        }
        choose(&place, wanted.map(address)).unwrap()
    }

    #[test]
    fn another_address_than_before_is_a_move_and_not_a_refusal() {
        let (loopback, lan) = ("127.0.0.1:7443", "10.0.0.1:7443");
        assert_eq!(chosen(None, None), Listen::At(LISTEN));
        assert_eq!(chosen(None, Some(lan)), Listen::At(address(lan)));
        assert_eq!(chosen(Some(loopback), None), Listen::At(address(loopback)));
        assert_eq!(chosen(Some(loopback), Some(loopback)), Listen::At(address(loopback)));
        assert_eq!(chosen(Some(loopback), Some("127.0.0.1:0")), Listen::At(address(loopback)));
        let moves = Listen::Moves { from: address(loopback), to: address(lan) };
        assert_eq!(chosen(Some(loopback), Some(lan)), moves);
    }

    #[test]
    fn an_address_of_another_machine_and_a_port_in_use_are_refused_before_anything_is_stored() {
        let refused = refuse_unusable(address("192.0.2.1:7443")).unwrap_err();
        assert!(refused.what.contains("cannot listen on 192.0.2.1:7443"), "{refused:?}");
        assert!(refused.next.unwrap().starts_with("ip -brief address"));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = refuse_unusable(taken.local_addr().unwrap()).unwrap_err();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(refused.next.unwrap(), format!("ss -ltnp 'sport = :{port}'    # what listens there"));
    }

    #[test]
    fn who_knows_the_address_before_is_named_with_the_address_that_reaches_all() {
        let directory = Path::new("/nonexistent");
        let place = Place::new(directory).unwrap();
        let context = Context::for_tests(directory);
        let moving = Move {
            context: &context,
            place: &place,
            supervision: Supervision::None,
            own_host: None,
            from: address("10.0.0.1:7443"),
            to: address("10.0.0.9:8443"),
        };
        let refused = moving.still_known_by(&["host app-2".to_owned(), "coordinator c2".to_owned()]);
        assert_eq!(refused.why.unwrap(), "host app-2, coordinator c2 may not reach it on 10.0.0.9:8443");
        assert!(refused.next.unwrap().starts_with("lockstep up --listen 0.0.0.0:7443 "));
        let moving = Move { from: address("0.0.0.0:7443"), ..moving };
        let refused = moving.still_known_by(&["host app-2".to_owned()]);
        assert!(refused.next.unwrap().starts_with("lockstep up    # without --listen"));
    }

    #[test]
    fn every_address_of_the_machine_includes_the_one_before() {
        let served = |from, to| is_served_by(address(from), address(to));
        assert!(served("10.0.0.1:7443", "0.0.0.0:7443"));
        assert!(served("10.0.0.1:7443", "[::]:7443"));
        assert!(!served("[fd00::1]:7443", "0.0.0.0:7443"));
        assert!(!served("10.0.0.1:7443", "0.0.0.0:8443"));
        assert!(!served("127.0.0.1:7443", "10.0.0.1:7443"));
        assert!(overlap(address("127.0.0.1:7443"), address("0.0.0.0:7443")));
        assert!(!overlap(address("127.0.0.1:7443"), address("10.0.0.1:7443")));
    }

    #[test]
    fn a_coordinator_that_listens_as_its_settings_say_is_not_said_to_be_moved() {
        let place = Place::new(Path::new("/srv/lockstep")).unwrap();
        assert!(refuse_other(&place, "127.0.0.1:7443", LISTEN).is_ok());
        assert!(refuse_other(&place, "127.0.0.1:34567", address("127.0.0.1:0")).is_ok());
        let refused = refuse_other(&place, "10.0.0.1:7443", LISTEN).unwrap_err();
        assert_eq!(refused.why.unwrap(), "/srv/lockstep/coordinator/coordinator.toml sets `listen`");
    }
}
