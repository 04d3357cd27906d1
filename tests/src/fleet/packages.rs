//! Our own Debian packages, as `make package` makes them, of debug programs; and which of them a host of a kind has.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::image::fleet_directory;
use super::{Host, Kind};

/// The same programs under two numbers: to be installed, and to be upgraded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    First,
    Next,
}

impl Version {
    pub fn number(self) -> &'static str {
        match self {
            Self::First => "0.1.0-1",
            Self::Next => "0.1.0-2",
        }
    }
}

pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// Those that were made before: not here, because a cargo within a cargo builds everything anew.
    ///
    /// # Errors
    /// When they were not made.
    pub fn made(version: Version) -> Result<Self> {
        let folder = fleet_directory()?.join(version.number());
        ensure!(folder.is_dir(), "{} is not there: make fleet-packages", folder.display());
        Ok(Self { folder })
    }

    /// Those of an earlier revision, as `tests/upgrade.sh` makes them.
    ///
    /// # Errors
    /// When they were not made.
    pub fn of_revision(revision: &str) -> Result<Self> {
        let folder = fleet_directory()?.with_file_name("upgrade").join(revision).join("packages");
        ensure!(folder.is_dir(), "{} is not there: make upgrade-test FROM={revision}", folder.display());
        Ok(Self { folder })
    }

    /// Installs what a host of its kind has.
    ///
    /// # Errors
    /// When apt refuses.
    pub fn install(&self, host: &Host) -> Result<()> {
        self.bring(host)?;
        install_brought(host)
    }

    /// Copies what a host of its kind has to where [`install_brought`] finds it.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn bring(&self, host: &Host) -> Result<()> {
        let names: &[&str] = match host.kind {
            Kind::Coordinator => &["lockstep", "lockstep-coordinator"],
            Kind::App | Kind::Lb | Kind::LbDb => &["lockstep-agent"],
            Kind::Bare | Kind::Fresh => &["lockstep", "lockstep-coordinator", "lockstep-agent"],
        };
        host.run("mkdir -p /root/packages && rm -f /root/packages/*")?;
        for name in names {
            host.copy(&self.file(name)?, "/root/packages")?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let found = fs::read_dir(&self.folder)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
            path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}_")))
        });
        found.with_context(|| format!("{} has no package {name}", self.folder.display()))
    }
}

/// As an administrator does it who keeps his settings.
pub(super) fn install_brought(host: &Host) -> Result<()> {
    host.run(
        "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
         --option Dpkg::Options::=--force-confold /root/packages/*.deb",
    )?;
    Ok(())
}
