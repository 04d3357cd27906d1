//! Observes this host for a planner. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lockstep_core::id::Digest;
use lockstep_core::image::{self, ImageLookup, Login, RegistryName};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::DatabaseRef;
use lockstep_core::record::observed::{ContainerRunState, ImageObservation, Observation};
use lockstep_core::record::ports::SLOT_PORTS;
use lockstep_core::run::journal::StepFailure;

use super::{Executors, database};
use crate::docker::Image;
use crate::host::{clock, disk, sockets};
use crate::nginx::InstalledSite;
use crate::postgres;
use crate::postgres::schema::{self, SchemaTable};
use crate::postgres::{Database, HbaQuery};
use crate::session::secrets::SecretSet;

/// What to observe of an environment on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservationRequest {
    pub request: u64,
    pub environment: EnvironmentKey,
    pub image: Option<String>,
    pub lookup: ImageLookup,
    pub migrations_path: Option<String>,
    pub database: Option<DatabaseRef>,
    /// The addresses of app hosts. If the database is on this host, the observation says which of them PostgreSQL
    /// admits.
    pub addresses: Vec<String>,
}

/// The versions of the tools on this host. They are the same for every environment, and cost the start of two programs.
#[derive(Clone, Default)]
pub(super) struct Tools {
    versions: BTreeMap<String, String>,
    /// Why the version of Docker is unknown.
    problem: Option<String>,
}

impl Executors {
    /// Observes this host. What it cannot see is a problem in the observation and not an error: the rest is still
    /// useful.
    pub async fn observe(
        &self,
        request: &ObservationRequest,
        secrets: &SecretSet,
        login: Option<&Login>,
    ) -> Observation {
        let mut seen = Observation::default();
        self.observe_tools(&mut seen).await;
        let endpoints = self.observe_containers(request, &mut seen).await;
        self.observe_ports(&endpoints, &mut seen);
        self.observe_nginx(request, &mut seen).await;
        if let Some(reference) = &request.image {
            self.observe_image(request, (reference, login), &mut seen).await;
        }
        if let Some(reference) = &request.database {
            let observed = self
                .observe_database(request, database(&request.environment, secrets, reference), &mut seen)
                .await;
            if let Err(failure) = observed {
                seen.problems.push(match failure.why {
                    Some(why) => format!("{}: {why}", failure.what),
                    None => failure.what,
                });
            }
        }
        // What a driver or a tool says may quote what it was given.
        seen.redacted(&secrets.redactor).bounded()
    }

    async fn observe_database(
        &self,
        request: &ObservationRequest,
        database: Result<Database<'_>, StepFailure>,
        seen: &mut Observation,
    ) -> Result<(), StepFailure> {
        let database = database?;
        let mut connection = database.connect("observe").await?;
        let table = schema::read_table(&mut connection).await;
        let table = table.map_err(|error| super::database_failed("cannot read schema_migrations", &error))?;
        seen.schema = table.schema();
        if let SchemaTable::Foreign { because } = table {
            seen.foreign_schema = Some(because);
        }
        if !request.addresses.is_empty() {
            let query = HbaQuery { environment: &request.environment, addresses: &request.addresses };
            seen.admission = Some(self.keeper.query_hba(&database, &mut connection, query).await?);
        }
        Ok(())
    }

    async fn observe_tools(&self, seen: &mut Observation) {
        let Tools { versions, problem } = self.tools.find(self.find_tools()).await;
        seen.tools = versions;
        seen.problems.extend(problem);
        seen.disk_free_bytes = disk::free_bytes(Path::new(disk::WATCHED)).ok();
    }

    async fn find_tools(&self) -> Tools {
        let mut tools = Tools::default();
        match self.docker.version().await {
            Ok(version) => {
                tools.versions.insert("docker".to_owned(), version);
            }
            Err(error) => tools.problem = Some(format!("{error}: {}", error.detail())),
        }
        if let Some(version) = self.nginx.version().await {
            tools.versions.insert("nginx".to_owned(), version);
        }
        if let Some(programs) = postgres::programs(self.postgres_programs.as_deref())
            && let Some(version) = postgres::tool_version(&programs.join("pg_dump")).await
        {
            tools.versions.insert("pg_dump".to_owned(), version);
        }
        tools
    }

    /// The ports of the containers that run.
    async fn observe_containers(
        &self,
        request: &ObservationRequest,
        seen: &mut Observation,
    ) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        match self.docker.containers(Some(&request.environment)).await {
            Ok(containers) => {
                for mut container in containers {
                    match self.docker.recent_restarts(&container, clock::now()).await {
                        Ok(restarts) => container.seen.restarts = restarts,
                        Err(error) => seen.problems.push(format!("{error}: {}", error.detail())),
                    }
                    if container.seen.running == ContainerRunState::Yes {
                        ports.extend(container.endpoint.map(|(_, port)| port));
                    }
                    seen.containers.push(container.seen);
                }
            }
            Err(error) => seen.problems.push(format!("cannot list the containers: {}", error.detail())),
        }
        ports
    }

    /// Which ports no slot of this environment can get.
    fn observe_ports(&self, own: &BTreeSet<u16>, seen: &mut Observation) {
        let Ok(address) = self.address.parse() else { return };
        match sockets::listeners(address) {
            Ok(listeners) => {
                let ports = listeners.iter().map(|listener| listener.port);
                seen.ports_in_use =
                    ports.filter(|port| SLOT_PORTS.contains(port) && !own.contains(port)).collect();
            }
            Err(error) => seen.problems.push(format!("cannot read which ports are in use: {error}")),
        }
    }

    async fn observe_nginx(&self, request: &ObservationRequest, seen: &mut Observation) {
        match self.nginx.installed(&request.environment) {
            Ok(InstalledSite::Nothing) => {}
            Ok(InstalledSite::Ours(digest)) => {
                seen.not_served = self.nginx.not_served(&request.environment, &digest).await;
                seen.site = Some(digest);
                seen.traffic = Some(self.nginx.slot(&request.environment));
            }
            Ok(InstalledSite::Changed(change)) => {
                seen.traffic = Some(self.nginx.slot(&request.environment));
                seen.site_changed = Some(change);
            }
            Err(error) => seen.problems.push(format!("cannot read the nginx site: {error}")),
        }
        if seen.traffic.is_some()
            && let Err(failure) = self.nginx.master()
        {
            // That says it all.
            seen.not_served = None;
            seen.problems.push(format!(
                "{}, so nobody is served: {}",
                failure.what,
                failure.why.unwrap_or_default()
            ));
        }
    }

    /// The image of a name. If the name is one of a registry, the registry decides: a tag may have moved since this
    /// host pulled it. If the registry does not answer, the image on this host counts.
    async fn observe_image(
        &self,
        request: &ObservationRequest,
        (reference, login): (&str, Option<&Login>),
        seen: &mut Observation,
    ) {
        let is_id = reference.parse::<Digest>().is_ok();
        if request.lookup.is_registry()
            && !is_id
            && (RegistryName::named_by(reference).is_some() || login.is_some())
        {
            match self.docker.manifest(reference, login).await {
                Ok(manifest) => seen.manifest = Some(manifest),
                Err(error) => seen.problems.push(format!("{error}: {}", error.detail())),
            }
        }
        let pinned = seen.manifest.as_ref().map(|manifest| image::pinned(reference, manifest));
        let image = match self.docker.image(pinned.as_deref().unwrap_or(reference)).await {
            Ok(Some(image)) => image,
            Ok(None) => {
                seen.problems.push(format!("there is no image {reference} on this host"));
                return;
            }
            Err(error) => {
                seen.problems.push(format!("{error}: {}", error.detail()));
                return;
            }
        };
        let migrations = match &request.migrations_path {
            None => Vec::new(),
            Some(path) => match self.migration_files(&image.id, path).await {
                Ok(files) => files.migrations(),
                Err(failure) => {
                    // Without them it would look as if there were none.
                    seen.problems.push(format!("{}: {}", failure.what, failure.why.unwrap_or_default()));
                    return;
                }
            },
        };
        let Image { id, manifest, commit, size_bytes } = image;
        seen.image = Some(ImageObservation { id, manifest, commit, migrations, size_bytes });
    }
}
