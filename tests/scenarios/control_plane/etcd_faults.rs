//! Deployments with the record in etcd, while members of etcd die or stand still, and while etcd has no quorum.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::{RATE, assert_none_lost};
use lockstep_tests::scene::{ENVIRONMENT, Scene, TAKEOVER_LIMIT};

/// The `lock_timeout` of a deployment that runs out of time.
const TIME: Duration = Duration::from_secs(12);

#[test]
fn a_release_is_deployed_and_rolled_back_with_the_record_in_etcd() -> Result<()> {
    let mut scene = Scene::open_on_etcd("plain", "1s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    let load = scene.stage.load(RATE)?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    scene.stage.must(&["rollback", ENVIRONMENT])?;
    assert_none_lost(load)?;

    let verdicts: Vec<Option<Verdict>> = scene.history()?.into_iter().map(|past| past.verdict).collect();
    ensure!(verdicts == [Some(Verdict::Succeeded); 3], "{verdicts:?}");
    let live = scene.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(live.contains(&first), "{first} is not live again: {live}");
    let kept = scene.etcd()?.control(&[
        "get",
        "--prefix",
        "--keys-only",
        &format!("/{}/lockstep/v1/history", scene.stage.application),
    ])?;
    ensure!(kept.lines().filter(|line| !line.is_empty()).count() == 3, "{kept}");

    // The next coordinator finds all of it.
    scene.stage.coordinator.stop()?;
    scene.stage.start_coordinator(&[])?;
    ensure!(scene.history()?.len() == 3);
    Ok(())
}

#[test]
fn a_member_that_dies_or_stands_still_in_a_deployment_costs_time_and_nothing_else() -> Result<()> {
    let mut scene = Scene::open_on_etcd("faults", "6s")?;
    let images =
        [scene.stage.image("1", 1, &[])?, scene.stage.image("2", 1, &[])?, scene.stage.image("3", 1, &[])?];
    scene.deploy_without_bake(&images[0])?;
    let load = scene.stage.load(RATE)?;

    let deploying = scene.start_deploy(&images[1])?;
    scene.wait_for_step("bake")?;
    let leader = scene.etcd()?.leader()?;
    scene.etcd_mut()?.kill(leader)?;
    scene.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait(TAKEOVER_LIMIT)?;
    scene.etcd_mut()?.restart(leader)?;

    let deploying = scene.start_deploy(&images[2])?;
    scene.wait_for_step("bake")?;
    // Calls go to whom they went to before, until that one fails: so one after the other stands still.
    for member in 0..3 {
        scene.etcd()?.freeze(member)?;
        let frozen = until("it answers all the same", TAKEOVER_LIMIT, || {
            Ok(scene.stage.lockstep(&["status", ENVIRONMENT])?.code == 0)
        });
        scene.etcd()?.thaw(member)?;
        frozen?;
    }
    scene.wait_for_verdict(3, Verdict::Succeeded)?;
    deploying.wait(TAKEOVER_LIMIT)?;
    assert_none_lost(load)?;
    Ok(())
}

#[test]
fn a_deployment_waits_while_most_members_are_away_and_goes_on_when_they_are_back() -> Result<()> {
    let mut scene = Scene::open_on_etcd("quorum", "4s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy_without_bake(&first)?;
    let load = scene.stage.load(RATE)?;
    let deploying = scene.start_deploy(&second)?;
    scene.wait_for_step("bake")?;
    scene.etcd_mut()?.kill(1)?;
    scene.etcd_mut()?.kill(2)?;
    let mut said = None;
    until("status says so", TAKEOVER_LIMIT, || {
        let now = scene.stage.lockstep(&["status", ENVIRONMENT])?;
        let so = now.code != 0 && now.stderr.contains("the store does not answer");
        said = Some(now);
        Ok(so)
    })
    .with_context(|| format!("{said:?}"))?;
    ensure!(scene.stage.coordinator.ended()?.is_none(), "it gave up: {}", scene.stage.coordinator.tail());
    scene.etcd_mut()?.restart(1)?;
    scene.etcd_mut()?.restart(2)?;
    scene.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait(TAKEOVER_LIMIT)?;
    assert_none_lost(load)?;
    Ok(())
}

#[test]
fn a_deployment_whose_time_is_up_while_most_members_are_away_is_unwound_when_they_are_back() -> Result<()> {
    let mut scene = Scene::open_on_etcd("late", "0s")?;
    let good = scene.stage.image("1", 1, &[])?;
    let hangs = scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    let _timeout = scene.declare("timeout: 10s", "timeout: 60s")?;
    let _lock = scene.declare("deploy: {", &format!("deploy: {{ lock_timeout: {}s,", TIME.as_secs()))?;
    let load = scene.stage.load(RATE)?;
    let begun = Instant::now();
    let deploying = scene.start_deploy(&hangs)?;
    scene.wait_for_step("health")?;
    scene.etcd_mut()?.kill(1)?;
    scene.etcd_mut()?.kill(2)?;
    until("its time is up", TAKEOVER_LIMIT, || Ok(begun.elapsed() > TIME * 2))?;
    scene.etcd_mut()?.restart(1)?;
    scene.etcd_mut()?.restart(2)?;
    scene.wait_for_verdict(2, Verdict::RolledBack)?;
    let failure = scene.history()?.remove(0).failure.context("nothing says why")?;
    ensure!(failure.step == "lock time-out", "{failure:?}");
    let live = scene.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(live.contains(&good), "{good} is not live: {live}");
    deploying.wait(TAKEOVER_LIMIT)?;
    assert_none_lost(load)?;
    Ok(())
}
