//! A private etcd, of one member or of three, as Debian packages it: on loopback with ports, certificates
//! and data of its own, mutual TLS everywhere. A member can be killed, frozen and started again.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bed::ports::free_port;
use crate::bed::program::process::Process;
use crate::bed::program::{run, run_with_input};
use crate::bed::server::certificates::Certificates;
use crate::bed::wait::until;

const SERVER: &str = "etcd";
const CLIENT: &str = "etcdctl";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Three members share two cores with much else.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Short, so that a test need not wait long for a leader or for the end of a lease; long enough for a
/// machine that is busy.
const HEARTBEAT_MS: u32 = 100;
const ELECTION_MS: u32 = 1000;

/// How many members there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    One,
    Three,
}

pub struct Etcd {
    directory: PathBuf,
    pub certificates: Certificates,
    members: Vec<Member>,
}

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// Nothing while it is dead.
    process: Option<Process>,
}

impl Etcd {
    /// Starts all of it in `directory`, which is emptied first, and waits until it has a leader.
    ///
    /// # Errors
    /// When a member does not start.
    pub fn start(directory: &Path, members: Members) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        let certificates = Certificates::make(&directory.join("certificates"), "etcd")?;
        Self::start_with(directory, members, &certificates)
    }

    /// As [`Etcd::start`], in a directory that is empty or not there, with certificates of somebody's.
    ///
    /// # Errors
    /// When a member does not start.
    pub fn start_with(directory: &Path, members: Members, certificates: &Certificates) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let count = match members {
            Members::One => 1,
            Members::Three => 3,
        };
        let mut found = Vec::new();
        for number in 1..=count {
            let (client_port, peer_port) = (free_port(LOOPBACK)?, free_port(LOOPBACK)?);
            found.push(Member { name: format!("m{number}"), client_port, peer_port, process: None });
        }
        let mut etcd =
            Self { directory: directory.to_owned(), certificates: certificates.clone(), members: found };
        for at in 0..count {
            etcd.launch(at)?;
        }
        for at in 0..count {
            etcd.wait_for(at)?;
        }
        Ok(etcd)
    }

    /// Where clients reach the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// What stands in `coordinator.toml` for a coordinator that comes with these certificates.
    pub fn coordinator_settings(&self, certificates: &Certificates, prefix: &str) -> String {
        format!(
            "[store]\netcd = {{ endpoints = {:?}, ca = {:?}, certificate = {:?}, key = {:?}, prefix = {prefix:?} }}\n",
            self.endpoints(),
            self.certificates.authority,
            certificates.certificate,
            certificates.key
        )
    }

    /// The last lines of a member's log.
    pub fn log(&self, at: usize) -> String {
        self.members[at].process.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// As `kill -9`.
    ///
    /// # Errors
    /// When it is dead already.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        self.members[at].process.take().context("this member is dead")?.kill()
    }

    /// Starts a member that was killed, over its data, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn restart(&mut self, at: usize) -> Result<()> {
        self.launch(at)?;
        self.wait_for(at)
    }

    /// Starts a member that was killed, and does not wait: alone it does not serve.
    ///
    /// # Errors
    /// When it lives, or cannot be started.
    pub fn launch(&mut self, at: usize) -> Result<()> {
        ensure!(self.members[at].process.is_none(), "this member lives");
        let process =
            Process::start(&mut self.command(at), &self.directory.join(format!("m{}.log", at + 1)))?;
        self.members[at].process = Some(process);
        Ok(())
    }

    /// `SIGSTOP`: its connections stay open, and nobody answers on them.
    ///
    /// # Errors
    /// When it is dead.
    pub fn freeze(&self, at: usize) -> Result<()> {
        self.process(at)?.freeze()
    }

    /// `SIGCONT`.
    ///
    /// # Errors
    /// When it is dead.
    pub fn thaw(&self, at: usize) -> Result<()> {
        self.process(at)?.thaw()
    }

    /// The member that leads, of those that answer.
    ///
    /// # Errors
    /// When none does after a while.
    pub fn leader(&self) -> Result<usize> {
        let mut leader = None;
        until("etcd has a leader", READY_LIMIT, || {
            leader = (0..self.members.len()).find(|at| self.leads(*at).unwrap_or(false));
            Ok(leader.is_some())
        })?;
        leader.context("a leader was found")
    }

    /// Runs `etcdctl` against all members, as a client that they know.
    ///
    /// # Errors
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        run(self.client(&self.endpoints().join(",")).args(arguments))
    }

    /// Writes a value behind everybody's back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        run_with_input(self.client(&self.endpoints().join(",")).args(["put", key]), value)?;
        Ok(())
    }

    /// Writes a value that lives for `seconds`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_with_lease(&self, key: &str, seconds: &str) -> Result<()> {
        let granted: Value =
            serde_json::from_str(&self.control(&["lease", "grant", seconds, "--write-out", "json"])?)?;
        // etcd says it in decimal and reads it in hexadecimal.
        let lease = granted["ID"].as_i64().context("the answer has no lease")?;
        self.control(&["put", key, "there", "--lease", &format!("{lease:x}")])?;
        Ok(())
    }

    /// The latest revision.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn revision(&self) -> Result<u64> {
        let answer: Value = serde_json::from_str(&self.control(&["get", "none", "--write-out", "json"])?)?;
        answer["header"]["revision"].as_u64().context("the answer has no revision")
    }

    /// Forgets all history before this moment.
    ///
    /// # Errors
    /// When it is refused.
    pub fn compact(&self) -> Result<()> {
        let revision = self.revision()?.to_string();
        self.control(&["compact", &revision, "--physical=true"])?;
        Ok(())
    }

    fn leads(&self, at: usize) -> Result<bool> {
        let mut client = self.client(&self.members[at].endpoint());
        let said = run(client.args(["endpoint", "status", "--write-out", "json"]))?;
        let answer: Value = serde_json::from_str(&said)?;
        let status = &answer[0]["Status"];
        Ok(status["leader"].is_u64() && status["leader"] == status["header"]["member_id"])
    }

    fn process(&self, at: usize) -> Result<&Process> {
        self.members[at].process.as_ref().context("this member is dead")
    }

    fn wait_for(&mut self, at: usize) -> Result<()> {
        let mut client = self.client(&self.members[at].endpoint());
        client.args(["endpoint", "health"]);
        let process = self.members[at].process.as_mut().context("this member is dead")?;
        process.wait_until("an etcd member serves", READY_LIMIT, || Ok(run(&mut client).is_ok()))
    }

    fn client(&self, endpoints: &str) -> Command {
        let mut command = Command::new(CLIENT);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoints, "--dial-timeout", "2s", "--command-timeout", "5s"])
            .arg("--cacert")
            .arg(&self.certificates.authority)
            .arg("--cert")
            .arg(&self.certificates.certificate)
            .arg("--key")
            .arg(&self.certificates.key);
        command
    }

    fn command(&self, at: usize) -> Command {
        let member = &self.members[at];
        let (client, peer) = (member.endpoint(), member.peer());
        let all: Vec<String> =
            self.members.iter().map(|member| format!("{}={}", member.name, member.peer())).collect();
        let Certificates { authority, certificate, key } = &self.certificates;
        let mut command = Command::new(SERVER);
        command
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(self.directory.join(&member.name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--heartbeat-interval", &HEARTBEAT_MS.to_string()])
            .args(["--election-timeout", &ELECTION_MS.to_string()])
            .args(["--logger", "zap", "--log-level", "warn"]);
        for side in ["", "peer-"] {
            command
                .arg(format!("--{side}client-cert-auth"))
                .arg(format!("--{side}trusted-ca-file={}", authority.display()))
                .arg(format!("--{side}cert-file={}", certificate.display()))
                .arg(format!("--{side}key-file={}", key.display()));
        }
        command
    }
}

impl Member {
    fn endpoint(&self) -> String {
        format!("https://{LOOPBACK}:{}", self.client_port)
    }

    fn peer(&self) -> String {
        format!("https://{LOOPBACK}:{}", self.peer_port)
    }
}
