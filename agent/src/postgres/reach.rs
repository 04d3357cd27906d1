//! Starts the [`keeper`](super::keeper) as the user that the server runs as, and asks it.
//!
//! What must stay true: the agent needs no privilege for it. Under systemd the keeper is a transient unit with a
//! sandbox of its own, because no process can change its user inside the agent's sandbox.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lockstep_core::run::journal::StepFailure;
use lockstep_runtime::systemd::units::has_systemd;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::keeper::{Answer, KeeperOperation, Request};

/// How long it may take, for systemd too: what the agent does not wait for is not to go on.
const KEEP_LIMIT: Duration = Duration::from_secs(20);

/// A coordinator waits for a look at all that a host has, and a plan can do without this part of it.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// By which `lockstep-agent` is the keeper.
pub const COMMAND: &str = "pg-hba";

/// Where Debian's PostgreSQL listens.
const DEBIAN_SOCKETS: &str = "/run/postgresql";

/// PostgreSQL on this host, as far as it is to be asked whom it lets in.
pub struct Keeper {
    pub(super) sockets: PathBuf,
    /// As it was when the agent was started: an upgrade puts another file in its place.
    program: io::Result<PathBuf>,
}

impl Keeper {
    pub fn new(sockets: Option<PathBuf>) -> Self {
        Self { sockets: sockets.unwrap_or_else(|| DEBIAN_SOCKETS.into()), program: std::env::current_exe() }
    }

    /// Whether a server of this host listens at the port.
    pub fn has_server(&self, port: u16) -> bool {
        self.socket(port).exists()
    }

    fn socket(&self, port: u16) -> PathBuf {
        self.sockets.join(format!(".s.PGSQL.{port}"))
    }

    /// # Errors
    /// When it cannot be run, does not end in time, or cannot do it.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, StepFailure> {
        let limit = match request.what {
            KeeperOperation::Look(_) => LOOK_LIMIT,
            KeeperOperation::Keep { .. } => KEEP_LIMIT,
        };
        let answer = async {
            let socket = self.socket(request.port);
            let user = socket.metadata()?;
            let program = self.program.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
            let mut command = command(program, (user.uid(), user.gid()), limit);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn()?;
            let mut input = child.stdin.take().expect("it was asked for just above");
            input.write_all(&serde_json::to_vec(request)?).await?;
            drop(input);
            let output = child.wait_with_output().await?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::other(format!("it ended with {}: {said}", output.status)));
            }
            Ok(serde_json::from_slice(&output.stdout)?)
        };
        let helper_failed = |why: String| {
            StepFailure::new("cannot run the pg_hba.conf helper as the user that PostgreSQL runs as")
                .why(why)
                .next("under systemd this needs D-Bus: apt-get install dbus; or manage pg_hba.conf yourself: database.postgres.pg_hba: by_hand")
        };
        match timeout(limit, answer).await {
            Ok(Ok(Answer::Failed(failure))) => Err(failure),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(helper_failed(error.to_string())),
            Err(_) => Err(helper_failed(format!("no answer within {} s", limit.as_secs()))),
        }
    }
}

fn command(program: &Path, (uid, gid): (u32, u32), limit: Duration) -> Command {
    let own = rustix::process::geteuid();
    if own.as_raw() != uid && has_systemd() {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"]);
        command.arg("--description=Lockstep: manage pg_hba.conf").arg(format!("--uid={uid}"));
        command.arg(format!("--property=RuntimeMaxSec={}", limit.as_secs()));
        for property in SANDBOX {
            command.arg(format!("--property={property}"));
        }
        command.arg("--").arg(program).arg(COMMAND);
        return command;
    }
    // The file itself, wherever it is: its folder may be root's alone.
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).current_dir("/");
    if own.is_root() {
        command.uid(uid).gid(gid);
    }
    command
}

/// It reads and writes one file that its user may write, and speaks over one socket.
const SANDBOX: &[&str] = &[
    "CapabilityBoundingSet=",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateNetwork=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallFilter=@system-service",
];

/// Whether `name` is this machine: only an address of its own can be bound.
pub(super) fn is_local_address(name: &str) -> bool {
    let addresses = (name.trim_matches(['[', ']']), 0).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| addresses.any(|address| UdpSocket::bind(address).is_ok()))
}
