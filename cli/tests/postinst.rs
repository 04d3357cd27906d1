//! The packages' scripts after `lockstep up`: a copy of a unit that hides the package's goes, if nobody changed it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lockstep_core::id::Digest;

const MARK: &str = "# Written by `lockstep up`; the SHA-256 of what follows this line: ";

const AGENT: &str = "etc/systemd/system/lockstep-agent.service";
const COORDINATOR: &str = "etc/systemd/system/lockstep-coordinator.service";
const LB: &str = "etc/systemd/system/lockstep-agent.service.d/lb.conf";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join(path)
}

fn packaged(unit: &str) -> String {
    fs::read_to_string(deploy(&format!("systemd/{unit}"))).unwrap()
}

/// A file of an `up` that did not mark what it wrote.
fn unmarked(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unmarked").join(file)).unwrap()
}

fn marked(text: &str) -> String {
    format!("{MARK}{}\n{text}", Digest::of_content(text.as_bytes()).hex())
}

/// A machine that a package is installed on.
struct Machine(tempfile::TempDir);

impl Machine {
    fn with(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let file = machine.file(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        machine
    }

    fn file(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn configure(&self, service: &str) -> Output {
        let script = deploy(&format!("package/{service}/postinst"));
        let mut command = Command::new("sh");
        let output = command.arg(script).arg("configure").env("DPKG_ROOT", self.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

#[test]
fn a_copy_of_the_agents_unit_and_of_its_roles_goes() {
    let machine = Machine::with(&[
        (AGENT, &marked(&packaged("lockstep-agent.service"))),
        (LB, &marked(&packaged("lockstep-agent.service.d/lb.conf"))),
    ]);
    let output = machine.configure("lockstep-agent");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the unit of this package replaces it"));
    assert!(!machine.file(AGENT).exists() && !machine.file(LB).parent().unwrap().exists());
}

#[test]
fn a_copy_of_an_up_that_did_not_mark_what_it_wrote_goes() {
    let machine = Machine::with(&[
        (AGENT, &unmarked("lockstep-agent.service").replace("/usr/bin/", "/opt/lockstep/")),
        (LB, &unmarked("lb.conf")),
    ]);
    machine.configure("lockstep-agent");
    assert!(!machine.file(AGENT).exists() && !machine.file(LB).exists());
}

#[test]
fn an_outdated_copy_goes() {
    let outdated = packaged("lockstep-agent.service").replace("WatchdogSec=60", "WatchdogSec=30");
    let machine = Machine::with(&[(AGENT, &marked(&outdated))]);
    machine.configure("lockstep-agent");
    assert!(!machine.file(AGENT).exists());
}

#[test]
fn a_copy_that_was_changed_by_hand_stays_and_is_named() {
    let changed = marked(&packaged("lockstep-agent.service")).replace("WatchdogSec=60", "WatchdogSec=0");
    let machine = Machine::with(&[(AGENT, &changed)]);
    let output = machine.configure("lockstep-agent");
    assert!(String::from_utf8_lossy(&output.stderr).contains("overrides the unit of this package"));
    assert_eq!(fs::read_to_string(machine.file(AGENT)).unwrap(), changed);
}

#[test]
fn a_unit_of_another_directory_stays() {
    let elsewhere =
        packaged("lockstep-agent.service").replace("run --directory /var/lib", "run --directory /srv");
    let machine = Machine::with(&[(AGENT, &marked(&elsewhere))]);
    machine.configure("lockstep-agent");
    assert!(machine.file(AGENT).exists());
}

#[test]
fn masks_and_an_administrators_drop_ins_stay() {
    let limits = "etc/systemd/system/lockstep-agent.service.d/limits.conf";
    let machine =
        Machine::with(&[(AGENT, &marked(&packaged("lockstep-agent.service"))), (limits, "[Service]\n")]);
    symlink("/dev/null", machine.file(LB)).unwrap();
    machine.configure("lockstep-agent");
    assert!(!machine.file(AGENT).exists());
    assert!(machine.file(limits).exists() && fs::read_link(machine.file(LB)).is_ok());
}

#[test]
fn a_masked_unit_stays_masked() {
    let machine = Machine::with(&[]);
    fs::create_dir_all(machine.file("etc/systemd/system")).unwrap();
    symlink("/dev/null", machine.file(AGENT)).unwrap();
    machine.configure("lockstep-agent");
    assert!(fs::read_link(machine.file(AGENT)).is_ok());
}

#[test]
fn a_copy_of_the_coordinators_unit_goes_with_the_address_that_it_takes_by_itself() {
    let copy = packaged("lockstep-coordinator.service")
        .replace("lockstep/coordinator\nRestart", "lockstep/coordinator --listen 127.0.0.1:7443\nRestart");
    let machine = Machine::with(&[(COORDINATOR, &marked(&copy))]);
    machine.configure("lockstep-coordinator");
    assert!(!machine.file(COORDINATOR).exists());
}

#[test]
fn a_copy_of_the_coordinators_unit_that_listens_elsewhere_stays_until_up_runs() {
    let copy = packaged("lockstep-coordinator.service")
        .replace("lockstep/coordinator\nRestart", "lockstep/coordinator --listen 10.0.0.5:7443\nRestart");
    let machine = Machine::with(&[(COORDINATOR, &marked(&copy))]);
    let output = machine.configure("lockstep-coordinator");
    assert!(String::from_utf8_lossy(&output.stderr).contains("For details: lockstep up"));
    assert!(machine.file(COORDINATOR).exists());
}

#[test]
fn without_a_copy_the_settings_are_linked_and_nothing_is_said() {
    let machine = Machine::with(&[]);
    let output = machine.configure("lockstep-coordinator");
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let settings = machine.file("var/lib/lockstep/coordinator/coordinator.toml");
    assert_eq!(fs::read_link(settings).unwrap(), Path::new("/etc/lockstep/coordinator.toml"));
}
