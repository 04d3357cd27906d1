//! The files of units below a temporary root.

use std::os::unix::fs::symlink;

use lockstep_runtime::systemd::units::MASK;

use super::*;

/// A machine's `/etc` and `/usr`, and the place of its services.
struct Machine {
    directory: tempfile::TempDir,
    place: Place,
}

const USUAL_AGENT: [&str; 4] = ["/usr/bin/lockstep-agent", "run", "--directory", "/var/lib/lockstep/agent"];

const USUAL_COORDINATOR: [&str; 3] =
    ["/usr/bin/lockstep-coordinator", "--directory", "/var/lib/lockstep/coordinator"];

/// The files of an `up` that did not mark what it wrote.
const UNMARKED_AGENT: &str = include_str!("../../../../tests/unmarked/lockstep-agent.service");
const UNMARKED_LB: &str = include_str!("../../../../tests/unmarked/lb.conf");

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

impl Machine {
    fn new() -> Self {
        Self::at("/var/lib/lockstep")
    }

    fn at(place: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join(OWN)).unwrap();
        Self { directory, place: Place::new(Path::new(place)).unwrap() }
    }

    fn units(&self) -> Units {
        Units { root: self.directory.path().to_owned() }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.file(path)).ok()
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// What the packages bring.
    fn install_packages(&self, folder: &str) {
        self.write(&format!("{folder}/lockstep-agent.service"), AGENT);
        self.write(&format!("{folder}/lockstep-coordinator.service"), COORDINATOR);
        for (name, text) in ROLES {
            self.write(&format!("{folder}/lockstep-agent.service.d/{name}"), text);
        }
    }

    fn apply(&self, service: Service, line: &[&str]) -> Result<UnitReport> {
        self.units().apply(&self.place, service, &words(line))
    }

    /// Everything below `/etc/systemd/system`.
    fn own_files(&self) -> Vec<String> {
        let root = self.file(OWN);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

const UNIT: &str = "etc/systemd/system/lockstep-agent.service";
const UP_CONF: &str = "etc/systemd/system/lockstep-agent.service.d/up.conf";
const LB_CONF: &str = "etc/systemd/system/lockstep-agent.service.d/lb.conf";

#[test]
fn a_unit_is_the_file_of_the_packages_with_the_command_of_this_machine() {
    let line: Vec<String> = words(&["/opt/lock step/lockstep-agent", "run", "--directory", "/srv/50%/agent"]);
    let place = Place::new(Path::new("/srv/50%")).unwrap();
    let unit = unit(&place, Service::Agent, &line);
    assert!(unit.contains("\nConditionPathExists=/srv/50%%/agent/identity.toml\n"), "{unit}");
    assert!(unit.contains("\nReadWritePaths=\"/srv/50%%/agent\"\n"), "{unit}");
    assert!(
        unit.contains("\nExecStart=\"/opt/lock step/lockstep-agent\" run --directory \"/srv/50%%/agent\"\n")
    );
    assert_eq!(unit.lines().count(), AGENT.lines().count());
    assert_eq!(unit.matches("ExecStart=").count(), 1);
    // A package's file is what is installed where nothing was chosen.
    let place = Place::new(Path::new("/var/lib/lockstep")).unwrap();
    assert_eq!(super::unit(&place, Service::Agent, &words(&USUAL_AGENT)), AGENT);
    assert_eq!(super::unit(&place, Service::Coordinator, &words(&USUAL_COORDINATOR)), COORDINATOR);
}

#[test]
fn a_directory_is_compared_whole() {
    assert!(is_first_word("/var/lib/lockstep/agent", "/var/lib/lockstep/agent"));
    assert!(is_first_word("/srv/coordinator --listen 127.0.0.1:7443", "/srv/coordinator"));
    assert!(!is_first_word("/srv/coordinator2 --listen 127.0.0.1:7443", "/srv/coordinator"));
}

#[test]
fn without_packages_the_unit_is_written_whole_and_only_once() {
    let machine = Machine::new();
    let first = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!(first.changes.len(), 3, "{first:?}");
    assert!(machine.text(UNIT).unwrap().ends_with(AGENT));
    assert_eq!(machine.apply(Service::Agent, &USUAL_AGENT).unwrap(), UnitReport::default());
}

#[test]
fn with_the_packages_nothing_is_written_where_nothing_differs() {
    let machine = Machine::new();
    machine.install_packages("usr/lib/systemd/system");
    assert_eq!(machine.apply(Service::Agent, &USUAL_AGENT).unwrap(), UnitReport::default());
    assert_eq!(machine.apply(Service::Coordinator, &USUAL_COORDINATOR).unwrap(), UnitReport::default());
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn a_package_in_lib_counts_as_one_in_usr_lib() {
    let machine = Machine::new();
    machine.install_packages("lib/systemd/system");
    assert_eq!(machine.apply(Service::Agent, &USUAL_AGENT).unwrap(), UnitReport::default());
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn the_address_that_a_coordinator_takes_by_itself_is_no_difference() {
    let machine = Machine::new();
    machine.install_packages("usr/lib/systemd/system");
    let line: Vec<&str> = USUAL_COORDINATOR.into_iter().chain(["--listen", "127.0.0.1:7443"]).collect();
    assert_eq!(machine.apply(Service::Coordinator, &line).unwrap(), UnitReport::default());
}

#[test]
fn only_what_differs_stands_in_a_drop_in() {
    let machine = Machine::new();
    machine.install_packages("usr/lib/systemd/system");
    let line: Vec<&str> = USUAL_COORDINATOR.into_iter().chain(["--listen", "10.0.0.5:7443"]).collect();
    machine.apply(Service::Coordinator, &line).unwrap();
    assert_eq!(machine.own_files(), ["lockstep-coordinator.service.d/up.conf"]);
    let text = machine.text("etc/systemd/system/lockstep-coordinator.service.d/up.conf").unwrap();
    let (_, text) = text.split_once('\n').unwrap();
    assert_eq!(
        text,
        "[Service]\nExecStart=\nExecStart=/usr/bin/lockstep-coordinator --directory \
         /var/lib/lockstep/coordinator --listen 10.0.0.5:7443\n"
    );
    // The next `up` finds it, and one that needs no difference takes it away.
    assert_eq!(machine.apply(Service::Coordinator, &line).unwrap(), UnitReport::default());
    let report = machine.apply(Service::Coordinator, &USUAL_COORDINATOR).unwrap();
    assert_eq!(report.changes.len(), 1, "{report:?}");
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn another_directory_is_a_drop_in_with_all_that_names_it() {
    let machine = Machine::at("/srv/lockstep");
    machine.install_packages("usr/lib/systemd/system");
    let line = ["/usr/bin/lockstep-agent", "run", "--directory", "/srv/lockstep/agent"];
    machine.apply(Service::Agent, &line).unwrap();
    let text = machine.text(UP_CONF).unwrap();
    for part in [
        "[Unit]\nConditionPathExists=\nConditionPathExists=/srv/lockstep/agent/identity.toml\n",
        "ExecStart=\nExecStart=/usr/bin/lockstep-agent run --directory /srv/lockstep/agent\n",
        "StateDirectory=\nReadWritePaths=/srv/lockstep/agent\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(machine.units().is_installed(&machine.place, Service::Agent).unwrap());
}

#[test]
fn another_directory_does_not_take_the_unit_from_the_packages_place() {
    let machine = Machine::at("/srv/lockstep");
    machine.install_packages("usr/lib/systemd/system");
    machine.write("var/lib/lockstep/agent/identity.toml", "joined");
    let line = ["/usr/bin/lockstep-agent", "run", "--directory", "/srv/lockstep/agent"];
    let refused = machine.apply(Service::Agent, &line).unwrap_err();
    assert!(refused.what.contains("already has a lockstep-agent"), "{refused:?}");
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn the_packages_place_does_not_take_the_unit_from_another_directory() {
    let machine = Machine::new();
    machine.install_packages("usr/lib/systemd/system");
    let elsewhere = Place::new(Path::new("/srv/lockstep")).unwrap();
    let line = words(&["/usr/bin/lockstep-agent", "run", "--directory", "/srv/lockstep/agent"]);
    machine.units().apply(&elsewhere, Service::Agent, &line).unwrap();
    let refused = machine.apply(Service::Agent, &USUAL_AGENT).unwrap_err();
    assert!(refused.why.as_ref().unwrap().contains("another directory"), "{refused:?}");
}

#[test]
fn the_copy_of_an_earlier_up_goes_when_the_packages_come() {
    let machine = Machine::new();
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    machine.install_packages("usr/lib/systemd/system");
    let report = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!((report.changes.len(), report.left_alone.len()), (3, 0), "{report:?}");
    assert_eq!(machine.own_files(), [] as [&str; 0]);
    assert_eq!(machine.apply(Service::Agent, &USUAL_AGENT).unwrap(), UnitReport::default());
}

#[test]
fn the_copy_of_an_up_that_did_not_mark_what_it_wrote_goes_too() {
    let machine = Machine::new();
    machine.write(UNIT, &UNMARKED_AGENT.replace("/usr/bin/", "/opt/lockstep/"));
    machine.write(LB_CONF, UNMARKED_LB);
    machine.install_packages("usr/lib/systemd/system");
    let report = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!((report.changes.len(), report.left_alone.len()), (2, 0), "{report:?}");
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn an_outdated_copy_goes_when_the_packages_come() {
    let machine = Machine::new();
    let outdated = AGENT.replace("WatchdogSec=60", "WatchdogSec=30");
    machine.write(UNIT, &format!("{MARK}{}\n{outdated}", Digest::of_content(outdated.as_bytes()).hex()));
    machine.install_packages("usr/lib/systemd/system");
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!(machine.own_files(), [] as [&str; 0]);
}

#[test]
fn an_outdated_copy_is_renewed_where_there_is_no_package() {
    let machine = Machine::new();
    let outdated = AGENT.replace("WatchdogSec=60", "WatchdogSec=30");
    machine.write(UNIT, &format!("{MARK}{}\n{outdated}", Digest::of_content(outdated.as_bytes()).hex()));
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert!(machine.text(UNIT).unwrap().ends_with(AGENT));
}

#[test]
fn a_copy_that_was_changed_by_hand_stays_and_is_named() {
    let machine = Machine::new();
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    let changed = machine.text(UNIT).unwrap().replace("WatchdogSec=60", "WatchdogSec=0");
    machine.write(UNIT, &changed);
    machine.install_packages("usr/lib/systemd/system");
    let report = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!(report.changes, [] as [&str; 0]);
    assert!(report.left_alone[0].contains("changed by hand and hides the package's unit"), "{report:?}");
    assert_eq!(machine.text(UNIT).unwrap(), changed);
}

#[test]
fn a_unit_that_was_changed_by_hand_is_not_overwritten_where_there_is_no_package() {
    let machine = Machine::new();
    let changed = AGENT.replace("WatchdogSec=60", "WatchdogSec=0");
    machine.write(UNIT, &changed);
    let report = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert!(report.left_alone[0].contains("changed by hand"), "{report:?}");
    assert_eq!(machine.text(UNIT).unwrap(), changed);
}

#[test]
fn a_unit_that_was_changed_by_hand_and_runs_something_else_is_refused() {
    let machine = Machine::new();
    let changed = AGENT.replace("/usr/bin/lockstep-agent run", "/usr/bin/nice /usr/bin/lockstep-agent run");
    machine.write(UNIT, &changed);
    let refused = machine.apply(Service::Agent, &USUAL_AGENT).unwrap_err();
    assert!(refused.what.ends_with("was changed by hand"), "{refused:?}");
    assert_eq!(machine.text(UNIT).unwrap(), changed);
}

#[test]
fn an_unmarked_copy_with_one_more_path_was_changed_by_hand() {
    let machine = Machine::new();
    let changed = UNMARKED_AGENT.replace("Number=EPERM\n", "Number=EPERM\nReadWritePaths=/srv/www\n");
    machine.write(UNIT, &changed);
    let report = machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert!(report.left_alone[0].contains("changed by hand"), "{report:?}");
    assert_eq!(machine.text(UNIT).unwrap(), changed);
}

#[test]
fn a_masked_unit_is_refused_and_stays_masked() {
    let machine = Machine::new();
    symlink(MASK, machine.file(UNIT)).unwrap();
    let refused = machine.apply(Service::Agent, &USUAL_AGENT).unwrap_err();
    assert_eq!(refused.next.as_deref(), Some("systemctl unmask lockstep-agent"));
    assert!(is_masked(&machine.file(UNIT)));
}

#[test]
fn a_masked_role_stays_masked_with_and_without_the_packages() {
    let machine = Machine::new();
    fs::create_dir_all(machine.file(LB_CONF).parent().unwrap()).unwrap();
    symlink(MASK, machine.file(LB_CONF)).unwrap();
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert!(is_masked(&machine.file(LB_CONF)));
    machine.install_packages("usr/lib/systemd/system");
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    assert_eq!(machine.own_files(), ["lockstep-agent.service.d/lb.conf"]);
    assert!(is_masked(&machine.file(LB_CONF)));
}

#[test]
fn an_administrators_drop_in_stays_beside_the_packages_unit() {
    let machine = Machine::new();
    machine.install_packages("usr/lib/systemd/system");
    machine.write(LB_CONF, "[Service]\nReadWritePaths=/srv/www\n");
    machine.write("etc/systemd/system/lockstep-agent.service.d/limits.conf", "[Service]\nLimitNOFILE=9\n");
    assert_eq!(machine.apply(Service::Agent, &USUAL_AGENT).unwrap(), UnitReport::default());
    machine.units().remove(Service::Agent).unwrap();
    let there = ["lockstep-agent.service.d/lb.conf", "lockstep-agent.service.d/limits.conf"];
    assert_eq!(machine.own_files(), there);
}

#[test]
fn a_purge_removes_what_was_written_beside_a_package_and_the_packages_unit_stays() {
    let machine = Machine::at("/srv/lockstep");
    machine.install_packages("usr/lib/systemd/system");
    let line = ["/usr/bin/lockstep-agent", "run", "--directory", "/srv/lockstep/agent"];
    machine.apply(Service::Agent, &line).unwrap();
    assert_eq!(machine.units().written(Service::Agent).unwrap(), [machine.file(UP_CONF)]);
    machine.units().remove(Service::Agent).unwrap();
    assert_eq!(machine.own_files(), [] as [&str; 0]);
    assert!(machine.text("usr/lib/systemd/system/lockstep-agent.service").is_some());
}

#[test]
fn a_purge_leaves_a_unit_that_was_changed_by_hand_and_names_it() {
    let machine = Machine::new();
    machine.apply(Service::Agent, &USUAL_AGENT).unwrap();
    let changed = machine.text(UNIT).unwrap() + "# mine\n";
    machine.write(UNIT, &changed);
    assert_eq!(machine.units().changed(Service::Agent).unwrap(), [machine.file(UNIT)]);
    machine.units().remove(Service::Agent).unwrap();
    assert_eq!(machine.own_files(), ["lockstep-agent.service"]);
}

#[test]
fn what_stood_beside_a_package_goes_when_the_package_went() {
    let machine = Machine::at("/srv/lockstep");
    machine.install_packages("usr/lib/systemd/system");
    let line = ["/usr/bin/lockstep-agent", "run", "--directory", "/srv/lockstep/agent"];
    machine.apply(Service::Agent, &line).unwrap();
    fs::remove_dir_all(machine.file("usr")).unwrap();
    machine.apply(Service::Agent, &line).unwrap();
    let there =
        ["lockstep-agent.service", "lockstep-agent.service.d/db.conf", "lockstep-agent.service.d/lb.conf"];
    assert_eq!(machine.own_files(), there);
}
