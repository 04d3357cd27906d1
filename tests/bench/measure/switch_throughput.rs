//! Requests a second, and how long they take, while the slot is switched again and again: beside nginx and HAProxy that
//! send to the same containers and are left alone.
//!
//! The same clients, the same nginx for two of the three, the same application. The commands that switch, the
//! coordinator and the agent run on the machine of all three, and their work is a part of what is measured.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::case::{Case, Effort};
use crate::ground::Ground;
use crate::report::{Limit, Measured};
use crate::simulated::rest;
use crate::statistics::{Ratio, median, paired_ratio};
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::process::Process;
use lockstep_tests::bed::wait::until;

use super::switch_loss::slots;
use lockstep_tests::load::{Load, Settings};

/// All three in turn, so often.
const ROUNDS: usize = 11;
const ROUNDS_OF_SAMPLE: usize = 3;

const CLIENTS: usize = 32;

/// How long each is asked in a round, and how often the slot is switched meanwhile.
const WINDOW: Duration = Duration::from_secs(10);
const SWITCH_EVERY: Duration = Duration::from_secs(5);

/// Requests that come before those that count.
const WARM: u64 = 2_000;

const WARM_LIMIT: Duration = Duration::from_secs(30);

/// Where Debian has it; a user's `PATH` lacks that folder.
const HAPROXY: &str = "/usr/sbin/haproxy";

/// One round of one side.
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// All rounds of one side.
struct Side {
    name: &'static str,
    rounds: Vec<Round>,
}

pub(super) fn measure(ground: &Ground, effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let rounds = effort.choose(ROUNDS, ROUNDS_OF_SAMPLE);
    let deployments = ground.both_slots()?;
    let upstream = slots(ground)?[0];
    let nginx = plain_site(ground, upstream)?;
    let haproxy = Haproxy::start(&ground.stage.directory.join("haproxy"), upstream)?;
    say(&format!(
        "· switch_throughput: {rounds} rounds of {} s each, a switch every {} s, {CLIENTS} keep-alive clients",
        WINDOW.as_secs(),
        SWITCH_EVERY.as_secs()
    ));
    let side = |name| Side { name, rounds: Vec::new() };
    let (mut ours, mut plain, mut other) = (side("ours"), side("nginx"), side("HAProxy"));
    let mut switches = 0;
    // One of each first, which does not count.
    for round in 0..=rounds {
        let switched = under_load(ground.stage.site, || {
            // The newest is live at first.
            let to = &deployments[switches % 2];
            switches += 1;
            ground.roll_back_to(to).map(|_| ())
        })?;
        let left_alone = under_load(nginx, || Ok(()))?;
        let by_haproxy = under_load(haproxy.site, || Ok(()))?;
        if round > 0 {
            ours.rounds.push(switched);
            plain.rounds.push(left_alone);
            other.rounds.push(by_haproxy);
            say(&format!("  {round:>2} of {rounds}: {}, {}, {}", ours.last(), plain.last(), other.last()));
        }
    }
    for side in [&ours, &plain, &other] {
        say(&side.words());
    }
    let beside = |side: &Side| paired_ratio(&ours.per_second(), &side.per_second());
    if let Some(Ratio { middle, interval }) = beside(&other) {
        say(&format!("  of HAProxy: {middle:.3}, 95 % {:.3} to {:.3}", interval.low, interval.high));
    }
    Ok(Measured {
        case: Case::SwitchThroughput,
        unit: "requests a second",
        ours: median(&ours.per_second()),
        peer: median(&plain.per_second()),
        peer_name: "nginx that is left alone",
        interval: beside(&plain).map(|ratio| ratio.interval),
        limit: Limit::IntervalAtLeast(0.97),
    })
}

/// Asks as fast as is answered, and calls `switch` at even distances.
fn under_load(site: SocketAddr, mut switch: impl FnMut() -> Result<()>) -> Result<Round> {
    let load = Load::start(Settings::as_fast_as_answered(site, CLIENTS))?;
    until("the load is warm", WARM_LIMIT, || Ok(load.counts().requests >= WARM))?;
    let (begun, before) = (Instant::now(), load.counts().requests);
    let mut next = begun;
    while next < begun + WINDOW {
        switch()?;
        next += SWITCH_EVERY;
        rest(next.saturating_duration_since(Instant::now()));
    }
    let requests = load.counts().requests - before;
    let seconds = begun.elapsed().as_secs_f64();
    let report = load.stop_and_wait()?;
    let (failed, first) = (report.failed, report.failures.first());
    ensure!(failed == 0, "{failed} of {} requests to {site} failed, the first: {first:?}", report.requests);
    let latency = &report.latency_ms;
    Ok(Round { per_second: requests as f64 / seconds, p50_ms: latency.p50, p99_ms: latency.p99 })
}

impl Side {
    fn per_second(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.per_second).collect()
    }

    fn last(&self) -> String {
        let Self { name, rounds } = self;
        rounds.last().map_or_else(String::new, |round| format!("{name} {:.0}/s", round.per_second))
    }

    fn words(&self) -> String {
        let of = |value: fn(&Round) -> f64| median(&self.rounds.iter().map(value).collect::<Vec<_>>());
        format!(
            "  {}: {:.0} requests a second, p50 {:.2} ms, p99 {:.2} ms",
            self.name,
            of(|round| round.per_second),
            of(|round| round.p50_ms),
            of(|round| round.p99_ms)
        )
    }
}

/// A site of the same nginx that nobody switches. It writes an access log, as every site of Debian's nginx does.
fn plain_site(ground: &Ground, upstream: SocketAddr) -> Result<SocketAddr> {
    let local: IpAddr = [127, 0, 0, 1].into();
    let site = SocketAddr::new(local, free_port(local)?);
    let log = ground.stage.directory.join("left-alone.access.log");
    let text = format!(
        "upstream left_alone {{ server {upstream} max_fails=0; keepalive 32; keepalive_timeout 2s; }}
server {{
    listen {site};
    access_log {log};
    location / {{
        proxy_pass http://left_alone;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection '';
    }}
}}
",
        log = log.display()
    );
    let nginx = &ground.stage.nginx;
    let before = nginx.workers()?;
    nginx.install_site("left-alone", &text)?;
    // They still take connections, which are lost when they end.
    until("the workers from before have ended", WARM_LIMIT, || Ok(nginx.workers()?.is_disjoint(&before)))?;
    Ok(site)
}

/// An HAProxy of its own with one server.
struct Haproxy {
    site: SocketAddr,
    _process: Process,
}

impl Haproxy {
    fn start(directory: &Path, upstream: SocketAddr) -> Result<Self> {
        let local: IpAddr = [127, 0, 0, 1].into();
        let site = SocketAddr::new(local, free_port(local)?);
        fs::create_dir_all(directory)?;
        let configuration = directory.join("haproxy.cfg");
        fs::write(&configuration, configuration_text(site, upstream))?;
        let mut command = Command::new(HAPROXY);
        command.arg("-db").arg("-f").arg(&configuration);
        let mut process = Process::start(&mut command, &directory.join("haproxy.log"))?;
        let is_ready = || Ok(std::net::TcpStream::connect(site).is_ok());
        process.wait_until("HAProxy is ready", WARM_LIMIT, is_ready)?;
        Ok(Self { site, _process: process })
    }
}

/// As much as nginx's: connections to the server are kept, and waited for as long.
fn configuration_text(site: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend site
    bind {site}
    default_backend live
backend live
    server live {upstream} pool-max-conn 32
"
    )
}
