//! A service as a unit, where systemd is process 1.
//!
//! The units are the files in `deploy/systemd`, which packages install too; only the command and the directory are
//! of the machine. What must stay true: a unit of another directory is not taken over, and what an administrator
//! has masked stays so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_supervisor::units::{self, is_masked};

use super::place::{Place, Service};
use crate::failure::{Failure, Kind, Result};

const UNITS: &str = "/etc/systemd/system";

const COORDINATOR: &str = include_str!("../../../../deploy/systemd/lockstep-coordinator.service");
const AGENT: &str = include_str!("../../../../deploy/systemd/lockstep-agent.service");

const EXEC_START: &str = "ExecStart=";

/// What roles of a host need beyond the agent's unit.
const ROLES: [(&str, &str); 2] = [
    ("lb.conf", include_str!("../../../../deploy/systemd/lockstep-agent.service.d/lb.conf")),
    ("db.conf", include_str!("../../../../deploy/systemd/lockstep-agent.service.d/db.conf")),
];

/// The place of the packages' services, which the units name.
const PLACE: &str = "/var/lib/lockstep";

fn unit_file(service: Service) -> PathBuf {
    Path::new(UNITS).join(format!("{}.service", service.name()))
}

/// The unit as it should be.
fn unit(place: &Place, service: Service, command_line: &[String]) -> String {
    let text = match service {
        Service::Coordinator => COORDINATOR,
        Service::Agent => AGENT,
    };
    let words: Vec<String> = command_line.iter().map(|word| quoted(word)).collect();
    let is_elsewhere = place.directory() != Path::new(PLACE);
    let own = quoted(&place.own(service).display().to_string());
    text.lines().fold(String::new(), |unit, line| {
        unit + &match line.split_once('=') {
            Some(("ExecStart", _)) => format!("{EXEC_START}{}", words.join(" ")),
            // It names a folder below /var/lib, and no other.
            Some(("StateDirectory", _)) if is_elsewhere => format!("ReadWritePaths={own}"),
            Some(("ConditionPathExists", _)) => {
                // The rest of the line is one path, quotes and all.
                format!("ConditionPathExists={}", place.identity().display().to_string().replace('%', "%%"))
            }
            Some(_) | None => line.to_owned(),
        } + "\n"
    })
}

fn drop_ins(service: Service) -> Option<PathBuf> {
    match service {
        Service::Coordinator => None,
        Service::Agent => Some(unit_file(service).with_extension("service.d")),
    }
}

/// A word as systemd reads it back.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-:".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('%', "%%").replace('$', "$$").replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// The installed unit of this place; nothing where there is none.
///
/// # Errors
/// When there is one, of another directory.
pub(super) fn installed(place: &Place, service: Service) -> Result<Option<String>> {
    let file = unit_file(service);
    let Some(text) = super::place::text(&file)? else { return Ok(None) };
    let own = quoted(&place.own(service).display().to_string());
    let is_of_here = text
        .lines()
        .filter(|line| line.starts_with(EXEC_START))
        .any(|line| line.split("--directory ").nth(1).is_some_and(|rest| is_first_word(rest, &own)));
    if is_of_here {
        return Ok(Some(text));
    }
    Err(Failure::new(Kind::Refused, format!("this machine has a {} already", service.name()))
        .why(format!("{} is of another directory than {}", file.display(), place.directory().display()))
        .next("name its directory with --directory; a second one can run with --without-systemd"))
}

fn is_first_word(rest: &str, word: &str) -> bool {
    rest.strip_prefix(word).is_some_and(|after| after.is_empty() || after.starts_with(' '))
}

/// Installs the unit if it is not as it should be; gives whether it had to.
pub(super) fn install(
    place: &Place,
    service: Service,
    command_line: &[String],
) -> Result<super::place::Made> {
    let wanted = unit(place, service, command_line);
    installed(place, service)?;
    let folder = drop_ins(service);
    let roles = ROLES.iter().filter_map(|(name, text)| Some((folder.as_ref()?.join(name), *text)));
    let mut made = super::place::Made::WasThere;
    for (file, text) in [(unit_file(service), wanted.as_str())].into_iter().chain(roles) {
        // An agent that has joined masks what its host is not for.
        if !is_masked(&file) && fs::read_to_string(&file).ok().as_deref() != Some(text) {
            write(&file, text)?;
            made = super::place::Made::Yes;
        }
    }
    if made == super::place::Made::Yes {
        systemctl(&["daemon-reload"])?;
    }
    Ok(made)
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new(UNITS));
    fs::create_dir_all(folder).and_then(|()| fs::write(file, text)).map_err(|error| {
        Failure::new(Kind::Refused, format!("{} cannot be written", file.display())).why(error.to_string())
    })
}

pub(super) fn is_active(service: Service) -> bool {
    answers(&["is-active", "--quiet", service.name()])
}

pub(super) fn is_enabled(service: Service) -> bool {
    answers(&["is-enabled", "--quiet", service.name()])
}

/// Starts it, at this moment and at every boot. One that runs is started anew, with its unit as it is.
pub(super) fn start(service: Service) -> Result<()> {
    systemctl(&["enable", "--quiet", service.name()])?;
    systemctl(&["restart", service.name()])
}

/// Ends it, at this moment and at every boot.
pub(super) fn stop(service: Service) -> Result<()> {
    systemctl(&["disable", "--quiet", "--now", service.name()])
}

/// Removes the unit of a service that was stopped.
pub(super) fn remove(service: Service) -> Result<()> {
    let file = unit_file(service);
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Refused, format!("{} cannot be removed", file.display())).why(error.to_string())
    };
    fs::remove_file(&file).map_err(failed)?;
    if let Some(folder) = drop_ins(service) {
        for (name, text) in ROLES {
            let file = folder.join(name);
            if is_masked(&file) || fs::read_to_string(&file).is_ok_and(|there| there == text) {
                fs::remove_file(&file).map_err(failed)?;
            }
        }
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // An administrator's own files stay.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            removed => removed.map_err(failed)?,
        }
    }
    systemctl(&["daemon-reload"])
}

/// The last lines that it said.
pub(super) fn tail(service: Service, lines: usize) -> String {
    let lines = lines.to_string();
    Command::new("journalctl")
        .args(["--unit", service.name(), "--lines", &lines, "--no-pager", "--output", "cat"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

pub(super) fn systemctl(arguments: &[&str]) -> Result<()> {
    units::systemctl(arguments).map_err(|units::Refused { arguments, why }| {
        Failure::new(Kind::Refused, format!("systemctl {arguments} failed")).why(why)
    })
}

fn answers(arguments: &[&str]) -> bool {
    Command::new("systemctl").args(arguments).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_file_of_the_packages_with_the_command_of_this_machine() {
        let line: Vec<String> = ["/opt/lock step/lockstep-agent", "run", "--directory", "/srv/50%/agent"]
            .map(ToOwned::to_owned)
            .to_vec();
        let place = Place::new(Path::new("/srv/50%")).unwrap();
        let unit = unit(&place, Service::Agent, &line);
        assert!(unit.contains("\nConditionPathExists=/srv/50%%/agent/identity.toml\n"), "{unit}");
        assert!(unit.contains("\nReadWritePaths=\"/srv/50%%/agent\"\n"), "{unit}");
        assert!(
            unit.contains(
                "\nExecStart=\"/opt/lock step/lockstep-agent\" run --directory \"/srv/50%%/agent\"\n"
            )
        );
        assert_eq!(unit.lines().count(), AGENT.lines().count());
        assert_eq!(unit.matches(EXEC_START).count(), 1);
        // A package's file is what is installed where nothing was chosen.
        let usual = ["/usr/bin/lockstep-agent", "run", "--directory", "/var/lib/lockstep/agent"];
        let place = Place::new(Path::new(PLACE)).unwrap();
        assert_eq!(super::unit(&place, Service::Agent, &usual.map(ToOwned::to_owned)), AGENT);
        let usual = ["/usr/bin/lockstep-coordinator", "--directory", "/var/lib/lockstep/coordinator"];
        assert_eq!(super::unit(&place, Service::Coordinator, &usual.map(ToOwned::to_owned)), COORDINATOR);
    }

    #[test]
    fn a_directory_is_compared_whole() {
        assert!(is_first_word("/var/lib/lockstep/agent", "/var/lib/lockstep/agent"));
        assert!(is_first_word("/srv/coordinator --listen 127.0.0.1:7443", "/srv/coordinator"));
        assert!(!is_first_word("/srv/coordinator2 --listen 127.0.0.1:7443", "/srv/coordinator"));
    }
}
