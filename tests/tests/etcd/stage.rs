//! The main job with the record in etcd: deployed, upgraded and rolled back while users are served, also while
//! members of etcd die, stand still, or are too few.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::record::{Summary, Verdict};
use lockstep_tests::bed::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::{Record, Said, Setting, Stage};
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::Load;
use tempfile::TempDir;

const ENVIRONMENT: &str = "production";

const LIMIT: Duration = Duration::from_secs(120);

/// Requests in a second: enough to notice, not so many that two cores do nothing else.
const RATE: u32 = 200;

struct OnEtcd {
    stage: Stage,
    etcd: Etcd,
    _directory: TempDir,
}

impl OnEtcd {
    fn start(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
        let application = format!("e-{name}-{}", std::process::id());
        let setting = Setting { application, bake, drain: "1s" };
        let stage = Stage::start_on(&directory.path().join("stage"), &setting, Record::Etcd(&etcd))?;
        ensure!(!is_in_sqlite(&stage.directory), "its record is in SQLite");
        Ok(Self { stage, etcd, _directory: directory })
    }

    fn deploy(&self, image: &str) -> Result<Said> {
        self.stage.must(&["deploy", ENVIRONMENT, "--image", image])
    }

    /// A deployment that goes on while the test does something else.
    fn begin(&self, image: &str) -> Result<Child> {
        let mut command = self.stage.command(&["deploy", ENVIRONMENT, "--image", image])?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    fn history(&self) -> Result<Vec<Summary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    fn wait_for_verdict(&self, deployments: usize, verdict: Verdict) -> Result<()> {
        until("the deployment has ended", LIMIT, || {
            // It may be asked at a moment at which etcd does not answer.
            let said = self.stage.lockstep(&["--output", "json", "history", ENVIRONMENT])?;
            let history: Vec<Summary> = serde_json::from_str(&said.stdout).unwrap_or_default();
            let ended = history.len() == deployments && history[0].verdict.is_some();
            ensure!(!ended || history[0].verdict == Some(verdict), "{:?}", history[0]);
            Ok(ended)
        })
    }

    fn wait_for_step(&self, step: &str) -> Result<()> {
        until(&format!("{step} runs or has run"), LIMIT, || {
            let said = self.stage.lockstep(&["status", ENVIRONMENT])?;
            Ok(said.stdout.contains(step))
        })
    }
}

fn is_in_sqlite(stage: &Path) -> bool {
    stage.join("coordinator/store.sqlite").exists()
}

fn assert_none_lost(load: Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(load.stop());
    ensure!(report.requests > 0, "the load sent nothing");
    ensure!(report.failed == 0, "{} of {} failed: {:?}", report.failed, report.requests, report.failures);
    Ok(())
}

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
