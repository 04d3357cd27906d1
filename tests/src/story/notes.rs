//! What a story begins with: the declaration of `notes/production`, and how its deployments are recorded.

use std::collections::BTreeMap;

use anyhow::Result;
use lockstep_core::id::DeploymentId;
use lockstep_core::plan::Plan;
use lockstep_core::plan::operation::ChangedSite;
use lockstep_core::record::history::{DeploymentSummary, Receipt};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::{
    DatabaseSpec, DeploySpec, EnvironmentSpec, HostRoles, ImageSource, Mode, PgHba, ProcessSpec,
    SnapshotSpec, Tls, TrafficSpec,
};
use lockstep_core::time::{Millis, Timestamp};

use crate::bed::declaration::web_process;

pub(super) fn deployment(number: u32) -> Result<DeploymentId> {
    Ok(format!("dep_{number:026}").parse()?)
}

pub(super) fn summary(
    plan: &Plan,
    id: &DeploymentId,
    verdict: Verdict,
    now: Timestamp,
    schema: Option<u64>,
) -> DeploymentSummary {
    DeploymentSummary {
        excluded: plan.excluded.clone(),
        id: id.clone(),
        key: plan.key.clone(),
        kind: plan.kind,
        operator: "anna".parse().expect("a name"),
        release: plan.release.clone(),
        slot: plan.slot,
        spec: plan.spec.clone(),
        serving: plan.serving.clone(),
        secrets_version: plan.secrets_version,
        schema_before: plan.schema_before,
        schema_after: schema,
        opened_at: now,
        ended_at: Some(now),
        verdict: Some(verdict),
        failure: None,
        steps: Vec::new(),
        receipt: Receipt::default(),
    }
}

pub(super) fn changed_site(words: &[&str]) -> ChangedSite {
    if words.contains(&"overwrite-site") { ChangedSite::Overwritten } else { ChangedSite::Refused }
}

pub(super) fn web() -> ProcessSpec {
    web_process(Millis::from_secs(60), Millis(100))
}

/// The declaration that a story begins with.
pub(super) fn notes() -> EnvironmentSpec {
    EnvironmentSpec {
        key: "notes/production".parse().expect("a key"),
        description: None,
        url: "http://notes.example".to_owned(),
        branch: None,
        mode: Mode::Production,
        image: ImageSource::Repository("notes".to_owned()),
        processes: BTreeMap::from([("web".parse().expect("a name"), web())]),
        database: Some(DatabaseSpec {
            url_from: "DATABASE_URL".to_owned(),
            pg_hba: PgHba::Managed,
            migrations: Some("/migrations".to_owned()),
            snapshot: Some(SnapshotSpec { directory: "/var/backups/notes".to_owned(), keep: 3 }),
        }),
        traffic: TrafficSpec {
            body_limit: "10m".to_owned(),
            connect_timeout: TrafficSpec::connect_timeout(),
            send_timeout: TrafficSpec::send_timeout(),
            read_timeout: Millis::from_secs(60),
            tls: Tls::Off,
        },
        networks: Vec::new(),
        deploy: DeploySpec {
            lock_timeout: Millis::from_secs(1800),
            drain: Millis::from_secs(30),
            bake: Millis::from_secs(20),
            parallel: None,
            quorum: None,
            log_directory: None,
            state_file: None,
        },
        env: BTreeMap::new(),
        required: Vec::new(),
        public: Vec::new(),
        hosts: HostRoles::default(),
    }
}
