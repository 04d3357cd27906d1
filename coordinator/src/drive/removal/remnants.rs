//! What exists of an environment that is to be removed, in the record and on the hosts. What a host does not report
//! counts as unknown, and not as nothing.

use std::collections::BTreeSet;

use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::{EnvironmentKey, HostName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState, Observation};
use lockstep_core::record::pending_undo::PendingUndo;
use lockstep_core::record::ports::PortTable;
use lockstep_core::spec::{EnvironmentSpec, HostRoles};

use crate::context::Context;
use crate::record::environments::{self, Versioned};
use crate::record::{history, hosts, pending_undos};
use crate::store::{Guard, StoreError, keys};
use crate::view::status;

/// What is recorded, with what its guards need, and what was found on the hosts.
pub(super) struct Remnants {
    documents: Documents,
    found: Vec<Found>,
}

struct Documents {
    spec: Versioned<EnvironmentSpec>,
    live: Option<Versioned<LiveRelease>>,
    ports: Option<Versioned<PortTable>>,
}

/// One thing that there is, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    kind: Kind,
    sentence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is recorded as live.
    Live,
    /// A container runs, or nginx has the site.
    Serves,
    /// A host of the environment does not say what runs there.
    Unknown,
    PendingUndo,
    /// It serves nobody: a stopped container, or a host without a trace of the environment in the record that does
    /// not answer.
    Harmless,
}

impl Remnants {
    /// `None` if the environment is not declared.
    pub(super) async fn find(
        context: &Context,
        environment: &EnvironmentKey,
    ) -> Result<Option<Self>, StoreError> {
        let store = &*context.store;
        let Some(spec) = environments::spec(store, environment).await? else { return Ok(None) };
        let live = environments::versioned_live(store, environment).await?;
        let ports = environments::ports(store, environment).await?;
        let past = history::recent(store, environment, history::HISTORY_FOR_PLANS).await?;
        let pending: Vec<PendingUndo> = pending_undos::list(store)
            .await?
            .into_iter()
            .filter(|undo| undo.environment == *environment)
            .collect();
        let all = hosts::list(store).await?;
        let documents = Documents { spec, live, ports };
        let known = documents.hosts(&past, &pending);
        let mut found: Vec<Found> =
            documents.live.iter().map(|live| live_release(&live.content, &all)).collect();
        found.extend(pending.iter().map(pending_undo));
        for (host, seen) in status::observe_each(context, environment, &all).await {
            let place = if known.has(host) { Place::Recorded } else { Place::Other };
            found.extend(on_host(host, place, seen));
        }
        Ok(Some(Self { documents, found }))
    }

    /// That the record is as it was when this was found.
    pub(super) fn guards(&self, environment: &EnvironmentKey) -> Vec<Guard> {
        let Documents { spec, live, ports } = &self.documents;
        vec![
            Guard::as_seen(keys::spec(environment), Some(&spec.stored)),
            Guard::as_seen(keys::live(environment), live.as_ref().map(|live| &live.stored)),
            Guard::as_seen(keys::ports(environment), ports.as_ref().map(|ports| &ports.stored)),
        ]
    }

    /// Why the environment is not removed unless it is abandoned; `None` if nothing forbids it.
    pub(super) fn refusal(&self, environment: &EnvironmentKey) -> Option<Refusal> {
        refusal(environment, &self.found)
    }

    pub(super) fn left_behind(&self) -> Vec<String> {
        self.found.iter().map(|found| found.sentence.clone()).collect()
    }
}

/// What stays on the hosts, at the end of a receipt.
pub(super) fn describe_leftovers(left_behind: &[String]) -> String {
    if left_behind.is_empty() {
        return "Every host was checked, and nothing of it is left there.".to_owned();
    }
    format!("Nothing manages what is left there: {}.", left_behind.join("; "))
}

fn refusal(environment: &EnvironmentKey, found: &[Found]) -> Option<Refusal> {
    let has = |kind| found.iter().any(|found| found.kind == kind);
    let abandon = format!("lockstep env remove {environment} --abandon");
    let commands = if has(Kind::Live) {
        format!(
            "lockstep env decommission {environment}    # shows the plan that takes it out of service\n{abandon}"
        )
    } else {
        abandon
    };
    let (what, next) = if has(Kind::Live) || has(Kind::Serves) {
        (format!("{environment} is not removed: it is live"), commands)
    } else if has(Kind::Unknown) {
        (
            format!("{environment} is not removed: some hosts did not report what runs there"),
            "lockstep host list".to_owned(),
        )
    } else if has(Kind::PendingUndo) {
        (format!("{environment} is not removed: undos are pending"), format!("lockstep status {environment}"))
    } else {
        return None;
    };
    let reasons: Vec<&str> = found
        .iter()
        .filter(|found| found.kind != Kind::Harmless)
        .map(|found| found.sentence.as_str())
        .collect();
    let why = format!(
        "{}. With --abandon the record is deleted anyway: containers keep running, and nothing manages them",
        reasons.join("; ")
    );
    Some(Refusal { what, why, next })
}

/// The hosts that the record names for an environment.
struct Known {
    ids: BTreeSet<HostId>,
    names: BTreeSet<HostName>,
}

impl Known {
    fn has(&self, host: &Host) -> bool {
        self.ids.contains(&host.id) || self.names.contains(&host.name)
    }
}

impl Documents {
    /// Every host that has, had or was to have something of the environment.
    fn hosts(&self, past: &[DeploymentSummary], pending: &[PendingUndo]) -> Known {
        let Self { spec, live, ports } = self;
        let of_ports = ports.iter().flat_map(|ports| &ports.content.ports).map(|entry| entry.host.clone());
        let ids = of_ports.chain(pending.iter().map(|undo| undo.host.clone())).collect();
        let mut names = BTreeSet::new();
        let mut add = |HostRoles { app, lb, db }: &HostRoles, serving: &[HostName]| {
            names.extend(app.iter().chain(lb).chain(db).chain(serving).cloned());
        };
        add(&spec.content.hosts, &[]);
        if let Some(Versioned { content: live, .. }) = live {
            add(&live.spec.hosts, &live.serving);
        }
        for summary in past {
            add(&summary.spec.hosts, &summary.serving);
        }
        Known { ids, names }
    }
}

fn live_release(live: &LiveRelease, all: &[Host]) -> Found {
    let placed = status::place_hosts(&live.roles(), all);
    let app: Vec<&str> = placed.app.iter().map(|host| host.name.as_str()).collect();
    let on = if app.is_empty() { "hosts that have not joined".to_owned() } else { app.join(", ") };
    let sentence =
        format!("{} ({}) has been live on {on} since {}", live.release.image, live.slot, live.since);
    Found { kind: Kind::Live, sentence }
}

fn pending_undo(undo: &PendingUndo) -> Found {
    let PendingUndo { key, host_name, change, since, .. } = undo;
    let sentence = format!(
        "the undo of {} of {} on {host_name} is pending since {since}: {change}",
        key.step, key.deployment
    );
    Found { kind: Kind::PendingUndo, sentence }
}

/// Whether the record names the host for the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Recorded,
    Other,
}

/// What a host says of the environment: pure.
fn on_host(host: &Host, place: Place, seen: Result<Observation, String>) -> Vec<Found> {
    let name = &host.name;
    let unknown = |why: &str| match place {
        Place::Recorded => {
            Found { kind: Kind::Unknown, sentence: format!("what runs on {name} is unknown: {why}") }
        }
        Place::Other => Found {
            kind: Kind::Harmless,
            sentence: format!(
                "{name}, which the record does not name for it, did not report what runs there: {why}"
            ),
        },
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return vec![unknown(&why)],
    };
    let mut found = Vec::new();
    let (running, stopped): (Vec<_>, Vec<_>) =
        seen.containers.iter().partition(|container| container.running == ContainerRunState::Yes);
    let names = |containers: &[&ContainerObservation]| {
        containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if !running.is_empty() {
        let sentence = format!("containers run on {name}: {}", names(&running));
        found.push(Found { kind: Kind::Serves, sentence });
    }
    let has_site = seen.site.is_some() || seen.site_changed.is_some() || seen.traffic.is_some();
    if has_site {
        let to = seen.traffic.map(|slot| format!(", and sends requests to {slot}")).unwrap_or_default();
        found.push(Found { kind: Kind::Serves, sentence: format!("nginx on {name} has its site{to}") });
    }
    if !stopped.is_empty() {
        let sentence = format!("stopped containers are on {name}: {}", names(&stopped));
        found.push(Found { kind: Kind::Harmless, sentence });
    }
    found.extend((!seen.problems.is_empty()).then(|| unknown(&seen.problems.join("; "))));
    found
}
