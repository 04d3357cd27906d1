//! Requests that are lost while traffic is switched: by our agent's file, and by a rewritten upstream and
//! `nginx -s reload`. The same nginx, the same two containers, the same clients; only the switch differs.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::ground::Ground;
use crate::report::{Limit, Measured};
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::{Load, Report, Settings};

/// Both sides in turn, so often.
const ROUNDS: usize = 5;
const SWITCHES_IN_A_ROUND: usize = 4;
const REQUESTS_IN_A_ROUND: u64 = 60_000;
const CLIENTS: usize = 32;

/// How long the load may take for the requests between two switches.
const REQUESTS_LIMIT: Duration = Duration::from_secs(120);

/// What all rounds of a side came to.
#[derive(Default)]
struct Total {
    requests: u64,
    failed: u64,
    closed_while_idle: u64,
    p99_ms: f64,
    first_failure: Option<String>,
}

pub(super) fn measure(ground: &Ground, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let deployments = ground.both_slots()?;
    let reload = ReloadSite::install(ground)?;
    say(&format!(
        "· switch_loss: {} switches and at least {} requests each, {CLIENTS} keep-alive clients, no retry",
        ROUNDS * SWITCHES_IN_A_ROUND,
        ROUNDS as u64 * REQUESTS_IN_A_ROUND
    ));
    let (mut ours, mut peers) = (Total::default(), Total::default());
    for round in 1..=ROUNDS {
        let by_agent = under_load(ground.stage.site, |switch| {
            ground.roll_back_to(&deployments[switch % 2]).map(|_| ())
        })?;
        ours.add(&by_agent);
        let by_reload = under_load(reload.site, |switch| reload.switch(ground, switch))?;
        peers.add(&by_reload);
        say(&format!(
            "  {round} of {ROUNDS}: {} lost of {}, by reload {} of {}",
            by_agent.failed, by_agent.requests, by_reload.failed, by_reload.requests
        ));
    }
    say(&format!("  ours:   {}", ours.words()));
    say(&format!("  reload: {}", peers.words()));
    Ok(Measured {
        case: Case::SwitchLoss,
        unit: "requests lost in 20 switches",
        ours: ours.failed as f64,
        peer: peers.failed as f64,
        peer_name: "nginx -s reload",
        interval: None,
        limit: Limit::OursIsZero,
    })
}

/// Switches at even distances, while clients ask as fast as they are answered.
fn under_load(site: SocketAddr, mut switch: impl FnMut(usize) -> Result<()>) -> Result<Report> {
    let load = Load::start(Settings::as_fast_as_answered(site, CLIENTS))?;
    let distance = REQUESTS_IN_A_ROUND / (SWITCHES_IN_A_ROUND as u64 + 1);
    for number in 0..SWITCHES_IN_A_ROUND {
        wait_for(&load, distance * (number as u64 + 1))?;
        switch(number)?;
    }
    wait_for(&load, REQUESTS_IN_A_ROUND)?;
    let report = load.stop_and_wait()?;
    ensure!(report.by_version.len() > 1, "every answer came from one release: nothing was switched");
    Ok(report)
}

fn wait_for(load: &Load, requests: u64) -> Result<()> {
    until("the load has sent its requests", REQUESTS_LIMIT, || Ok(load.counts().requests >= requests))
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.requests += report.requests;
        self.failed += report.failed;
        self.closed_while_idle += report.closed_while_idle;
        self.p99_ms = self.p99_ms.max(report.latency_ms.p99);
        if let (None, Some(failure)) = (&self.first_failure, report.failures.first()) {
            self.first_failure = Some(format!("{:?}: {}", failure.kind, failure.detail));
        }
    }

    fn words(&self) -> String {
        let first = self.first_failure.as_ref().map_or_else(String::new, |first| format!(", as {first}"));
        format!(
            "{} lost of {}{first}; {} connections closed while idle, worst p99 {:.2} ms",
            self.failed, self.requests, self.closed_while_idle, self.p99_ms
        )
    }
}

/// A site with one upstream, which is rewritten.
struct ReloadSite {
    site: SocketAddr,
    slots: [SocketAddr; 2],
}

impl ReloadSite {
    fn install(ground: &Ground) -> Result<Self> {
        let local: IpAddr = [127, 0, 0, 1].into();
        let site = SocketAddr::new(local, free_port(local)?);
        let slots = slots(ground)?;
        let reload = Self { site, slots };
        let before = workers(ground)?;
        reload.switch(ground, 1)?;
        // Else the first round would meet workers that are about to end, whoever switches in it.
        until("nginx has only workers that know the site", Duration::from_secs(10), || {
            let there = workers(ground)?;
            Ok(!there.is_empty() && there.is_disjoint(&before))
        })?;
        Ok(reload)
    }

    fn switch(&self, ground: &Ground, number: usize) -> Result<()> {
        let Self { site, slots } = self;
        let slot = slots[number % 2];
        let text = format!(
            "upstream by_reload {{ server {slot} max_fails=0; keepalive 32; keepalive_timeout 2s; }}
server {{
    listen {site};
    location / {{
        proxy_pass http://by_reload;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection '';
    }}
}}
"
        );
        ground.stage.nginx.install_site("by-reload", &text)
    }
}

/// The processes that serve, old and new.
fn workers(ground: &Ground) -> Result<BTreeSet<String>> {
    let master = fs::read_to_string(ground.stage.nginx.pid_file())?;
    let workers = run(Command::new("pgrep").args(["-P", master.trim()]))?;
    Ok(workers.lines().map(str::to_owned).collect())
}

/// Where the containers of the two slots answer.
pub(super) fn slots(ground: &Ground) -> Result<[SocketAddr; 2]> {
    let docker = ground.stage.docker;
    let containers = docker.containers(&ground.stage.label())?;
    let mut slots = Vec::new();
    for container in containers.iter().filter(|container| container.state == "running") {
        let published = docker.docker(["port", &container.id, "8080/tcp"])?;
        let first = published.lines().next().context("a container publishes nothing")?;
        slots.push(first.parse().with_context(|| format!("docker port wrote {first:?}"))?);
    }
    slots.try_into().map_err(|slots: Vec<SocketAddr>| {
        anyhow::anyhow!("{} containers run, and not one in each of two slots", slots.len())
    })
}
