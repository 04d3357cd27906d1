//! The secrets get another key, on all coordinators of a cluster, and are what they were.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::process::built;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::cluster::{FIRST_COORDINATOR, SECOND_COORDINATOR};
use lockstep_tests::scene::{ENVIRONMENT, Scene};

/// A coordinator that was killed counts as alive until its lease ends.
const LEASE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn secrets_of_a_cluster_get_another_key() -> Result<()> {
    let mut cluster = Scene::open_in_cluster("rekey", "0s")?;
    let images = [cluster.stage.image("1", 1, &[])?, cluster.stage.image("2", 1, &[])?];
    cluster.must_at(FIRST_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[0]])?;
    let first = cluster.stage.directory.join("coordinator");
    let second = cluster.stage.directory.join(SECOND_COORDINATOR);
    let key_of = |directory: &std::path::Path| fs::read_to_string(directory.join("secrets.key"));
    let before = key_of(&first)?;
    let rekey = || {
        let mut command = Command::new(built("lockstep-coordinator")?);
        CommandOutput::of(command.arg("rekey").arg("--directory").arg(&first))
    };

    rekey()?.expect_said(1, &["stop every coordinator", FIRST_COORDINATOR, SECOND_COORDINATOR])?;
    cluster.stage.coordinator.stop()?;
    rekey()?.expect_said(1, &["stop every coordinator", SECOND_COORDINATOR])?;
    ensure!(key_of(&first)? == before, "a refused command has changed the key");
    cluster.stage.others[0].kill()?;
    let mut changed = None;
    until("the lease of the killed coordinator has ended", LEASE_LIMIT, || {
        changed = Some(rekey()?).filter(|said| said.code == 0);
        Ok(changed.is_some())
    })?;
    ensure!(
        changed.is_some_and(|said| said.all().contains("copy")),
        "the other coordinator is not mentioned"
    );
    ensure!(key_of(&first)? != before, "the key is the same");

    fs::copy(first.join("secrets.key"), second.join("secrets.key"))?;
    cluster.stage.start_coordinator(&[])?;
    cluster.stage.start_other(0, SECOND_COORDINATOR, &[])?;
    cluster.stage.wait_for_agent()?;
    // Its containers need them, and the second coordinator reads them too.
    cluster.must_at(SECOND_COORDINATOR, &["deploy", ENVIRONMENT, "--image", &images[1]])?;
    for coordinator in [FIRST_COORDINATOR, SECOND_COORDINATOR] {
        let listed = cluster.must_at(coordinator, &["secret", "list", ENVIRONMENT])?;
        ensure!(listed.stdout.contains("DATABASE_URL"), "{listed:?}");
    }
    Ok(())
}
