//! Hosts that a release passed by, on their way back.

use std::time::Duration;

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::{PlanRequest, RequestedOperation, StartRequest};
use lockstep_coordinator::record::{environments, history};
use lockstep_core::id::HostId;
use lockstep_core::name::HostName;
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::run::journal::Direction;
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::{EnvironmentSpec, HostRoles};
use lockstep_core::time::Millis;

use crate::fixture::{Fixture, LIMIT, anna, environment, spec};
use crate::hosts::Does;

/// Of two app hosts one is enough.
fn content_with_one() -> EnvironmentSpec {
    let mut spec = spec();
    let name = |name: &str| name.parse().expect("a name");
    spec.hosts = HostRoles {
        app: vec![name("app-1"), name("app-2")],
        lb: vec![name("app-1")],
        db: vec![name("app-1")],
    };
    spec.deploy.quorum = Some(1);
    spec
}

async fn live(fixture: &Fixture) -> LiveRelease {
    environments::live(&*fixture.store, &environment()).await.expect("read").expect("something is live")
}

fn names<'a>(hosts: impl IntoIterator<Item = &'a HostName>) -> Vec<&'a str> {
    hosts.into_iter().map(|host| host.as_str()).collect()
}

/// A release that went without the second host.
async fn without_the_second() -> (Fixture, HostId) {
    let mut fixture = Fixture::new().await;
    let second = fixture.join("app-2", 2).await;
    fixture.hosts.absent(&second);
    (fixture, second)
}

/// What was done about hosts, oldest first, as soon as it was so often.
async fn returns(fixture: &Fixture, times: usize) -> Vec<DeploymentSummary> {
    let wait = async {
        loop {
            let ended = history::ended(&*fixture.store, &environment(), 100).await.expect("read");
            let mut returns: Vec<DeploymentSummary> =
                ended.into_iter().filter(|one| one.kind == OperationKind::AddHost).collect();
            if returns.len() >= times {
                returns.reverse();
                return returns;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it is tried")
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_passed_by_is_brought_back_when_it_is_well() {
    let (fixture, second) = without_the_second().await;
    let _drivers = fixture.drivers();
    let summary = fixture.deploy_as(content_with_one(), "notes:1").await;
    fixture.check_ended(&summary, Verdict::Succeeded).await;
    assert_eq!(names(&live(&fixture).await.serving), ["app-1"]);
    assert_eq!(names(&live(&fixture).await.excluded), ["app-2"]);

    fixture.hosts.present(&second);
    let returned = returns(&fixture, 1).await;
    assert_eq!((returned[0].operator.as_str(), returned[0].verdict), ("lockstep", Some(Verdict::Succeeded)));
    let live = live(&fixture).await;
    assert_eq!((names(&live.serving), names(&live.excluded)), (vec!["app-1", "app-2"], vec![]));
    assert_eq!(live.deployment, summary.id, "what is live is another release");
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_well_is_tried_ever_more_seldom_and_not_once_it_was_drained() {
    let (fixture, second) = without_the_second().await;
    let _drivers = fixture.drivers();
    fixture.deploy_as(content_with_one(), "notes:1").await;
    fixture.hosts.script("start", Direction::Do, Does::Fails);
    fixture.hosts.present(&second);
    let tried = returns(&fixture, 3).await;
    assert!(tried.iter().all(|one| one.verdict == Some(Verdict::RolledBack)));
    let pauses: Vec<Millis> = tried.windows(2).map(|two| two[1].opened_at.since(two[0].opened_at)).collect();
    assert!(pauses[0] >= Millis::from_secs(60) && pauses[1] >= Millis::from_secs(120), "{pauses:?}");
    assert_eq!(names(&live(&fixture).await.excluded), ["app-2"]);

    fixture.hosts.unscript();
    let what = RequestedOperation::DrainHost("app-2".parse().expect("a name"));
    let start = StartRequest::of(PlanRequest { environment: environment(), what });
    let (drained, _) = planning::start(&fixture.parts, &start, &anna()).await.expect("it starts");
    fixture.ended(&drained).await;
    assert_eq!(names(&live(&fixture).await.excluded), Vec::<&str>::new());
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert_eq!(returns(&fixture, 3).await.len(), 3, "it was brought back against an operator's will");
    fixture.shut_down().await;
}
