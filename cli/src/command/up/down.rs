//! `lockstep down`: stops coordinator and agent on this machine; applications keep serving.
//!
//! What must stay true: without `--purge` nothing is lost, and `lockstep up` starts both again. With it, no site loses
//! the file by which nginx finds the live slot.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use lockstep_runtime::systemd::units::has_systemd;
use serde_json::json;

use super::machine::sites_served_from;
use super::place::{self, Place, SERVICES, Service};
use super::units::Units;
use super::{StepLog, detached, require_root, systemd};
use crate::args::DownArgs;
use crate::context::{Context, read_line};
use crate::failure::{Failure, Kind, Result};

/// # Errors
/// When a service does not stop, or what would be removed is still needed.
pub async fn down(context: &Context, args: &DownArgs) -> Result<()> {
    require_root("lockstep down", "the services run as root")?;
    let place = Place::new(&args.directory)?;
    let mut log = StepLog::new(context.output);
    let removal = if args.purge { Some(plan_removal(context, &place, args)?) } else { None };
    // The agent first, so that it does not look for a coordinator that has stopped.
    for service in SERVICES.into_iter().rev() {
        stop(&place, service, &mut log).await?;
    }
    if let Some(removal) = &removal {
        remove(removal, &mut log)?;
    }
    context.output.json(&json!({ "changes": log.changes, "said": log.lines }))?;
    context.output.line(&match log.changes {
        0 => "Nothing was running; nothing was changed.".to_owned(),
        _ => format!(
            "Your applications and nginx keep serving. To deploy again: {}",
            place.command("lockstep up")
        ),
    })
}

async fn stop(place: &Place, service: Service, log: &mut StepLog) -> Result<()> {
    let name = service.name();
    if let Some(number) = detached::stop(place, service).await? {
        return log.changed(&format!("stopped {name}, process {number}"));
    }
    // The unit of another directory stays, and is no reason to fail.
    let has_unit = has_systemd() && systemd::is_installed(place, service).is_ok_and(|is_there| is_there);
    if has_unit && (systemd::is_active(service) || systemd::is_enabled(service)) {
        systemd::stop(service)?;
        return log.changed(&format!("stopped {name}, managed by systemd"));
    }
    log.unchanged(&format!("{name} does not run"))
}

/// What a purge removes.
struct Removal {
    units: Vec<(Service, Vec<PathBuf>)>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Removed if they are empty then: other files may be in them.
    if_empty: Vec<PathBuf>,
}

/// Lists what will be removed, and asks.
fn plan_removal(context: &Context, place: &Place, args: &DownArgs) -> Result<Removal> {
    refuse_while_served(place)?;
    let removal = Removal::find(context, place)?;
    let output = context.output;
    let asks = !args.yes && io::stdin().is_terminal();
    let say = |text: &str| if asks { output.ask(text) } else { output.remark(text) };
    say("This will be removed for good:");
    let of_units = removal.units.iter().flat_map(|(_, files)| files);
    for path in of_units.chain(&removal.folders).chain(&removal.files) {
        say(&format!("  {}", path.display()));
    }
    say(
        "With it go the history and the secrets of every environment, the access of every operator and all logs.",
    );
    if args.yes {
        return Ok(removal);
    }
    let unasked = || Failure::new(Kind::Refused, "nothing was removed or stopped");
    if !asks {
        return Err(unasked()
            .why("standard input is not a terminal, so the command cannot ask for confirmation")
            .next(place.command("lockstep down --purge --yes")));
    }
    output.ask("Remove it? Type yes:");
    match read_line()?.as_str() {
        "yes" => Ok(removal),
        _ => Err(unasked().why("the answer was not yes")),
    }
}

/// Without its switch file, a site would send its traffic to the other slot.
fn refuse_while_served(place: &Place) -> Result<()> {
    let sites = sites_served_from(place)?;
    let Some(first) = sites.first() else { return Ok(()) };
    let all: Vec<String> = sites.iter().map(|site| site.display().to_string()).collect();
    Err(Failure::new(Kind::Refused, "nothing was removed: applications are served from this directory")
        .why(format!(
            "nginx finds the live slot by files in {}, which these sites use: {}",
            place.traffic().display(),
            all.join(", ")
        ))
        .next(format!("{}    # without --purge", place.command("lockstep down")))
        .or(format!(
            "rm {} && nginx -s reload    # takes the application off, then: docker rm -f its containers (docker ps --filter label=lockstep.environment)",
            first.display()
        )))
}

impl Removal {
    fn find(context: &Context, place: &Place) -> Result<Self> {
        let mut units = Vec::new();
        for service in SERVICES {
            // The unit of another directory stays.
            if has_systemd() && systemd::is_installed(place, service).is_ok_and(|is_there| is_there) {
                units.push((service, Units::of_this_machine().written(service)?));
            }
        }
        let mut files = vec![place.listen()];
        for service in SERVICES {
            files.extend([place.pid_file(service), place.log(service)]);
        }
        let mut if_empty = vec![place.directory().to_owned()];
        let credential = context.credential();
        if is_of_cluster(credential, place)? {
            files.extend(crate::credential::FILES.map(|name| credential.join(name)));
            if_empty.push(credential.to_owned());
        }
        files.retain(|file| file.exists());
        let folders = SERVICES.map(|service| place.own(service));
        Ok(Self {
            units,
            folders: folders.into_iter().filter(|folder| folder.exists()).collect(),
            files,
            if_empty,
        })
    }
}

/// Whether a credential is of this cluster: another stays.
fn is_of_cluster(credential: &Path, place: &Place) -> Result<bool> {
    let theirs = place::text(&credential.join(crate::credential::AUTHORITY))?;
    Ok(theirs.is_some() && theirs == place::text(&place.authority())?)
}

fn remove(removal: &Removal, log: &mut StepLog) -> Result<()> {
    let failed = |path: &Path, error: &io::Error| {
        Failure::new(Kind::Refused, format!("{} cannot be removed", path.display())).why(error.to_string())
    };
    for (service, files) in &removal.units {
        if !files.is_empty() {
            systemd::remove(*service)?;
            log.changed(&format!("removed the unit files of {} that lockstep up wrote", service.name()))?;
        }
        for file in Units::of_this_machine().changed(*service)? {
            log.unchanged(&format!("{}, which was changed by hand", file.display()))?;
        }
    }
    for folder in &removal.folders {
        fs::remove_dir_all(folder).map_err(|error| failed(folder, &error))?;
        log.changed(&format!("removed {}", folder.display()))?;
    }
    // The pid file was removed when its process stopped.
    for file in removal.files.iter().filter(|file| file.exists()) {
        fs::remove_file(file).map_err(|error| failed(file, &error))?;
    }
    log.changed("removed their logs, addresses and credentials")?;
    for folder in &removal.if_empty {
        match fs::remove_dir(folder) {
            Ok(()) => log.changed(&format!("removed {}", folder.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                log.unchanged(&format!("{}, which contains other files", folder.display()))?;
            }
            Err(error) => return Err(failed(folder, &error)),
        }
    }
    Ok(())
}
