//! The test bed together: PostgreSQL, nginx, Docker, the example application and the load.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::time::Duration;

use anyhow::Result;
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::server::docker::{Docker, NotesContainer, NotesProcess, notes_directory};
use lockstep_tests::bed::server::nginx::Nginx;
use lockstep_tests::bed::server::postgres::Postgres;
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::{FailureKind, Load, Report, Settings};
use sqlx::Connection;

const LIMIT: Duration = Duration::from_secs(20);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Removes what the test has made in Docker, however it ends.
struct Made {
    docker: Docker,
    label: String,
    image: String,
}

impl Drop for Made {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a test that fails should say why, and not that cleaning up failed"
    )]
    fn drop(&mut self) {
        let _ = self.docker.remove_containers(&self.label);
        let _ = self.docker.remove_image(&self.image);
    }
}

fn apply_first_migration(postgres: &Postgres) -> Result<()> {
    let file = notes_directory().join("migrations/000001_create_notes.up.sql");
    let migration = fs::read_to_string(file)?;
    let record = "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);
         INSERT INTO schema_migrations VALUES (1, false);";
    postgres.psql(&format!("SET ROLE notes;\n{migration}\n{record}"))?;
    Ok(())
}

async fn run_until(load: &Load, requests: u64) -> Result<()> {
    tokio::task::block_in_place(|| {
        until("the load has sent its requests", LIMIT, || Ok(load.counts().requests >= requests))
    })
}

fn site(edge: SocketAddr, slot: SocketAddr) -> String {
    format!(
        "upstream notes {{ server {slot}; keepalive 16; }}
         server {{
             listen {edge};
             location / {{ proxy_pass http://notes; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
         }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_serves_through_nginx_from_its_database() -> Result<()> {
    let docker = Docker::check()?;
    let directory = tempfile::tempdir()?;
    let bridge = docker.bridge_address()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), bridge)?;
    apply_first_migration(&postgres)?;

    let name = format!("lockstep-bed-{}", process::id());
    let made = Made {
        docker,
        label: format!("lockstep.bed={name}"),
        image: format!("lockstep-bed-notes:{}", process::id()),
    };
    docker.build_notes(&made.image, 1, &[])?;
    let slot = SocketAddr::new(bridge, free_port(bridge)?);
    let web = NotesContainer {
        name: &name,
        image: &made.image,
        label: &made.label,
        database_url: &postgres.url(),
        runs: NotesProcess::Web { address: slot.ip(), port: slot.port() },
    };
    docker.start_notes(&web)?;
    let worker_name = format!("{name}-worker");
    docker.start_notes(&NotesContainer { name: &worker_name, runs: NotesProcess::Worker, ..web })?;

    let edge = SocketAddr::new(LOOPBACK, free_port(LOOPBACK)?);
    let nginx = Nginx::start(&directory.path().join("nginx"))?;
    nginx.install_site("notes", &site(edge, slot))?;
    until_it_answers(edge)?;

    let load = Load::start(Settings::notes(edge, 1000))?;
    run_until(&load, 1500).await?;
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    let version = process::id().to_string();
    assert_eq!(report.by_version.get(&version), Some(&report.requests));

    let notes: u64 = postgres.psql("SELECT count(*) FROM notes")?.parse()?;
    assert_eq!(notes, report.requests / 20, "every twentieth request is a note");
    until("the worker has done each job once", LIMIT, || {
        let done = postgres.psql("SELECT count(*) FROM jobs WHERE runs = 1 AND done_at IS NOT NULL")?;
        Ok(done.parse::<u64>()? == notes)
    })?;
    assert!(!docker.logs(&name)?.contains(&postgres.url()), "the password is in the log");

    assert_failures_are_seen(edge, &made).await
}

/// The same load, while what it asks is taken away: zero means something only
/// if this does not come out as zero.
async fn assert_failures_are_seen(edge: SocketAddr, made: &Made) -> Result<()> {
    let load = Load::start(Settings::notes(edge, 500))?;
    run_until(&load, 100).await?;
    made.docker.remove_containers(&made.label)?;
    let before = load.counts().requests;
    run_until(&load, before + 100).await?;
    let report: Report = load.stop().await;
    assert!(report.failed > 0);
    assert!(report.failures.iter().any(|failure| failure.kind == FailureKind::Status));
    assert!(made.docker.containers(&made.label)?.is_empty());
    Ok(())
}

fn until_it_answers(edge: SocketAddr) -> Result<()> {
    use std::io::{Read, Write};
    until("notes answers through nginx", LIMIT, || {
        let Ok(mut stream) = std::net::TcpStream::connect(edge) else {
            return Ok(false);
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    })
}

#[tokio::test]
async fn a_cluster_is_gone_when_it_is_dropped_and_starts_again_over_what_was_left() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().join("postgres");
    let postgres = Postgres::start(&place, LOOPBACK)?;
    let mut owner = sqlx::PgConnection::connect(&postgres.url()).await?;
    sqlx::query("CREATE TABLE t (n int)").execute(&mut owner).await?;
    let mut admin = sqlx::PgConnection::connect(&postgres.admin_url()).await?;
    sqlx::query("CREATE ROLE another").execute(&mut admin).await?;
    let wrong = postgres.url().replace("notes:", "notes:0");
    assert!(sqlx::PgConnection::connect(&wrong).await.is_err(), "any password is good enough");

    // As after an interrupt: nobody has stopped it.
    let url = postgres.url();
    std::mem::forget(postgres);
    let again = Postgres::start(&place, LOOPBACK)?;
    assert!(sqlx::PgConnection::connect(&url).await.is_err(), "the one before still runs");
    let tables = again.psql("SELECT count(*) FROM pg_tables WHERE tablename = 't'")?;
    assert_eq!(tables, "0");

    let url = again.url();
    drop(again);
    assert!(sqlx::PgConnection::connect(&url).await.is_err());
    assert!(!place.exists());
    Ok(())
}
