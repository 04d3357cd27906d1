//! Collects everything that a planner needs: the recorded state and what the hosts report.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::host::Host;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::image::{ImageLookup, RegistryName};
use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::Record;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::observed::Observation;
use lockstep_core::record::ports::PortTable;
use lockstep_core::release::{Schema, SchemaState};
use lockstep_core::spec::{EnvironmentSpec, HostRoles, PgHba};

use super::DeployError;
use super::grants::Authority;
use super::ports::{self, Proposal, propose};
use crate::context::Context;
use crate::ports::agents::{AgentError, DatabaseObservation, ObservationRequest};
use crate::record::{environments, history, hosts, pending_undos};
use crate::store::{Store, StoreError, Stored, keys};

/// A record, and what its guards need when a plan from it is started.
pub(super) struct PlanningInput {
    pub(super) record: Record,
    pub(super) ports: Proposal,
    pub(super) ports_seen: Option<Stored>,
    /// What was given up of the ports, for people.
    pub(super) port_warnings: Vec<String>,
}

/// What a deployment wants looked at, beside what is always looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct PlanningTarget {
    pub(super) image: Option<String>,
    pub(super) on: TargetHosts,
}

/// Which hosts the plan needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum TargetHosts {
    /// Those that the declaration names, without those that were drained.
    #[default]
    Declared,
    /// Those that serve, whatever was declared since.
    Live,
    /// This one, the load balancer and the database's host, which may be away; the others are not asked.
    Coming(HostName),
    /// This one, which may be away, and the load balancer.
    Going(HostName),
    /// The same, and the database's host, which may be away too.
    Leaving(HostName),
}

impl TargetHosts {
    fn host(&self) -> Option<&HostName> {
        match self {
            Self::Declared | Self::Live => None,
            Self::Coming(host) | Self::Going(host) | Self::Leaving(host) => Some(host),
        }
    }

    /// Who does what, given what is live.
    fn roles(&self, declared: &HostRoles, live: Option<&LiveRelease>) -> HostRoles {
        let mut roles = match (self, live) {
            (Self::Declared, _) | (_, None) => declared.clone(),
            (Self::Live | Self::Coming(_) | Self::Going(_) | Self::Leaving(_), Some(live)) => live.roles(),
        };
        roles.app.retain(|name| *self != Self::Declared || !live.is_some_and(|live| live.is_drained(name)));
        if let Self::Coming(host) = self
            && !roles.app.contains(host)
        {
            roles.app.push(host.clone());
        }
        roles
    }
}

/// The record of `spec`'s environment, with what hosts report as far as it is looked at for who has this `authority`.
pub(super) async fn gather_planning_input(
    context: &Context,
    spec: &EnvironmentSpec,
    wanted: &PlanningTarget,
    authority: Authority,
) -> Result<PlanningInput, DeployError> {
    let store = &*context.store;
    let key = &spec.key;
    let (live, history, all, seen, undos) = tokio::try_join!(
        environments::live(store, key),
        history::ended(store, key, history::HISTORY_FOR_PLANS),
        hosts::list(store),
        environments::ports(store, key),
        pending_undos::list(store),
    )?;
    let images = history.iter().map(|summary| &summary.release.image_id).collect();
    let kept_elsewhere = context.kept_images.elsewhere(store, key, &images, context.clock.now()).await?;
    let secrets = context.secrets.summary(key).await.map_err(DeployError::Secrets)?;
    let placed = HostPlacement::place(&wanted.on, spec, live.as_ref(), all);
    let (ports_seen, mut table) = match seen {
        Some(seen) => (Some(seen.stored), seen.content),
        None => (None, PortTable::default()),
    };
    let app = placed.app();
    // A host that comes or goes has to do with what is live, and with the secrets of that.
    let of_live = live.as_ref().filter(|_| wanted.on.host().is_some()).and_then(|live| live.secrets_version);
    let secrets_version = of_live.or(secrets.as_ref().map(|secrets| secrets.version));
    let observing = Observing { context, spec, placed: &placed, secrets_version, wanted, authority };
    let mut observed = observing.observe().await?;
    observing.fetch(&mut observed).await?;
    if authority == Authority::Reader {
        observing.assume(&mut observed, live.as_ref());
    }
    let port_warnings = ports::give_up_used(&mut table, &app, &observed, live.as_ref().map(|live| live.slot));
    let mut taken = taken_ports(context, spec, (&app, &observed), &table).await?;
    let proposal = propose(context.cluster.as_str(), spec, &app, table, &mut taken)?;
    let record = Record {
        key: key.clone(),
        usual: history::usual_durations(&history),
        live,
        history,
        hosts: placed.hosts,
        ports: proposal.table.clone(),
        secrets,
        observed,
        kept_elsewhere,
        hosts_with_pending_undos: undos
            .into_iter()
            .filter(|undo| undo.environment == *key)
            .map(|undo| undo.host)
            .collect(),
    };
    Ok(PlanningInput { record, ports: proposal, ports_seen, port_warnings })
}

/// The app hosts that the next deployment of `spec` is for.
pub(super) async fn app_hosts(store: &dyn Store, spec: &EnvironmentSpec) -> Result<Vec<Host>, StoreError> {
    let (live, all) = tokio::try_join!(environments::live(store, &spec.key), hosts::list(store))?;
    let placed = HostPlacement::place(&TargetHosts::Declared, spec, live.as_ref(), all);
    Ok(placed.app().into_iter().cloned().collect())
}

/// The hosts of an environment. Where it is not said which they are, the planner refuses.
struct HostPlacement {
    hosts: Vec<Host>,
    app: Vec<HostId>,
    db: Option<HostId>,
    /// Those that are looked at.
    asked: BTreeSet<HostId>,
    /// Those of them that may be offline: the plan is possible without them, or refused with a better reason.
    may_be_away: BTreeSet<HostId>,
}

impl HostPlacement {
    /// The hosts that a plan has to do with: those that were or are to be served from among them.
    fn place(on: &TargetHosts, spec: &EnvironmentSpec, live: Option<&LiveRelease>, all: Vec<Host>) -> Self {
        let roles = on.roles(&spec.hosts, live);
        let find = |name: &HostName| all.iter().find(|host| host.name == *name).map(|host| host.id.clone());
        if roles.app.is_empty() {
            return match all.as_slice() {
                [only] => {
                    let id = only.id.clone();
                    let (app, asked) = (vec![id.clone()], [id.clone()].into());
                    Self { app, db: Some(id), asked, may_be_away: BTreeSet::new(), hosts: all }
                }
                [] | [_, _, ..] => Self::no_hosts(all),
            };
        }
        let named: BTreeSet<&HostName> = roles.app.iter().chain(&roles.lb).chain(&roles.db).collect();
        if named.iter().any(|name| find(name).is_none()) {
            return Self::no_hosts(all);
        }
        let app: Vec<HostId> = roles.app.iter().filter_map(find).collect();
        let first = |names: &[HostName]| names.first().and_then(find).or_else(|| app.first().cloned());
        let (lb, db) = (first(&roles.lb), first(&roles.db));
        let needs = |hosts: &[&Option<HostId>]| hosts.iter().copied().flatten().cloned().collect();
        // Each time those without which there is no plan, those that are asked beside them, and those who may be away.
        let (needed, beside, away): (BTreeSet<HostId>, Vec<HostId>, Vec<HostId>) = match on {
            TargetHosts::Declared if spec.deploy.quorum.is_some() => {
                (needs(&[&lb, &db]), app.clone(), app.clone())
            }
            TargetHosts::Declared | TargetHosts::Live => (needs(&[&lb, &db]), app.clone(), Vec::new()),
            TargetHosts::Coming(host) => (needs(&[&lb, &find(host)]), Vec::new(), needs_admission(spec, &db)),
            TargetHosts::Going(host) => (needs(&[&lb]), Vec::new(), find(host).into_iter().collect()),
            TargetHosts::Leaving(host) => (
                needs(&[&lb]),
                Vec::new(),
                find(host).into_iter().chain(needs_admission(spec, &db)).collect(),
            ),
        };
        let asked = needed.iter().cloned().chain(beside).chain(away.clone()).collect();
        let may_be_away = away.into_iter().filter(|host| !needed.contains(host)).collect();
        // Hosts that other environments use are no part of this one's plan, and not of its hash.
        let is_ours = |host: &&Host| {
            let serves = live.is_some_and(|live| live.serving.contains(&host.name));
            named.contains(&host.name) || serves || on.host() == Some(&host.name)
        };
        let hosts = all.iter().filter(is_ours).cloned().collect();
        Self { app, db, asked, may_be_away, hosts }
    }

    fn no_hosts(all: Vec<Host>) -> Self {
        let (asked, may_be_away) = (BTreeSet::new(), BTreeSet::new());
        Self { hosts: all, app: Vec::new(), db: None, asked, may_be_away }
    }

    /// Of the app hosts and the one that the plan is about, but for the database's own host.
    fn addresses(&self, db: &Host, about: Option<&HostName>) -> Vec<String> {
        let is_meant = |host: &&Host| self.app.contains(&host.id) || about == Some(&host.name);
        let others = self.hosts.iter().filter(is_meant).filter(|host| host.id != db.id);
        others.map(|host| host.address.clone()).collect()
    }

    fn app(&self) -> Vec<&Host> {
        self.hosts.iter().filter(|host| self.app.contains(&host.id)).collect()
    }
}

/// The database's host, where whom it lets in is ours to see to.
fn needs_admission(spec: &EnvironmentSpec, db: &Option<HostId>) -> Vec<HostId> {
    let is_ours = spec.database.as_ref().is_some_and(|database| database.pg_hba == PgHba::Managed);
    db.iter().filter(|_| is_ours).cloned().collect()
}

/// The ports that are given away or in use on the hosts where one is to be chosen: most plans choose none, and a host of
/// many environments has many.
async fn taken_ports(
    context: &Context,
    spec: &EnvironmentSpec,
    (hosts, observed): (&[&Host], &BTreeMap<HostId, Observation>),
    table: &PortTable,
) -> Result<BTreeMap<String, BTreeSet<u16>>, DeployError> {
    let mut taken = BTreeMap::new();
    for host in hosts.iter().filter(|host| !ports::lacking(spec, &host.id, table).is_empty()) {
        let listed = context.store.list(&keys::ports_of(&host.address)).await?;
        let given = listed.iter().filter_map(|stored| stored.key.last().parse().ok());
        let in_use = observed.get(&host.id).into_iter().flat_map(|seen| &seen.ports_in_use).copied();
        taken.insert(host.address.clone(), given.chain(in_use).collect());
    }
    Ok(taken)
}

/// What is looked at, and for what.
struct Observing<'a> {
    context: &'a Context,
    spec: &'a EnvironmentSpec,
    placed: &'a HostPlacement,
    secrets_version: Option<u64>,
    wanted: &'a PlanningTarget,
    authority: Authority,
}

impl Observing<'_> {
    async fn observe(&self) -> Result<BTreeMap<HostId, Observation>, DeployError> {
        let asked = self.placed.hosts.iter().filter(|host| self.placed.asked.contains(&host.id));
        let questions = asked.map(|host| self.observe_one(host));
        Ok(try_join_all(questions).await?.into_iter().flatten().collect())
    }

    /// `None` if the host is offline and is not needed.
    async fn observe_one(&self, host: &Host) -> Result<Option<(HostId, Observation)>, Refusal> {
        let Self { context, spec, placed, secrets_version, wanted, authority } = self;
        let is_app = placed.app.contains(&host.id);
        let is_reader = *authority == Authority::Reader;
        let asks_database = placed.db.as_ref() == Some(&host.id) && !is_reader;
        let database = spec.database.as_ref().filter(|_| asks_database);
        let question = ObservationRequest {
            environment: spec.key.clone(),
            image: wanted.image.clone().filter(|_| is_app),
            lookup: if is_reader { ImageLookup::ThisHost } else { ImageLookup::Registry },
            migrations_path: spec.database.as_ref().and_then(|database| database.migrations.clone()),
            database: database.zip(*secrets_version).map(|(database, secrets_version)| DatabaseObservation {
                url_from: database.url_from.clone(),
                secrets_version,
                addresses: match database.pg_hba {
                    PgHba::Managed => placed.addresses(host, wanted.on.host()),
                    PgHba::ByHand => Vec::new(),
                },
            }),
        };
        match context.agents.observe(&host.id, question).await {
            Ok(observation) => Ok(Some((host.id.clone(), observation))),
            Err(_) if placed.may_be_away.contains(&host.id) => Ok(None),
            Err(error) => Err(observation_failed(&spec.key, host, &error)),
        }
    }

    /// A reader's plan uses no stored credential and causes nothing: no registry and no database is asked for it. What
    /// was recorded last stands for what they would say.
    fn assume(&self, observed: &mut BTreeMap<HostId, Observation>, live: Option<&LiveRelease>) {
        let database_host = self.placed.db.as_ref().filter(|_| self.spec.database.is_some());
        for (host, seen) in observed {
            if self.wanted.image.is_some() && seen.image.is_none() && self.placed.app.contains(host) {
                seen.problems.push("no registry is asked for a reader".to_owned());
            }
            if database_host == Some(host) {
                let version = live.and_then(|live| live.schema_version);
                seen.schema = version.map(|version| Schema { version, state: SchemaState::Clean });
                seen.problems.push("no database is asked for a reader".to_owned());
            }
        }
    }

    /// An image that a registry has and no app host is pulled to one of them: a plan is made from what is in it.
    async fn fetch(&self, observed: &mut BTreeMap<HostId, Observation>) -> Result<(), DeployError> {
        let Some(image) = &self.wanted.image else { return Ok(()) };
        let Some(manifest) = observed.values().find_map(|seen| seen.manifest.clone()) else { return Ok(()) };
        if observed.values().any(|seen| has(seen, &manifest)) {
            return Ok(());
        }
        let gets = |host: &&&Host| observed.get(&host.id).is_some_and(|seen| seen.manifest.is_some());
        let app = self.placed.app();
        let Some(host) = app.iter().find(gets) else { return Ok(()) };
        let task = HostTask::Fetch { image: image.clone(), manifest };
        let fetched = self.context.agents.run_task(&host.id, task).await;
        fetched.map_err(|error| fetch_failed(image, host, &error))?;
        observed.extend(self.observe_one(host).await?);
        Ok(())
    }
}

/// Whether a host has the image of this manifest.
fn has(seen: &Observation, manifest: &Digest) -> bool {
    seen.image.as_ref().is_some_and(|image| image.manifest.as_ref() == Some(manifest))
}

fn fetch_failed(image: &str, host: &Host, error: &AgentError) -> Refusal {
    let registry = RegistryName::of_image(image);
    Refusal {
        what: format!("{} cannot pull {image}", host.name),
        why: match error {
            AgentError::Refused { why, .. } => why.clone(),
            AgentError::Absent { .. } | AgentError::NoAnswer { .. } => error.to_string(),
        },
        next: format!("lockstep registry login {registry}, then: lockstep registry check {registry}"),
    }
}

fn observation_failed(environment: &EnvironmentKey, host: &Host, error: &AgentError) -> Refusal {
    let next = "lockstep host list    # then, on that host: systemctl status lockstep-agent".to_owned();
    match error {
        AgentError::Absent { .. } => Refusal {
            what: format!("the host {} of {environment} is not connected", host.name),
            why: "its agent does not run, or cannot reach a coordinator".to_owned(),
            next,
        },
        AgentError::NoAnswer { .. } => Refusal {
            what: format!("the host {} of {environment} did not answer", host.name),
            why: "its agent is connected, but it is slow or stuck".to_owned(),
            next,
        },
        AgentError::Refused { why, .. } => Refusal {
            what: format!("the host {} of {environment} refused to report its state", host.name),
            why: why.clone(),
            next,
        },
    }
}
