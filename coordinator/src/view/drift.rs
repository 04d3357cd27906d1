//! Drift: the differences between the record and what the agents report. Pure.

use std::collections::BTreeMap;

use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::observed::{ContainerRunState, Observation};
use lockstep_core::release::{Schema, SchemaState};
use lockstep_core::view::environment::{DatabaseSeen, DatabaseStatus};

/// What an environment's hosts are for.
#[derive(Debug, Clone)]
pub struct PlacedHosts<'a> {
    pub app: Vec<&'a Host>,
    pub lb: Option<&'a Host>,
}

/// Every difference, in words. `observed` has the hosts that answered.
pub fn find_drift(
    key: &EnvironmentKey,
    live: Option<&LiveRelease>,
    placed: &PlacedHosts<'_>,
    observed: &BTreeMap<HostId, Observation>,
) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(lb) = placed.lb
        && let Some(seen) = observed.get(&lb.id)
    {
        found.extend(traffic(key, live, lb, seen));
        found.extend(seen.not_served.iter().map(|why| format!("nginx on {}: {why}", lb.name)));
    }
    for host in &placed.app {
        if let (Some(live), Some(seen)) = (live, observed.get(&host.id)) {
            found.extend(containers(live, host, seen));
        }
    }
    found
}

/// What the hosts could not do or see, in words. It is told while a deployment runs, too.
pub fn problems(placed: &PlacedHosts<'_>, observed: &BTreeMap<HostId, Observation>) -> Vec<String> {
    let hosts = placed.app.iter().copied().chain(placed.lb);
    let each: BTreeMap<&HostId, &Host> = hosts.map(|host| (&host.id, host)).collect();
    let of_host = |host: &&Host| {
        let seen = observed.get(&host.id).map(|seen| seen.problems.clone()).unwrap_or_default();
        let name = host.name.clone();
        seen.into_iter().map(move |problem| format!("{name}: {problem}"))
    };
    each.into_values().flat_map(|host| of_host(&host)).collect()
}

/// That somebody migrated the database beside Lockstep. What a deployment migrated that was rolled back stays.
pub fn schema(last: Option<&DeploymentSummary>, database: Option<&DatabaseStatus>) -> Option<String> {
    let recorded = last?.schema_after?;
    match &database?.seen {
        DatabaseSeen::Schema(Schema { version, state: SchemaState::Clean }) if *version != recorded => {
            Some(format!("the schema of the database is {version}, but {recorded} is recorded"))
        }
        DatabaseSeen::Schema(_) | DatabaseSeen::Foreign { .. } | DatabaseSeen::Unknown { .. } => None,
    }
}

fn traffic(
    key: &EnvironmentKey,
    live: Option<&LiveRelease>,
    lb: &Host,
    seen: &Observation,
) -> Option<String> {
    match (live, seen.traffic) {
        (Some(live), Some(slot)) if slot != live.slot => Some(format!(
            "nginx on {} sends requests for {key} to {slot}, but {} is recorded as live",
            lb.name, live.slot
        )),
        (Some(live), None) => {
            Some(format!("nginx on {} has no site for {key}, but {} is recorded as live", lb.name, live.slot))
        }
        (None, Some(slot)) => Some(format!(
            "nginx on {} sends requests for {key} to {slot}, but nothing is recorded as live",
            lb.name
        )),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn containers(live: &LiveRelease, host: &Host, seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for (process, _) in live.spec.web_processes().chain(live.spec.worker_processes()) {
        let mut of_process = seen
            .containers
            .iter()
            .filter(|container| container.slot == live.slot && container.process == *process)
            .peekable();
        let what = if of_process.peek().is_none() {
            format!("{process} of {} has no container on {}", live.slot, host.name)
        } else if !of_process.clone().any(|container| container.running == ContainerRunState::Yes) {
            format!("{process} of {} does not run on {}", live.slot, host.name)
        } else if !of_process.any(|container| container.image_id == live.release.image_id) {
            format!(
                "{process} of {} on {} does not run the image of {}",
                live.slot, host.name, live.release.image
            )
        } else {
            continue;
        };
        found.push(what);
    }
    found
}

#[cfg(test)]
mod tests {
    use lockstep_core::health::Health;
    use lockstep_core::id::Digest;
    use lockstep_core::record::observed::ContainerObservation;
    use lockstep_core::slot::Slot;

    use super::*;

    const ID: &str = "host_01JBQR2KXYZ987654321012345";

    fn live() -> LiveRelease {
        serde_json::from_value(serde_json::json!({
            "slot": "blue",
            "release": { "image": "notes:1", "image_id": Digest::of_content(b"1").as_str(), "commit": null, "migrations": [] },
            "deployment": "dep_01JBQR2KXYZ987654321012345",
            "spec": {
                "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
                "mode": "production", "image": { "repository": "notes" },
                "processes": { "web": {
                    "role": "web", "command": [], "port": 8080,
                    "health": { "path": "/health", "timeout": 60_000, "interval": 500, "consecutive": 3 },
                    "volumes": [], "memory_bytes": null, "cpu_milli": null, "user": null, "stop_signal": null,
                    "stop_grace": 10_000, "standby": "run",
                } },
                "database": null, "traffic": { "body_limit": "10m", "read_timeout": 60_000 }, "networks": [],
                "deploy": { "lock_timeout": 1_800_000, "drain": 0, "bake": 0, "log_directory": null, "state_file": null },
                "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
            },
            "secrets_version": null, "schema_version": null, "since": 0, "rollback_count": 0,
        }))
        .expect("a live release")
    }

    fn host() -> Host {
        Host {
            id: ID.parse().expect("an id"),
            name: "app-1".parse().expect("a name"),
            address: "172.17.0.1".to_owned(),
            roles: [].into(),
        }
    }

    fn as_recorded() -> Observation {
        Observation {
            site: Some(Digest::of_content(b"site")),
            traffic: Some(Slot::Blue),
            containers: vec![ContainerObservation {
                name: "ls-notes-production-web-blue-x".to_owned(),
                slot: Slot::Blue,
                process: "web".parse().expect("a name"),
                deployment: "dep_01JBQR2KXYZ987654321012345".parse().expect("an id"),
                spec: Digest::of_content(b"spec"),
                image_id: Digest::of_content(b"1"),
                running: ContainerRunState::Yes,
                health: Health::Healthy,
                restarts: None,
            }],
            ..Observation::default()
        }
    }

    fn found(live: Option<&LiveRelease>, seen: Observation) -> Vec<String> {
        let host = host();
        let placed = PlacedHosts { app: vec![&host], lb: Some(&host) };
        let key = "notes/production".parse().expect("a key");
        find_drift(&key, live, &placed, &BTreeMap::from([(host.id.clone(), seen)]))
    }

    #[test]
    fn what_a_host_cannot_do_is_told_once_with_its_name() {
        let host = host();
        let placed = PlacedHosts { app: vec![&host], lb: Some(&host) };
        let seen =
            Observation { problems: vec!["nginx is not running".to_owned()], ..Observation::default() };
        let observed = BTreeMap::from([(host.id.clone(), seen)]);
        assert_eq!(problems(&placed, &observed), ["app-1: nginx is not running"]);
    }

    #[test]
    fn what_is_as_recorded_is_no_drift() {
        assert_eq!(found(Some(&live()), as_recorded()), Vec::<String>::new());
        assert_eq!(found(None, Observation::default()), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        let seen = as_recorded;
        let stopped = |mut seen: Observation| {
            seen.containers[0].running = ContainerRunState::Exited(137);
            seen
        };
        let other_image = |mut seen: Observation| {
            seen.containers[0].image_id = Digest::of_content(b"2");
            seen
        };
        for (observation, said) in [
            (
                Observation { traffic: Some(Slot::Green), ..seen() },
                "nginx on app-1 sends requests for notes/production to green, but blue is recorded as live",
            ),
            (
                Observation { traffic: None, site: None, ..seen() },
                "nginx on app-1 has no site for notes/production, but blue is recorded as live",
            ),
            (Observation { containers: Vec::new(), ..seen() }, "web of blue has no container on app-1"),
            (stopped(seen()), "web of blue does not run on app-1"),
            (other_image(seen()), "web of blue on app-1 does not run the image of notes:1"),
        ] {
            assert_eq!(found(Some(&live()), observation), [said]);
        }
        assert_eq!(
            found(None, seen()),
            ["nginx on app-1 sends requests for notes/production to blue, but nothing is recorded as live"]
        );
    }
}
