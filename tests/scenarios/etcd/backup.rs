//! A record that is taken along: from one machine's SQLite to etcd, and back in time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::etcd::{Etcd, Members};
use lockstep_tests::bed::process::built;
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::stage::{Said, Setting, Stage};
use tempfile::TempDir;

use super::on_etcd::ENVIRONMENT;

const PASSPHRASE: &str = "correct horse battery staple";

struct OneMachine {
    stage: Stage,
    directory: TempDir,
}

impl OneMachine {
    fn start(name: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let application = format!("b-{name}-{}", std::process::id());
        let setting = Setting { application, bake: "1s", drain: "1s" };
        let stage = Stage::start(&directory.path().join("stage"), &setting)?;
        Ok(Self { stage, directory })
    }

    fn deploy(&mut self, version: &str, schema: u32) -> Result<String> {
        let image = self.stage.image(version, schema, &[])?;
        self.stage.must(&["deploy", ENVIRONMENT, "--image", &image])?;
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("lockstep.backup")
    }

    fn back_up(&self, passphrase: &str) -> Result<String> {
        let file = self.file();
        let file = file.to_str().context("a temporary directory is text")?;
        run_with_input(&mut self.stage.command(&["backup", "--to", file])?, passphrase)
    }

    fn own(&self) -> PathBuf {
        self.stage.directory.join("coordinator")
    }

    fn restore(&self, passphrase: &str) -> Result<String> {
        let mut command = Command::new(built("lockstep")?);
        command.arg("restore").arg(self.file()).arg("--directory").arg(self.own());
        run_with_input(&mut command, passphrase)
    }

    fn history(&self) -> Result<Vec<DeploymentSummary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    fn try_deploy(&mut self, version: &str, schema: u32) -> Result<Said> {
        let image = self.stage.image(version, schema, &[])?;
        self.stage.lockstep(&["deploy", ENVIRONMENT, "--image", &image])
    }
}

/// The files of a SQLite database that nobody has open.
fn copy_store(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        if to.join(name).exists() {
            fs::remove_file(to.join(name))?;
        }
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name))?;
        }
    }
    Ok(())
}

#[test]
fn one_machine_becomes_a_cluster_with_all_that_it_knows() -> Result<()> {
    let mut one = OneMachine::start("moves")?;
    one.deploy("1", 1)?;
    let second = one.deploy("2", 2)?;
    let short = one.back_up("short");
    ensure!(format!("{short:?}").contains("fewer than 12 characters"), "{short:?}");
    ensure!(!one.file().exists(), "half a backup was left");
    one.back_up(PASSPHRASE)?;
    let again = one.back_up(PASSPHRASE);
    ensure!(format!("{again:?}").contains("cannot be written"), "a backup was written over: {again:?}");
    let sealed = fs::read(one.file())?;
    let key = fs::read_to_string(one.own().join("secrets.key"))?;
    ensure!(!String::from_utf8_lossy(&sealed).contains(key.trim()), "the secrets' key is in it as it is");

    one.stage.coordinator.stop()?;
    let full = one.restore(PASSPHRASE);
    ensure!(format!("{full:?}").contains("the store is not empty"), "{full:?}");
    let etcd = Etcd::start(&one.directory.path().join("etcd"), Members::One)?;
    fs::write(one.own().join("coordinator.toml"), etcd.coordinator_settings(&etcd.certificates, "/moved"))?;
    let other = one.restore("another passphrase");
    ensure!(format!("{other:?}").contains("the passphrase is wrong"), "{other:?}");
    one.restore(PASSPHRASE)?;
    one.stage.start_coordinator(&[])?;

    // Host and operator come back by themselves.
    one.stage.wait_for_agent()?;
    let status = one.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(status.contains(&second), "{second} is not live: {status}");
    ensure!(one.history()?.len() == 2, "{:?}", one.history()?);
    one.stage.must(&["rollback", ENVIRONMENT])?;
    // The secrets can be read: a deployment needs them.
    one.deploy("3", 3)?;
    Ok(())
}

#[test]
fn what_is_half_restored_is_not_served() -> Result<()> {
    let mut one = OneMachine::start("half")?;
    one.deploy("1", 1)?;
    one.back_up(PASSPHRASE)?;
    one.stage.coordinator.stop()?;
    let etcd = Etcd::start(&one.directory.path().join("etcd"), Members::One)?;
    fs::write(one.own().join("coordinator.toml"), etcd.coordinator_settings(&etcd.certificates, ""))?;
    one.restore(PASSPHRASE)?;
    etcd.control(&["del", "/lockstep/v1/meta"])?;
    let said = one.stage.refused_coordinator("coordinator")?;
    ensure!(said.contains("a restore was interrupted"), "{said}");
    one.restore(PASSPHRASE)?;
    one.stage.start_coordinator(&[])?;
    ensure!(one.history()?.len() == 1);
    Ok(())
}

#[test]
fn an_older_record_is_obeyed_when_its_fence_is_bumped_and_not_before() -> Result<()> {
    let mut one = OneMachine::start("older")?;
    one.deploy("1", 1)?;
    one.stage.coordinator.stop()?;
    let (store, kept) = (one.own(), one.directory.path().join("older"));
    copy_store(&store, &kept)?;
    one.stage.start_coordinator(&[])?;
    one.stage.wait_for_agent()?;
    one.deploy("2", 1)?;
    one.stage.must(&["rollback", ENVIRONMENT])?;

    one.stage.coordinator.stop()?;
    copy_store(&kept, &store)?;
    one.stage.start_coordinator(&[])?;
    one.stage.wait_for_agent()?;
    let refused = one.try_deploy("3", 1)?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(
        format!("{}{}", refused.stdout, refused.stderr).contains("lockstep fence bump"),
        "the way out is not named: {refused:?}"
    );
    one.stage.must(&["fence", "bump", ENVIRONMENT])?;
    let done = one.try_deploy("4", 1)?;
    ensure!(done.code == 0, "{done:?}");
    ensure!(one.history()?[0].verdict == Some(Verdict::Succeeded));
    Ok(())
}
