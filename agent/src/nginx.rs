//! nginx: its configuration files, its switch files and its running master.
//!
//! What must stay true: a switch is one rename or unlink and never a reload. A site is tested before it counts, and one
//! that fails is reverted, because a reboot uses the file on the disk. A reload counts only when nginx has answered
//! with the new configuration.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::HEXLOWER;
use hyper::HeaderMap;
use lockstep_core::health::Answer;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::Site;
use lockstep_core::record::observed::SiteChange;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::secret::redact::MASK;
use lockstep_core::slot::Slot;
use lockstep_runtime::durable;
use procfs::process::{ProcState, Process};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::journal::object_names::ObjectNames;
use crate::probe::{self, ProbeRequest, Reads};
use crate::program::settings::NginxSettings;

mod access_log;
mod additions;
pub mod certificate;
mod directives;
#[cfg(fuzzing)]
pub mod fuzzing;
mod requests;
mod revert;
pub mod site;
mod site_diff;
pub mod sizes;

use site::{Address, PROBE_HEADER, SITE_HEADER, STATUS_PATH, SitePaths};

/// How long a reload may take until nginx answers with the new configuration.
const RELOAD_LIMIT: Duration = Duration::from_secs(15);

/// The wait between two checks of a reload.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long nginx may take for its own answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

const SECRET_BYTES: usize = 12;

pub struct Nginx {
    settings: NginxSettings,
    /// The folder of the switch files, with one folder for each environment.
    traffic: PathBuf,
    object_names: ObjectNames,
    /// Held while the requests of an environment are counted: steps end at the same time.
    counting: Arc<Mutex<()>>,
}

/// The site of an environment on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstalledSite {
    Nothing,
    /// Unchanged since it was installed, from the site with this digest.
    Ours(Digest),
    Changed(SiteChange),
}

/// A site that is to be served.
#[derive(Debug, Clone, Copy)]
pub struct DesiredSite<'a> {
    /// The deployment whose undo may restore the previous site.
    pub deployment: &'a DeploymentId,
    pub site: &'a Site,
    /// The digest of a text changed by hand that the installation may overwrite.
    pub overwrites: Option<&'a Digest>,
}

/// The site before a deployment installed its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousSite {
    deployment: DeploymentId,
    /// The text of the site's file; `None` if there was no file.
    file: Option<String>,
    /// The text as it was installed. It differs from `file` if somebody changed the file by hand.
    installed: Option<String>,
    /// The slot that had the traffic, if the site was taken down: whoever installs one again begins with blue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

/// Whether the process runs. One that has ended and that nobody has waited for still has its number.
fn is_running(pid: Pid) -> bool {
    let state = Process::new(pid.as_raw_nonzero().get()).and_then(|process| process.stat()?.state());
    state.is_ok_and(|state| !matches!(state, ProcState::Zombie | ProcState::Dead))
}

/// The result of reverting a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteRevert {
    /// It was reverted with a reload of nginx.
    Yes,
    /// This deployment has changed nothing.
    Unchanged,
    /// The site was changed by hand, so the undo does not overwrite it.
    LeftAsChanged,
}

impl Nginx {
    pub fn new(settings: &NginxSettings, traffic: PathBuf, object_names: ObjectNames) -> Self {
        Self { settings: settings.clone(), traffic, object_names, counting: Arc::default() }
    }

    /// The version, such as `1.22.1`; `None` if nginx is not installed.
    pub async fn version(&self) -> Option<String> {
        let output = Command::new(&self.settings.binary).arg("-v").output().await.ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Some(text.trim().rsplit_once('/')?.1.split_whitespace().next()?.to_owned())
    }

    /// Tests the configuration on the disk.
    pub async fn test(&self) -> Result<(), StepFailure> {
        let configuration = &self.settings.configuration;
        let output =
            Command::new(&self.settings.binary).args(["-t", "-q", "-c"]).arg(configuration).output().await;
        let output = output.map_err(|error| {
            StepFailure::new(format!("cannot run {}", self.settings.binary.display()))
                .why(error.to_string())
                .next("apt-get install nginx, or set nginx.binary in agent.toml")
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(StepFailure::new("nginx rejects its configuration")
            .why(said.trim().to_owned())
            .next(format!("nginx -t -c {}", configuration.display())))
    }

    /// The running master.
    ///
    /// # Errors
    /// When nginx is not running.
    pub fn master(&self) -> Result<Pid, StepFailure> {
        let file = self.pid_file();
        let pid = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .and_then(Pid::from_raw)
            .filter(|pid| is_running(*pid));
        pid.ok_or_else(|| {
            StepFailure::new("nginx is not running")
                .why(format!("{} does not name a running process", file.display()))
                .next("systemctl start nginx")
        })
    }

    /// The pid file in the configuration, otherwise Debian's.
    fn pid_file(&self) -> PathBuf {
        let text = std::fs::read_to_string(&self.settings.configuration).unwrap_or_default();
        let named = text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("pid ")?;
            Some(PathBuf::from(rest.trim().trim_end_matches(';').trim()))
        });
        named.unwrap_or_else(|| PathBuf::from("/run/nginx.pid"))
    }

    fn site_file(&self, environment: &EnvironmentKey) -> PathBuf {
        self.settings.sites.join(format!("lockstep-{}.conf", self.object_names.of(environment)))
    }

    fn additions(&self, environment: &EnvironmentKey) -> PathBuf {
        self.settings.sites.join(format!("lockstep-{}.d", self.object_names.of(environment)))
    }

    fn folder(&self, environment: &EnvironmentKey) -> PathBuf {
        self.traffic.join(self.object_names.of(environment).as_str())
    }

    fn switch_file(&self, environment: &EnvironmentKey) -> PathBuf {
        self.folder(environment).join("green")
    }

    fn access_log(&self, environment: &EnvironmentKey) -> PathBuf {
        self.settings.logs.join(format!("lockstep-{}.access.log", self.object_names.of(environment)))
    }

    /// How far the requests of the last deployment are counted.
    fn count_file(&self, environment: &EnvironmentKey) -> PathBuf {
        self.folder(environment).join("requests.json")
    }

    /// Where earlier versions counted lost requests.
    fn lost_log(&self, environment: &EnvironmentKey) -> PathBuf {
        self.folder(environment).join("lost.log")
    }

    /// A copy of the installed text, to detect changes by hand.
    fn installed_copy(&self, environment: &EnvironmentKey) -> PathBuf {
        self.folder(environment).join("site.installed")
    }

    /// A copy of the site before the last installation.
    fn previous_copy(&self, environment: &EnvironmentKey) -> PathBuf {
        self.folder(environment).join("site.previous")
    }

    /// The slot that every new request goes to.
    pub fn slot(&self, environment: &EnvironmentKey) -> Slot {
        if self.switch_file(environment).exists() { Slot::Green } else { Slot::Blue }
    }

    /// Sends every new request to `slot`: one rename or unlink, durable.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn switch(&self, environment: &EnvironmentKey, slot: Slot) -> io::Result<()> {
        let file = self.switch_file(environment);
        match slot {
            Slot::Green => durable::write(&file, "", 0o644),
            Slot::Blue => durable::remove(&file),
        }
    }

    /// The site on the disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn installed(&self, environment: &EnvironmentKey) -> io::Result<InstalledSite> {
        let Some(text) = durable::read(&self.site_file(environment))? else {
            return Ok(InstalledSite::Nothing);
        };
        let previous =
            self.previous_site(environment)?.filter(|previous| previous.file.as_ref() == Some(&text));
        let copy = match previous {
            // Killed between the copy and the file, it stands as it did before.
            Some(previous) => previous.installed,
            None => durable::read(&self.installed_copy(environment))?,
        };
        match site::digest_of(&text) {
            Some(digest) if copy.as_ref() == Some(&text) => Ok(InstalledSite::Ours(digest)),
            Some(_) | None => {
                let secret = durable::read(&self.secret_file())?;
                Ok(InstalledSite::Changed(site_diff::change(copy.as_deref(), &text, secret.as_deref())))
            }
        }
    }

    /// Installs a site and reloads nginx. A text that was changed by hand is overwritten only if the plan names its
    /// digest.
    ///
    /// # Errors
    /// When nginx rejects the site. The previous one is restored then.
    pub async fn install(
        &self,
        environment: &EnvironmentKey,
        wanted: &DesiredSite<'_>,
    ) -> Result<Reloaded, StepFailure> {
        let site = wanted.site;
        let text = self.render(environment, site).map_err(|error| failed(environment, &error))?;
        match self.installed(environment).map_err(|error| failed(environment, &error))? {
            InstalledSite::Ours(digest) if digest == site.digest() => {
                // Perhaps installed by this very step before the agent was killed: see that it is served.
                self.wait_until_served(environment, site).await?;
                let saved = self.previous_site(environment).map_err(|error| failed(environment, &error))?;
                return Ok(match saved {
                    Some(previous) if previous.deployment == *wanted.deployment => Reloaded::Yes,
                    Some(_) | None => Reloaded::No,
                });
            }
            InstalledSite::Changed(change) if wanted.overwrites != Some(&change.there) => {
                return Err(self.changed_by_hand(environment, &change));
            }
            InstalledSite::Nothing | InstalledSite::Ours(_) | InstalledSite::Changed(_) => {}
        }
        self.master()?;
        let previous = self
            .save_previous_site(environment, wanted.deployment, None)
            .map_err(|error| failed(environment, &error))?;
        self.write_site(environment, &text).map_err(|error| failed(environment, &error))?;
        if let Err(failure) = self.reload(environment, site).await {
            self.restore_previous_site(environment, &previous)
                .map_err(|error| failed(environment, &error))?;
            self.signal()?;
            return Err(failure);
        }
        durable::remove(&self.lost_log(environment)).map_err(|error| failed(environment, &error))?;
        Ok(Reloaded::Yes)
    }

    fn changed_by_hand(&self, environment: &EnvironmentKey, change: &SiteChange) -> StepFailure {
        let file = self.site_file(environment);
        StepFailure::new(format!("the site of {environment} was changed by hand"))
            .why(format!("{}: {change}; it is overwritten only with --overwrite-site", file.display()))
            .next(format!(
                "lockstep doctor {environment}    # shows the change\n\
                 lockstep deploy {environment} --image IMAGE --overwrite-site    # once it is moved into {}",
                self.additions(environment).display()
            ))
    }

    fn render(&self, environment: &EnvironmentKey, site: &Site) -> io::Result<String> {
        let secret = self.probe_secret()?;
        let (switch, log) = (self.switch_file(environment), self.access_log(environment));
        let additions = self.additions(environment);
        let configuration = self.settings.configuration.as_path();
        let proxy_params = configuration.with_file_name("proxy_params");
        let proxy_params = proxy_params.is_file().then_some(proxy_params.as_path());
        let sizes =
            sizes::choose_sizes(&sizes::SizeSources { configuration, proxy_params, additions: &additions })?;
        let places = SitePaths {
            switch: &switch,
            access_log: &log,
            additions: &additions,
            proxy_params,
            sizes,
            probe_secret: &secret,
        };
        Ok(site::render(environment, site, &places))
    }

    fn previous_site(&self, environment: &EnvironmentKey) -> io::Result<Option<PreviousSite>> {
        let Some(text) = durable::read(&self.previous_copy(environment))? else { return Ok(None) };
        // What cannot be read was not written by an installation that could still be taken back.
        Ok(serde_json::from_str(&text).ok())
    }

    /// Saves the current site, once for a deployment: a step that runs again would find its own site there.
    fn save_previous_site(
        &self,
        environment: &EnvironmentKey,
        deployment: &DeploymentId,
        slot: Option<Slot>,
    ) -> io::Result<PreviousSite> {
        make_open(&self.traffic)?;
        make_open(&self.folder(environment))?;
        additions::make(&self.additions(environment))?;
        if let Some(previous) =
            self.previous_site(environment)?.filter(|previous| previous.deployment == *deployment)
        {
            return Ok(previous);
        }
        let file = durable::read(&self.site_file(environment))?;
        let installed = durable::read(&self.installed_copy(environment))?;
        let previous = PreviousSite { deployment: deployment.clone(), file, installed, slot };
        let json = serde_json::to_string(&previous).map_err(io::Error::other)?;
        durable::write(&self.previous_copy(environment), &json, 0o600)?;
        Ok(previous)
    }

    /// Writes the file, then the copy. After a crash in between, the file is recognised as the previous one.
    fn restore_previous_site(&self, environment: &EnvironmentKey, previous: &PreviousSite) -> io::Result<()> {
        if let Some(slot) = previous.slot {
            self.switch(environment, slot)?;
        }
        let Some(text) = &previous.file else { return self.remove_site(environment) };
        durable::write(&self.site_file(environment), text, 0o600)?;
        let copy = self.installed_copy(environment);
        match &previous.installed {
            Some(installed) => durable::write(&copy, installed, 0o600),
            None => durable::remove(&copy),
        }
    }

    /// Writes the copy, then the file. After a crash in between, the file is recognised from the saved previous site.
    fn write_site(&self, environment: &EnvironmentKey, text: &str) -> io::Result<()> {
        durable::write(&self.installed_copy(environment), text, 0o600)?;
        durable::write(&self.site_file(environment), text, 0o600)
    }

    fn remove_site(&self, environment: &EnvironmentKey) -> io::Result<()> {
        durable::remove(&self.site_file(environment))?;
        durable::remove(&self.installed_copy(environment))
    }

    /// What is answered for the installed site of this digest, where it is not nginx with that site: another site may have
    /// its name and port, or nginx may not have read it.
    pub async fn not_served(&self, environment: &EnvironmentKey, installed: &Digest) -> Option<String> {
        let at = self.address(environment)?;
        let answered = self.query_status(&at).await.ok()?;
        let served = answering_site(&answered.headers);
        if served == Some(installed.short()) {
            return None;
        }
        let Address { server_name, port, .. } = &at;
        Some(match (served, answered.probe.answer) {
            (Some(other), _) => format!(
                "{server_name} on port {port} is answered from another site of Lockstep, {other}: nginx did not read this one"
            ),
            // Of what the other answers, no word is repeated.
            (None, Answer::Http { status, .. }) => format!(
                "{server_name} on port {port} is not answered from its site, but with {status}: nginx -T shows whether another site has that name"
            ),
            (None, Answer::Nothing { why }) => format!("{server_name} on port {port} is not answered: {why}"),
        })
    }

    async fn reload(&self, environment: &EnvironmentKey, site: &Site) -> Result<(), StepFailure> {
        self.test().await?;
        self.signal()?;
        self.wait_until_served(environment, site).await
    }

    fn signal(&self) -> Result<(), StepFailure> {
        rustix::process::kill_process(self.master()?, Signal::HUP)
            .map_err(|error| StepFailure::new("cannot signal nginx to reload").why(error.to_string()))
    }

    /// Waits until nginx itself answers with this site: nginx does not report a reload that it refuses. The application
    /// is not asked, because its answers say nothing about the site.
    async fn wait_until_served(&self, environment: &EnvironmentKey, site: &Site) -> Result<(), StepFailure> {
        let wanted = site.digest();
        let at = Address::of_site(site);
        let begun = Instant::now();
        loop {
            let answered = self.query_status(&at).await.map_err(|error| failed(environment, &error))?;
            let served = answering_site(&answered.headers);
            if served == Some(wanted.short()) {
                return Ok(());
            }
            if begun.elapsed() > RELOAD_LIMIT {
                let failure = StepFailure::new(format!("nginx does not serve the new site of {environment}"));
                let port = site.listen_port;
                return Err(match served {
                    Some(other) => failure
                        .why(format!("port {port} serves the site {other}, and not {}", wanted.short()))
                        .next("read nginx's error log: it may have refused to reload; nginx -T shows whether another site has the same name and port"),
                    None => failure
                        .why(format!("port {port} answered: {}", answered.probe))
                        .next("read nginx's error log: another program may use the port"),
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Probes an application through nginx, with the header that makes nginx report the endpoint. The body is not read.
    ///
    /// # Errors
    /// When the secret of that header cannot be read.
    pub async fn ask(&self, at: &Address, path: &str, limit: Duration) -> io::Result<probe::ProbeAnswer> {
        self.send_probe(at, path, (Reads::Headers, limit)).await
    }

    /// Queries nginx's own status: its counters, and in a header the site that it serves.
    async fn query_status(&self, at: &Address) -> io::Result<probe::ProbeAnswer> {
        let path = format!("{STATUS_PATH}{}", self.probe_secret()?);
        self.send_probe(at, &path, (Reads::Body, ANSWER_LIMIT)).await
    }

    async fn send_probe(
        &self,
        at: &Address,
        path: &str,
        (reads, limit): (Reads, Duration),
    ) -> io::Result<probe::ProbeAnswer> {
        let secret = self.probe_secret()?;
        let request = ProbeRequest {
            address: "127.0.0.1",
            port: at.port,
            host: &at.server_name,
            path,
            header: Some((PROBE_HEADER, &secret)),
            scheme: at.scheme,
            reads,
            limit,
        };
        let mut answered = probe::send_probe(&request).await;
        // What listens there may be something else, and pages of errors show what was asked for.
        if let Answer::Http { body, .. } = &mut answered.probe.answer {
            *body = body.replace(&secret, MASK);
        }
        Ok(answered)
    }

    /// The address of the installed site; `None` if there is none.
    pub fn address(&self, environment: &EnvironmentKey) -> Option<Address> {
        site::address_of(&durable::read(&self.installed_copy(environment)).ok()??)
    }

    fn secret_file(&self) -> PathBuf {
        self.traffic.join("probe.secret")
    }

    /// Created once for this host. Without the secret anybody could ask for the ports behind nginx.
    fn probe_secret(&self) -> io::Result<String> {
        let file = self.secret_file();
        if let Some(secret) = durable::read(&file)? {
            return Ok(secret);
        }
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let secret = HEXLOWER.encode(&bytes);
        make_open(&self.traffic)?;
        durable::write(&file, &secret, 0o600)?;
        Ok(secret)
    }
}

/// The site that nginx answered from, by the short digest in its header. Anything else there is not from nginx.
fn answering_site(headers: &HeaderMap) -> Option<&str> {
    headers.get(SITE_HEADER)?.to_str().ok().filter(|site| Digest::is_short(site))
}

/// Whether a deployment's installation reloaded nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    Yes,
    No,
}

fn failed(environment: &EnvironmentKey, error: &io::Error) -> StepFailure {
    StepFailure::new(format!("cannot use the site files of {environment}")).why(error.to_string())
}

/// Creates a folder that nginx's workers can enter.
fn make_open(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_digest_is_not_repeated() {
        let site = |value: &str| {
            let headers = HeaderMap::from_iter([(SITE_HEADER.parse().unwrap(), value.parse().unwrap())]);
            answering_site(&headers).map(str::to_owned)
        };
        assert_eq!(site("0a1b2c3").as_deref(), Some("0a1b2c3"));
        // Another program may answer with what it was asked for, which has the secret in it.
        for other in ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "/.lockstep-status-0f1e2d3", "unknown", ""] {
            assert_eq!(site(other), None, "{other}");
        }
    }
}
