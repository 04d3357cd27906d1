//! `make fleet`: brings the whole fleet up and leaves it, and says what is where; `make fleet-down` removes it.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use lockstep_tests::fleet::{COORDINATOR_PORT, Fleet, Host, Kind, PROJECT, Packages, Version};

const NAME: &str = "fleet";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["up"] => up(),
        ["down"] => Fleet::down(NAME),
        _ => Err(anyhow::anyhow!("fleet up, or fleet down")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn up() -> Result<()> {
    let begun = Instant::now();
    let packages = Packages::made(Version::First)?;
    let fleet = Fleet::up(NAME, &packages, &mut say)?;
    if fleet.hosts().is_empty() {
        bail!("bug: a fleet without hosts");
    }
    say(&format!("up after {} s:", begun.elapsed().as_secs()));
    for host in fleet.hosts() {
        say(&format!("  {:6} {:13} {}", host.name, host.address.to_string(), what_is_there(host)));
    }
    say(&format!("the operator: docker exec -it -w {PROJECT} {NAME}-c1 bash, then: lockstep host list"));
    say("a host's administrator: docker exec -it fleet-app-1 bash; to remove everything: make fleet-down");
    Ok(())
}

fn what_is_there(host: &Host) -> String {
    match host.kind {
        Kind::Coordinator => format!("lockstep-coordinator at port {COORDINATOR_PORT}, a member of etcd"),
        Kind::App => "lockstep-agent, Docker".to_owned(),
        Kind::Lb => "lockstep-agent, nginx, idle".to_owned(),
        Kind::LbDb => "lockstep-agent, nginx, PostgreSQL, Docker".to_owned(),
        Kind::Bare | Kind::Fresh => "nothing".to_owned(),
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
