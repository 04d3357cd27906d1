//! The hosts of the cluster, and tokens with which new ones join.

use lockstep_core::host::HostRole;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::host_status::{Disk, HostStatus, Presence, Validity};
use lockstep_proto::wire;
use serde_json::json;

use crate::clock::now;
use crate::command::reply::{note_if_unreachable, quoted, read_all, show_done};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Output, length};

const HEADER: [&str; 7] = ["host", "roles", "address", "agent", "cert", "clock", "free disk"];

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The lifetime of a certificate is shown in days.
const DAY_MS: u64 = 24 * 3600 * 1000;

pub async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_hosts(wire::ListRequest {}).await?.into_inner();
    let hosts: Vec<HostStatus> = read_all(&reply.hosts)?;
    context.output.json(&hosts)?;
    context.output.lines(&render(context.output, &hosts, now()))
}

/// A table of the hosts, and below it the problems that a table cannot show.
fn render(output: Output, hosts: &[HostStatus], now: Timestamp) -> Vec<String> {
    let mut rows = vec![HEADER.map(ToOwned::to_owned).to_vec()];
    rows.extend(hosts.iter().map(|status| row(status, now)));
    let mut lines = output.table_lines(&rows, 0);
    for HostStatus { host, pending_undos, second, agent_version, .. } in hosts {
        if let Some(version) = agent_version.as_ref().filter(|version| *version != OWN_VERSION) {
            let text =
                format!("{}: its agent has version {version}, and this command {OWN_VERSION}", host.name);
            lines.extend(output.wrap(&text, 2));
        }
        for undo in pending_undos {
            let text = format!("{}: undo pending in {}: {}", host.name, undo.environment, undo.change);
            lines.extend(output.wrap(&text, 2));
        }
        if let Some(second) = second {
            let text = format!(
                "{}: two machines use its key; the one at {} was refused {} ago",
                host.name,
                second.from,
                length(now.since(second.last))
            );
            lines.extend(output.wrap(&text, 2));
        }
    }
    lines
}

fn row(status: &HostStatus, now: Timestamp) -> Vec<String> {
    let HostStatus { host, presence, vitals, last_seen, .. } = status;
    let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
    let agent = match (presence, last_seen) {
        (Presence::Connected, _) => "connected".to_owned(),
        (Presence::Absent, Some(seen)) => format!("offline {}", length(now.since(*seen))),
        (Presence::Absent, None) => "never seen".to_owned(),
    };
    let unknown = || "-".to_owned();
    let of_vitals = vitals.as_ref();
    vec![
        host.name.to_string(),
        roles.join(","),
        host.address.clone(),
        agent,
        of_vitals.and_then(|vitals| vitals.certificate).map_or_else(unknown, |valid| age(valid, now)),
        of_vitals.map_or_else(unknown, |vitals| vitals.clock.to_string()),
        of_vitals.and_then(|vitals| vitals.disk).map_or_else(unknown, room),
    ]
}

/// The days since a certificate was issued, and those that it lives: `3/30 d`.
fn age(Validity { issued, ends }: Validity, now: Timestamp) -> String {
    let days = |length: Millis| (length.0 + DAY_MS / 2) / DAY_MS;
    format!("{}/{} d", now.since(issued).0 / DAY_MS, days(ends.since(issued)))
}

/// `12/40 GiB`
fn room(Disk { free_bytes, size_bytes }: Disk) -> String {
    format!("{}/{} GiB", free_bytes >> 30, size_bytes >> 30)
}

/// How a token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a command to run on the host.
    Line,
    /// As cloud-init user data for a new machine.
    UserData,
}

pub async fn create_token(
    context: &Context,
    name: Option<String>,
    roles: Vec<HostRole>,
    form: Form,
) -> Result<()> {
    let request = wire::HostTokenRequest {
        name: name.unwrap_or_default(),
        roles: roles.iter().map(HostRole::to_string).collect(),
    };
    let reply = context.control().await?.create_host_token(request).await?.into_inner();
    // A host learns the other addresses when it joins.
    let address = context.reached_at()?;
    note_if_unreachable(context, &address);
    let join = format!("lockstep-agent join --coordinator {}", quoted(&address));
    let wire::TokenReply { token, expires_ms } = reply;
    let ends = Timestamp(expires_ms);
    match form {
        Form::Line => {
            let line = format!("echo {token} | {join}");
            context.output.json(&json!({ "token": token, "expires_ms": expires_ms, "join": line }))?;
            context.output.verbatim(&line)?;
            context.output.line(&format!(
                "Run this command on the host as root. It works once, until {ends}. The token pins the cluster's \
                 authority."
            ))
        }
        Form::UserData => {
            let data = user_data(&token, &join, ends);
            context.output.json(&json!({ "token": token, "expires_ms": expires_ms, "user_data": data }))?;
            context.output.document(data.trim_end())
        }
    }
}

pub async fn forget(context: &Context, host: String) -> Result<()> {
    let done = context.control().await?.remove_host(wire::HostRef { host }).await?.into_inner();
    show_done(context, &done)
}

/// Where a new machine has the token until it has joined: not on a disk.
const TOKEN_FILE: &str = "/run/lockstep-join.token";

/// <https://cloudinit.readthedocs.io/en/latest/reference/examples.html>: files are written before packages are
/// installed, and commands run after both.
fn user_data(token: &str, join: &str, ends: Timestamp) -> String {
    format!(
        "#cloud-config\n\
         # Works for one machine, until {ends}. Anyone who reads it before then can join instead.\n\
         packages:\n  \
           - lockstep-agent\n\
         write_files:\n  \
           - path: {TOKEN_FILE}\n    \
             owner: root:root\n    \
             permissions: \"0600\"\n    \
             content: \"{token}\"\n\
         runcmd:\n  \
           - [sh, -c, \"{join} < {TOKEN_FILE}; joined=$?; rm -f {TOKEN_FILE}; exit $joined\"]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::host::Host;
    use lockstep_core::view::host_status::{ClockOffset, Vitals};

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
            slots: Vec::new(),
            pending_undos: Vec::new(),
            last_seen: None,
            vitals: None,
            second: None,
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

    /// The longest values that there are fit in a terminal of 80 columns.
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
        let offline = HostStatus {
            agent_version: Some("0.0.9".to_owned()),
            last_seen: Some(ago(7200)),
            vitals: Some(vitals(ago(7200), -7_200_000)),
            ..host("edge-1", "192.168.100.101", &all)
        };
        let never = host("app-2", "10.0.0.12", &[HostRole::App]);
        let hosts = [connected, offline, never];
        let lines = render(Output::in_pipe(), &hosts, NOW);
        let narrow = render(Output::on_terminal(), &hosts, NOW);
        assert_eq!(narrow, lines, "a terminal has one line for each host");
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn user_data_is_yaml_that_installs_and_joins_and_has_the_token_in_no_command() {
        const TOKEN: &str = "LS1.pin.id.secret";
        let join = format!("lockstep-agent join --coordinator {}", quoted("[fd00::5]:7443"));
        let text = user_data(TOKEN, &join, NOW);
        assert!(text.starts_with("#cloud-config\n"), "{text}");
        let data: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(data["packages"], json!(["lockstep-agent"]));
        let file = &data["write_files"][0];
        assert_eq!(
            *file,
            json!({
                "path": TOKEN_FILE, "owner": "root:root", "permissions": "0600", "content": TOKEN,
            })
        );
        let run = &data["runcmd"][0];
        assert_eq!((&run[0], &run[1]), (&json!("sh"), &json!("-c")));
        let command = run[2].as_str().unwrap();
        assert!(
            command.starts_with("lockstep-agent join --coordinator '[fd00::5]:7443' < /run/"),
            "{command}"
        );
        assert_eq!(text.matches("secret").count(), 1, "{text}");
        assert_eq!(data["runcmd"].as_array().unwrap().len(), 1);
    }
}
