//! Backup and restore: from SQLite on one machine to etcd, and to an earlier record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::process::built;
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::scene::{ENVIRONMENT, Scene};

const PASSPHRASE: &str = "correct horse battery staple";

fn release(scene: &mut Scene, version: &str, schema: u32) -> Result<String> {
    let image = scene.stage.image(version, schema, &[])?;
    scene.deploy(&image)?.expect_said(0, &[])?;
    Ok(image)
}

fn backup_file(scene: &Scene) -> PathBuf {
    scene.directory().join("lockstep.backup")
}

fn coordinator_directory(scene: &Scene) -> PathBuf {
    scene.stage.directory.join("coordinator")
}

fn back_up(scene: &Scene, passphrase: &str) -> Result<String> {
    let file = backup_file(scene);
    let file = file.to_str().context("a temporary directory is text")?;
    run_with_input(&mut scene.stage.command(&["backup", "--to", file])?, passphrase)
}

fn restore(scene: &Scene, passphrase: &str) -> Result<String> {
    let mut command = Command::new(built("lockstep")?);
    command.arg("restore").arg(backup_file(scene)).arg("--directory").arg(coordinator_directory(scene));
    run_with_input(&mut command, passphrase)
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
    let mut scene = Scene::open("moves")?;
    release(&mut scene, "1", 1)?;
    let second = release(&mut scene, "2", 2)?;
    let short = back_up(&scene, "short");
    ensure!(format!("{short:?}").contains("fewer than 12 characters"), "{short:?}");
    ensure!(!backup_file(&scene).exists(), "half a backup was left");
    back_up(&scene, PASSPHRASE)?;
    let again = back_up(&scene, PASSPHRASE);
    ensure!(format!("{again:?}").contains("cannot be written"), "a backup was written over: {again:?}");
    let sealed = fs::read(backup_file(&scene))?;
    let key = fs::read_to_string(coordinator_directory(&scene).join("secrets.key"))?;
    ensure!(!String::from_utf8_lossy(&sealed).contains(key.trim()), "the secrets' key is in it as it is");

    scene.stage.coordinator.stop()?;
    let full = restore(&scene, PASSPHRASE);
    ensure!(format!("{full:?}").contains("the store is not empty"), "{full:?}");
    let etcd = Etcd::start(&scene.directory().join("etcd"), Members::One)?;
    fs::write(
        coordinator_directory(&scene).join("coordinator.toml"),
        etcd.coordinator_settings(&etcd.certificates, "/moved"),
    )?;
    let other = restore(&scene, "another passphrase");
    ensure!(format!("{other:?}").contains("the passphrase is wrong"), "{other:?}");
    restore(&scene, PASSPHRASE)?;
    scene.stage.start_coordinator(&[])?;

    // Host and operator come back by themselves.
    scene.stage.wait_for_agent()?;
    let status = scene.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(status.contains(&second), "{second} is not live: {status}");
    ensure!(scene.history()?.len() == 2, "{:?}", scene.history()?);
    scene.stage.must(&["rollback", ENVIRONMENT])?;
    // The secrets can be read: a deployment needs them.
    release(&mut scene, "3", 3)?;
    Ok(())
}

#[test]
fn what_is_half_restored_is_not_served() -> Result<()> {
    let mut scene = Scene::open("half")?;
    release(&mut scene, "1", 1)?;
    back_up(&scene, PASSPHRASE)?;
    scene.stage.coordinator.stop()?;
    let etcd = Etcd::start(&scene.directory().join("etcd"), Members::One)?;
    fs::write(
        coordinator_directory(&scene).join("coordinator.toml"),
        etcd.coordinator_settings(&etcd.certificates, ""),
    )?;
    restore(&scene, PASSPHRASE)?;
    etcd.control(&["del", "/lockstep/v1/meta"])?;
    let said = scene.stage.refused_coordinator("coordinator")?;
    ensure!(said.contains("a restore was interrupted"), "{said}");
    restore(&scene, PASSPHRASE)?;
    scene.stage.start_coordinator(&[])?;
    ensure!(scene.history()?.len() == 1);
    Ok(())
}

#[test]
fn an_older_record_is_obeyed_when_its_fence_is_bumped_and_not_before() -> Result<()> {
    let mut scene = Scene::open("older")?;
    release(&mut scene, "1", 1)?;
    scene.stage.coordinator.stop()?;
    let (store, kept) = (coordinator_directory(&scene), scene.directory().join("older"));
    copy_store(&store, &kept)?;
    scene.stage.start_coordinator(&[])?;
    scene.stage.wait_for_agent()?;
    release(&mut scene, "2", 1)?;
    scene.stage.must(&["rollback", ENVIRONMENT])?;

    scene.stage.coordinator.stop()?;
    copy_store(&kept, &store)?;
    scene.stage.start_coordinator(&[])?;
    scene.stage.wait_for_agent()?;
    let (third, fourth) = (scene.stage.image("3", 1, &[])?, scene.stage.image("4", 1, &[])?);
    let refused = scene.deploy(&third)?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(refused.all().contains("lockstep fence bump"), "the way out is not named: {refused:?}");
    scene.stage.must(&["fence", "bump", ENVIRONMENT])?;
    let done = scene.deploy(&fourth)?;
    ensure!(done.code == 0, "{done:?}");
    ensure!(scene.history()?[0].verdict == Some(Verdict::Succeeded));
    Ok(())
}
