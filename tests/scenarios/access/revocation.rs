//! An operator who is revoked loses what they have open, not only what they ask for next.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::credential::add_operator;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};

/// What a revocation takes to take hold, and somewhat more for a machine that is busy.
const CUT_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn what_an_operator_still_reads_ends_when_they_are_revoked() -> Result<()> {
    let mut scene = Scene::open_with_bake("revoked", "60s")?;
    let image = scene.stage.image("1", 1, &[])?;
    let watcher = add_operator(&scene, "watcher", "*", "read")?;
    scene.stage.must(&["deploy", ENVIRONMENT, "--image", &image, "--detach"])?;
    let mut watch = scene.stage.command(&["watch", "@open", "--env", ENVIRONMENT])?;
    let told = scene.stage.directory.join("watched.log");
    let mut watching = Process::start(watch.env("LOCKSTEP_CREDENTIAL", watcher), &told)?;
    watching.wait_until("it is watched", SOON, || Ok(!fs::read_to_string(&told)?.is_empty()))?;
    scene.stage.must(&["operator", "revoke", "watcher"])?;
    until("it is cut", CUT_WITHIN, || Ok(watching.ended()?.is_some()))?;
    let code = watching.ended()?.and_then(|status| status.code());
    let told = fs::read_to_string(&told)?;
    ensure!(code == Some(3) && told.contains("has been revoked"), "{code:?} {told}");
    Ok(())
}
