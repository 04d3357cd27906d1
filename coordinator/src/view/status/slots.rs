//! What each slot of an environment holds on each host, and its share of the traffic. Pure, from the reports of
//! agents.

use std::collections::BTreeMap;

use lockstep_core::health::{Health, InstanceHealth};
use lockstep_core::host::Host;
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::record::observed::{ContainerRunState, Observation};
use lockstep_core::release::Release;
use lockstep_core::slot::Slot;
use lockstep_core::view::environment::TrafficObservation;
use lockstep_core::view::host_status::SlotObservation;

use crate::view::drift::PlacedHosts;

/// Where the load balancer's host says that it sends the traffic.
pub(super) fn traffic(
    placed: &PlacedHosts<'_>,
    observed: &BTreeMap<HostId, Observation>,
) -> Option<TrafficObservation> {
    let host = placed.lb?;
    let slot = observed.get(&host.id)?.traffic?;
    Some(TrafficObservation { host: host.name.clone(), slot })
}

/// The slots of `host` that hold something. `share` is what a host gets of each hundred requests whose slot they
/// are sent to.
pub(super) fn slots_of(
    seen: &Observation,
    instances: &[InstanceHealth],
    releases: &BTreeMap<DeploymentId, Release>,
    share: impl Fn(Slot) -> u8,
) -> Vec<SlotObservation> {
    [Slot::Blue, Slot::Green]
        .into_iter()
        .filter_map(|slot| {
            let mine: Vec<_> = seen.containers.iter().filter(|container| container.slot == slot).collect();
            // A slot is emptied before it is filled: all that is in it is of one deployment.
            let deployment = mine.iter().map(|container| &container.deployment).max()?.clone();
            let running = mine.iter().filter(|container| container.running == ContainerRunState::Yes).count();
            let healths = mine.iter().filter_map(|container| {
                instances.iter().find(|instance| instance.container == container.name)
            });
            Some(SlotObservation {
                slot,
                release: releases.get(&deployment).cloned(),
                deployment,
                running: u32::try_from(running).unwrap_or(u32::MAX),
                containers: u32::try_from(mine.len()).unwrap_or(u32::MAX),
                health: healths.map(|instance| instance.health).max().unwrap_or(Health::Unknown),
                traffic_percent: share(slot),
            })
        })
        .collect()
}

/// What one of the app hosts gets of each hundred requests: nginx gives to all of them in turn.
pub(super) fn share(placed: &PlacedHosts<'_>, host: &Host) -> u8 {
    let serves = placed.app.iter().any(|app| app.id == host.id);
    if !serves {
        return 0;
    }
    u8::try_from(100 / placed.app.len().max(1)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::id::Digest;
    use lockstep_core::record::observed::ContainerObservation;

    const BEFORE: &str = "dep_01JBQR2KXYZ987654321012345";
    const LIVE: &str = "dep_01JBQR2KXYZ987654321012346";

    fn container(name: &str, slot: Slot, running: ContainerRunState) -> ContainerObservation {
        let deployment = if slot == Slot::Blue { LIVE } else { BEFORE };
        ContainerObservation {
            name: name.to_owned(),
            slot,
            process: "web".parse().unwrap(),
            deployment: deployment.parse().unwrap(),
            spec: Digest::of_content(b"spec"),
            image_id: Digest::of_content(b"image"),
            running,
            health: Health::Unknown,
            restarts: None,
        }
    }

    #[test]
    fn a_slot_is_as_well_as_the_worst_in_it() {
        let seen = Observation {
            containers: vec![
                container("web-blue", Slot::Blue, ContainerRunState::Yes),
                container("worker-blue", Slot::Blue, ContainerRunState::Yes),
                container("web-green", Slot::Green, ContainerRunState::Exited(1)),
            ],
            ..Observation::default()
        };
        let health = |container: &str, health| InstanceHealth {
            container: container.to_owned(),
            health,
            probes: Vec::new(),
        };
        let instances = [health("web-blue", Health::Healthy), health("worker-blue", Health::Degraded)];
        let release = Release {
            image: "notes:2".to_owned(),
            image_id: Digest::of_content(b"image"),
            manifest: None,
            commit: None,
            migrations: Vec::new(),
        };
        let releases = BTreeMap::from([(LIVE.parse().unwrap(), release.clone())]);
        let slots = slots_of(&seen, &instances, &releases, |slot| if slot == Slot::Blue { 50 } else { 0 });
        let [blue, green] = &slots[..] else { panic!("{slots:?}") };
        assert_eq!((blue.running, blue.containers, blue.health), (2, 2, Health::Degraded));
        assert_eq!((blue.release.as_ref(), blue.traffic_percent), (Some(&release), 50));
        assert_eq!((green.running, green.containers, green.health), (0, 1, Health::Unknown));
        assert_eq!((green.release.as_ref(), green.traffic_percent), (None, 0));
    }
}
