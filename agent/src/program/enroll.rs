//! Joins this host to a cluster, and renews its certificate.
//!
//! What must stay true: the key is created here and never leaves. Key and certificate on the disk match at every
//! moment, so a renewal keeps the key. `identity.toml` is written last, so a host either has joined or has not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use lockstep_core::name::HostName;
use lockstep_core::time::Timestamp;
use lockstep_proto::dial::{self, Credential};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::host::clock;
use crate::program::directory::Directory;
use crate::program::identity::{Identity, IdentityError};

/// How often the certificate is checked: the clock may jump, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How long after a failed renewal the next is tried.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The same while the cluster has newer roots than this host: its current root may be retired soon.
const OUTDATED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The longest wait before a renewal that all hosts begin at the same moment.
const SPREAD_MAX: Duration = Duration::from_secs(2);

/// The arguments of `lockstep-agent join`.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// `host:port`.
    pub coordinator: String,
    /// `None` for the name of the machine.
    pub name: Option<HostName>,
    /// `None` for the address from which this machine reaches the coordinator.
    pub address: Option<String>,
}

/// The identity of this host from now on, and its roles.
#[derive(Debug, Clone)]
pub struct Enrollment {
    pub identity: Identity,
    pub chosen: AddressChoice,
    pub roles: Vec<String>,
}

/// How the address for load balancers was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChoice {
    /// The operator set it with `--address`.
    ByName,
    /// It is the address from which this machine reaches the coordinator.
    TowardsCoordinator,
}

/// Joins the cluster of `request.coordinator` with a one-time token.
///
/// # Errors
/// When this host has joined before, or the coordinator refuses, or the files cannot be written.
pub async fn join(directory: &Directory, request: JoinRequest, token: &str) -> anyhow::Result<Enrollment> {
    match Identity::read(directory) {
        Err(IdentityError::None) => {}
        Ok(Identity { name, cluster, .. }) => {
            bail!(
                "this host has already joined cluster {cluster} as {name}; to join again, remove {}",
                directory.path().display()
            )
        }
        Err(error) => return Err(error.into()),
    }
    let JoinRequest { coordinator, name, address } = request;
    let name = match name {
        Some(name) => name,
        None => machine_name()?,
    };
    let (address, chosen) = match address {
        Some(address) => (address, AddressChoice::ByName),
        None => (own_address(&coordinator).await?.to_string(), AddressChoice::TowardsCoordinator),
    };
    let joined = dial::join(&coordinator, token.trim(), name.as_str(), &address)
        .await
        .with_context(|| format!("cannot join at {coordinator}"))?;
    directory.write(&directory.key(), &joined.credential.key)?;
    directory.write(&directory.authority(), &joined.credential.authority)?;
    directory.write(&directory.certificate(), &joined.credential.certificate)?;
    let identity = Identity {
        cluster: joined.cluster.parse()?,
        host: joined.identity.parse()?,
        // The token may have named this host otherwise.
        name: if joined.name.is_empty() { name } else { joined.name.parse()? },
        address,
        coordinators: vec![coordinator],
    };
    identity.write(directory)?;
    Ok(Enrollment { identity, chosen, roles: joined.roles })
}

/// Reads key, certificate and authority.
///
/// # Errors
/// When one of them is missing.
pub fn credential(directory: &Directory) -> anyhow::Result<Credential> {
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Credential {
        key: read(directory.key())?,
        certificate: read(directory.certificate())?,
        authority: read(directory.authority())?,
    })
}

/// What the renewal needs.
pub struct RenewalContext {
    pub directory: Arc<Directory>,
    pub coordinators: watch::Receiver<Vec<String>>,
    /// The roots that the cluster trusts, as a coordinator last sent them; empty before that.
    pub trusted_roots: watch::Receiver<String>,
    pub current: watch::Sender<Credential>,
}

/// Renews the certificate for ever: at a third of its life, and as soon as the cluster trusts other roots or another
/// one signs. The running session keeps the old certificate; the next dial uses the new one.
pub async fn keep_valid(renewal: RenewalContext) {
    let RenewalContext { directory, coordinators, mut trusted_roots, current } = renewal;
    loop {
        let credential = current.borrow().clone();
        let roots = trusted_roots.borrow_and_update().clone();
        let due = match due_at(&credential.certificate) {
            Ok(due) => due,
            Err(error) => {
                // It was good enough to be dialled with; a renewal replaces it.
                warn!(why = format!("{error:#}"), "cannot read the certificate");
                clock::now()
            }
        };
        let is_current = dial::is_current(&credential, &roots);
        if clock::now() < due && is_current {
            let left = Duration::from_millis(due.since(clock::now()).0);
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
                () = changed(&mut trusted_roots) => {}
            }
            continue;
        }
        if !is_current {
            tokio::time::sleep(spread()).await;
        }
        let known = coordinators.borrow().clone();
        let retry_after = match renew(&directory, (&known, &roots), credential).await {
            Ok(renewed) => {
                info!("certificate renewed");
                let retry_after = (!dial::is_current(&renewed, &roots)).then_some(OUTDATED_RETRY_AFTER);
                current.send_replace(renewed);
                retry_after
            }
            Err(error) => {
                warn!(why = format!("{error:#}"), "cannot renew the certificate; trying again");
                Some(if is_current { RETRY_AFTER } else { OUTDATED_RETRY_AFTER })
            }
        };
        if let Some(retry_after) = retry_after {
            tokio::time::sleep(retry_after).await;
        }
    }
}

/// Spreads the renewals of hosts that learn of new roots at the same moment.
fn spread() -> Duration {
    // Without a source of chance they do.
    let chance = getrandom::u32().map_or(0, |number| number.to_le_bytes()[0]);
    SPREAD_MAX * u32::from(chance) / 255
}

async fn changed(trusted_roots: &mut watch::Receiver<String>) {
    if trusted_roots.changed().await.is_err() {
        // The session ends, and the agent with it.
        std::future::pending::<()>().await;
    }
}

/// Asks one coordinator after the other until one issues a certificate that is current for `roots`. Otherwise takes the
/// last one that was issued: a coordinator may be behind the others for a moment.
async fn renew(
    directory: &Directory,
    (coordinators, roots): (&[String], &str),
    credential: Credential,
) -> anyhow::Result<Credential> {
    let mut outdated = None;
    let mut failed = anyhow::anyhow!("no address of a coordinator is known");
    for coordinator in coordinators {
        match dial::renew(coordinator, &credential).await {
            Ok(renewed) if dial::is_current(&renewed, roots) => return save(directory, renewed),
            Ok(renewed) => outdated = Some(renewed),
            Err(error) => {
                failed =
                    anyhow::Error::new(error).context(format!("{coordinator} did not renew the certificate"))
            }
        }
    }
    match outdated {
        Some(outdated) => save(directory, outdated),
        None => Err(failed),
    }
}

/// Writes the trusted roots first: the root of the certificate must be among them.
fn save(directory: &Directory, renewed: Credential) -> anyhow::Result<Credential> {
    directory.write(&directory.authority(), &renewed.authority)?;
    directory.write(&directory.certificate(), &renewed.certificate)?;
    Ok(renewed)
}

/// When a third of the certificate's life is over.
fn due_at(certificate: &str) -> anyhow::Result<Timestamp> {
    let (from, until) = validity(certificate)?;
    Ok(Timestamp(from.0 + until.since(from).0 / 3))
}

/// The validity of a certificate.
///
/// # Errors
/// When it is not a certificate.
pub fn validity(certificate: &str) -> anyhow::Result<(Timestamp, Timestamp)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())?;
    let validity = pem.parse_x509()?.validity().clone();
    let moment = |seconds: i64| anyhow::Ok(Timestamp(u64::try_from(seconds)?.saturating_mul(1000)));
    Ok((moment(validity.not_before.timestamp())?, moment(validity.not_after.timestamp())?))
}

/// The first label of the machine's name, as a host name.
fn machine_name() -> anyhow::Result<HostName> {
    let text =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read this machine's name")?;
    let first = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    first.parse().context("this machine's name is not a valid host name: set one with --name")
}

/// The address from which this machine reaches the coordinator.
async fn own_address(coordinator: &str) -> anyhow::Result<IpAddr> {
    let towards = tokio::net::lookup_host(coordinator)
        .await
        .with_context(|| format!("cannot resolve {coordinator}"))?
        .next()
        .with_context(|| format!("{coordinator} has no address"))?;
    let any = if towards.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Nothing is sent: a datagram socket that is connected knows its own end.
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(towards).await.with_context(|| format!("there is no route to {coordinator}"))?;
    refuse_public(socket.local_addr()?.ip(), coordinator)
}

/// Refuses a public address. Container ports are bound to it, and only an operator may make them public.
fn refuse_public(address: IpAddr, coordinator: &str) -> anyhow::Result<IpAddr> {
    let is_private = match address {
        IpAddr::V4(address) => {
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared(address)
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    };
    if !is_private {
        bail!(
            "this machine reaches {coordinator} from {address}, which is a public address: containers' ports would be \
             open to everybody who reaches it; set another with --address (list them: ip -brief address)"
        );
    }
    Ok(address)
}

/// Whether the address is one of carriers or overlay networks: RFC 6598.
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && (64..128).contains(&second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_at_a_third_of_its_life() {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        assert_eq!(due_at(&certificate.pem()).unwrap().to_string(), "2026-01-11T00:00:00Z");
        assert!(due_at("not a certificate").is_err());
    }

    #[tokio::test]
    async fn a_host_reaches_a_coordinator_beside_it_from_the_same_address() {
        assert_eq!(own_address("127.0.0.1:7443").await.unwrap(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn no_public_address_is_taken_unasked() {
        let taken = |text: &str| refuse_public(text.parse().unwrap(), "deploy.example:7443");
        for text in ["10.0.0.5", "172.17.0.1", "192.168.1.2", "100.64.0.1", "127.0.0.1", "fd00::5", "::1"] {
            assert_eq!(taken(text).unwrap().to_string(), text);
        }
        for text in ["203.0.113.5", "172.32.0.1", "100.128.0.1", "2001:db8::5"] {
            let refused = taken(text).unwrap_err().to_string();
            assert!(refused.contains(text) && refused.contains("--address"), "{refused}");
        }
    }
}
