//! What containers answer when they are asked for their health is shown to every reader, without the secrets that any of
//! them has.

use lockstep_coordinator::view::status;
use lockstep_core::health::{Answer, Health, InstanceHealth, Probe};
use lockstep_core::run::journal::Direction;
use lockstep_core::time::{Millis, Timestamp};

use crate::fixture::{Fixture, host_id, set_secret, spec};
use crate::hosts::Does;

fn unhealthy(container: &str, body: &str) -> InstanceHealth {
    let answer = Answer::Http { status: 503, declared: None, body: body.to_owned() };
    InstanceHealth {
        container: container.to_owned(),
        health: Health::Unhealthy,
        probes: vec![Probe { at: Timestamp(0), took: Millis(5), answer }],
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_of_a_warm_release_and_of_one_that_is_being_deployed_are_masked() {
    let (fixture, vault) = Fixture::with_vault().await;
    let _drivers = fixture.drivers();
    let set = async |value: &str| set_secret(&vault, "TOKEN", value, 1).await;
    let canaries = ["canary-warm", "canary-live", "canary-deployed", "canary-newest"];
    set(canaries[0]).await;
    fixture.deploy("notes:1").await;
    set(canaries[1]).await;
    fixture.deploy("notes:2").await;
    set(canaries[2]).await;
    fixture.hosts.script("health", Direction::Do, Does::Waits);
    let (id, _) = fixture.start("notes:3").await.expect("it starts");
    fixture.until_begun(&id, 4).await;
    set(canaries[3]).await;
    let quoting = canaries.iter().map(|canary| unhealthy("web", &format!("bad key {canary}!")));
    fixture.hosts.says_health(&host_id(), quoting.collect());

    let seen = status::load_status(&fixture.parts, &spec()).await.expect("read");
    let shown: Vec<String> = seen.hosts[0]
        .instances
        .iter()
        .flat_map(|instance| &instance.probes)
        .map(|probe| probe.answer.to_string())
        .collect();
    assert_eq!(shown.len(), canaries.len());
    for (canary, answer) in canaries.iter().zip(&shown) {
        assert!(answer.contains("bad key ***!"), "{canary} is shown: {answer}");
    }
    fixture.shut_down().await;
}
