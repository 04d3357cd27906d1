//! A service as a systemd unit: this file calls systemd, and [`Units`] has the unit's files.

use std::process::Command;

use lockstep_runtime::systemd::units;

use super::StepLog;
use super::place::{Outcome, Place, Service};
use super::units::{UnitReport, Units};
use crate::failure::{Failure, Kind, Result};

/// Whether a unit of this place is installed.
///
/// # Errors
/// When it is masked, or another place uses the unit.
pub(super) fn is_installed(place: &Place, service: Service) -> Result<bool> {
    Units::of_this_machine().is_installed(place, service)
}

/// Installs or corrects the unit, and returns whether anything had to change.
pub(super) fn install(
    place: &Place,
    service: Service,
    command_line: &[String],
    log: &mut StepLog,
) -> Result<Outcome> {
    let UnitReport { changes, left_alone } = Units::of_this_machine().apply(place, service, command_line)?;
    changes.iter().try_for_each(|what| log.changed(what))?;
    left_alone.iter().try_for_each(|what| log.unchanged(what))?;
    if changes.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    systemctl(&["daemon-reload"])?;
    Ok(Outcome::Changed)
}

pub(super) fn is_active(service: Service) -> bool {
    succeeds(&["is-active", "--quiet", service.name()])
}

pub(super) fn is_enabled(service: Service) -> bool {
    succeeds(&["is-enabled", "--quiet", service.name()])
}

/// Starts the service now and at every boot. If it runs, it is restarted with the current unit.
pub(super) fn start(service: Service) -> Result<()> {
    // A removed copy of the unit may still be enabled: then the package's unit is enabled in its place.
    let enable = if Units::of_this_machine().has_dangling_link(service) { "reenable" } else { "enable" };
    systemctl(&[enable, "--quiet", service.name()])?;
    systemctl(&["restart", service.name()])
}

/// Stops the service, and does not start it at boot.
pub(super) fn stop(service: Service) -> Result<()> {
    systemctl(&["disable", "--quiet", "--now", service.name()])
}

/// Stops the service until it is started again; returns whether it ran.
pub(super) fn halt(place: &Place, service: Service) -> Result<bool> {
    if !is_installed(place, service)? {
        return Ok(false);
    }
    // A unit that starts again and again is not active, and must stop as well.
    let did_run = is_active(service);
    systemctl(&["stop", service.name()])?;
    Ok(did_run)
}

/// Removes the files that [`Units::written`] names, of a service that was stopped.
pub(super) fn remove(service: Service) -> Result<()> {
    Units::of_this_machine().remove(service)?;
    systemctl(&["daemon-reload"])
}

/// The last lines of its log.
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

fn succeeds(arguments: &[&str]) -> bool {
    Command::new("systemctl").args(arguments).status().is_ok_and(|status| status.success())
}
