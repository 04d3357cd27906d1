//! The hosts as they stand, and tokens for those that will join.

use lockstep_core::host_status::{Disk, HostStatus, Presence, Validity};
use lockstep_core::record::HostRole;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::wire;

use super::people::token;
use super::read_all;
use crate::context::{Context, now};
use crate::failure::Result;
use crate::output::{length, table};

const HEADER: [&str; 9] =
    ["host", "roles", "address", "health", "seen", "agent", "certificate", "clock", "free disk"];

/// In days, as certificates are given.
const DAY_MS: u64 = 24 * 3600 * 1000;

pub async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_hosts(wire::ListRequest {}).await?.into_inner();
    let hosts: Vec<HostStatus> = read_all(&reply.hosts)?;
    context.output.json(&hosts)?;
    listed(&hosts, now()).iter().try_for_each(|line| context.output.line(line))
}

/// One line a host, and beneath them what somebody has to know of one.
fn listed(hosts: &[HostStatus], now: Timestamp) -> Vec<String> {
    let mut rows = vec![HEADER.map(ToOwned::to_owned).to_vec()];
    rows.extend(hosts.iter().map(|status| row(status, now)));
    let mut lines = table(&rows);
    for HostStatus { host, debts, .. } in hosts {
        let owed =
            debts.iter().map(|debt| format!("{} owes {}: {}", host.name, debt.environment, debt.change));
        lines.extend(owed);
    }
    lines
}

fn row(status: &HostStatus, now: Timestamp) -> Vec<String> {
    let HostStatus { host, presence, agent_version, vitals, last_seen, .. } = status;
    let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
    let health = match presence {
        Presence::Connected => "connected",
        Presence::Absent => "gone",
    };
    let unknown = || "-".to_owned();
    let of_vitals = vitals.as_ref();
    vec![
        host.name.to_string(),
        roles.join(","),
        host.address.clone(),
        health.to_owned(),
        last_seen.map_or_else(unknown, |seen| format!("{} ago", length(now.since(seen)))),
        agent_version.clone().unwrap_or_else(unknown),
        of_vitals.and_then(|vitals| vitals.certificate).map_or_else(unknown, |valid| age(valid, now)),
        of_vitals.map_or_else(unknown, |vitals| vitals.clock.to_string()),
        of_vitals.and_then(|vitals| vitals.disk).map_or_else(unknown, room),
    ]
}

/// `3 of 30 d`
fn age(Validity { issued, ends }: Validity, now: Timestamp) -> String {
    let days = |length: Millis| (length.0 + DAY_MS / 2) / DAY_MS;
    format!("{} of {} d", now.since(issued).0 / DAY_MS, days(ends.since(issued)))
}

/// `12/40 GiB`
fn room(Disk { free_bytes, size_bytes }: Disk) -> String {
    format!("{}/{} GiB", free_bytes >> 30, size_bytes >> 30)
}

pub async fn create_token(context: &Context, name: Option<String>, roles: Vec<HostRole>) -> Result<()> {
    let request = wire::HostTokenRequest {
        name: name.unwrap_or_default(),
        roles: roles.iter().map(HostRole::to_string).collect(),
    };
    let reply = context.control().await?.create_host_token(request).await?.into_inner();
    // A host is told of the others when it has joined.
    let join = format!("lockstep-agent join --coordinator {}", context.reached_at()?);
    token(context, &reply, &join)?;
    context.output.line(&format!("on the host, as root: echo {} | {join}", reply.token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::host_status::{ClockOffset, Vitals};
    use lockstep_core::record::Host;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn ago(seconds: u64) -> Timestamp {
        Timestamp(NOW.0 - seconds * 1000)
    }

    fn host(name: &str, address: &str, roles: &[HostRole]) -> HostStatus {
        let id = "host_01JBQR2KXYZ987654321012345".parse().unwrap();
        let host = Host {
            id,
            name: name.parse().unwrap(),
            address: address.to_owned(),
            roles: roles.iter().copied().collect(),
        };
        HostStatus {
            host,
            presence: Presence::Absent,
            agent_version: None,
            instances: Vec::new(),
            debts: Vec::new(),
            last_seen: None,
            vitals: None,
        }
    }

    fn vitals(heard_at: Timestamp, ahead_ms: i64) -> Vitals {
        let issued = ago(3 * 24 * 3600 + 60);
        Vitals {
            heard_at,
            clock: ClockOffset { ahead_ms, within: Millis(2) },
            disk: Some(Disk { free_bytes: 41 << 30, size_bytes: 117 << 30 }),
            certificate: Some(Validity { issued, ends: issued + Millis(30 * DAY_MS) }),
        }
    }

    /// Facts of the longest that there are: a terminal of 100 columns takes them.
    #[test]
    fn a_line_a_host_with_all_that_is_known_of_it() {
        let all = [HostRole::App, HostRole::Lb, HostRole::Db];
        let connected = HostStatus {
            presence: Presence::Connected,
            agent_version: Some("0.1.0".to_owned()),
            last_seen: Some(ago(4)),
            vitals: Some(vitals(ago(4), 12)),
            ..host("app-1", "10.0.0.11", &[HostRole::App])
        };
        let gone = HostStatus {
            agent_version: Some("0.1.0".to_owned()),
            last_seen: Some(ago(7200)),
            vitals: Some(vitals(ago(7200), -7_200_000)),
            ..host("edge-1", "192.168.100.101", &all)
        };
        let never = host("app-2", "10.0.0.12", &[HostRole::App]);
        let lines = listed(&[connected, gone, never], NOW);
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        insta::assert_snapshot!(lines.join("\n"));
    }
}
