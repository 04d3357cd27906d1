//! What agent and coordinator need when nothing happens, beside the Docker Engine that is there anyway.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::case::{Case, Effort};
use crate::ground::Ground;
use crate::report::{Limit, Measured};
use crate::resources::{rss_mib, ticks};
use crate::statistics::median;
use lockstep_tests::bed::program::run;

const REST: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(60);
const WINDOWS: usize = 5;
const WINDOWS_OF_SAMPLE: usize = 1;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Where the machine's Docker Engine writes its number; a test's own writes it elsewhere.
const DOCKERD: &str = "/var/run/docker.pid";
/// The Docker Engine is both.
const PEER: &str = "dockerd and containerd";

/// One process, looked at after each window.
struct Watched {
    process: u32,
    ticks: u64,
    rss_mib: Vec<f64>,
    cpu_percent: Vec<f64>,
}

pub(super) fn measure(ground: &Ground, effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
    let windows = effort.choose(WINDOWS, WINDOWS_OF_SAMPLE);
    say(&format!("· idle: a minute of rest after the first deployment, then {windows} are measured"));
    pause(REST, ground)?;
    let ticks_per_second: f64 = run(Command::new("getconf").arg("CLK_TCK"))?.parse()?;
    let mut agent = Watched::begin(ground.stage.agent.id())?;
    let mut coordinator = Watched::begin(ground.stage.coordinator.id())?;
    let mut engine = engine()?.map(Watched::begin).into_iter().collect::<Result<Vec<Watched>>>()?;
    for window in 1..=windows {
        let begun = Instant::now();
        pause(WINDOW, ground)?;
        let all_ticks = begun.elapsed().as_secs_f64() * ticks_per_second;
        for watched in [&mut agent, &mut coordinator].into_iter().chain(&mut engine) {
            watched.look(all_ticks)?;
        }
        let last = |watched: &Watched| {
            let cpu = watched.cpu_percent.last().copied().unwrap_or_default();
            let rss = watched.rss_mib.last().copied().unwrap_or_default();
            format!("{rss:.1} MiB {cpu:.2} %")
        };
        let engine: Vec<String> = engine.iter().map(last).collect();
        say(&format!(
            "  {window} of {windows}: agent {}, coordinator {}, {PEER} {}",
            last(&agent),
            last(&coordinator),
            engine.join(" and ")
        ));
    }
    let together = |of: fn(&Watched) -> &[f64]| engine.iter().map(|one| median(of(one))).sum();
    let rss = |case, ours: &Watched, limit| Measured {
        case,
        unit: "MiB resident",
        ours: median(&ours.rss_mib),
        peer: together(|one| &one.rss_mib),
        peer_name: PEER,
        interval: None,
        limit,
    };
    Ok(vec![
        rss(Case::AgentIdleRss, &agent, Limit::OursBelowAndRatioAtMost(15.0, 0.1)),
        rss(Case::CoordinatorIdleRss, &coordinator, Limit::OursBelow(30.0)),
        Measured {
            case: Case::AgentIdleCpu,
            unit: "percent of one processor",
            ours: median(&agent.cpu_percent),
            peer: together(|one| &one.cpu_percent),
            peer_name: PEER,
            interval: None,
            limit: Limit::OursBelow(0.3),
        },
    ])
}

/// Lets time pass; ends early where the agent has ended, as after an interrupt.
#[expect(clippy::disallowed_methods, reason = "the time in which nothing happens is what is measured")]
fn pause(time: Duration, ground: &Ground) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::sleep(LOOK_EVERY.min(time.saturating_sub(begun.elapsed())));
        rss_mib(ground.stage.agent.id()).context("the agent was not left alone")?;
    }
    Ok(())
}

impl Watched {
    fn begin(process: u32) -> Result<Self> {
        Ok(Self { process, ticks: ticks(process)?, rss_mib: Vec::new(), cpu_percent: Vec::new() })
    }

    fn look(&mut self, all_ticks: f64) -> Result<()> {
        let ticks = ticks(self.process)?;
        self.cpu_percent.push((ticks - self.ticks) as f64 / all_ticks * 100.0);
        self.ticks = ticks;
        self.rss_mib.push(rss_mib(self.process)?);
        Ok(())
    }
}

/// The machine's dockerd, and the containerd that it uses: its own child, or a service that is nobody's.
fn engine() -> Result<[u32; 2]> {
    let written = fs::read_to_string(DOCKERD).with_context(|| format!("no dockerd has written {DOCKERD}"))?;
    let dockerd = written.trim().parse().with_context(|| format!("{DOCKERD} is not understood"))?;
    let mut service = None;
    for containerd in processes_called("containerd")? {
        match parent(containerd)? {
            parent if parent == dockerd => return Ok([dockerd, containerd]),
            parent if comm(parent) != "dockerd" => service = Some(containerd),
            _ => {}
        }
    }
    Ok([dockerd, service.context("no containerd is the machine's")?])
}

fn processes_called(name: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(number.filter(|process| comm(*process) == name));
    }
    Ok(found)
}

/// What the process is called; nothing of one that ends meanwhile.
fn comm(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}

fn parent(process: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.with_context(|| format!("/proc/{process}/status has no PPid"))?.trim().parse()?)
}
