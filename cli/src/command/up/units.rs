//! The files of a service's unit: the package's, those that `lockstep up` wrote, and those of an administrator.
//!
//! What must stay true: a unit has one source. If a package has installed the unit, that is used, and a drop-in has only
//! what differs on this machine. A file that somebody changed is neither overwritten nor removed, and the change is
//! reported. What an administrator has masked stays masked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lockstep_core::id::Digest;
use lockstep_runtime::systemd::units::is_masked;

use super::place::{Place, Service, text};
use crate::failure::{Failure, Kind, Result};

/// Where the units of an administrator are, and those of `up` if no package has installed one.
const OWN: &str = "etc/systemd/system";

/// Where packages' units are; on a system with a merged `/usr` both are one.
const PACKAGED: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];

const COORDINATOR: &str = include_str!("../../../../deploy/systemd/lockstep-coordinator.service");
const AGENT: &str = include_str!("../../../../deploy/systemd/lockstep-agent.service");

/// The data directory that the packages' units name.
const PLACE: &str = "var/lib/lockstep";

/// The drop-in with what differs from the package's unit on this machine.
const DROP_IN: &str = "up.conf";

/// The first line of a file that `up` writes: the rest has this digest until somebody changes it.
const MARK: &str = "# Written by `lockstep up`; the SHA-256 of what follows this line: ";

/// The settings that depend on the machine.
const MACHINE_SETTINGS: [&str; 4] = ["ExecStart", "StateDirectory", "ReadWritePaths", "ConditionPathExists"];

/// The units of `lockstep up` before it marked them, without those settings.
const UNMARKED: [&str; 2] = [
    "c34b98549ba6b15af9d586a9d484e28e0e066087a185694337de56744703f29f",
    "55975ba714096befc39727126490de50d8357ac27e7dfe596fd3b7222d0fb853",
];

/// What roles of a host need beyond the agent's unit.
const ROLES: [(&str, &str); 2] = [
    ("lb.conf", include_str!("../../../../deploy/systemd/lockstep-agent.service.d/lb.conf")),
    ("db.conf", include_str!("../../../../deploy/systemd/lockstep-agent.service.d/db.conf")),
];

/// The drop-ins of `lockstep up` before it marked them.
const UNMARKED_ROLES: [&str; 2] = [
    "c3fcb7ce560a97b0083a84bd5dd4d70a2c3a5c0254863121c64724a71158713f",
    "727069ccb057c9a0dc8af7fbb4a475acff60b1837b4471c66d5d6ea767d4a434",
];

/// The units below a root, which is `/` but in tests.
#[derive(Debug, Clone)]
pub(super) struct Units {
    root: PathBuf,
}

/// What was done with the files of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct UnitReport {
    pub(super) changes: Vec<String>,
    /// Files that an administrator changed, which stay as they are.
    pub(super) left_alone: Vec<String>,
}

/// The state of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum File {
    Absent,
    Masked,
    /// Unchanged since `up` wrote it.
    Ours(String),
    Changed(String),
}

impl Units {
    pub(super) fn of_this_machine() -> Self {
        Self { root: PathBuf::from("/") }
    }

    fn own(&self, service: Service) -> PathBuf {
        self.root.join(OWN).join(format!("{}.service", service.name()))
    }

    fn drop_ins(&self, service: Service) -> PathBuf {
        self.own(service).with_extension("service.d")
    }

    /// The text of the package's unit; `None` if no package has installed one.
    fn packaged(&self, service: Service) -> Result<Option<String>> {
        for folder in PACKAGED {
            let file = self.root.join(folder).join(format!("{}.service", service.name()));
            if let Some(text) = text(&file)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Whether a unit of this place is installed, by a package, `up` or an administrator.
    ///
    /// # Errors
    /// When it is masked, or another place uses the unit.
    pub(super) fn is_installed(&self, place: &Place, service: Service) -> Result<bool> {
        let own = self.own(service);
        if is_masked(&own) {
            return Err(Failure::new(Kind::Refused, format!("{} is masked", service.name()))
                .why(format!("an administrator has linked {} to /dev/null", own.display()))
                .next(format!("systemctl unmask {}", service.name())));
        }
        let drop_in = text(&self.drop_ins(service).join(DROP_IN))?;
        let current = text(&own)?;
        let names_this = |unit: &String| is_of_place(unit, place, service);
        let chosen = drop_in.filter(|text| exec_start(text).is_some()).or(current);
        match (chosen, self.packaged(service)?) {
            (Some(unit), _) if names_this(&unit) => Ok(true),
            (Some(_), _) => Err(self.other_directory(place, service, &own)),
            (None, Some(unit)) if names_this(&unit) => Ok(true),
            // The package's unit is for the packages' place, which has no data: it may be used for this one.
            (None, Some(_)) if !self.is_used(service) => Ok(false),
            (None, Some(_)) => Err(self.other_directory(place, service, &self.root.join(PLACE))),
            (None, None) => Ok(false),
        }
    }

    /// Whether the link that starts the unit at boot points to a file that does not exist.
    pub(super) fn has_dangling_link(&self, service: Service) -> bool {
        let wants = self.root.join(OWN).join("multi-user.target.wants");
        let link = wants.join(format!("{}.service", service.name()));
        fs::symlink_metadata(&link).is_ok() && !link.exists()
    }

    /// Whether the packages' place has data of the service.
    fn is_used(&self, service: Service) -> bool {
        let data = match service {
            Service::Coordinator => "coordinator/authority",
            Service::Agent => "agent/identity.toml",
        };
        self.root.join(PLACE).join(data).exists()
    }

    fn other_directory(&self, place: &Place, service: Service, of: &Path) -> Failure {
        Failure::new(Kind::Refused, format!("this machine already has a {}", service.name()))
            .why(format!("{} uses another directory than {}", of.display(), place.directory().display()))
            .next(
                "lockstep up --directory DIR    # DIR: its directory; for a second one add --without-systemd",
            )
    }

    /// Writes and removes files so that the unit runs `command_line` for this place.
    ///
    /// # Errors
    /// When another place uses the unit, a file cannot be written, or a changed file runs something else.
    pub(super) fn apply(
        &self,
        place: &Place,
        service: Service,
        command_line: &[String],
    ) -> Result<UnitReport> {
        self.is_installed(place, service)?;
        let wanted = unit(place, service, command_line);
        let mut report = UnitReport::default();
        match self.packaged(service)? {
            None => self.apply_own(service, &wanted, &mut report)?,
            Some(packaged) => self.apply_packaged(service, (&packaged, &wanted), &mut report)?,
        }
        Ok(report)
    }

    /// No package has installed the unit: `up` writes all of it.
    fn apply_own(&self, service: Service, wanted: &str, report: &mut UnitReport) -> Result<()> {
        let own = self.own(service);
        if let File::Changed(current) = read(&own, service)? {
            refuse_other_command(&own, &current, wanted)?;
        }
        write_own(&own, service, wanted, report)?;
        for (name, text) in roles(service) {
            write_own(&self.drop_ins(service).join(name), service, text, report)?;
        }
        // The drop-in of a package's unit that was removed since.
        remove_own(&self.drop_ins(service).join(DROP_IN), service, report)
    }

    /// A package has installed the unit: it is used, and whatever hides it is removed.
    fn apply_packaged(
        &self,
        service: Service,
        (packaged, wanted): (&str, &str),
        report: &mut UnitReport,
    ) -> Result<()> {
        let own = self.own(service);
        if let File::Changed(current) = read(&own, service)? {
            refuse_other_command(&own, &current, wanted)?;
            report
                .left_alone
                .push(format!("{}, which was changed by hand and hides the package's unit", own.display()));
            return Ok(());
        }
        remove_own(&own, service, report)?;
        for (name, _) in roles(service) {
            let file = self.drop_ins(service).join(name);
            if let File::Ours(_) = read(&file, service)? {
                remove_own(&file, service, report)?;
            }
        }
        let drop_in = self.drop_ins(service).join(DROP_IN);
        match difference(packaged, wanted) {
            Some(text) => write_own(&drop_in, service, &text, report)?,
            None => remove_own(&drop_in, service, report)?,
        }
        remove_empty(&self.drop_ins(service))
    }

    /// The files of a unit that a purge removes: what `up` and the agent wrote, and nothing else.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn written(&self, service: Service) -> Result<Vec<PathBuf>> {
        let folder = self.drop_ins(service);
        let mut files = Vec::new();
        for file in [self.own(service), folder.join(DROP_IN)] {
            if let File::Ours(_) = read(&file, service)? {
                files.push(file);
            }
        }
        for (name, _) in roles(service) {
            let file = folder.join(name);
            // An agent that has joined masks the drop-ins of roles that its host does not have.
            if let File::Ours(_) | File::Masked = read(&file, service)? {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// The files of a unit that somebody changed or replaced: a purge leaves them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn changed(&self, service: Service) -> Result<Vec<PathBuf>> {
        let folder = self.drop_ins(service);
        let mut files = Vec::new();
        for file in [self.own(service), folder.join(DROP_IN)] {
            if let File::Changed(_) = read(&file, service)? {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Removes what [`Self::written`] names.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(super) fn remove(&self, service: Service) -> Result<()> {
        for file in self.written(service)? {
            fs::remove_file(&file).map_err(|error| cannot_remove(&file, &error))?;
        }
        remove_empty(&self.drop_ins(service))
    }
}

fn roles(service: Service) -> &'static [(&'static str, &'static str)] {
    match service {
        Service::Coordinator => &[],
        Service::Agent => &ROLES,
    }
}

/// The unit that this machine needs.
fn unit(place: &Place, service: Service, command_line: &[String]) -> String {
    let text = match service {
        Service::Coordinator => COORDINATOR,
        Service::Agent => AGENT,
    };
    let words: Vec<String> = command_line.iter().map(|word| quoted(word)).collect();
    let is_elsewhere = place.directory() != Path::new("/").join(PLACE);
    let own = quoted(&place.own(service).display().to_string());
    text.lines().fold(String::new(), |unit, line| {
        unit + &match line.split_once('=') {
            Some(("ExecStart", _)) => format!("ExecStart={}", words.join(" ")),
            // It can only name a folder below /var/lib.
            Some(("StateDirectory", _)) if is_elsewhere => format!("ReadWritePaths={own}"),
            Some(("ConditionPathExists", _)) => {
                // The rest of the line is one path, quotes and all.
                format!("ConditionPathExists={}", place.identity().display().to_string().replace('%', "%%"))
            }
            Some(_) | None => line.to_owned(),
        } + "\n"
    })
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

/// The drop-in that turns the package's unit into the wanted one; `None` if nothing differs.
fn difference(packaged: &str, wanted: &str) -> Option<String> {
    let mut unit = String::new();
    let mut service = String::new();
    let [current, condition] = [packaged, wanted].map(|text| setting(text, "ConditionPathExists"));
    if let Some(condition) = condition.filter(|_| condition != current) {
        unit = format!("[Unit]\nConditionPathExists=\nConditionPathExists={condition}\n");
    }
    let [current, command] = [packaged, wanted].map(exec_start);
    if let Some(command) = command.filter(|_| command.map(without_default) != current.map(without_default)) {
        service.push_str(&format!("ExecStart=\nExecStart={command}\n"));
    }
    if let Some(paths) = setting(wanted, "ReadWritePaths") {
        service.push_str(&format!("StateDirectory=\nReadWritePaths={paths}\n"));
    }
    if !service.is_empty() {
        service.insert_str(0, "[Service]\n");
    }
    Some(unit + &service).filter(|text| !text.is_empty())
}

/// A command line without the default address of the coordinator.
fn without_default(command: &str) -> &str {
    command.strip_suffix(&format!(" --listen {}", super::LISTEN)).unwrap_or(command)
}

/// The last value of a setting: the ones before it were reset, as drop-ins do.
fn setting<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty())
}

fn exec_start(text: &str) -> Option<&str> {
    setting(text, "ExecStart")
}

fn is_of_place(unit: &str, place: &Place, service: Service) -> bool {
    let own = quoted(&place.own(service).display().to_string());
    exec_start(unit)
        .and_then(|command| command.split("--directory ").nth(1))
        .is_some_and(|rest| is_first_word(rest, &own))
}

fn is_first_word(rest: &str, word: &str) -> bool {
    rest.strip_prefix(word).is_some_and(|after| after.is_empty() || after.starts_with(' '))
}

/// Accepts a unit that was changed by hand if it runs the wanted command.
fn refuse_other_command(file: &Path, current: &str, wanted: &str) -> Result<()> {
    let [runs, wants] = [current, wanted].map(|text| exec_start(text).map(without_default));
    if runs == wants {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("{} was changed by hand", file.display()))
        .why(format!("it runs `{}`, but `{}` is needed", runs.unwrap_or_default(), wants.unwrap_or_default()))
        .next(format!("mv {0} {0}.changed && lockstep up", file.display())))
}

fn read(file: &Path, service: Service) -> Result<File> {
    if is_masked(file) {
        return Ok(File::Masked);
    }
    let current = match fs::read_to_string(file) {
        Ok(current) => current,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(File::Absent),
        Err(error) => {
            return Err(Failure::new(Kind::Refused, format!("{} cannot be read", file.display()))
                .why(error.to_string()));
        }
    };
    // An administrator made a link to a file elsewhere.
    let is_link = fs::symlink_metadata(file).is_ok_and(|current| current.is_symlink());
    Ok(match unchanged(&current, service).filter(|_| !is_link) {
        Some(text) => File::Ours(text.to_owned()),
        None => File::Changed(current),
    })
}

/// The text that `up` wrote; `None` if somebody has changed it since.
fn unchanged(current: &str, service: Service) -> Option<&str> {
    if let Some((digest, text)) = current.strip_prefix(MARK).and_then(|rest| rest.split_once('\n')) {
        return (Digest::of_content(text.as_bytes()).hex() == digest).then_some(text);
    }
    let of_the_machine =
        |line: &&str| line.split_once('=').is_some_and(|(name, _)| MACHINE_SETTINGS.contains(&name));
    let (settings, rest): (Vec<&str>, Vec<&str>) = current.lines().partition(of_the_machine);
    let (template, digest) = match service {
        Service::Coordinator => (COORDINATOR, UNMARKED[0]),
        Service::Agent => (AGENT, UNMARKED[1]),
    };
    let rest: String = rest.iter().map(|line| format!("{line}\n")).collect();
    let is_unit = Digest::of_content(rest.as_bytes()).hex() == digest
        && settings.len() == template.lines().filter(of_the_machine).count()
        && exec_start(current).is_some_and(|command| is_command_of_up(command, service));
    let is_role = UNMARKED_ROLES.contains(&Digest::of_content(current.as_bytes()).hex());
    (is_unit || is_role).then_some(current)
}

/// Whether a command line is one that `up` writes: the program and its directory.
fn is_command_of_up(command: &str, service: Service) -> bool {
    let Some((start, _)) = command.split_once(" --directory ") else { return false };
    let program = start.strip_suffix(" run").unwrap_or(start);
    let plain = program.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_one_word = plain.is_some() || !program.contains(' ');
    is_one_word && plain.unwrap_or(program).ends_with(&format!("/{}", service.name()))
}

/// Writes a file of `up`, unless an administrator changed or masked it.
fn write_own(file: &Path, service: Service, wanted: &str, report: &mut UnitReport) -> Result<()> {
    match read(file, service)? {
        File::Masked => return Ok(()),
        File::Ours(current) if current == wanted => return Ok(()),
        File::Changed(_) => {
            report.left_alone.push(format!("{}, which was changed by hand", file.display()));
            return Ok(());
        }
        File::Ours(_) | File::Absent => {}
    }
    let text = format!("{MARK}{}\n{wanted}", Digest::of_content(wanted.as_bytes()).hex());
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).and_then(|()| fs::write(file, text)).map_err(|error| {
        Failure::new(Kind::Refused, format!("{} cannot be written", file.display())).why(error.to_string())
    })?;
    report.changes.push(format!("wrote {}", file.display()));
    Ok(())
}

/// Removes a file of `up`, unless an administrator changed or masked it.
fn remove_own(file: &Path, service: Service, report: &mut UnitReport) -> Result<()> {
    match read(file, service)? {
        File::Absent | File::Masked => Ok(()),
        File::Changed(_) => {
            report.left_alone.push(format!("{}, which was changed by hand", file.display()));
            Ok(())
        }
        File::Ours(_) => {
            fs::remove_file(file).map_err(|error| cannot_remove(file, &error))?;
            report.changes.push(format!("removed {}", file.display()));
            Ok(())
        }
    }
}

fn remove_empty(folder: &Path) -> Result<()> {
    match fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        // An administrator's own files stay, and the agent's masks.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(cannot_remove(folder, &error)),
    }
}

fn cannot_remove(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Refused, format!("{} cannot be removed", path.display())).why(error.to_string())
}

#[cfg(test)]
mod tests;
