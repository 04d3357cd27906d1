//! Checks what a deployment needs on this host, before anything starts. It changes nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;

use lockstep_core::plan::action::{Endpoint, Preflight, PreflightApp, PreflightDb, PreflightLb};
use lockstep_core::release::{Schema, SchemaState};
use lockstep_core::run::journal::{Finding, StepFailure};

use super::{Executors, Work, database_failed, docker_failed, finding};
use crate::host::{disk, sockets};
use crate::nginx::certificate;
use crate::postgres;
use crate::postgres::schema::{self, SchemaTable};
use crate::probe;

/// A snapshot may be larger than the files of the database: it needs half as much room again.
const ROOM_NUMERATOR: u64 = 3;
const ROOM_DENOMINATOR: u64 = 2;

impl Executors {
    pub(super) async fn preflight(&self, work: &Work, preflight: &Preflight) -> Result<Finding, StepFailure> {
        let mut finding = finding("all checks passed");
        if let Some(app) = &preflight.app {
            self.preflight_app(work, app).await?;
        }
        if let Some(lb) = &preflight.lb {
            self.preflight_lb(work, lb).await?;
        }
        if let Some(db) = &preflight.db {
            finding.said = self.preflight_db(work, db).await?;
        }
        Ok(finding)
    }

    async fn preflight_app(&self, work: &Work, app: &PreflightApp) -> Result<(), StepFailure> {
        let version = self.docker.version().await.map_err(docker_failed)?;
        work.output.line(&format!("Docker {version}"));
        for network in &app.networks {
            if self.docker.has_network(network).await.map_err(docker_failed)?.is_none() {
                return Err(StepFailure::new(format!("there is no Docker network {network}"))
                    .next(format!("docker network create {network}, or remove it from deployment.yml")));
            }
        }
        self.preflight_image(work, app).await?;
        let containers = self.docker.containers(None).await.map_err(docker_failed)?;
        for endpoint in &app.ports {
            let holder = containers.iter().find(|container| {
                container.endpoint.as_ref() == Some(&(endpoint.address.clone(), endpoint.port))
            });
            match holder {
                Some(container)
                    if container.environment == work.environment && container.seen.slot == app.slot => {}
                Some(container) => {
                    return Err(port_in_use(
                        endpoint,
                        &format!("the container {} uses it", container.seen.name),
                    ));
                }
                None => {
                    // Bound and given back: what listens there is not ours.
                    TcpListener::bind((endpoint.address.as_str(), endpoint.port))
                        .map_err(|error| port_in_use(endpoint, &in_use_by(endpoint, &error)))?;
                }
            }
        }
        Ok(())
    }

    async fn preflight_lb(&self, work: &Work, lb: &PreflightLb) -> Result<(), StepFailure> {
        let version = self.nginx.version().await.ok_or_else(|| {
            StepFailure::new("nginx is not installed")
                .next("apt-get install nginx, or set nginx.binary in agent.toml")
        })?;
        work.output.line(&format!("nginx {version}"));
        self.nginx.test().await?;
        self.nginx.master()?;
        if let Some(tls) = &lb.tls {
            certificate::check(tls)?;
            work.output.line(&format!("certificate and key match: {}", tls.certificate));
        }
        let installed = self
            .nginx
            .installed(&work.environment)
            .map_err(|error| StepFailure::new("cannot read the nginx site").why(error.to_string()))?;
        if installed == crate::nginx::InstalledSite::Nothing {
            let redirects = lb.tls.as_ref().and_then(|tls| tls.redirect_from);
            for port in [Some(lb.listen_port), redirects].into_iter().flatten() {
                self.refuse_used_port(port).await?;
            }
        }
        Ok(())
    }

    async fn refuse_used_port(&self, port: u16) -> Result<(), StepFailure> {
        if self.port_serves_nginx(port).await {
            return Ok(());
        }
        let endpoint = Endpoint { address: "0.0.0.0".to_owned(), port };
        TcpListener::bind(("0.0.0.0", port))
            .map_err(|error| port_in_use(&endpoint, &in_use_by(&endpoint, &error)))?;
        Ok(())
    }

    /// Whether nginx itself has the port already, for another site.
    async fn port_serves_nginx(&self, port: u16) -> bool {
        let request = probe::ProbeRequest {
            address: "127.0.0.1",
            port,
            // No host's name: nginx refuses it by itself, whatever applications there are behind it.
            host: "/",
            path: "/",
            header: None,
            // To who speaks plainly where TLS is meant, nginx says so by its name.
            scheme: probe::Scheme::Http,
            reads: probe::Reads::Headers,
            limit: std::time::Duration::from_secs(1),
        };
        let answered = probe::send_probe(&request).await;
        answered
            .headers
            .get("server")
            .and_then(|server| server.to_str().ok())
            .is_some_and(|server| server.starts_with("nginx"))
    }

    async fn preflight_db(&self, work: &Work, db: &PreflightDb) -> Result<String, StepFailure> {
        let database = work.database(&db.database)?;
        database.refuse_loopback()?;
        let mut connection = database.connect(&work.key.to_string()).await?;
        let query_failed = "cannot query the database";
        let (server, size) =
            postgres::server(&mut connection).await.map_err(|error| database_failed(query_failed, &error))?;
        let table = schema::read_table(&mut connection)
            .await
            .map_err(|error| database_failed(query_failed, &error))?;
        let schema = match table {
            SchemaTable::Absent => "no migrations applied yet".to_owned(),
            SchemaTable::Ours(Schema { version, state: SchemaState::Dirty }) => {
                return Err(super::migration::dirty(version));
            }
            SchemaTable::Ours(Schema { version, state: SchemaState::Clean }) => format!("schema {version}"),
            SchemaTable::Foreign { because } => {
                format!("schema_migrations belongs to another tool ({because})")
            }
        };
        let Some(directory) = &db.snapshot_directory else {
            return Ok(format!("PostgreSQL {server}, {schema}"));
        };
        self.refuse_old_tools(server).await?;
        refuse_full_disk(Path::new(directory), size)?;
        Ok(format!("PostgreSQL {server}, {schema}, room for a snapshot"))
    }

    async fn refuse_old_tools(&self, server: u32) -> Result<(), StepFailure> {
        let install =
            format!("apt-get install postgresql-client-{server}, or set postgres.binaries in agent.toml");
        let programs = postgres::programs(self.postgres_programs.as_deref())
            .ok_or_else(|| StepFailure::new("pg_dump is not installed").next(install.clone()))?;
        for tool in ["pg_dump", "pg_restore"] {
            let version = postgres::tool_version(&programs.join(tool)).await.ok_or_else(|| {
                StepFailure::new(format!("{tool} is not in {}", programs.display())).next(install.clone())
            })?;
            let major =
                version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or_default();
            if major < server {
                return Err(StepFailure::new(format!(
                    "{tool} {version} is older than the server, PostgreSQL {server}"
                ))
                .why(format!("{tool} does not work with a newer server"))
                .next(install));
            }
        }
        Ok(())
    }
}

/// Who has the port that could not be bound.
fn in_use_by(endpoint: &Endpoint, error: &io::Error) -> String {
    let address = endpoint.address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let listeners = sockets::listeners(address).unwrap_or_default();
    match listeners.iter().find(|listener| listener.port == endpoint.port) {
        Some(listener) => format!("{} listens there", listener.owner()),
        None => error.to_string(),
    }
}

fn port_in_use(endpoint: &Endpoint, why: &str) -> StepFailure {
    StepFailure::new(format!("port {} on {} is in use", endpoint.port, endpoint.address))
        .why(why.to_owned())
        .next(format!("ss --listening --tcp --processes sport = {}", endpoint.port))
}

fn refuse_full_disk(directory: &Path, database_bytes: u64) -> Result<(), StepFailure> {
    let there = directory.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let free = disk::free_bytes(there).map_err(|error| {
        StepFailure::new(format!("cannot read the free space of {}", there.display())).why(error.to_string())
    })?;
    let wanted = database_bytes / ROOM_DENOMINATOR * ROOM_NUMERATOR;
    if free >= wanted {
        return Ok(());
    }
    Err(StepFailure::new(format!("the disk of {} is too full for a snapshot", directory.display()))
        .why(format!(
            "{} MiB are free; a database of {} MiB needs {} MiB",
            mib(free),
            mib(database_bytes),
            mib(wanted)
        ))
        .next("free some space, or set database.snapshot.directory to a larger disk"))
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}
