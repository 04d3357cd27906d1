//! What is looked at for somebody who may only read: nothing that uses a stored credential.

use std::sync::Arc;

use lockstep_coordinator::planning;
use lockstep_coordinator::planning::Requester;
use lockstep_coordinator::planning::grants::Authority;
use lockstep_coordinator::ports::agents::ObservationRequest;
use lockstep_coordinator::ports::secrets::FixedSecrets;
use lockstep_core::image::ImageLookup;
use lockstep_core::record::grant::Resource;
use lockstep_core::spec::{DatabaseSpec, EnvironmentSpec, PgHba};

use crate::fixture::{Fixture, anna, environment, spec};

/// What the host is asked for the plan of somebody with this authority.
async fn asked(fixture: &Fixture, authority: Authority) -> ObservationRequest {
    let database = DatabaseSpec {
        url_from: "DATABASE_URL".to_owned(),
        pg_hba: PgHba::Managed,
        migrations: None,
        snapshot: None,
    };
    let spec = EnvironmentSpec { database: Some(database), ..spec() };
    let by = Requester { authority, ..anna() };
    // Whether there is a plan depends on what the host answers.
    planning::plan(&fixture.parts, &Fixture::ask(spec, "notes:1"), &by).await.ok();
    fixture.hosts.last_question().expect("a host was asked")
}

#[tokio::test(start_paused = true)]
async fn no_registry_and_no_database_is_asked_for_a_reader() {
    let mut fixture = Fixture::new().await;
    fixture.parts.secrets = Arc::new(FixedSecrets::of("DATABASE_URL"));
    for resource in
        [Resource::Host("app-1".parse().expect("a name")), Resource::SiteName("notes.example".to_owned())]
    {
        fixture.grant(&environment(), resource).await;
    }
    let of_reader = asked(&fixture, Authority::Reader).await;
    assert_eq!(of_reader.lookup, ImageLookup::ThisHost);
    assert_eq!(of_reader.database, None);
    let of_deployer = asked(&fixture, Authority::Deployer).await;
    assert_eq!(of_deployer.lookup, ImageLookup::Registry);
    assert!(of_deployer.database.is_some());
    fixture.shut_down().await;
}
