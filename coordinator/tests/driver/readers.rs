//! What is looked at for somebody who may only read: nothing that uses a stored credential.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_coordinator::planning;
use lockstep_coordinator::planning::Requester;
use lockstep_coordinator::planning::grants::Authority;
use lockstep_coordinator::ports::agents::ObservationRequest;
use lockstep_coordinator::ports::secrets::{Secrets, SecretsChange};
use lockstep_coordinator::store::StoreError;
use lockstep_core::image::ImageLookup;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::SecretsSummary;
use lockstep_core::record::grant::Resource;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::spec::{DatabaseSpec, EnvironmentSpec, PgHba};
use lockstep_core::view::environment::SecretsSet;

use crate::fixture::{Fixture, anna, environment, spec};

/// One version, with the URL of the database.
struct WithUrl;

#[async_trait]
impl Secrets for WithUrl {
    async fn summary(&self, _: &EnvironmentKey) -> anyhow::Result<Option<SecretsSummary>> {
        Ok(Some(SecretsSummary { version: 1, names: ["DATABASE_URL".to_owned()].into() }))
    }

    async fn newer_than(&self, _: &EnvironmentKey, _: Option<u64>) -> Result<Option<SecretsSet>, StoreError> {
        Ok(None)
    }

    async fn changes(
        &self,
        _: &EnvironmentKey,
        _: Option<u64>,
        _: Option<u64>,
    ) -> anyhow::Result<SecretsChange> {
        Ok(SecretsChange::default())
    }

    async fn redactor(&self, _: &EnvironmentKey, _: Option<u64>) -> anyhow::Result<Redactor> {
        Ok(Redactor::none())
    }
}

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
    fixture.parts.secrets = Arc::new(WithUrl);
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
