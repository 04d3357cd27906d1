//! The main job with the record in etcd: deployed, upgraded and rolled back while users are served, also while
//! members of etcd die, stand still, or are too few.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::wait::until;

use super::on_etcd::{ENVIRONMENT, LIMIT, OnEtcd, RATE, assert_none_lost};

/// The `lock_timeout` of a deployment that runs out of time.
const TIME: Duration = Duration::from_secs(12);

#[test]
fn a_release_is_deployed_and_rolled_back_with_the_record_in_etcd() -> Result<()> {
    let mut bed = OnEtcd::start("plain", "1s")?;
    let first = bed.stage.image("1", 1, &[])?;
    let second = bed.stage.image("2", 2, &[])?;
    bed.deploy(&first)?;
    let load = bed.stage.load(RATE)?;
    bed.deploy(&second)?;
    bed.stage.must(&["rollback", ENVIRONMENT])?;
    assert_none_lost(load)?;

    let verdicts: Vec<Option<Verdict>> = bed.history()?.into_iter().map(|past| past.verdict).collect();
    ensure!(verdicts == [Some(Verdict::Succeeded); 3], "{verdicts:?}");
    let live = bed.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(live.contains(&first), "{first} is not live again: {live}");
    let kept = bed.etcd.control(&[
        "get",
        "--prefix",
        "--keys-only",
        &format!("/{}/lockstep/v1/history", bed.stage.application),
    ])?;
    ensure!(kept.lines().filter(|line| !line.is_empty()).count() == 3, "{kept}");

    // The next coordinator finds all of it.
    bed.stage.coordinator.stop()?;
    bed.stage.start_coordinator(&[])?;
    ensure!(bed.history()?.len() == 3);
    Ok(())
}

#[test]
fn a_member_that_dies_or_stands_still_in_a_deployment_costs_time_and_nothing_else() -> Result<()> {
    let mut bed = OnEtcd::start("faults", "6s")?;
    let images =
        [bed.stage.image("1", 1, &[])?, bed.stage.image("2", 1, &[])?, bed.stage.image("3", 1, &[])?];
    bed.deploy(&images[0])?;
    let load = bed.stage.load(RATE)?;

    let mut deploying = bed.begin(&images[1])?;
    bed.wait_for_step("bake")?;
    let leader = bed.etcd.leader()?;
    bed.etcd.kill(leader)?;
    bed.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait()?;
    bed.etcd.restart(leader)?;

    let mut deploying = bed.begin(&images[2])?;
    bed.wait_for_step("bake")?;
    // Calls go to whom they went to before, until that one fails: so one after the other stands still.
    for member in 0..3 {
        bed.etcd.freeze(member)?;
        let frozen = until("it answers all the same", LIMIT, || {
            Ok(bed.stage.lockstep(&["status", ENVIRONMENT])?.code == 0)
        });
        bed.etcd.thaw(member)?;
        frozen?;
    }
    bed.wait_for_verdict(3, Verdict::Succeeded)?;
    deploying.wait()?;
    assert_none_lost(load)
}

#[test]
fn a_deployment_waits_while_most_members_are_away_and_goes_on_when_they_are_back() -> Result<()> {
    let mut bed = OnEtcd::start("quorum", "4s")?;
    let first = bed.stage.image("1", 1, &[])?;
    let second = bed.stage.image("2", 1, &[])?;
    bed.deploy(&first)?;
    let load = bed.stage.load(RATE)?;
    let mut deploying = bed.begin(&second)?;
    bed.wait_for_step("bake")?;
    bed.etcd.kill(1)?;
    bed.etcd.kill(2)?;
    let mut said = None;
    until("status says so", LIMIT, || {
        let now = bed.stage.lockstep(&["status", ENVIRONMENT])?;
        let so = now.code != 0 && now.stderr.contains("the store does not answer");
        said = Some(now);
        Ok(so)
    })
    .with_context(|| format!("{said:?}"))?;
    ensure!(bed.stage.coordinator.ended()?.is_none(), "it gave up: {}", bed.stage.coordinator.tail());
    bed.etcd.restart(1)?;
    bed.etcd.restart(2)?;
    bed.wait_for_verdict(2, Verdict::Succeeded)?;
    deploying.wait()?;
    assert_none_lost(load)
}

#[test]
fn a_deployment_whose_time_is_up_while_most_members_are_away_is_unwound_when_they_are_back() -> Result<()> {
    let mut bed = OnEtcd::start("late", "0s")?;
    let good = bed.stage.image("1", 1, &[])?;
    let hangs = bed.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?;
    bed.deploy(&good)?;
    bed.declare("timeout: 10s", "timeout: 60s")?;
    bed.declare("deploy: {", &format!("deploy: {{ lock_timeout: {}s,", TIME.as_secs()))?;
    let load = bed.stage.load(RATE)?;
    let begun = Instant::now();
    let mut deploying = bed.begin(&hangs)?;
    bed.wait_for_step("health")?;
    bed.etcd.kill(1)?;
    bed.etcd.kill(2)?;
    until("its time is up", LIMIT, || Ok(begun.elapsed() > TIME * 2))?;
    bed.etcd.restart(1)?;
    bed.etcd.restart(2)?;
    bed.wait_for_verdict(2, Verdict::RolledBack)?;
    let failure = bed.history()?.remove(0).failure.context("nothing says why")?;
    ensure!(failure.step == "lock time-out", "{failure:?}");
    let live = bed.stage.must(&["status", ENVIRONMENT])?.stdout;
    ensure!(live.contains(&good), "{good} is not live: {live}");
    deploying.wait()?;
    assert_none_lost(load)
}
