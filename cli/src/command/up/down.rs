//! `lockstep down`: ends the coordinator and the agent of this machine; what they deployed goes on.
//!
//! What must stay true: without `--purge` nothing is lost, and `lockstep up` goes on from there; with it,
//! no site loses the file by which nginx knows its slot.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use lockstep_supervisor::units::has_systemd;
use serde_json::json;

use super::machine::sites_served_from;
use super::place::{self, Place, SERVICES, Service};
use super::units::Units;
use super::{StepLog, detached, require_root, systemd};
use crate::args::DownArgs;
use crate::context::{Context, read_line};
use crate::failure::{Failure, Kind, Result};

/// # Errors
/// When a service does not end, or what is to be removed is still needed.
pub async fn down(context: &Context, args: &DownArgs) -> Result<()> {
    require_root("lockstep down", "the services are root's")?;
    let place = Place::new(&args.directory)?;
    let mut told = StepLog::new(context.output);
    let going = if args.purge { Some(plan_removal(context, &place, args)?) } else { None };
    // The agent first, so that it does not look for a coordinator that has ended.
    for service in SERVICES.into_iter().rev() {
        end(&place, service, &mut told).await?;
    }
    if let Some(going) = &going {
        remove(going, &mut told)?;
    }
    context.output.json(&json!({ "changes": told.changes, "said": told.lines }))?;
    context.output.line(match told.changes {
        0 => "Nothing ran; nothing was changed.",
        _ => {
            "The containers of your applications and nginx go on serving; nobody deploys until `lockstep up`."
        }
    })
}

async fn end(place: &Place, service: Service, told: &mut StepLog) -> Result<()> {
    let name = service.name();
    if let Some(number) = detached::stop(place, service).await? {
        return told.changed(&format!("ended {name}, process {number}"));
    }
    // A unit of another place is none of ours, and no reason to fail.
    let has_unit = has_systemd() && systemd::is_installed(place, service).is_ok_and(|is_there| is_there);
    if has_unit && (systemd::is_active(service) || systemd::is_enabled(service)) {
        systemd::stop(service)?;
        return told.changed(&format!("ended {name}, which systemd kept"));
    }
    told.unchanged(&format!("no {name} runs here"))
}

/// What a purge removes.
struct Removal {
    units: Vec<(Service, Vec<PathBuf>)>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Removed where they are empty then: somebody may keep other things there.
    emptied: Vec<PathBuf>,
}

/// Shows what goes, and asks.
fn plan_removal(context: &Context, place: &Place, args: &DownArgs) -> Result<Removal> {
    refuse_while_served(place)?;
    let going = Removal::find(context, place)?;
    let output = context.output;
    output.remark("this goes, and does not come back:");
    let of_units = going.units.iter().flat_map(|(_, files)| files);
    for path in of_units.chain(&going.folders).chain(&going.files) {
        output.remark(&format!("  {}", path.display()));
    }
    output.remark(
        "with it the history of every environment, its secrets, every operator's access and the logs of steps",
    );
    if args.yes {
        return Ok(going);
    }
    let unasked = || Failure::new(Kind::Refused, "nothing was removed, and nothing was ended");
    if !io::stdin().is_terminal() {
        return Err(unasked()
            .why("there is no terminal at which to ask")
            .next("lockstep down --purge --yes"));
    }
    output.remark("remove it? Write yes:");
    match read_line()?.as_str() {
        "yes" => Ok(going),
        _ => Err(unasked().why("the answer was not yes")),
    }
}

/// A site whose switch file goes would send its traffic to the other slot.
fn refuse_while_served(place: &Place) -> Result<()> {
    let sites = sites_served_from(place)?;
    let Some(first) = sites.first() else { return Ok(()) };
    let all: Vec<String> = sites.iter().map(|site| site.display().to_string()).collect();
    Err(Failure::new(Kind::Refused, "applications are served from here, so nothing is removed")
        .why(format!(
            "nginx finds the live slot by files in {}, as {} say",
            place.traffic().display(),
            all.join(", ")
        ))
        .next(format!(
            "lockstep down without --purge; or let go of them first: rm {}, nginx -s reload, and docker rm -f their containers (docker ps --filter label=lockstep.environment)",
            first.display()
        )))
}

impl Removal {
    fn find(context: &Context, place: &Place) -> Result<Self> {
        let mut units = Vec::new();
        for service in SERVICES {
            // A unit of another place is none of ours.
            if has_systemd() && systemd::is_installed(place, service).is_ok_and(|is_there| is_there) {
                units.push((service, Units::of_this_machine().written(service)?));
            }
        }
        let mut files = vec![place.listen()];
        for service in SERVICES {
            files.extend([place.pid_file(service), place.log(service)]);
        }
        let mut emptied = vec![place.directory().to_owned()];
        let credential = context.credential();
        if is_of(credential, place)? {
            files.extend(crate::credential::FILES.map(|name| credential.join(name)));
            emptied.push(credential.to_owned());
        }
        files.retain(|file| file.exists());
        let folders = SERVICES.map(|service| place.own(service));
        Ok(Self {
            units,
            folders: folders.into_iter().filter(|folder| folder.exists()).collect(),
            files,
            emptied,
        })
    }
}

/// Whether a credential is of this place's cluster: another stays.
fn is_of(credential: &Path, place: &Place) -> Result<bool> {
    let theirs = place::text(&credential.join(crate::credential::AUTHORITY))?;
    Ok(theirs.is_some() && theirs == place::text(&place.authority())?)
}

fn remove(going: &Removal, told: &mut StepLog) -> Result<()> {
    let failed = |path: &Path, error: &io::Error| {
        Failure::new(Kind::Refused, format!("{} cannot be removed", path.display())).why(error.to_string())
    };
    for (service, files) in &going.units {
        if !files.is_empty() {
            systemd::remove(*service)?;
            told.changed(&format!("removed what was written of the unit {}", service.name()))?;
        }
        for file in Units::of_this_machine().changed(*service)? {
            told.unchanged(&format!("{}, which was changed by hand", file.display()))?;
        }
    }
    for folder in &going.folders {
        fs::remove_dir_all(folder).map_err(|error| failed(folder, &error))?;
        told.changed(&format!("removed {}", folder.display()))?;
    }
    // A pid file has gone with its process.
    for file in going.files.iter().filter(|file| file.exists()) {
        fs::remove_file(file).map_err(|error| failed(file, &error))?;
    }
    told.changed("removed their logs, addresses and credentials")?;
    for folder in &going.emptied {
        match fs::remove_dir(folder) {
            Ok(()) => told.changed(&format!("removed {}", folder.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                told.unchanged(&format!("{}, which has other things in it", folder.display()))?;
            }
            Err(error) => return Err(failed(folder, &error)),
        }
    }
    Ok(())
}
