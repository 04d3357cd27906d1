//! One cluster of the fleet's hosts: etcd, the coordinators over it, and hosts that join with the line that
//! `lockstep host token` prints.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Fleet, Host, Kind, PROJECT};
use crate::bed::server::certificates::Certificates;
use crate::bed::wait::until;

pub const COORDINATOR_PORT: u16 = 7443;

const SOON: Duration = Duration::from_secs(60);

pub(super) fn form(fleet: &Fleet) -> Result<()> {
    let members = fleet.of(Kind::Coordinator);
    let [first, others @ ..] = members.as_slice() else { return Ok(()) };
    start_etcd(&members)?;
    for member in &members {
        configure(member, &members)?;
    }
    first.run("systemctl enable --quiet --now lockstep-coordinator")?;
    first.run(&format!(
        "mkdir -p {PROJECT}
         lockstep login --coordinator {} < /var/lib/lockstep/coordinator/operator.token",
        reached(first)
    ))?;
    for other in others {
        let said = fleet.lockstep(&format!("coordinator token --name {}", other.name))?;
        let token = said.lines().next().unwrap_or_default();
        other.run(&format!("echo {token} | lockstep-coordinator join --coordinator {}", reached(first)))?;
        other.run("systemctl enable --quiet --now lockstep-coordinator")?;
    }
    for host in fleet.hosts() {
        if let Some(roles) = host.kind.roles() {
            let said = fleet.lockstep(&format!("host token --name {} --role {roles}", host.name))?;
            host.run(said.lines().next().context("`lockstep host token` prints no line to paste")?)?;
        }
    }
    fleet.all_are_connected()
}

impl Fleet {
    /// Where operators reach each coordinator.
    pub fn coordinators(&self) -> Vec<String> {
        let reached = self.hosts.iter().filter_map(|host| match host.kind {
            Kind::Coordinator => Some(reached(host)),
            // Where `lockstep up` has it.
            Kind::Bare | Kind::Fresh => Some(format!("127.0.0.1:{COORDINATOR_PORT}")),
            Kind::App | Kind::Lb | Kind::LbDb => None,
        });
        reached.collect()
    }
}

fn reached(coordinator: &Host) -> String {
    format!("{}:{COORDINATOR_PORT}", coordinator.address)
}

fn client(member: &Host) -> String {
    format!("https://{}:2379", member.address)
}

fn peer(member: &Host) -> String {
    format!("https://{}:2380", member.address)
}

/// As Debian's package is told: by its environment.
fn start_etcd(members: &[&Host]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let addresses: Vec<String> = members.iter().map(|member| member.address.to_string()).collect();
    let made = Certificates::make_for(folder.path(), "etcd", &addresses)?;
    let all: Vec<String> = members.iter().map(|member| format!("{}={}", member.name, peer(member))).collect();
    for member in members {
        for (file, name) in [(&made.authority, "ca"), (&made.certificate, "etcd"), (&made.key, "key")] {
            let text = fs::read_to_string(file)?;
            member.write(&format!("/etc/etcd/{name}.pem"), &text)?;
            member.write(&format!("/etc/lockstep/etcd/{name}.pem"), &text)?;
        }
        member.run("chown -R etcd: /etc/etcd")?;
        member.write("/etc/default/etcd", &etcd_settings(member, &all.join(",")))?;
    }
    // A member alone is not ready: none is waited for until all are told.
    for member in members {
        member.run("systemctl enable --quiet etcd && systemctl start --no-block etcd")?;
    }
    for member in members {
        until(&format!("etcd serves on {}", member.name), SOON, || member.is_active("etcd"))?;
    }
    Ok(())
}

fn etcd_settings(member: &Host, all: &str) -> String {
    let (client, peer) = (client(member), peer(member));
    let mut text = format!(
        "ETCD_NAME={}\nETCD_DATA_DIR=/var/lib/etcd/fleet\n\
         ETCD_LISTEN_CLIENT_URLS={client}\nETCD_ADVERTISE_CLIENT_URLS={client}\n\
         ETCD_LISTEN_PEER_URLS={peer}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n\
         ETCD_INITIAL_CLUSTER={all}\nETCD_LOGGER=zap\nETCD_LOG_LEVEL=warn\n",
        member.name
    );
    for side in ["", "PEER_"] {
        text += &format!(
            "ETCD_{side}CLIENT_CERT_AUTH=true\nETCD_{side}TRUSTED_CA_FILE=/etc/etcd/ca.pem\n\
             ETCD_{side}CERT_FILE=/etc/etcd/etcd.pem\nETCD_{side}KEY_FILE=/etc/etcd/key.pem\n"
        );
    }
    text
}

fn configure(member: &Host, members: &[&Host]) -> Result<()> {
    let endpoints: Vec<String> = members.iter().map(|member| client(member)).collect();
    member.write(
        "/etc/lockstep/coordinator.toml",
        &format!(
            "listen = \"{}\"\n[store.etcd]\nendpoints = {endpoints:?}\nca = \"/etc/lockstep/etcd/ca.pem\"\n\
             certificate = \"/etc/lockstep/etcd/etcd.pem\"\nkey = \"/etc/lockstep/etcd/key.pem\"\n",
            reached(member)
        ),
    )
}
