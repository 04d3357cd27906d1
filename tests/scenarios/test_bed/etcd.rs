//! The etcd of the test bed: members are killed, frozen and started again, and no data is lost.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::bed::server::certificates::Certificates;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn one_member_keeps_its_data_and_lets_no_stranger_in() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut etcd = Etcd::start(&directory.path().join("etcd"), Members::One)?;
    etcd.put("a", "1")?;
    etcd.kill(0)?;
    ensure!(etcd.control(&["get", "a"]).is_err(), "a dead member answers");
    etcd.restart(0)?;
    ensure!(etcd.control(&["get", "a"])?.ends_with('1'));

    let stranger = Certificates::make(&directory.path().join("stranger"), "stranger")?;
    let said = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.endpoints()[0], "--command-timeout", "2s", "get", "a", "--cacert"])
        .arg(&etcd.certificates.authority)
        .arg("--cert")
        .arg(&stranger.certificate)
        .arg("--key")
        .arg(&stranger.key)
        .output()?;
    ensure!(!said.status.success(), "a stranger was let in");
    Ok(())
}

#[test]
fn of_three_members_any_one_may_be_frozen_or_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
    etcd.put("a", "1")?;
    let first = etcd.leader()?;
    etcd.freeze(first)?;
    let mut second = first;
    until("another leads", LIMIT, || {
        second = etcd.leader()?;
        Ok(second != first)
    })?;
    etcd.put("a", "2")?;
    etcd.thaw(first)?;
    etcd.kill(second)?;
    until("it is written without the dead one", LIMIT, || Ok(etcd.put("a", "3").is_ok()))?;
    etcd.restart(second)?;
    etcd.compact()?;
    ensure!(etcd.control(&["get", "a"])?.ends_with('3'));
    Ok(())
}
