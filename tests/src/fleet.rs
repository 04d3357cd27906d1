//! The fleet bed: hosts that are containers with systemd as process 1, each with an address of its own on a private
//! network, installed as people install software: our Debian packages, units, one line to join.
//!
//! What must stay true: everything of a fleet has its name in it, so that [`Fleet::down`] finds it without having
//! brought it up; inside a host only what is installed there does anything.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::bed::server::docker::Docker;

mod answers;
mod cluster;
mod faults;
mod held;
mod host;
mod image;
mod loaded;
mod packages;
mod releases;
mod services;
mod site;
mod upgrade;

use image::Content;

pub use answers::{Ended, Status};
pub use cluster::COORDINATOR_PORT;
pub use faults::{Moment, Order};
pub use held::Held;
pub use host::Host;
pub use loaded::{Cost, Loaded, at_once, side_by_side};
pub use packages::{Packages, Version};
pub use releases::{Release, give_images};
pub use site::Site;
pub use upgrade::Sequence;

/// What is waited for, on two cores that are busy.
pub const SOON: Duration = Duration::from_secs(60);

/// Requests a second: enough that each host is always asked for something.
pub const RATE: u32 = 200;

/// So many requests later every client has noticed that a host is gone: it waits for five seconds, on a connection
/// that nginx keeps for two.
pub const NOTICED_AFTER: u64 = 8 * RATE as u64;

/// The name of a test's fleet, which goes with the test, also when it fails.
pub struct Passing(pub String);

impl Passing {
    pub fn named(name: &str) -> Self {
        Self(format!("fleet-{name}-{}", std::process::id()))
    }
}

impl Drop for Passing {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = Fleet::down(&self.0);
    }
}

/// Tells whoever waits for a test.
#[expect(clippy::print_stderr, reason = "a fleet takes minutes: who waits is told")]
pub fn tell(what: &str) {
    eprintln!("{what}");
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A coordinator, and a member of etcd beside it.
    Coordinator,
    App,
    Lb,
    LbDb,
    /// Nothing runs on it but systemd.
    Bare,
    /// Nothing is installed on it but Debian. All hosts of its fleet are of this kind.
    Fresh,
}

impl Kind {
    /// As they are typed; nothing for one that is no host of the cluster.
    fn roles(self) -> Option<&'static str> {
        match self {
            Self::Coordinator | Self::Bare | Self::Fresh => None,
            Self::App => Some("app"),
            Self::Lb => Some("lb"),
            Self::LbDb => Some("lb,db"),
        }
    }
}

/// The whole fleet: name, kind and the last number of the address.
pub const WHOLE: [(&str, Kind, u8); 8] = [
    ("c1", Kind::Coordinator, 11),
    ("c2", Kind::Coordinator, 12),
    ("c3", Kind::Coordinator, 13),
    ("lb-1", Kind::LbDb, 21),
    // Idle: no environment names it.
    ("lb-2", Kind::Lb, 22),
    ("app-1", Kind::App, 31),
    ("app-2", Kind::App, 32),
    ("app-3", Kind::App, 33),
];

/// Networks that are tried, as in `10.213.N.0/24`.
const NETWORKS: [u8; 2] = [10, 213];
const NETWORKS_MAX: u8 = 64;

/// Hosts that are up.
pub struct Fleet {
    name: String,
    hosts: Vec<Host>,
}

impl Fleet {
    /// The whole fleet: installed, its coordinators over one etcd, every host joined.
    ///
    /// # Errors
    /// When something of it does not come up.
    pub fn up(name: &str, packages: &Packages, tell: &mut dyn FnMut(&str)) -> Result<Self> {
        let fleet = Self::start(name, &WHOLE, tell)?;
        tell("installs the packages");
        fleet.on_all(|host| packages.install(host))?;
        tell("starts PostgreSQL, nginx and Docker");
        services::start(&fleet)?;
        tell("forms the cluster: etcd, coordinators, hosts");
        cluster::form(&fleet)?;
        Ok(fleet)
    }

    /// Hosts on which nothing is installed yet.
    ///
    /// # Errors
    /// When one does not boot.
    pub fn start(name: &str, shape: &[(&str, Kind, u8)], tell: &mut dyn FnMut(&str)) -> Result<Self> {
        Self::down(name)?;
        let fresh = shape.iter().all(|(_, kind, _)| *kind == Kind::Fresh);
        let image = image::ensure(if fresh { Content::Fresh } else { Content::Services }, tell)?;
        let subnet = network(name)?;
        tell("boots the hosts");
        let mut hosts = Vec::new();
        for (host, kind, number) in shape {
            let address = Ipv4Addr::new(subnet[0], subnet[1], subnet[2], *number);
            hosts.push(Host::start(name, host, *kind, address, &image)?);
        }
        let fleet = Self { name: name.to_owned(), hosts };
        fleet.on_all(Host::wait_until_booted)?;
        Ok(fleet)
    }

    /// Removes everything of the fleet of this name; none is fine. The image stays.
    ///
    /// # Errors
    /// When Docker does not do it.
    pub fn down(name: &str) -> Result<()> {
        let docker = Docker::check()?;
        docker.remove_containers(&label(name))?;
        let networks =
            docker.docker(["network", "ls", "--quiet", "--filter", &format!("label={}", label(name))])?;
        for network in networks.lines() {
            docker.docker(["network", "rm", network])?;
        }
        Ok(())
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// # Errors
    /// When there is none of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("{} has no host {name}", self.name))
    }

    fn of(&self, kind: Kind) -> Vec<&Host> {
        self.hosts.iter().filter(|host| host.kind == kind).collect()
    }

    /// Runs `lockstep` where the operator is: on the first coordinator.
    ///
    /// # Errors
    /// When it fails.
    pub fn lockstep(&self, arguments: &str) -> Result<String> {
        self.hosts[0].run(&format!("cd {PROJECT} && lockstep {arguments}"))
    }

    /// Does it on every host at the same time.
    ///
    /// # Errors
    /// Those of all hosts.
    pub fn on_all(&self, act: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
        let act = &act;
        let failed: Vec<String> = thread::scope(|scope| {
            let acts: Vec<_> = self.hosts.iter().map(|host| (host, scope.spawn(move || act(host)))).collect();
            acts.into_iter()
                .filter_map(|(host, act)| {
                    let ended = act.join().unwrap_or_else(|_| Err(anyhow!("bug: the bed panicked")));
                    ended.err().map(|error| format!("{}: {error:#}", host.name))
                })
                .collect()
        });
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
    }
}

/// Where the operator's project is, on the first coordinator.
pub const PROJECT: &str = "/root/project";

fn label(name: &str) -> String {
    format!("lockstep.fleet={name}")
}

/// Makes the fleet's network; gives its first three numbers.
fn network(name: &str) -> Result<[u8; 3]> {
    let docker = Docker::check()?;
    let mut failed = anyhow!("no network is free");
    for number in 0..NETWORKS_MAX {
        let [first, second] = NETWORKS;
        let subnet = format!("{first}.{second}.{number}.0/24");
        let made = docker.docker(["network", "create", "--subnet", &subnet, "--label", &label(name), name]);
        match made {
            Ok(_) => return Ok([first, second, number]),
            Err(error) => failed = error,
        }
    }
    Err(failed).with_context(|| format!("cannot make a network for {name}"))
}
