//! `pg_hba.conf`: which hosts PostgreSQL lets in. A real server, and connections from several addresses.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::files::command_as;
use lockstep_tests::bed::program::process::built;
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::server::engine::Engine;
use lockstep_tests::bed::server::postgres::Postgres;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const LOOPBACK: &str = "127.0.0.1";

/// What PostgreSQL says to who comes as `notes` to `notes` from `source`, before any password.
#[derive(Debug, PartialEq, Eq)]
enum Knocked {
    AskedForPassword,
    KeptOut,
}

#[tokio::main(flavor = "current_thread")]
async fn knock(source: &str, server: SocketAddr) -> Result<Knocked> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse()?, 0))?;
    let mut stream = socket.connect(server).await?;
    // https://www.postgresql.org/docs/current/protocol-message-formats.html: StartupMessage, of version 3.0.
    let parameters = b"user\0notes\0database\0notes\0\0";
    let length = u32::try_from(parameters.len() + 8)?;
    let message = [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat();
    stream.write_all(&message).await?;
    match stream.read_u8().await? {
        b'R' => Ok(Knocked::AskedForPassword),
        _ => Ok(Knocked::KeptOut),
    }
}

/// A server whose administrator has these rules, and what is asked of its keeper.
struct HbaServer {
    postgres: Postgres,
    _directory: tempfile::TempDir,
}

const ADMINISTRATORS: &str = "# kept by hand\nhost all all 127.0.0.1/32 scram-sha-256  # me";

impl HbaServer {
    fn open() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let postgres = Postgres::start(&directory.path().join("postgres"), LOOPBACK.parse()?)?;
        postgres.lets_in(ADMINISTRATORS)?;
        Ok(Self { postgres, _directory: directory })
    }

    fn ask(&self, environment: &str, what: &Value) -> Result<Value> {
        let request = json!({
            "sockets": self.postgres.sockets(), "port": self.postgres.port(),
            "environment": environment, "what": what,
        });
        let mut keeper = command_as("postgres", &built("lockstep-agent")?);
        let answer = run_with_input(keeper.current_dir("/").arg("pg-hba"), &request.to_string())?;
        serde_json::from_str(&answer).with_context(|| format!("it said {answer}"))
    }

    /// The environment's lines are these.
    fn keep(&self, environment: &str, lines: &[Value]) -> Result<Value> {
        self.ask(environment, &json!({ "keep": { "lines": lines } }))
    }

    /// What the keeper refuses, in all its words; the file is as it was.
    fn refuses(&self, lines: &[Value]) -> Result<String> {
        let before = self.text()?;
        let answer = self.keep("notes/production", lines)?;
        let failed = answer.get("failed").with_context(|| format!("it is not refused: {answer}"))?;
        ensure!(self.text()? == before, "the file is not as it was: {}", self.text()?);
        Ok(failed.to_string())
    }

    fn look(&self, environment: &str, addresses: &[&str]) -> Result<Value> {
        let began = self.postgres.psql("SELECT extract(epoch FROM pg_postmaster_start_time())")?;
        let role = json!({ "database": "notes", "user": "notes", "transport": "any" });
        let look = json!({ "started_at": began.parse::<f64>()?, "role": role, "addresses": addresses });
        self.ask(environment, &json!({ "look": look }))
    }

    fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(self.postgres.rules_file())?)
    }

    fn knock(&self, source: &str) -> Result<Knocked> {
        knock(source, SocketAddr::new(LOOPBACK.parse()?, self.postgres.port()))
    }
}

fn line(host: &str, address: &str) -> Value {
    line_with(host, address, "any")
}

fn line_with(host: &str, address: &str, transport: &str) -> Value {
    let role = json!({ "database": "notes", "user": "notes", "transport": transport });
    json!({ "host": host, "address": address, "role": role })
}

/// What an upgrade of the file must not change, and a rename does.
fn identity(path: &Path) -> Result<((u32, u32, u32), u64)> {
    let file = fs::metadata(path)?;
    Ok(((file.uid(), file.gid(), file.mode()), file.ino()))
}

#[test]
fn a_host_is_let_in_by_a_line_of_its_own_and_kept_out_without() -> Result<()> {
    let server = HbaServer::open()?;
    let before = server.text()?;
    let (owner, number) = identity(&server.postgres.rules_file())?;
    ensure!(server.knock("127.0.0.31")? == Knocked::KeptOut, "the rules of this test let everybody in");

    let lines = [line("app-1", "127.0.0.31"), line("app-2", "127.0.0.32")];
    ensure!(server.keep("notes/production", &lines)?.get("kept").is_some());
    // Nothing is waited for: when it is done PostgreSQL goes by it.
    ensure!(server.knock("127.0.0.31")? == Knocked::AskedForPassword);
    ensure!(server.knock("127.0.0.32")? == Knocked::AskedForPassword);
    ensure!(server.knock("127.0.0.33")? == Knocked::KeptOut);
    ensure!(
        server.text()?.starts_with(&format!("{before}\n# BEGIN LOCKSTEP notes/production")),
        "{}",
        server.text()?
    );
    let (owner_then, number_then) = identity(&server.postgres.rules_file())?;
    ensure!(owner_then == owner, "owner or permissions have changed");
    ensure!(number_then != number, "it was written in place, where half of it can be read");

    ensure!(server.keep("notes/production", &lines)?.get("kept").is_some());
    ensure!(
        identity(&server.postgres.rules_file())?.1 == number_then,
        "nothing differed, and it was written"
    );
    let seen = server.look("notes/production", &["127.0.0.31", "127.0.0.33", LOOPBACK])?;
    ensure!(seen["seen"]["admitted"] == json!(["127.0.0.31", LOOPBACK]), "{seen}");
    ensure!(seen["seen"]["lines"] == json!(lines), "{seen}");
    let seen = server.look("notes/staging", &["127.0.0.31"])?;
    ensure!(seen["seen"]["lines"] == json!([]), "{seen}");

    // The way back is the lines that there were.
    ensure!(server.keep("notes/production", &lines[..1])?.get("kept").is_some());
    ensure!(server.knock("127.0.0.32")? == Knocked::KeptOut);
    ensure!(server.knock("127.0.0.31")? == Knocked::AskedForPassword);
    ensure!(server.keep("notes/production", &[])?.get("kept").is_some());
    ensure!(server.text()?.trim_end() == before, "{}", server.text()?);
    ensure!(server.knock("127.0.0.31")? == Knocked::KeptOut);
    Ok(())
}

#[test]
fn a_line_that_would_not_let_in_is_refused_and_put_back() -> Result<()> {
    let server = HbaServer::open()?;
    let wanted = [line("app-1", "127.0.0.31")];
    // An administrator's word goes before ours.
    server.postgres.lets_in("host notes all 127.0.0.0/8 reject\n")?;
    let said = server.refuses(&wanted)?;
    ensure!(said.contains("pg_hba.conf:2 comes before it"), "{said}");
    // PostgreSQL takes nothing of a file with a fault, and who goes goes all the same.
    server.postgres.lets_in(ADMINISTRATORS)?;
    ensure!(server.keep("notes/production", &wanted)?.get("kept").is_some());
    let with_fault = format!("{}host all all nowhere\n", server.text()?);
    fs::write(server.postgres.rules_file(), with_fault)?;
    let said = server.refuses(&[line("app-1", "127.0.0.31"), line("app-2", "127.0.0.32")])?;
    ensure!(said.contains("PostgreSQL rejects") && said.contains("pg_hba.conf:7"), "{said}");
    ensure!(server.keep("notes/production", &[])?.get("kept").is_some(), "an undo does not end");
    ensure!(!server.text()?.contains("LOCKSTEP") && server.text()?.contains("nowhere"));
    // The server has no TLS: the line is understood, and cannot apply.
    server.postgres.lets_in(ADMINISTRATORS)?;
    let said = server.refuses(&[line_with("app-1", "127.0.0.31", "tls")])?;
    ensure!(said.contains("PostgreSQL does not apply it"), "{said}");
    let said = server.refuses(&[line("app-1", "all")])?;
    ensure!(said.contains("cannot be written"), "{said}");
    server.postgres.psql("SET password_encryption = 'md5'; ALTER ROLE notes PASSWORD 'x'")?;
    let said = server.refuses(&wanted)?;
    ensure!(said.contains("MD5") && said.contains("password_encryption"), "{said}");
    ensure!(server.knock("127.0.0.31")? == Knocked::KeptOut);
    Ok(())
}

#[test]
fn environments_that_change_the_file_at_once_lose_nothing_of_each_other() -> Result<()> {
    let server = HbaServer::open()?;
    let environments: Vec<String> = (1..=6).map(|number| format!("app-{number}/production")).collect();
    thread::scope(|scope| {
        let kept: Vec<_> = environments
            .iter()
            .map(|environment| scope.spawn(|| server.keep(environment, &[line("app-1", "127.0.0.31")])))
            .collect();
        kept.into_iter().try_for_each(|kept| {
            let answer = kept.join().expect("it does not panic")?;
            ensure!(answer.get("kept").is_some(), "{answer}");
            Ok(())
        })
    })?;
    for environment in &environments {
        ensure!(server.text()?.contains(&format!("# END LOCKSTEP {environment}\n")), "{}", server.text()?);
    }
    Ok(())
}

/// As it is with an agent that systemd does not run; the fleet has one that it does.
#[test]
fn a_deployment_gives_its_host_a_line_and_takes_it_back_with_itself() -> Result<()> {
    let engine = Engine::start()?;
    let mut scene = Scene::open("let-in")?;
    scene.stage.add_host("app-2", engine.address, &engine.socket())?;
    let settings = scene.stage.directory.join("agent/agent.toml");
    let sockets = scene.stage.postgres.sockets();
    fs::write(&settings, format!("{}[postgres]\nsockets = {sockets:?}\n", fs::read_to_string(&settings)?))?;
    scene.stage.agent.stop()?;
    scene.stage.start_agent(&[])?;
    let connected =
        || Ok(scene.stage.json(&["host", "list"])?.to_string().matches("\"connected\"").count() == 2);
    until("both hosts are connected", SOON, connected)?;
    // Its own host, which migrates; and the containers of the second engine, which come with addresses of their own.
    let own = format!("host notes notes {}/32 scram-sha-256\n", own_address(&scene.stage.postgres)?);
    scene.stage.postgres.lets_in(&format!("{own}{}", around(engine.address)?))?;
    let before = fs::read_to_string(scene.stage.postgres.rules_file())?;
    let server = SocketAddr::new(scene.stage.bridge(), scene.stage.postgres.port());
    let knocked = || knock(&engine.address.to_string(), server);
    ensure!(knocked()? == Knocked::KeptOut, "the rules of this test let it in");

    let hosts = "required: [DATABASE_URL]\n    hosts: { app: [app-2], lb: [app-1], db: [app-1] }";
    let _declared = scene.declare("required: [DATABASE_URL]", hosts)?;
    let good = scene.stage.image("1", 1, &[])?;
    let bad = scene.stage.image("bad", 1, &[("NOTES_EXIT", "3")])?;
    let file = scene.stage.directory.join("images.tar").display().to_string();
    scene.stage.docker.docker(["save", "--output", &file, &good, &bad])?;
    engine.docker(&["load", "--input", &file])?;
    scene.stage.lockstep(&["secret", "import", ENVIRONMENT])?.expect_said(0, &[])?;
    let planned = scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", &good])?;
    planned.expect_said(0, &["PostgreSQL admits app-2 as notes to notes: adds 1 line to pg_hba.conf"])?;
    scene.deploy(&bad)?.expect_said(1, &["PostgreSQL has reloaded", "undo pg_hba"])?;
    scene.assert_verdict(Verdict::RolledBack)?;
    ensure!(fs::read_to_string(scene.stage.postgres.rules_file())?.trim_end() == before.trim_end());
    ensure!(knocked()? == Knocked::KeptOut);

    scene.deploy(&good)?.expect_said(0, &["succeeded", "PostgreSQL has reloaded"])?;
    ensure!(knocked()? == Knocked::AskedForPassword);
    let again = scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", &good])?.expect_said(0, &[])?;
    ensure!(!again.stdout.contains("pg_hba"), "its line is there:\n{}", again.stdout);
    Ok(())
}

/// As the server sees a connection of this machine: not each machine comes to itself as itself.
#[tokio::main(flavor = "current_thread")]
async fn own_address(postgres: &Postgres) -> Result<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    Ok(sqlx::query_scalar("SELECT host(inet_client_addr())").fetch_one(&mut connection).await?)
}

/// The rules for the next thirty addresses after this one, and not for it.
fn around(address: IpAddr) -> Result<String> {
    let IpAddr::V4(address) = address else { anyhow::bail!("{address} is not of the fourth version") };
    let [first, second, third, _] = address.octets();
    let rule = |(from, length): (u8, u8)| {
        format!("host notes notes {first}.{second}.{third}.{from}/{length} scram-sha-256\n")
    };
    Ok([(2, 31), (4, 30), (8, 29), (16, 28)].map(rule).concat())
}
