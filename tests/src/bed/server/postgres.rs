//! A private PostgreSQL cluster with the role and the database `notes`.
//!
//! Durable as a real one (fsync is on). Over its socket whoever may enter the
//! directory is trusted; over TCP a password is asked for, of this machine and
//! of the networks it is in, which are those of its containers.

use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;

use crate::bed::files::{command_as, give_to, let_enter};
use crate::bed::ports::free_port;
use crate::bed::program::{run, run_with_input};
use crate::bed::wait::until;

const USER: &str = "postgres";
const INSTALLED: &str = "/usr/lib/postgresql";
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    address: IpAddr,
    port: u16,
    password: String,
    admin_password: String,
    server: Child,
}

impl Postgres {
    /// Whatever an interrupted run has left in the directory is stopped and
    /// removed first.
    pub fn start(directory: &Path, listen: IpAddr) -> anyhow::Result<Postgres> {
        let programs = newest_programs(Path::new(INSTALLED))?;
        remove_cluster(&programs, directory)?;
        for part in ["", "data", "socket"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let directory = directory.canonicalize()?;
        let admin_password = random_password()?;
        fs::write(directory.join("password"), &admin_password)?;
        give_to(USER, &directory)?;
        let_enter(USER, &directory)?;
        make_cluster(&programs, &directory)?;
        let port = free_port(listen)?;
        configure(&directory, listen, port)?;
        let server = start_server(&programs, &directory)?;
        let mut postgres = Postgres {
            programs,
            directory,
            address: listen,
            port,
            password: random_password()?,
            admin_password,
            server,
        };
        postgres.wait_until_it_answers()?;
        postgres.psql_in(
            USER,
            &format!(
                "CREATE ROLE notes LOGIN PASSWORD '{}';\nCREATE DATABASE notes OWNER notes;\n",
                postgres.password
            ),
        )?;
        Ok(postgres)
    }

    /// For the application: the owner of the database `notes`.
    pub fn url(&self) -> String {
        format!("postgres://notes:{}@{}:{}/notes", self.password, self.address, self.port)
    }

    /// For the superuser, in the database `postgres`.
    pub fn admin_url(&self) -> String {
        format!("postgres://{USER}:{}@{}:{}/{USER}", self.admin_password, self.address, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where `pg_dump` and its like are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The folder of its socket.
    pub fn sockets(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Whom it lets in.
    pub fn rules_file(&self) -> PathBuf {
        self.directory.join("data/pg_hba.conf")
    }

    /// Lets in whom these rules let in, and the superuser over its socket.
    ///
    /// # Errors
    /// When it does not take them.
    pub fn lets_in(&self, rules: &str) -> anyhow::Result<()> {
        fs::write(self.rules_file(), format!("local all all trust\n{rules}"))?;
        self.psql("SELECT pg_reload_conf()")?;
        Ok(())
    }

    pub fn log_file(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// Runs SQL as superuser in the database `notes`; a row is a line, and its
    /// columns are parted by `|`.
    pub fn psql(&self, sql: &str) -> anyhow::Result<String> {
        self.psql_in("notes", sql)
    }

    fn psql_in(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER])
            .arg("-h")
            .arg(self.directory.join("socket"))
            .args(["-p", &self.port.to_string(), "-d", database, "-f", "-"]);
        run_with_input(&mut command, sql)
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let log = self.log_file();
        let answers = until("PostgreSQL answers", START_LIMIT, || {
            if let Some(status) = self.server.try_wait()? {
                bail!("PostgreSQL ended with {status}");
            }
            Ok(self.psql_in(USER, "SELECT 1").is_ok())
        });
        answers.with_context(|| fs::read_to_string(log).unwrap_or_default())
    }
}

impl Drop for Postgres {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a test that fails should say why, and not that cleaning up failed"
    )]
    fn drop(&mut self) {
        let _ = remove_cluster(&self.programs, &self.directory);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The folder of the newest version's programs.
fn newest_programs(installed: &Path) -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir(installed)
        .with_context(|| format!("PostgreSQL is not in {}: run `make setup`", installed.display()))?;
    let newest = versions
        .filter_map(Result::ok)
        .filter(|version| version.path().join("bin/initdb").exists())
        .filter_map(|version| version.file_name().to_str()?.parse::<u32>().ok())
        .max();
    let Some(newest) = newest else {
        bail!("no PostgreSQL server is in {}: run `make setup`", installed.display());
    };
    Ok(installed.join(newest.to_string()).join("bin"))
}

fn make_cluster(programs: &Path, directory: &Path) -> anyhow::Result<()> {
    let password_file = directory.join("password");
    let mut initdb = command_as(USER, &programs.join("initdb"));
    initdb
        .current_dir(directory)
        .args(["--username", USER, "--encoding", "UTF8", "--locale", "C.UTF-8"])
        .args(["--auth-local", "trust", "--auth-host", "scram-sha-256"])
        // Only for making it: the server itself syncs.
        .arg("--no-sync")
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(directory.join("data"));
    run(&mut initdb)?;
    fs::remove_file(password_file)?;
    Ok(())
}

fn configure(directory: &Path, listen: IpAddr, port: u16) -> anyhow::Result<()> {
    let data = directory.join("data");
    let settings = format!(
        "listen_addresses = '{listen}'\nport = {port}\nunix_socket_directories = '{}'\n\
         unix_socket_permissions = 0700\nfsync = on\nmax_connections = 100\n\
         shared_buffers = 32MB\njit = off\n",
        directory.join("socket").display()
    );
    fs::write(data.join("postgresql.auto.conf"), settings)?;
    let access = "local all all trust\n\
                  host all all samehost scram-sha-256\n\
                  host all all samenet scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), access)?;
    give_to(USER, &data)
}

/// In the foreground, so that an interrupt from the terminal reaches it too.
fn start_server(programs: &Path, directory: &Path) -> anyhow::Result<Child> {
    let log = File::create(directory.join("postgres.log"))?;
    command_as(USER, &programs.join("postgres"))
        .current_dir(directory)
        .arg("-D")
        .arg(directory.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start postgres")
}

#[expect(
    clippy::let_underscore_must_use,
    reason = "stopping fails where the server is dead already and left its file behind"
)]
fn remove_cluster(programs: &Path, directory: &Path) -> anyhow::Result<()> {
    let data = directory.join("data");
    if data.join("postmaster.pid").exists() {
        let mut stop = command_as(USER, &programs.join("pg_ctl"));
        stop.current_dir("/").args(["stop", "-w", "-m", "immediate", "-D"]).arg(&data);
        let _ = run(&mut stop);
    }
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}
