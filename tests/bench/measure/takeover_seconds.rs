//! How long an open deployment is without a driver when its coordinator is killed, until another has the lock.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_core::view::coordinator::CoordinatorStatus;

use crate::case::Case;
use crate::report::{Limit, Measured};
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::{Record, Setting, Stage};
use lockstep_tests::bed::wait::until;

const KILLS: usize = 50;

/// How long a lock outlives its holder's last sign of life, in seconds.
const LEASE: f64 = 10.0;

const LIMIT: Duration = Duration::from_secs(60);

const FIRST: &str = "coordinator-1";
const SECOND: &str = "c2";

pub(super) fn measure(directory: &Path, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    say(&format!("· takeover_seconds: {KILLS} kills of whoever drives one long deployment"));
    let etcd = Etcd::start(&directory.join("etcd"), Members::Three)?;
    let setting = Setting { application: "bench-takeover".to_owned(), bake: "25m", drain: "0s" };
    let mut stage = Stage::start_on(&directory.join("stage"), &setting, Record::Etcd(&etcd))?;
    stage.add_coordinator(SECOND, &etcd)?;
    let image = stage.image("1", 2, &[])?;
    let mut deploying = stage
        .command(&["deploy", "production", "--image", &image, "--detach"])?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    deploying.wait()?;
    let mut took = Vec::new();
    for kill in 1..=KILLS {
        let driver = driver(&stage, None)?;
        let begun = Instant::now();
        if driver == FIRST {
            stage.coordinator.kill()?;
        } else {
            stage.others[0].kill()?;
        }
        self::driver(&stage, Some(&driver))?;
        took.push(begun.elapsed().as_secs_f64());
        if kill % 10 == 0 {
            say(&format!("  {kill} of {KILLS}: {:.2} s", took[kill - 1]));
        }
        if driver == FIRST {
            stage.start_coordinator(&[])?;
        } else {
            stage.start_other(0, SECOND, &[])?;
        }
    }
    stage.must(&["cancel", "production"])?;
    took.sort_by(f64::total_cmp);
    // Of fifty the 99th percentile is the longest.
    let longest = took.last().copied().context("nobody was killed")?;
    say(&format!("  between {:.2} s and {longest:.2} s", took[0]));
    Ok(Measured {
        case: Case::TakeoverSeconds,
        unit: "seconds, 99th percentile",
        ours: longest,
        peer: LEASE,
        peer_name: "the lease's life",
        interval: None,
        limit: Limit::OursBelow(LEASE + 1.0),
    })
}

/// Who drives, once somebody does who is not `dead`.
fn driver(stage: &Stage, dead: Option<&str>) -> Result<String> {
    let mut driver = None;
    // The one that is certainly alive is asked.
    let asked = stage.address_of(if dead == Some(FIRST) { SECOND } else { "coordinator" })?;
    until("somebody drives", LIMIT, || {
        let said = stage.lockstep(&["--coordinator", &asked, "--output", "json", "coordinator", "list"])?;
        let all: Vec<CoordinatorStatus> = serde_json::from_str(&said.stdout).unwrap_or_default();
        driver = all
            .into_iter()
            .find(|one| !one.drives.is_empty() && Some(one.name.as_str()) != dead)
            .map(|one| one.name.to_string());
        Ok(driver.is_some())
    })?;
    driver.context("nobody drives")
}
