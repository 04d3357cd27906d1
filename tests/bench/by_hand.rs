//! The same by hand: `tests/bench/deploy.sh` with containers, ports, a site and a switch of its own, on
//! the stage's nginx, PostgreSQL and Docker.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::server::docker::Docker;
use lockstep_tests::bed::stage::Stage;

const NAME: &str = "lockstep-bench-by-hand";
pub(super) const SCRIPT: &str = "tests/bench/deploy.sh";

pub(super) struct ByHand {
    docker: Docker,
    environment: Vec<(&'static str, String)>,
}

/// One run of the script.
pub(super) struct Ran {
    pub(super) took: Duration,
    /// As it says itself.
    pub(super) steps: Vec<(String, f64)>,
}

impl ByHand {
    /// Installs its site; nothing runs behind it yet.
    pub(super) fn prepare(stage: &Stage, folder: &Path) -> Result<Self> {
        let bridge = stage.bridge();
        let local: IpAddr = [127, 0, 0, 1].into();
        let blue = SocketAddr::new(bridge, free_port(bridge)?);
        let green = SocketAddr::new(bridge, free_port(bridge)?);
        let site = SocketAddr::new(local, free_port(local)?);
        // nginx's workers look for the switch file below it.
        fs::create_dir_all(folder.join("traffic"))?;
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder))?;
        stage.nginx.install_site("by-hand", &site_text(folder, site, [blue, green]))?;
        let url = stage.postgres.url();
        let password = password_in(&url).context("PostgreSQL's URL has no password")?.to_owned();
        let programs = stage.postgres.programs().display();
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = vec![
            ("NAME", NAME.to_owned()),
            ("FOLDER", folder.display().to_string()),
            ("BLUE", blue.to_string()),
            ("GREEN", green.to_string()),
            ("SITE", site.to_string()),
            ("PGHOST", bridge.to_string()),
            ("PGPORT", stage.postgres.port().to_string()),
            ("PGUSER", "notes".to_owned()),
            ("PGDATABASE", "notes".to_owned()),
            ("PGPASSWORD", password),
            ("DATABASE_URL", url),
            ("PATH", format!("{programs}:{path}")),
        ];
        let by_hand = Self { docker: stage.docker, environment };
        by_hand.remove_containers()?;
        Ok(by_hand)
    }

    /// From the script's start to its end.
    pub(super) fn deploy(&self, image: &str) -> Result<Ran> {
        self.run(image)
    }

    /// As [`ByHand::deploy`], for the traffic alone.
    pub(super) fn back(&self) -> Result<Ran> {
        self.run("--back")
    }

    /// For other tools on the same database.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn run(&self, argument: &str) -> Result<Ran> {
        let mut command = Command::new(script());
        command.arg(argument).envs(self.environment());
        let begun = Instant::now();
        let said = run(&mut command)?;
        let took = begun.elapsed();
        let steps = said.lines().filter_map(|line| {
            let (step, seconds) = line.rsplit_once(' ')?;
            Some((step.to_owned(), seconds.parse().ok()?))
        });
        Ok(Ran { took, steps: steps.collect() })
    }

    fn remove_containers(&self) -> Result<()> {
        self.docker.remove_containers(&format!("by-hand={NAME}"))
    }
}

impl Drop for ByHand {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a benchmark that falls should say why it fell, not what it left"
    )]
    fn drop(&mut self) {
        let _ = self.remove_containers();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/deploy.sh")
}

/// The password of `postgres://user:password@host:port/database`.
fn password_in(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

/// What somebody writes who knows that a reload loses requests: both slots, and a file that picks one.
fn site_text(folder: &Path, site: SocketAddr, [blue, green]: [SocketAddr; 2]) -> String {
    let switch = folder.join("traffic/green");
    format!(
        "upstream by_hand_blue {{ server {blue} max_fails=0; keepalive 32; keepalive_timeout 2s; }}
upstream by_hand_green {{ server {green} max_fails=0; keepalive 32; keepalive_timeout 2s; }}
server {{
    listen {site};
    set $by_hand_slot by_hand_blue;
    if (-f {switch}) {{
        set $by_hand_slot by_hand_green;
    }}
    location / {{
        proxy_pass http://$by_hand_slot;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection '';
    }}
}}
",
        switch = switch.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_between_colon_and_at() {
        assert_eq!(password_in("postgres://notes:s3cret@172.17.0.1:5432/notes"), Some("s3cret"));
        assert_eq!(password_in("postgres://172.17.0.1/notes"), None);
    }
}
