//! What is recorded of a cluster, fact by fact, as its command line tells it.
//!
//! What must stay true: a fact of before an upgrade is the same fact after it; there may be more of them then. Answers
//! may change with the command line, so single fields are compared. Where a later revision calls a field otherwise,
//! both names stand here, as in `passed_by|excluded`.

use std::collections::BTreeMap;
use std::fmt;
use std::slice;

use anyhow::{Result, ensure};
use lockstep_tests::fleet::{Fleet, Host, Kind, Site};
use serde_json::Value;

/// The deployments of an environment that are looked at.
const HISTORY: u32 = 100;

/// By which a host is known. Its certificate is another as soon as it is renewed.
const HOST_KEY: &str = "/var/lib/lockstep/agent/key.pem";

/// Facts by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    facts: BTreeMap<String, Value>,
}

/// Rows of an answer: what tells one from another, and what is looked at.
struct Rows {
    about: &'static str,
    arguments: &'static str,
    identity: &'static str,
    fields: &'static [&'static str],
}

const OF_CLUSTER: [Rows; 6] = [
    Rows {
        about: "host",
        arguments: "host list",
        identity: "host.id",
        fields: &["host.name", "host.address", "host.roles"],
    },
    Rows {
        about: "operator",
        arguments: "operator list",
        identity: "name",
        // A certificate is renewed by use.
        fields: &["environments", "role", "revoked"],
    },
    Rows {
        about: "registry",
        arguments: "registry list",
        identity: "registry",
        fields: &["username", "set_at_ms", "set_by"],
    },
    Rows {
        about: "authority",
        arguments: "authority list",
        identity: "signing.pin",
        fields: &["signing.made", "signing.ends", "retiring"],
    },
    Rows {
        about: "coordinator",
        arguments: "coordinator list",
        identity: "name",
        fields: &["address", "root_key"],
    },
    Rows {
        about: "environment",
        arguments: "env list",
        identity: "key",
        fields: &["url", "description", "branch"],
    },
];

const OF_ENVIRONMENT: [Rows; 4] = [
    Rows {
        about: "deployment",
        arguments: "history production --limit",
        identity: "id",
        fields: &[
            "kind",
            "operator",
            "release.image",
            "release.image_id",
            "release.commit",
            "slot",
            "spec.hosts",
            "serving",
            "secrets_version",
            "schema_before",
            "schema_after",
            "opened_at",
            "ended_at",
            "verdict",
            "failure.step",
            "receipt.migrations_run",
            "receipt.snapshot.path",
        ],
    },
    Rows {
        about: "audit record",
        arguments: "audit production",
        identity: "seq",
        fields: &["at_ms", "operator", "verb", "environment", "said"],
    },
    Rows {
        about: "secrets",
        arguments: "secret list production",
        identity: "version",
        // How a fingerprint is made may change: the values are proved by what runs with them.
        fields: &["set_by", "set_at_ms", "secrets{}"],
    },
    Rows {
        about: "declaration",
        arguments: "env show production",
        identity: "key",
        fields: &["url", "mode", "required", "hosts", "deploy.bake", "processes.web.port"],
    },
];

/// Of what nobody has changed meanwhile.
const LIVE: [Rows; 2] = [
    Rows {
        about: "live",
        arguments: "status production",
        identity: "key",
        fields: &[
            "live.slot",
            "live.deployment",
            "live.release.image_id",
            "live.secrets_version",
            "live.schema_version",
            "live.since",
            "live.rollback_count",
            "live.serving",
            "traffic.slot",
        ],
    },
    Rows {
        about: "lock",
        arguments: "lock status production",
        identity: "by",
        fields: &["kind.hold.reason", "since", "until", "hostname"],
    },
];

impl Recorded {
    /// Of the cluster, and of these environments.
    pub(crate) fn of(fleet: &Fleet, sites: &[&Site<'_>]) -> Result<Self> {
        let mut recorded = Self::default();
        if let Some(site) = sites.first() {
            OF_CLUSTER.iter().try_for_each(|rows| recorded.read(site, "", rows))?;
        }
        let coordinators = fleet.coordinators();
        for site in sites {
            let environment = format!("{} ", site.environment());
            OF_ENVIRONMENT.iter().try_for_each(|rows| recorded.read(site, &environment, rows))?;
            recorded.read_deployments(site, &environment, &coordinators)?;
        }
        for host in fleet.hosts().iter().filter(|host| host.kind != Kind::Coordinator) {
            let sum = host.run(&format!("sha256sum {HOST_KEY}"))?;
            recorded.note(format!("host {}: key", host.name), sum.into());
        }
        Ok(recorded)
    }

    /// And of an environment that nobody changes meanwhile: what is live, in which containers of that host, and who
    /// has the lock.
    pub(crate) fn and_live(mut self, site: &Site<'_>, host: &Host) -> Result<Self> {
        let environment = site.environment();
        LIVE.iter().try_for_each(|rows| self.read(site, &format!("{environment} "), rows))?;
        let containers = host.run(&format!(
            "docker ps --no-trunc --format '{{{{.ID}}}}' --filter label=lockstep.environment={environment} | sort"
        ))?;
        ensure!(!containers.is_empty(), "nothing of {environment} runs on {}", host.name);
        self.note(format!("{environment} containers on {}", host.name), containers.into());
        Ok(self)
    }

    /// Plan, journal and log of each deployment that has ended. Whoever drove it has its log; another writes
    /// it from the journal when it starts.
    fn read_deployments(
        &mut self,
        site: &Site<'_>,
        environment: &str,
        coordinators: &[String],
    ) -> Result<()> {
        let all: Vec<Value> = site.json(&format!("history production --limit {HISTORY}"))?;
        for summary in all.iter().filter(|summary| !at(summary, "ended_at").is_null()) {
            let id = text(at(summary, "id"));
            let shown: Value = site.json(&format!("show {id}"))?;
            let about = format!("{environment}deployment {id}");
            let entries = at(&shown, "journal").as_array().map_or(0, Vec::len);
            ensure!(entries > 0, "{about} has no journal");
            self.note(format!("{about}: length of the journal"), entries.into());
            for field in ["plan.hash", "plan.slot", "plan.release.image_id"] {
                self.note(format!("{about}: {field}"), at(&shown, field).clone());
            }
            self.note(format!("{about}: steps"), steps(&shown).into());
            for coordinator in coordinators {
                let logs =
                    format!("--coordinator {coordinator} logs production --deployment {id} --tail 10000");
                let lines = site.lockstep(&logs)?.lines().count();
                if lines > 0 {
                    self.note(format!("{about}: lines of its log at {coordinator}"), lines.into());
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, site: &Site<'_>, environment: &str, rows: &Rows) -> Result<()> {
        let Rows { about, arguments, identity, fields } = rows;
        let limit = if arguments.ends_with("--limit") { format!(" {HISTORY}") } else { String::new() };
        let answer: Value = site.json(&format!("{arguments}{limit}"))?;
        for row in answer.as_array().map_or(slice::from_ref(&answer), Vec::as_slice) {
            let id = text(at(row, identity));
            ensure!(!id.is_empty(), "`lockstep {arguments}` has no {identity} in {row}");
            for field in *fields {
                self.note(format!("{environment}{about} {id}: {field}"), fact(row, field));
            }
        }
        Ok(())
    }

    fn note(&mut self, about: String, fact: Value) {
        self.facts.insert(about, fact);
    }

    /// # Errors
    /// Every fact that is missing there, or another.
    pub(crate) fn is_kept_in(&self, after: &Self) -> Result<()> {
        let lost = self.lost_in(after);
        ensure!(
            lost.is_empty(),
            "the upgrade lost or changed {} facts:\n  {}",
            lost.len(),
            lost.join("\n  ")
        );
        Ok(())
    }

    fn lost_in(&self, after: &Self) -> Vec<String> {
        let lost = self.facts.iter().filter_map(|(about, fact)| match after.facts.get(about) {
            Some(found) if found == fact => None,
            Some(found) => Some(format!("{about} was {fact}, and is {found}")),
            None => Some(format!("{about} was {fact}, and is missing")),
        });
        lost.collect()
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.facts.values().filter(|fact| !fact.is_null()).count();
        write!(f, "{known} recorded facts were kept")
    }
}

/// The steps of a plan, and the hosts that they are of.
fn steps(shown: &Value) -> Vec<String> {
    let waves = at(shown, "plan.waves").as_array().into_iter().flatten();
    let steps = waves.flat_map(|wave| at(wave, "steps").as_array().into_iter().flatten());
    steps.map(|step| format!("{} on {}", text(at(step, "id")), text(at(step, "host_name")))).collect()
}

/// The value at a path with dots, of which each part may have several names; `null` where there is none.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(value, |value, names| names.split('|').find_map(|name| value.get(name)).unwrap_or(&Value::Null))
}

/// The value at a path; of an object whose path ends in `{}` only the names.
fn fact(value: &Value, path: &str) -> Value {
    match (path.strip_suffix("{}"), at(value, path.trim_end_matches("{}"))) {
        (Some(_), Value::Object(object)) => object.keys().cloned().collect(),
        (_, found) => found.clone(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recorded(facts: &[(&str, Value)]) -> Recorded {
        Recorded { facts: facts.iter().map(|(about, fact)| ((*about).to_owned(), fact.clone())).collect() }
    }

    #[test]
    fn a_fact_that_is_another_or_missing_after_an_upgrade_is_named() {
        let before = recorded(&[("host a: roles", json!(["app"])), ("host b: roles", json!(["lb"]))]);
        let after = recorded(&[("host a: roles", json!(["db"]))]);
        assert_eq!(
            before.lost_in(&after),
            ["host a: roles was [\"app\"], and is [\"db\"]", "host b: roles was [\"lb\"], and is missing"]
        );
        assert!(before.is_kept_in(&after).is_err());
    }

    #[test]
    fn facts_may_be_added_by_an_upgrade() {
        let before = recorded(&[("host a: roles", json!(["app"]))]);
        let after = recorded(&[("host a: roles", json!(["app"])), ("host b: roles", json!(["lb"]))]);
        assert_eq!(before.lost_in(&after), Vec::<String>::new());
    }

    #[test]
    fn of_an_object_the_names_alone_may_be_compared() {
        let view = json!({"secrets": {"API_KEY": "3kq7", "DATABASE_URL": "mr4a"}});
        assert_eq!(fact(&view, "secrets{}"), json!(["API_KEY", "DATABASE_URL"]));
        assert_eq!(fact(&view, "secrets"), view["secrets"]);
    }

    #[test]
    fn a_field_is_found_under_either_of_its_names() {
        let (earlier, later) = (json!({"live": {"passed_by": [1]}}), json!({"live": {"excluded": [1]}}));
        for view in [&earlier, &later] {
            assert_eq!(at(view, "live.passed_by|excluded"), &json!([1]));
        }
        assert_eq!(at(&later, "live.passed_by"), &Value::Null);
    }
}
