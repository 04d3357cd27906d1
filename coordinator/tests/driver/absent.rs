//! What is said of an environment that is not there: that nothing was deployed to it, or who gave it up.

use lockstep_coordinator::drive::removal::{WhileServing, remove};
use lockstep_coordinator::planning::{self, PlanRequest, RequestedOperation, StartRequest};
use lockstep_coordinator::record::absent;
use lockstep_coordinator::record::audit::{self, ABANDON_ENVIRONMENT, Change};
use lockstep_core::plan::operation::{ChangedSite, Refusal};
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Timestamp;

use crate::fixture::{Fixture, anna, environment, refused};

async fn absence(fixture: &Fixture) -> Refusal {
    absent::refusal(&*fixture.store, &environment(), "lockstep env list".to_owned()).await.expect("read")
}

#[tokio::test(start_paused = true)]
async fn nothing_was_deployed_where_there_is_no_history() {
    let fixture = Fixture::new().await;
    let Refusal { what, why, next } = absence(&fixture).await;
    assert_eq!(what, "there is no environment notes/production");
    assert_eq!((why.as_str(), next.as_str()), ("nothing has been deployed to it", "lockstep env list"));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_decommissioned_says_by_whom_and_names_its_history() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    let ask = PlanRequest { environment: environment(), what: RequestedOperation::Decommission };
    let hash = fixture.plan(&ask).await.expect("a plan").hash;
    let start = StartRequest { hash: Some(hash), ..StartRequest::of(ask) };
    let (id, _) = planning::start(&fixture.parts, &start, &anna()).await.expect("it starts");
    let ended = fixture.ended(&id).await;
    assert_eq!(ended.verdict, Some(Verdict::Succeeded), "{:?}", ended.failure);
    remove(&fixture.parts, &environment(), &anna().operator, WhileServing::Refused).await.expect("removed");
    let at = ended.ended_at.expect("it has ended");
    let Refusal { what, why, next } = absence(&fixture).await;
    assert_eq!(what, "there is no environment notes/production any more");
    assert_eq!(why, format!("anna decommissioned it at {at}"));
    assert!(next.starts_with("lockstep history notes/production"), "{next}");
    // A plan of what has to be there says the same.
    let what = RequestedOperation::Rollback { to: None, changed_site: ChangedSite::Refused };
    let said = refused(fixture.plan(&PlanRequest { environment: environment(), what }).await);
    assert_eq!(said.why, why);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_says_by_whom_if_the_audit_log_does() {
    let fixture = Fixture::new().await;
    let _drivers = fixture.drivers();
    fixture.deploy("notes:1").await;
    remove(&fixture.parts, &environment(), &anna().operator, WhileServing::Abandoned).await.expect("removed");
    assert_eq!(absence(&fixture).await.why, "it was removed");
    let change = Change {
        operator: anna().operator,
        verb: ABANDON_ENVIRONMENT,
        environment: Some(environment()),
        said: String::new(),
    };
    let at = Timestamp(1_769_596_200_000);
    audit::append(&*fixture.store, at, change).await.expect("written");
    assert_eq!(absence(&fixture).await.why, format!("anna removed it at {at}"));
    fixture.shut_down().await;
}
