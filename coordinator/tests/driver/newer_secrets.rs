//! Secrets that were set after the last deployment: what status and a plan say of them.

use lockstep_coordinator::record::environments;
use lockstep_coordinator::view::status::{self, DatabaseLook};
use lockstep_core::run::journal::Verdict;
use lockstep_core::time::Timestamp;
use lockstep_core::view::environment::SecretsSet;

use crate::fixture::{Fixture, anna, set_secret, spec};

#[tokio::test(start_paused = true)]
async fn secrets_that_are_not_deployed_are_in_the_status_and_by_name_in_the_plan() {
    let (fixture, vault) = Fixture::with_vault().await;
    let _drivers = fixture.drivers();
    set_secret(&vault, "TOKEN", "canary-one", 1).await;
    let first = fixture.deploy("notes:1").await;
    fixture.check_ended(&first, Verdict::Succeeded).await;
    let seen = async || status::load_status(&fixture.parts, &spec()).await.expect("read").undeployed_secrets;
    let says = async |image: &str| {
        let plan = fixture.plan(&Fixture::ask(spec(), image)).await.expect("a plan");
        plan.warnings.into_iter().filter(|line| line.contains("secrets")).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, None);
    assert_eq!(says("notes:2").await, [""; 0]);

    set_secret(&vault, "TOKEN", "canary-two", 2).await;
    set_secret(&vault, "ADDED", "canary-three", 3).await;
    let newest = Some(SecretsSet { version: 3, by: anna().operator, at: Timestamp(3) });
    assert_eq!(seen().await, newest);
    let all = environments::all_recorded(&*fixture.store, |_| true).await.expect("read");
    let all = status::of_all(&fixture.parts, all, DatabaseLook::Skip).await.expect("read");
    assert_eq!(all[0].undeployed_secrets, newest, "of all as of one");
    assert_eq!(
        says("notes:1").await,
        ["version 3 of the secrets replaces version 1: changed TOKEN; added ADDED"]
    );

    // What the screen advises: the same image.
    let again = fixture.deploy("notes:1").await;
    fixture.check_ended(&again, Verdict::Succeeded).await;
    assert_eq!(again.secrets_version, Some(3));
    assert_eq!(seen().await, None);
    fixture.shut_down().await;
}
