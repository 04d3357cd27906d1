//! The root certificates that the cluster trusts.

use lockstep_core::view::authority_status::{AuthorityStatus, HostsToMove, Retiring, RootStatus};
use lockstep_core::view::host_status::Presence;
use lockstep_proto::wire;

use crate::args::AuthorityCommand;
use crate::command::reply::{read, show_done};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Output, Tone, ago};

pub async fn run(context: &Context, command: AuthorityCommand) -> Result<()> {
    let mut control = context.control().await?;
    let done = match command {
        AuthorityCommand::List => {
            let reply = control.show_authority(wire::ListRequest {}).await?.into_inner();
            return list(context, &read(Some(&reply))?);
        }
        AuthorityCommand::Rotate => control.rotate_authority(wire::RotateAuthorityRequest {}).await?,
        AuthorityCommand::Retire { force } => {
            control.retire_authority(wire::RetireAuthorityRequest { force }).await?
        }
    };
    show_done(context, &done.into_inner())
}

fn list(context: &Context, status: &AuthorityStatus) -> Result<()> {
    context.output.json(status)?;
    context.output.lines(&render(status, context.output))
}

fn render(status: &AuthorityStatus, output: Output) -> Vec<String> {
    let AuthorityStatus { signing, retiring } = status;
    let mut rows = vec![["root", "created", "expires", "state"].map(ToOwned::to_owned).to_vec()];
    rows.push(row(signing, "signs"));
    let Some(Retiring { root, since, left }) = retiring else { return output.table_lines(&rows, 0) };
    rows.push(row(root, &format!("signed until {}, still trusted", ago(*since))));
    let mut lines = output.table_lines(&rows, 0);
    lines.push(String::new());
    let behind = rows_to_move(left, output);
    if behind.is_empty() {
        lines.push(format!("Every certificate is of {}.", signing.short()));
    } else {
        lines.push(format!("These still use {}:", root.short()));
        lines.extend(output.table_lines(&behind, 2));
    }
    if left.services().is_none() {
        if !behind.is_empty() {
            let words =
                "An operator who runs no command before the earlier root is retired must log in again.";
            lines.extend(output.wrap(words, 0));
        }
        lines.push("next: lockstep authority retire".to_owned());
    }
    lines
}

fn row(root: &RootStatus, what: &str) -> Vec<String> {
    vec![root.short().to_owned(), ago(root.made), root.ends.to_string(), what.to_owned()]
}

/// A row for each service and operator whose certificate is of the earlier root.
fn rows_to_move(left: &HostsToMove, output: Output) -> Vec<Vec<String>> {
    let HostsToMove { coordinators, hosts, operators } = left;
    let offline = |text: &str| output.toned(Tone::Bad, text);
    let moving = || "connected: its certificate is renewed shortly".to_owned();
    let mut rows = Vec::new();
    for one in coordinators {
        let what = match one.presence {
            Presence::Connected => "running: its certificate is renewed shortly".to_owned(),
            Presence::Absent => offline("no lease: start it"),
        };
        rows.push(vec!["coordinator".to_owned(), one.name.to_string(), what]);
    }
    for host in hosts {
        let what = match (host.presence, host.last_seen) {
            (Presence::Connected, _) => moving(),
            (Presence::Absent, Some(at)) => offline(&format!("last seen {}: start its agent", ago(at))),
            (Presence::Absent, None) => offline("never seen: start its agent"),
        };
        rows.push(vec!["host".to_owned(), host.name.to_string(), what]);
    }
    for operator in operators {
        rows.push(vec!["operator".to_owned(), operator.to_string(), "renewed by any command".to_owned()]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::time::{Millis, Timestamp};
    use lockstep_core::view::authority_status::{CoordinatorToMove, HostToMove};

    use crate::clock::now;

    fn root(pin: &str, days: u64) -> RootStatus {
        let made = Timestamp(now().0.saturating_sub(days * 86_400_000));
        RootStatus { pin: pin.repeat(13), made, ends: Timestamp(2_114_380_800_000) }
    }

    #[test]
    fn which_roots_are_trusted_and_who_needs_the_earlier_one() {
        let drawn = |status: &AuthorityStatus| render(status, Output::in_pipe()).join("\n");
        let signing = root("k3jx", 2);
        let alone = AuthorityStatus { signing: signing.clone(), retiring: None };
        let minutes = |minutes: u64| Timestamp(now().0.saturating_sub(Millis::from_secs(minutes * 60).0));
        let away = |name: &str, last_seen| HostToMove {
            name: name.parse().unwrap(),
            presence: Presence::Absent,
            last_seen,
        };
        let left = HostsToMove {
            coordinators: vec![CoordinatorToMove {
                name: "c2".parse().unwrap(),
                presence: Presence::Connected,
            }],
            hosts: vec![away("app-2", Some(minutes(90))), away("app-3", None)],
            operators: vec!["anna".parse().unwrap()],
        };
        let retiring = |left| Some(Retiring { root: root("a7qd", 400), since: minutes(3), left });
        let moving = AuthorityStatus { signing: signing.clone(), retiring: retiring(left) };
        let done = AuthorityStatus { signing, retiring: retiring(HostsToMove::default()) };
        let all = [&alone, &moving, &done].map(drawn).join("\n\n--\n");
        insta::assert_snapshot!(all);
    }
}
