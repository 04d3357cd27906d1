//! A service as a plain process, where systemd does not run: in containers and in CI.
//!
//! What must stay true: it has a session of its own, so that it outlives the command and its terminal. It inherits
//! nothing of the operator's environment. A number in a pid file counts only while the process of that number is the
//! service of this directory.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::place::{Place, Service};
use crate::failure::{Failure, Kind, Result};

/// How long a service may take to stop. A step that runs is interrupted and runs again after the next start.
const END_LIMIT: Duration = Duration::from_secs(20);

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Where the programs are that a service runs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The number of the service's process; `None` if it does not run.
pub(super) fn running(place: &Place, service: Service) -> Option<i32> {
    let number = fs::read_to_string(place.pid_file(service)).ok()?.trim().parse().ok()?;
    // Empty for a zombie.
    let command = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    is_service(&command, place, service).then_some(number)
}

fn is_service(command: &[u8], place: &Place, service: Service) -> bool {
    let words: Vec<&str> =
        command.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
    let own = place.own(service);
    words.iter().any(|word| Path::new(word).file_name().is_some_and(|name| name == service.name()))
        && words.iter().any(|word| Path::new(word) == own)
}

/// Starts it.
pub(super) fn start(place: &Place, service: Service, command_line: &[String]) -> Result<Child> {
    let failed = |error: io::Error| {
        Failure::new(Kind::Refused, format!("{} cannot be started", service.name())).why(error.to_string())
    };
    let log = File::options().create(true).append(true).open(place.log(service)).map_err(failed)?;
    let mut command = Command::new("setsid");
    command
        .args(command_line)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    if let Some(filter) = std::env::var_os("LOCKSTEP_LOG") {
        command.env("LOCKSTEP_LOG", filter);
    }
    let child = command.spawn().map_err(failed)?;
    fs::write(place.pid_file(service), format!("{}\n", child.id())).map_err(failed)?;
    Ok(child)
}

/// Stops the service and waits; returns its number, or `None` if it did not run.
pub(super) async fn stop(place: &Place, service: Service) -> Result<Option<i32>> {
    let Some(number) = running(place, service) else {
        remove_pid_file(place, service)?;
        return Ok(None);
    };
    if let Some(pid) = Pid::from_raw(number) {
        match kill_process(pid, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(Failure::new(
                    Kind::Refused,
                    format!("{} (process {number}) cannot be stopped", service.name()),
                )
                .why(error.to_string()));
            }
        }
    }
    let started = Instant::now();
    while running(place, service).is_some() {
        if started.elapsed() > END_LIMIT {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} (process {number}) has not stopped", service.name()),
            )
            .why(format!("it was sent SIGTERM {} s ago", END_LIMIT.as_secs()))
            .next(format!("kill -9 {number}    # loses nothing; then repeat the command")));
        }
        sleep(POLL_EVERY).await;
    }
    remove_pid_file(place, service)?;
    Ok(Some(number))
}

fn remove_pid_file(place: &Place, service: Service) -> Result<()> {
    let file = place.pid_file(service);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(Kind::Refused, format!("{} cannot be removed", file.display()))
                .why(error.to_string()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_to_something_else_is_not_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        let own = place.own(Service::Agent).display().to_string();
        let line = |words: &[&str]| words.join("\0").into_bytes();
        for (command, is) in [
            (line(&["/usr/bin/lockstep-agent", "run", "--directory", &own]), true),
            (line(&["setsid", "/usr/bin/lockstep-agent", "run", "--directory", &own]), true),
            (line(&["/usr/bin/lockstep-agent", "run", "--directory", "/var/lib/other/agent"]), false),
            (line(&["tail", "-f", &own]), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_service(&command, &place, Service::Agent), is, "{command:?}");
        }
        // This very process is alive, and is no agent.
        fs::write(place.pid_file(Service::Agent), std::process::id().to_string()).unwrap();
        assert_eq!(running(&place, Service::Agent), None);
    }
}
