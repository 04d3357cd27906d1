//! What is done to a host on purpose, at a moment that is chosen: its agent stands still at a point of a step until
//! it is told to go on, and meanwhile the host is cut off, filled up or switched off.
//!
//! What must stay true: a fault ends with the command that made it, also when that fails.

use std::fmt;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_core::id::StepId;

use super::image::Content;
use super::{Fleet, Host, Kind, Packages, image};
use crate::bed::program::run;
use crate::bed::wait::until;

/// Where a host's agent finds what it is to do at which point (`lockstep_crashpoint`).
const ORDER: &str = "/var/lib/lockstep/agent/order";

/// As systemd asks for it.
const AGENT: &str = "lockstep-agent";

/// The last number of a copy's address.
const COPY_NUMBER: u8 = 99;

/// A step is reached after those before it.
const REACHED_LIMIT: Duration = Duration::from_secs(60);

/// A moment in the life of a step on its host.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// It is written down that the step runs; nothing was done.
    Begins(StepId),
    /// It was done, and that is not written down.
    IsDone(StepId),
}

impl fmt::Display for Moment {
    /// As the agent calls the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins(step) => write!(f, "agent: running {step} do"),
            Self::IsDone(step) => write!(f, "agent: effect {step} do"),
        }
    }
}

/// What an agent does at a moment.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    StandStill,
    Die,
}

impl Fleet {
    /// From here on every agent does at a moment what it was ordered to.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn obey_orders(&self) -> Result<()> {
        self.on_all(|host| if host.kind.roles().is_none() { Ok(()) } else { host.obey_orders() })?;
        self.all_are_connected()
    }

    /// Waits until every host has a session.
    ///
    /// # Errors
    /// When one has none for long.
    pub fn all_are_connected(&self) -> Result<()> {
        let hosts = self.hosts.iter().filter(|host| host.kind.roles().is_some()).count();
        until("every host has a session", REACHED_LIMIT, || {
            Ok(self.lockstep("host list")?.matches("connected").count() == hosts)
        })
    }

    /// Nothing passes between the host and any coordinator for so long. Its agent goes on as soon as that is so.
    ///
    /// # Errors
    /// When the host does not do it.
    pub fn cut_off(&self, host: &Host, length: Duration) -> Result<()> {
        let coordinators: Vec<String> =
            self.of(Kind::Coordinator).iter().map(|coordinator| coordinator.address.to_string()).collect();
        host.run(&format!(
            "rules() {{ for address in {addresses}; do
                 iptables \"$1\" INPUT --source $address --jump DROP
                 iptables \"$1\" OUTPUT --destination $address --jump DROP
             done; }}
             trap 'rules --delete' EXIT
             rules --insert
             {go_on}
             sleep {seconds}",
            addresses = coordinators.join(" "),
            go_on = go_on(),
            seconds = length.as_secs(),
        ))?;
        Ok(())
    }
}

impl Fleet {
    /// Another machine that has all that `host` has of its agent, its key too, and starts it.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn copy_of(&self, host: &Host, name: &str, packages: &Packages) -> Result<Host> {
        let [first, second, third, _] = host.address.octets();
        let address = Ipv4Addr::new(first, second, third, COPY_NUMBER);
        let image = image::ensure(Content::Services, &mut |_| ())?;
        let copy = Host::start(&self.name, name, host.kind, address, &image)?;
        copy.wait_until_booted()?;
        packages.install(&copy)?;
        let script = "docker exec \"$0\" tar -C / -c var/lib/lockstep etc/lockstep etc/systemd/system/lockstep-agent.service.d \
             | docker exec --interactive \"$1\" tar -C / -x";
        run(Command::new("bash").args(["-euo", "pipefail", "-c", script, &host.container, &copy.container]))
            .with_context(|| format!("cannot copy {} to {name}", host.name))?;
        copy.run(&format!("systemctl daemon-reload && systemctl restart {AGENT}"))?;
        Ok(copy)
    }
}

impl Host {
    /// From here on its agent does at a moment what it was ordered to. The watchdog knows that it may stand still.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn obey_orders(&self) -> Result<()> {
        self.set(AGENT, "orders", &format!("Environment=LOCKSTEP_CRASH_ORDER={ORDER}\nWatchdogSec=10min"))
    }

    /// Puts what is in a folder onto a file system of its own that is so small, without taking it away for a moment.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn shrink(&self, folder: &str, mebibytes: u32) -> Result<()> {
        self.run(&format!(
            "small=$(mktemp --directory --tmpdir=/run)
             mount --types tmpfs --options size={mebibytes}m tmpfs \"$small\"
             cp --archive {folder}/. \"$small\"
             mount --bind \"$small\" {folder}"
        ))?;
        Ok(())
    }

    /// Leaves no room in a folder of [`Self::shrink`].
    ///
    /// # Errors
    /// When there is room still.
    pub fn fill(&self, folder: &str) -> Result<()> {
        self.run(&format!("! dd if=/dev/zero of={folder}/filler bs=4096 status=none 2>/dev/null"))?;
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty(&self, folder: &str) -> Result<()> {
        self.run(&format!("rm {folder}/filler"))?;
        Ok(())
    }

    /// Lets a unit have another clock than its machine, as in `+2h`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn shift_clock(&self, unit: &str, by: &str) -> Result<()> {
        let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        let setting = format!(
            "Environment=LD_PRELOAD={library} FAKETIME={by} FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1"
        );
        self.set(unit, "clock", &setting)
    }

    /// Gives a unit a setting of its own, and starts it anew with it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn set(&self, unit: &str, name: &str, setting: &str) -> Result<()> {
        let file = format!("/etc/systemd/system/{unit}.service.d/{name}.conf");
        self.write(&file, &format!("[Service]\n{setting}\n"))?;
        self.run(&format!("systemctl daemon-reload && systemctl restart {unit}"))?;
        Ok(())
    }

    /// Takes a setting of [`Self::set`] back.
    ///
    /// # Errors
    /// When the unit does not come up.
    pub fn unset(&self, unit: &str, name: &str) -> Result<()> {
        self.run(&format!(
            "rm /etc/systemd/system/{unit}.service.d/{name}.conf
             systemctl daemon-reload && systemctl restart {unit}"
        ))?;
        Ok(())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn order(&self, moment: Moment, order: Order) -> Result<()> {
        let word = match order {
            Order::StandStill => "stand still",
            Order::Die => "die",
        };
        self.write(ORDER, &format!("{moment}\n{word}\n"))
    }

    /// Waits until the agent stands still where it was ordered to.
    ///
    /// # Errors
    /// When it does not come there.
    pub fn stands_still(&self) -> Result<()> {
        until(&format!("the agent of {} stands still", self.name), REACHED_LIMIT, || {
            let state = self.run(&format!("sed -n 's/^State:[[:space:]]*//p' /proc/$({})/status", pid()))?;
            Ok(state.starts_with('T'))
        })
    }

    /// # Errors
    /// When there is no agent.
    pub fn goes_on(&self) -> Result<()> {
        self.run(&go_on())?;
        Ok(())
    }
}

fn pid() -> String {
    format!("systemctl show --value --property MainPID {AGENT}")
}

fn go_on() -> String {
    format!("kill -CONT $({})", pid())
}
