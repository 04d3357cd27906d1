//! A fleet whose packages are replaced by those of another version: on all hosts at once, or one by one.

use std::str::FromStr;

use anyhow::{Result, ensure};

use super::packages::install_brought;
use super::{Fleet, Host, SOON, Version};
use crate::bed::wait::until;

/// What runs of ours, as systemd calls it.
const UNITS: [&str; 2] = ["lockstep-coordinator", "lockstep-agent"];

/// In which order hosts are upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sequence {
    AtOnce,
    /// These first, and then the others.
    OneByOne(Vec<String>),
}

impl FromStr for Sequence {
    type Err = anyhow::Error;
    /// Names of hosts with spaces between them; at once where there is none.
    fn from_str(text: &str) -> Result<Self> {
        let names: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        Ok(if names.is_empty() { Self::AtOnce } else { Self::OneByOne(names) })
    }
}

impl Fleet {
    /// Installs the packages of the next version, which every host was brought, and proves that they run.
    ///
    /// # Errors
    /// When apt refuses, or a service does not come back.
    pub fn upgrade(&self, sequence: &Sequence) -> Result<()> {
        match sequence {
            Sequence::AtOnce => self.on_all(Host::upgrade),
            Sequence::OneByOne(first) => {
                let first = first.iter().map(|name| self.host(name)).collect::<Result<Vec<_>>>()?;
                let is_first = |host: &&Host| first.iter().any(|one| one.name == host.name);
                let others: Vec<&Host> = self.hosts().iter().filter(|host| !is_first(host)).collect();
                first.iter().chain(&others).try_for_each(|host| host.upgrade())
            }
        }
    }
}

impl Host {
    fn upgrade(&self) -> Result<()> {
        let mut units = Vec::new();
        for unit in UNITS {
            if self.is_active(unit)? {
                units.push(unit);
            }
        }
        install_brought(self)?;
        // A package that another suggests has a line without a number.
        let numbers = self.run("dpkg-query --show --showformat '${Version}\n' 'lockstep*'")?;
        let mut installed = numbers.lines().filter(|number| !number.is_empty());
        let next = Version::Next.number();
        ensure!(installed.all(|number| number == next), "{} has the packages {numbers}", self.name);
        for unit in units {
            until(&format!("{unit} of {} runs the upgraded program", self.name), SOON, || {
                Ok(self.is_active(unit)? && self.runs_what_is_installed(unit)?)
            })?;
        }
        Ok(())
    }

    /// Whether the unit's process is of the program that stands in the file system.
    fn runs_what_is_installed(&self, unit: &str) -> Result<bool> {
        let program = self.run(&format!(
            "readlink /proc/$(systemctl show --value --property MainPID {unit})/exe || true"
        ))?;
        Ok(program == format!("/usr/bin/{unit}"))
    }
}
