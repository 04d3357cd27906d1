//! What one coordinator does with many hosts: a whole deployment to all of them, what it needs for each that is
//! connected, and what they cost while nothing happens.
//!
//! The hosts are simulated: each has joined with a token of its own, has a certificate and a session of its own over
//! mTLS, and answers every step with "done" at once. All of them live in this process, beside the coordinator's.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::case::{Case, Effort, Extent};
use crate::report::{Limit, Measured};
use crate::resources::rss_mib;
use crate::simulated::host::{self, Memory};
use crate::simulated::operator::Operator;
use crate::simulated::{Place, empty, idle, rest, runtime};
use crate::statistics::median;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::Record;

/// How many hosts there are.
const SIZES: [usize; 3] = [10, 100, 1000];

/// How many of them with the record in etcd too.
const SIZES_ON_ETCD: [usize; 2] = [10, 100];

/// Deployments of each size that count; each moves the traffic to the other slot. One more comes first.
const DEPLOYMENTS: usize = 5;

/// After this long, what connecting has brought about is over.
const REST: Duration = Duration::from_secs(10);

const WINDOW: Duration = Duration::from_secs(30);

const KIB: f64 = 1024.0;

/// What was measured with so many hosts.
struct Figures {
    hosts: usize,
    seconds: f64,
    kib_per_host: f64,
    idle_percent: f64,
}

pub(super) fn measure(directory: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for hosts in SIZES.into_iter().filter(|hosts| *hosts <= extent.hosts_max) {
        say(&format!(
            "· fanout_hosts: {hosts} join, connect, rest for {} s and are deployed to",
            WINDOW.as_secs()
        ));
        all.push(with_hosts(&directory.join(hosts.to_string()), hosts, Record::Sqlite, say)?);
    }
    let mut on_etcd = Vec::new();
    // A sample is one of a record in SQLite.
    let sizes_on_etcd = SIZES_ON_ETCD.into_iter().filter(|_| extent.effort == Effort::Whole);
    for hosts in sizes_on_etcd.filter(|hosts| *hosts <= extent.hosts_max) {
        say(&format!("· fanout_hosts: the same with {hosts} and the record in etcd"));
        let own = directory.join(format!("etcd-{hosts}"));
        empty(&own)?;
        let etcd = Etcd::start(&own.join("etcd"), Members::Three)?;
        on_etcd.push(with_hosts(&own.join("hosts"), hosts, Record::Etcd(&etcd), say)?);
    }
    let [.., fewer, most] = all.as_slice() else {
        anyhow::bail!("LOCKSTEP_BENCH_HOSTS is at least {}", SIZES[1]);
    };
    let mut measured = compared(fewer, most);
    measured.extend(on_etcd.last().zip(all.iter().find(|one| one.hosts == SIZES_ON_ETCD[1])).map(beside));
    Ok(measured)
}

/// As many hosts with the record in etcd and in SQLite.
fn beside((etcd, sqlite): (&Figures, &Figures)) -> Measured {
    Measured {
        case: Case::FanoutOnEtcd,
        unit: "seconds, one deployment",
        ours: etcd.seconds,
        peer: sqlite.seconds,
        peer_name: "as many hosts with SQLite",
        interval: None,
        limit: Limit::OursBelow(5.0),
    }
}

/// The most hosts beside a tenth of them: cost that is linear is no higher for one of many than for one of few.
fn compared(fewer: &Figures, most: &Figures) -> Vec<Measured> {
    let times = most.hosts as f64 / fewer.hosts as f64;
    let per_host = |figures: &Figures| figures.seconds * 1000.0 / figures.hosts as f64;
    let measured = |case, unit, (ours, peer), limit| Measured {
        case,
        unit,
        ours,
        peer,
        peer_name: "a tenth of the hosts",
        interval: None,
        limit,
    };
    vec![
        measured(
            Case::FanoutHosts,
            "seconds, one deployment",
            (most.seconds, fewer.seconds * times),
            Limit::OursBelow(5.0),
        ),
        measured(
            Case::FanoutCost,
            "milliseconds a host",
            (per_host(most), per_host(fewer)),
            Limit::RatioAtMost(1.0),
        ),
        measured(
            Case::FanoutRss,
            "KiB resident a host",
            (most.kib_per_host, fewer.kib_per_host),
            Limit::OursBelow(64.0),
        ),
        measured(
            Case::FanoutIdleCpu,
            "percent of one processor",
            (most.idle_percent, fewer.idle_percent * times),
            Limit::RatioAtMost(1.0),
        ),
    ]
}

fn with_hosts(
    directory: &Path,
    count: usize,
    record: Record<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<Figures> {
    let place = Place::prepare(directory, record)?;
    let runtime = runtime()?;
    let mut coordinator = place.start()?;
    let operator = runtime.block_on(Operator::log_in(&place))?;
    let joined = runtime.block_on(host::join(&operator, &place.address, count))?;
    // What was needed to let them join is not what is needed to have them.
    coordinator.stop()?;
    let coordinator = place.start()?;
    let operator = runtime.block_on(operator.again(&place.address))?;
    rest(REST);
    let empty = rss_mib(coordinator.id())?;
    let hosts = runtime.block_on(host::connect(&place.address, joined, Memory::Nothing))?;
    rest(REST);
    let kib_per_host = (rss_mib(coordinator.id())? - empty) * KIB / count as f64;
    let [idle_percent] = idle([coordinator.id()], WINDOW)?;
    let seconds = deployments(&runtime, &operator, &hosts, say)?;
    say(&format!(
        "  resident: {empty:.1} MiB without hosts, {:.1} MiB after the deployments",
        rss_mib(coordinator.id())?
    ));
    say(&format!(
        "  {count} hosts: {seconds:.3} s a deployment, {kib_per_host:.1} KiB a host, {idle_percent:.2} % of a processor when idle"
    ));
    drop(hosts);
    Ok(Figures { hosts: count, seconds, kib_per_host, idle_percent })
}

fn deployments(
    runtime: &Runtime,
    operator: &Operator,
    hosts: &host::Connected,
    say: &mut dyn FnMut(&str),
) -> Result<f64> {
    let mut took = Vec::new();
    for number in 0..=DEPLOYMENTS {
        let one = runtime
            .block_on(operator.deploy(&hosts.names, number))
            .with_context(|| format!("deployment {number} to {} hosts", hosts.names.len()))?;
        say(&format!(
            "  deployment {number}: answered after {:.3} s, ended after {:.3} s",
            one.answered.as_secs_f64(),
            one.ended.as_secs_f64()
        ));
        // The first also gives the ports away.
        if number > 0 {
            took.push(one.ended.as_secs_f64());
        }
    }
    Ok(median(&took))
}
