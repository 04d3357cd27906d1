//! Configures and starts the systemd unit of this agent, if a package has installed it.
//!
//! A drop-in, `lockstep-agent.service.d/<role>.conf`, allows what a role needs beyond the unit. What must stay true: a
//! drop-in is masked only while the host does not have its role, and only masks are ever removed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use lockstep_runtime::systemd::units::{MASK, has_systemd, is_masked, systemctl};

/// The directory of the unit's agent. The unit does not concern an agent in another directory.
pub const DIRECTORY: &str = "/var/lib/lockstep/agent";

const UNIT: &str = "lockstep-agent.service";

/// Drop-ins here take precedence over those of a package.
const DROP_INS: &str = "/etc/systemd/system/lockstep-agent.service.d";

/// The roles that need more than the unit allows.
const ROLES: [&str; 2] = ["lb", "db"];

/// The result of configuring the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Started,
    /// There is no systemd, no unit, or the agent has another directory.
    None,
}

/// Masks the drop-ins of roles that the host does not have, and starts the unit.
///
/// # Errors
/// When systemctl fails.
pub fn fit(directory: &Path, roles: &[String]) -> anyhow::Result<Unit> {
    if directory != Path::new(DIRECTORY) || !has_systemd() {
        return Ok(Unit::None);
    }
    mask(Path::new(DROP_INS), roles).with_context(|| format!("cannot write in {DROP_INS}"))?;
    systemctl(&["daemon-reload"])?;
    // Not there yet: `lockstep up` brings it, and starts it.
    if systemctl(&["cat", UNIT]).is_err() {
        return Ok(Unit::None);
    }
    systemctl(&["enable", "--quiet", UNIT])?;
    systemctl(&["restart", UNIT])?;
    Ok(Unit::Started)
}

fn mask(folder: &Path, roles: &[String]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for role in ROLES {
        let file = folder.join(role).with_extension("conf");
        let has_role = roles.iter().any(|there| there == role);
        match (has_role, is_masked(&file)) {
            (true, true) => fs::remove_file(&file)?,
            // A file that an administrator has put there stays.
            (false, false) if !file.exists() => symlink(MASK, &file)?,
            (true | false, false) | (false, true) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_is_not_for_is_masked_and_an_administrators_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("d");
        let roles =
            |roles: &[&str]| mask(&folder, &roles.iter().map(ToString::to_string).collect::<Vec<_>>());
        let masked = |role: &str| fs::read_link(folder.join(role)).is_ok();
        roles(&["app"]).unwrap();
        assert!(masked("lb.conf") && masked("db.conf"));
        roles(&["app", "lb"]).unwrap();
        assert!(!folder.join("lb.conf").exists() && masked("db.conf"));
        fs::write(folder.join("lb.conf"), "[Service]\n").unwrap();
        roles(&["app"]).unwrap();
        assert_eq!(fs::read_to_string(folder.join("lb.conf")).unwrap(), "[Service]\n");
    }
}
