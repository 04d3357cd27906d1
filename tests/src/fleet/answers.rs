//! What tests read of the command line's answers.
//!
//! What must stay true: the answers of an earlier revision's command line are read as well, so here stand the fields
//! that are needed and no others. What is stored is read by its own type: every later revision must.

use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::name::HostName;
use lockstep_core::plan::Action;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Entry;
use lockstep_core::run::journal::Verdict;
use lockstep_core::view::host_status::Presence;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// `lockstep status ENV`
#[derive(Deserialize)]
pub struct Status {
    pub open: Option<IgnoredAny>,
    pub live: Option<Live>,
    pub debts: Vec<IgnoredAny>,
    pub drift: Vec<String>,
    pub hosts: Vec<HostSeen>,
}

#[derive(Deserialize)]
pub struct Live {
    pub release: Release,
    #[serde(default)]
    pub serving: Vec<HostName>,
    #[serde(default)]
    pub passed_by: Vec<HostName>,
}

#[derive(Deserialize)]
pub struct Release {
    pub image: String,
}

#[derive(Deserialize)]
pub struct HostSeen {
    pub presence: Presence,
}

/// `lockstep plan ENV`
#[derive(Deserialize)]
pub(super) struct Plan {
    waves: Vec<Wave>,
}

#[derive(Deserialize)]
struct Wave {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    id: StepId,
    host_name: HostName,
    action: Action,
}

impl Plan {
    /// The step of that kind on that host.
    pub(super) fn step(&self, kind: &str, host: &str) -> Option<StepId> {
        let steps = self.waves.iter().flat_map(|wave| &wave.steps);
        let mut found = steps.filter(|step| step.action.name() == kind && step.host_name.as_str() == host);
        found.next().map(|step| step.id)
    }
}

/// `lockstep deploy ENV --detach`
#[derive(Deserialize)]
pub(super) struct Started {
    pub(super) deployment: DeploymentId,
}

/// `lockstep show DEP`, of a deployment that has ended.
#[derive(Deserialize)]
pub struct Ended {
    pub summary: DeploymentSummary,
    pub journal: Vec<Entry>,
}

impl Ended {
    pub fn is_success(&self) -> bool {
        self.summary.verdict == Some(Verdict::Succeeded)
    }

    /// In a few words, with what failed where something did.
    pub fn told(&self) -> String {
        let DeploymentSummary { verdict, failure, ended_at, opened_at, .. } = &self.summary;
        let verdict = verdict.map_or_else(|| "stuck".to_owned(), |verdict| verdict.to_string());
        let took = ended_at.map(|ended| format!(" in {}", ended.since(*opened_at))).unwrap_or_default();
        let why = failure.as_ref().map(|failed| {
            let host = failed.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
            let because = failed.failure.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!(": {}{host}: {}{because}", failed.step, failed.failure.what)
        });
        format!("{verdict}{took}{}", why.unwrap_or_default())
    }
}
