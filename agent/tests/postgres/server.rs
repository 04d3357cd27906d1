//! A private PostgreSQL: one folder, one socket, no network, and nothing that has to survive.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockstep_agent::postgres::{Database, PgConnection, programs, run};
use lockstep_core::secret::Secret;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    directory: tempfile::TempDir,
    server: Child,
}

/// It does not run as root.
fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = accounts.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map_while(|field| field.parse().ok());
    Some((fields.next()?, fields.next()?))
}

fn program(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(programs(None).unwrap().join(name));
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

impl Server {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((user, group)) = account() {
            chown(root, Some(user), Some(group)).unwrap();
        }
        let data = root.join("data");
        let made = program("initdb", root)
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg("--pgdata")
            .arg(&data)
            .status();
        assert!(made.unwrap().success(), "initdb");
        let server = program("postgres", root)
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "jit=off", "-c"])
            .arg(format!("unix_socket_directories={}", root.display()))
            .spawn()
            .unwrap();
        let server = Self { directory, server };
        let begun = Instant::now();
        while server.try_connect("postgres").await.is_none() {
            assert!(begun.elapsed() < LIMIT, "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    /// Of a database, whose name is percent-encoded.
    pub(crate) fn url(&self, user: &str, database: &str) -> Secret {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        Secret::new(format!("postgres://{user}@{socket}/{database}"))
    }

    async fn try_connect(&self, user: &str) -> Option<PgConnection> {
        let url = self.url(user, "postgres");
        let environment = "notes/production".parse().unwrap();
        Database { environment: &environment, url: &url, url_from: "DATABASE_URL" }.connect("test").await.ok()
    }

    pub(crate) async fn connect(&self, user: &str) -> PgConnection {
        self.try_connect(user).await.unwrap()
    }

    /// As the superuser.
    pub(crate) async fn sql(&self, sql: &str) {
        run(&mut self.connect("postgres").await, sql.to_owned()).await.unwrap();
    }
}

impl Drop for Server {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        // At once: https://www.postgresql.org/docs/current/server-shutdown.html
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.server.id()).unwrap_or_default())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}
