//! A service as a unit, where systemd is process 1: [`Units`] has its files, and systemd is asked here.

use std::process::Command;

use lockstep_supervisor::units;

use super::StepLog;
use super::place::{Made, Place, Service};
use super::units::{Fitted, Units};
use crate::failure::{Failure, Kind, Result};

/// Whether a unit of this place is installed.
///
/// # Errors
/// When it is masked, or another place uses the unit.
pub(super) fn is_installed(place: &Place, service: Service) -> Result<bool> {
    Units::of_this_machine().is_of(place, service)
}

/// Makes the unit as it should be; gives whether it had to.
pub(super) fn install(
    place: &Place,
    service: Service,
    command_line: &[String],
    told: &mut StepLog,
) -> Result<Made> {
    let Fitted { changes, left_alone } = Units::of_this_machine().fit(place, service, command_line)?;
    changes.iter().try_for_each(|what| told.changed(what))?;
    left_alone.iter().try_for_each(|what| told.unchanged(what))?;
    if changes.is_empty() {
        return Ok(Made::WasThere);
    }
    systemctl(&["daemon-reload"])?;
    Ok(Made::Yes)
}

pub(super) fn is_active(service: Service) -> bool {
    answers(&["is-active", "--quiet", service.name()])
}

pub(super) fn is_enabled(service: Service) -> bool {
    answers(&["is-enabled", "--quiet", service.name()])
}

/// Starts it, at this moment and at every boot. One that runs is started anew, with its unit as it is.
pub(super) fn start(service: Service) -> Result<()> {
    // What was enabled by the name of a copy that was removed is enabled by the name of the package's unit.
    let enable = if Units::of_this_machine().is_enabled_by_nothing(service) { "reenable" } else { "enable" };
    systemctl(&[enable, "--quiet", service.name()])?;
    systemctl(&["restart", service.name()])
}

/// Ends it, at this moment and at every boot.
pub(super) fn stop(service: Service) -> Result<()> {
    systemctl(&["disable", "--quiet", "--now", service.name()])
}

/// Removes the files that [`Units::written`] names, of a service that was stopped.
pub(super) fn remove(service: Service) -> Result<()> {
    Units::of_this_machine().remove(service)?;
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
