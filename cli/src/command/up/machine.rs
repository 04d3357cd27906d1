//! What a host needs beside Lockstep: Docker, nginx and PostgreSQL's tools. Also the address of this host.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_runtime::systemd::units::has_systemd;

use super::place::{self, Place};
use super::{StepLog, systemd};
use crate::failure::{Failure, Kind, Result};
use lockstep_core::host::HostRole;

/// Where Debian has the programs of each version of PostgreSQL.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Checks what hosts of these roles need, and starts nginx if it does not run.
///
/// # Errors
/// When something is missing, with what to install.
pub(super) fn prepare(place: &Place, roles: &[HostRole], log: &mut StepLog) -> Result<()> {
    let settings = Settings::read(&place.agent_settings())?;
    for role in roles {
        match role {
            HostRole::App => docker(log)?,
            HostRole::Lb => nginx(&settings, log)?,
            HostRole::Db => postgres(&settings, log)?,
        }
    }
    Ok(())
}

/// The settings of `agent.toml` that are used here.
struct Settings {
    nginx: PathBuf,
    configuration: PathBuf,
    sites: PathBuf,
    postgres: Option<PathBuf>,
}

impl Settings {
    fn read(file: &Path) -> Result<Self> {
        let text = place::text(file)?.unwrap_or_default();
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::new(Kind::Refused, format!("{} is not valid TOML", file.display()))
                .why(error.to_string())
        })?;
        let path = |part: &str, key: &str| table.get(part)?.get(key)?.as_str().map(PathBuf::from);
        Ok(Self {
            nginx: path("nginx", "binary").unwrap_or_else(|| "/usr/sbin/nginx".into()),
            configuration: path("nginx", "configuration").unwrap_or_else(|| "/etc/nginx/nginx.conf".into()),
            sites: path("nginx", "sites").unwrap_or_else(|| "/etc/nginx/conf.d".into()),
            postgres: path("postgres", "binaries"),
        })
    }
}

fn docker(log: &mut StepLog) -> Result<()> {
    let output = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing("Docker", "docker.io", "docker is not in PATH"));
        }
        Err(error) => return Err(missing("Docker", "docker.io", &error.to_string())),
    };
    if !output.status.success() {
        let next = if has_systemd() { "systemctl start docker" } else { "dockerd &" };
        return Err(Failure::new(Kind::Refused, "the Docker daemon does not answer")
            .why(String::from_utf8_lossy(&output.stderr).trim().to_owned())
            .next(next));
    }
    log.unchanged(&format!("Docker {}", String::from_utf8_lossy(&output.stdout).trim()))
}

fn nginx(settings: &Settings, log: &mut StepLog) -> Result<()> {
    let version = Command::new(&settings.nginx)
        .arg("-v")
        .output()
        .map_err(|error| missing("nginx", "nginx", &format!("{}: {error}", settings.nginx.display())))?;
    let version = String::from_utf8_lossy(&version.stderr).trim().to_owned();
    let version = version.rsplit_once('/').map_or(version.as_str(), |(_, version)| version);
    if nginx_runs(&settings.configuration) {
        return log.unchanged(&format!("nginx {version}"));
    }
    let of_the_system = settings.configuration == Path::new("/etc/nginx/nginx.conf");
    if has_systemd() && of_the_system {
        systemd::systemctl(&["enable", "--quiet", "--now", "nginx"])?;
    } else {
        let output = Command::new(&settings.nginx).arg("-c").arg(&settings.configuration).output();
        let output = output.map_err(|error| missing("nginx", "nginx", &error.to_string()))?;
        if !output.status.success() {
            return Err(Failure::new(Kind::Refused, "nginx does not start")
                .why(String::from_utf8_lossy(&output.stderr).trim().to_owned())
                .next(format!("nginx -t -c {}", settings.configuration.display())));
        }
    }
    log.changed(&format!("started nginx {version}"))
}

/// Whether the process of nginx's pid file runs: the file that the configuration names, else Debian's.
fn nginx_runs(configuration: &Path) -> bool {
    let text = std::fs::read_to_string(configuration).unwrap_or_default();
    let file = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("pid ")?.trim().strip_suffix(';').map(PathBuf::from))
        .unwrap_or_else(|| "/run/nginx.pid".into());
    std::fs::read_to_string(file)
        .ok()
        .and_then(|number| number.trim().parse().ok())
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

fn postgres(settings: &Settings, log: &mut StepLog) -> Result<()> {
    let folders: Vec<PathBuf> = match &settings.postgres {
        Some(folder) => vec![folder.clone()],
        None => std::fs::read_dir(POSTGRES)
            .map(|versions| versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
            .unwrap_or_default(),
    };
    let output = folders
        .iter()
        .map(|folder| folder.join("pg_dump"))
        .filter_map(|program| Command::new(program).arg("--version").output().ok())
        .next_back();
    let Some(output) = output else {
        return Err(missing("pg_dump", "postgresql-client", &format!("no folder of {POSTGRES} contains it"))
            .next(
                "apt-get install postgresql-client    # or, without databases: lockstep up --roles app,lb",
            ));
    };
    log.unchanged(String::from_utf8_lossy(&output.stdout).trim())
}

fn missing(what: &str, package: &str, why: &str) -> Failure {
    Failure::new(Kind::Refused, format!("{what} is not installed"))
        .why(why)
        .next(format!("apt-get install {package}"))
}

/// The address at which load balancers reach this machine's containers: as wanted, else that of Docker's bridge, which
/// nothing outside of this machine reaches.
///
/// # Errors
/// When this machine does not have the address.
pub(super) fn address(wanted: Option<IpAddr>) -> Result<IpAddr> {
    let address = match wanted {
        Some(address) => address,
        None => bridge()?,
    };
    match TcpListener::bind((address, 0)) {
        Ok(_) => Ok(address),
        Err(error) => {
            Err(Failure::new(Kind::Refused, format!("{address} is not an address of this machine"))
                .why(format!("container ports are published on it: {error}"))
                .next("ip -brief address    # then: lockstep up --address ADDR"))
        }
    }
}

fn bridge() -> Result<IpAddr> {
    let unknown = |why: String| {
        Failure::new(Kind::Refused, "the address of Docker's bridge is unknown")
            .why(why)
            .next("lockstep up --address ADDR    # the address at which containers are reached")
    };
    let format = "{{range .IPAM.Config}}{{.Gateway}};{{.Subnet}} {{end}}";
    let output = Command::new("docker")
        .args(["network", "inspect", "bridge", "--format", format])
        .output()
        .map_err(|error| unknown(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let addresses: Vec<IpAddr> = text.split_whitespace().filter_map(gateway).collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| unknown(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The gateway in `172.17.0.1;172.17.0.0/16`. An engine in its first run does not name it: then it is the first address
/// of the subnet.
fn gateway(config: &str) -> Option<IpAddr> {
    let (gateway, subnet) = config.split_once(';')?;
    if let Ok(named) = gateway.parse() {
        return Some(named);
    }
    let (base, _) = subnet.split_once('/')?;
    let base: Ipv4Addr = base.parse().ok()?;
    base.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into())
}

/// The nginx sites whose switch files are in this place.
pub(super) fn sites_served_from(place: &Place) -> Result<Vec<PathBuf>> {
    let settings = Settings::read(&place.agent_settings())?;
    let traffic = place.traffic().display().to_string();
    let entries = std::fs::read_dir(&settings.sites).map(|entries| entries.flatten().collect::<Vec<_>>());
    let sites = entries.unwrap_or_default().into_iter().map(|entry| entry.path());
    Ok(sites.filter(|site| std::fs::read_to_string(site).is_ok_and(|text| text.contains(&traffic))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_machine_has_is_refused() {
        assert!(address(Some("127.0.0.1".parse().unwrap())).is_ok());
        let refused = address(Some("192.0.2.1".parse().unwrap())).unwrap_err();
        assert!(refused.what.contains("192.0.2.1"), "{refused:?}");
    }

    #[test]
    fn the_bridge_is_known_also_in_the_engines_first_run() {
        let known = |config| gateway(config).map(|address| address.to_string());
        assert_eq!(known("172.17.0.9;172.17.0.0/16").as_deref(), Some("172.17.0.9"));
        assert_eq!(known(";172.18.0.0/16").as_deref(), Some("172.18.0.1"));
        assert_eq!(known(";"), None);
    }

    #[test]
    fn a_site_is_known_by_the_switch_file_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        place.create().unwrap();
        let sites = folder.path().join("sites");
        std::fs::create_dir(&sites).unwrap();
        std::fs::write(place.agent_settings(), format!("[nginx]\nsites = {sites:?}\n")).unwrap();
        let switch = place.traffic().join("notes-production/green");
        std::fs::write(sites.join("ours.conf"), format!("if (-f {}) {{}}", switch.display())).unwrap();
        std::fs::write(sites.join("other.conf"), "if (-f /srv/agent/traffic/green) {}").unwrap();
        assert_eq!(sites_served_from(&place).unwrap(), [sites.join("ours.conf")]);
    }
}
