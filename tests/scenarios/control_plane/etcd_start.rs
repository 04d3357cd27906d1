//! A coordinator whose settings name an etcd: it starts if the etcd is the right one and answers. Otherwise it says what
//! is wrong and has changed nothing.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::server::certificates::Certificates;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::wait::until;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(40);

/// A coordinator's directory, with a file of settings.
struct ConfiguredCoordinator {
    directory: PathBuf,
    _temporary: TempDir,
}

impl ConfiguredCoordinator {
    fn new(settings: &str) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let directory = temporary.path().join("coordinator");
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let coordinator = Self { directory, _temporary: temporary };
        coordinator.tell(settings)?;
        Ok(coordinator)
    }

    fn tell(&self, settings: &str) -> Result<()> {
        Ok(fs::write(self.directory.join("coordinator.toml"), settings)?)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn launch(&self) -> Result<Process> {
        if self.log().exists() {
            fs::remove_file(self.log())?;
        }
        let mut command = Command::new(built("lockstep-coordinator")?);
        command.arg("--directory").arg(&self.directory).args(["--listen", "127.0.0.1:0"]);
        Process::start(&mut command, &self.log())
    }

    fn serves(&self) -> bool {
        self.directory.join("address").exists()
    }

    fn start(&self) -> Result<Process> {
        let mut process = self.launch()?;
        process.wait_until("the coordinator serves", LIMIT, || Ok(self.serves()))?;
        Ok(process)
    }

    /// It ends by itself, in failure, having served nobody and made nothing, and says all of `words`.
    fn expect_refusal(&self, words: &[&str]) -> Result<()> {
        let before = self.contents()?;
        let mut process = self.launch()?;
        let mut status = None;
        until("the coordinator has ended", LIMIT, || {
            status = process.ended()?;
            ensure!(!self.serves(), "it serves: {}", self.said());
            Ok(status.is_some())
        })
        .with_context(|| self.said())?;
        let said = self.said();
        ensure!(status.is_some_and(|status| !status.success()), "it ended as if all were well: {said}");
        for word in words {
            ensure!(said.contains(word), "{word:?} is not in: {said}");
        }
        ensure!(!said.contains("BEGIN"), "a certificate or a key is in the log: {said}");
        ensure!(self.contents()? == before, "it made something: {:?}", self.contents()?);
        Ok(())
    }

    fn contents(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "log");
        names.sort();
        Ok(names)
    }
}

fn one(directory: &Path) -> Result<Etcd> {
    Etcd::start(&directory.join("etcd"), Members::One)
}

#[test]
fn an_etcd_that_does_not_answer_is_waited_for() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
    // The one that is left answers, and cannot decide anything.
    etcd.kill(1)?;
    etcd.kill(2)?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&etcd.certificates, ""))?;
    let mut process = coordinator.launch()?;
    process.wait_until("it says what it waits for", LIMIT, || {
        let said = coordinator.said();
        let all = etcd.endpoints().iter().all(|endpoint| said.contains(endpoint.as_str()));
        let words = [
            "waiting for etcd; the coordinator serves nothing yet",
            "Connection refused",
            "has no leader: most members",
        ];
        Ok(all && words.iter().all(|word| said.contains(word)))
    })?;
    ensure!(
        coordinator.contents()? == ["coordinator.toml"],
        "half of it is there: {:?}",
        coordinator.contents()?
    );
    etcd.restart(1)?;
    process.wait_until("it serves", LIMIT, || Ok(coordinator.serves()))?;
    ensure!(coordinator.said().contains("some members of etcd do not answer"), "{}", coordinator.said());
    process.stop()
}

#[test]
fn one_that_waits_for_etcd_ends_when_it_is_asked_to() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut etcd = one(directory.path())?;
    etcd.kill(0)?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&etcd.certificates, ""))?;
    let mut process = coordinator.launch()?;
    process.wait_until("it waits", LIMIT, || Ok(coordinator.said().contains("waiting for etcd")))?;
    process.stop()?;
    let ended = process.ended()?.context("it was waited for")?;
    ensure!(ended.success(), "it ended with {ended}: {}", coordinator.said());
    Ok(())
}

#[test]
fn an_etcd_of_another_authority_is_refused() -> Result<()> {
    let (_directory, etcd, stranger) = etcd_and_stranger()?;
    let good = etcd.coordinator_settings(&etcd.certificates, "");
    let coordinator = ConfiguredCoordinator::new(&good.replace(
        &etcd.certificates.authority.display().to_string(),
        &stranger.authority.display().to_string(),
    ))?;
    coordinator.expect_refusal(&[
        "is not signed by the authority in",
        "stranger/authority.pem",
        "store.etcd.ca",
    ])
}

#[test]
fn a_certificate_that_etcd_does_not_take_is_named() -> Result<()> {
    let (_directory, etcd, stranger) = etcd_and_stranger()?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&stranger, ""))?;
    coordinator.expect_refusal(&[
        "refuses the certificate in",
        "stranger/certificate.pem",
        "the authority of etcd",
    ])
}

#[test]
fn a_key_for_etcd_that_others_can_read_is_refused() -> Result<()> {
    let (_directory, etcd, stranger) = etcd_and_stranger()?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&stranger, ""))?;
    fs::set_permissions(&stranger.key, fs::Permissions::from_mode(0o644))?;
    coordinator.expect_refusal(&["cannot use the key for etcd", "other users can read", "chmod 600"])
}

#[test]
fn a_file_that_is_no_certificate_for_etcd_is_refused() -> Result<()> {
    let (_directory, etcd, stranger) = etcd_and_stranger()?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&stranger, ""))?;
    fs::write(&stranger.certificate, "not a certificate")?;
    coordinator
        .expect_refusal(&["stranger/certificate.pem has no certificate in PEM", "store.etcd.certificate"])
}

#[test]
fn a_key_for_etcd_that_is_missing_is_named() -> Result<()> {
    let (_directory, etcd, stranger) = etcd_and_stranger()?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&stranger, ""))?;
    fs::remove_file(&stranger.key)?;
    coordinator.expect_refusal(&["cannot read", "stranger/key.pem"])
}

/// An etcd, and certificates of another authority than its own.
fn etcd_and_stranger() -> Result<(TempDir, Etcd, Certificates)> {
    let directory = tempfile::tempdir()?;
    let etcd = one(directory.path())?;
    let stranger = Certificates::make(&directory.path().join("stranger"), "stranger")?;
    Ok((directory, etcd, stranger))
}

#[test]
fn the_record_of_another_cluster_is_refused_and_so_is_none() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let etcd = one(directory.path())?;
    let settings = |prefix: &str| etcd.coordinator_settings(&etcd.certificates, prefix);
    let (first, second) =
        (ConfiguredCoordinator::new(&settings("/first"))?, ConfiguredCoordinator::new(&settings("/second"))?);
    first.start()?.stop()?;
    second.start()?.stop()?;

    first.tell(&settings("/second"))?;
    first.expect_refusal(&[
        "the record belongs to the cluster cl_",
        ", but this coordinator belongs to cl_",
        "store.etcd.prefix",
    ])?;
    first.tell(&settings("/third"))?;
    first.expect_refusal(&["the store is empty, but this coordinator belongs to", "store.etcd.prefix"])?;
    let third = etcd.control(&["get", "--prefix", "--keys-only", "/third"])?;
    ensure!(third.is_empty(), "it began another cluster: {third}");
    first.tell("")?;
    let said = first.expect_refusal(&["the store is empty, but this coordinator belongs to"]);
    // SQLite's file is made by opening it.
    ensure!(said.is_err_and(|error| error.to_string().contains("store.sqlite")));

    first.tell(&settings("/first"))?;
    first.start()?.stop()
}

#[test]
fn a_record_that_is_no_document_is_refused() -> Result<()> {
    refuses_a_record(|_| "damaged".to_owned(), "this is not a Lockstep document")
}

#[test]
fn a_record_of_a_later_version_is_refused() -> Result<()> {
    refuses_a_record(
        |record| record.replace("\"version\":1", "\"version\":2"),
        "this meta has version 2; this program reads versions up to 1",
    )
}

#[test]
fn a_record_of_another_kind_is_refused() -> Result<()> {
    refuses_a_record(
        |record| record.replace("\"kind\":\"meta\"", "\"kind\":\"mete\""),
        "this is a mete, not a meta",
    )
}

#[test]
fn a_record_that_lacks_a_field_is_refused() -> Result<()> {
    refuses_a_record(|record| record.replace("\"cluster\"", "\"clyster\""), "this meta cannot be read")
}

/// What cannot be read is refused and not guessed; with the record as it was, the coordinator starts.
fn refuses_a_record(damage: impl FnOnce(&str) -> String, why: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let etcd = one(directory.path())?;
    let coordinator = ConfiguredCoordinator::new(&etcd.coordinator_settings(&etcd.certificates, "/a"))?;
    coordinator.start()?.stop()?;
    let meta = "/a/lockstep/v1/meta";
    let kept = etcd.control(&["get", "--print-value-only", meta])?;
    let damaged = damage(&kept);
    ensure!(damaged != kept, "nothing was changed: {kept}");
    etcd.put(meta, &damaged)?;
    coordinator.expect_refusal(&["cannot read /lockstep/v1/meta in the store", why])?;
    etcd.put(meta, &kept)?;
    coordinator.start()?.stop()
}

#[test]
fn a_path_of_etcd_that_is_not_absolute_is_refused() -> Result<()> {
    let coordinator = ConfiguredCoordinator::new(
        "[store]\netcd = { endpoints = [\"http://10.0.0.1:2379\"], ca = \"ca.pem\", certificate = \"/c\", key = \"/k\" }",
    )?;
    coordinator.expect_refusal(&[
        "coordinator.toml has invalid settings",
        "must be like",
        "store.etcd.ca is \"ca.pem\"",
    ])
}

#[test]
fn a_store_that_is_not_known_is_refused() -> Result<()> {
    let coordinator = ConfiguredCoordinator::new("[store]\nredis = {}")?;
    coordinator.expect_refusal(&["cannot parse", "coordinator.toml", "redis"])
}
