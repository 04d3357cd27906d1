//! What a story's hosts see when a plan is made.

use anyhow::{Context, Result, bail};
use lockstep_core::host::Host;
use lockstep_core::id::{Digest, HostId};
use lockstep_core::plan::hba::{DatabaseRole, HbaBlock, Transport};
use lockstep_core::record::observed::{ContainerRunState, HbaObservation, LocalHba, Observation, SiteChange};
use lockstep_core::release::{Schema, SchemaState};

use super::StoryState;

impl StoryState {
    pub(super) fn schema(&mut self, words: &[&str]) -> Result<String> {
        let schema = match words {
            ["unreachable" | "foreign"] => None,
            [version] => Some(Schema { version: version.parse()?, state: SchemaState::Clean }),
            [version, "dirty"] => Some(Schema { version: version.parse()?, state: SchemaState::Dirty }),
            _ => bail!("schema VERSION [dirty], or schema unreachable, or schema foreign"),
        };
        let foreign = "public.schema_migrations has the columns version character varying";
        let foreign = (words == ["foreign"]).then(|| foreign.to_owned());
        for seen in self.record.observed.values_mut() {
            seen.schema = schema;
            seen.foreign_schema.clone_from(&foreign);
            seen.problems = if schema.is_none() && foreign.is_none() {
                vec!["connection refused".to_owned()]
            } else {
                Vec::new()
            };
        }
        Ok(String::new())
    }

    /// `pg_hba edge-1`: the database is one of its PostgreSQL, which lets nobody else in; or `pg_hba edge-1 lets-in
    /// app-1,app-2`, by an administrator's lines; or `pg_hba edge-1 elsewhere`.
    pub(super) fn pg_hba(&mut self, words: &[&str]) -> Result<String> {
        let (name, let_in) = match words {
            [name] => (name, Some("")),
            [name, "lets-in", hosts] => (name, Some(*hosts)),
            [name, "elsewhere"] => (name, None),
            _ => bail!("pg_hba HOST [lets-in HOST,… | elsewhere]"),
        };
        let hosts = &self.record.hosts;
        let db = hosts.iter().find(|host| host.name.as_str() == *name).context("there is no such host")?;
        let seen = match let_in {
            None => {
                HbaObservation::NotOurs { because: "the database is not one of its PostgreSQL".to_owned() }
            }
            Some(let_in) => {
                let is_let_in = |name: &str| let_in.split(',').any(|there| there == name);
                let admitted = hosts.iter().filter(|host| is_let_in(host.name.as_str()));
                let role = DatabaseRole {
                    database: "notes".to_owned(),
                    user: "writer".to_owned(),
                    transport: Transport::Any,
                };
                let admitted = admitted.map(|host| host.address.clone()).collect();
                HbaObservation::Here(LocalHba { port: 5432, role, lines: Vec::new(), admitted })
            }
        };
        let observed = self.record.observed.get_mut(&db.id).context("it is not seen")?;
        observed.admission = Some(seen);
        Ok(String::new())
    }

    /// `silent app-2`: it does not answer when a plan is made.
    pub(super) fn silent(&mut self, words: &[&str]) -> Result<String> {
        let [name] = words else { bail!("silent HOST") };
        let host = self.record.hosts.iter().find(|host| host.name.as_str() == *name);
        self.record.observed.remove(&host.context("there is no such host")?.id);
        Ok(String::new())
    }

    /// `slot blue stopped`, or `slot blue stopped on app-2`: its containers have ended.
    pub(super) fn slot(&mut self, words: &[&str]) -> Result<String> {
        let [slot, "stopped", on @ ..] = words else { bail!("slot blue|green stopped [on HOST]") };
        let is_meant = |id: &HostId| {
            let named =
                |host: &&Host| host.id == *id && on.last().is_none_or(|name| host.name.as_str() == *name);
            self.record.hosts.iter().any(|host| named(&host))
        };
        let seen = self.record.observed.iter_mut().filter(|(id, _)| is_meant(id));
        for container in seen.flat_map(|(_, seen)| seen.containers.iter_mut()) {
            if container.slot.as_str() == *slot {
                container.running = ContainerRunState::Exited(137);
            }
        }
        Ok(String::new())
    }

    /// Another site answers for the name.
    pub(super) fn serve_another_site(&mut self) -> Result<String> {
        let seen = self.record.observed.values_mut().next().context("there is no host")?;
        seen.not_served =
            Some("notes.example on port 80 is not answered from its site, but with 404".to_owned());
        Ok(String::new())
    }

    /// Somebody adds two lines to the site, and takes one away.
    pub(super) fn change_site(&mut self) -> Result<String> {
        let seen = self.record.observed.values_mut().next().context("there is no host")?;
        seen.site_changed = Some(SiteChange {
            installed: seen.site.take(),
            there: Digest::of_content(b"changed"),
            added: 2,
            removed: 1,
            diff: String::new(),
        });
        Ok(String::new())
    }
}

/// What is seen once the database's rules have changed.
pub(super) fn admit(seen: &mut Observation, admission: &HbaBlock) {
    if let Some(HbaObservation::Here(here)) = &mut seen.admission {
        for gone in here.lines.iter().filter(|line| !admission.lines.contains(line)) {
            here.admitted.remove(&gone.address);
        }
        here.lines.clone_from(&admission.lines);
        here.admitted.extend(here.lines.iter().map(|line| line.address.clone()));
    }
}
