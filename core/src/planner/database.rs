//! The database in a plan: its current schema, and the hosts that it admits. A host without a matching rule gets a
//! line in `pg_hba.conf` before anything starts there. The line of a removed host is deleted last.
//!
//! What must stay true: a plan that is not sure says what it omits, and why. It never prevents what the
//! administrator's own lines allow.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use lockstep_mutant::{Mutant, is_on};

use crate::count::counted;
use crate::host::Host;
use crate::name::HostName;
use crate::plan::hba::{HbaBlock, HbaLine, Transport};
use crate::plan::{Action, Omission};
use crate::planner::{Placement, PlanRefusal, StepDraft, Waves, housekeeping, seconds, step, undo_by};
use crate::record::Record;
use crate::record::observed::{HbaObservation, LocalHba};
use crate::release::{Release, SchemaState, dirty_because, dirty_repair};
use crate::spec::{EnvironmentSpec, PgHba};

/// What `schema_migrations` is, where there is a database in which it is another tool's.
pub(super) fn foreign_schema<'r>(
    spec: &EnvironmentSpec,
    placement: &Placement<'_>,
    record: &'r Record,
) -> Option<&'r str> {
    spec.database.as_ref()?;
    record.observed.get(&placement.db.id)?.foreign_schema.as_deref()
}

/// Two tools do not share a table: what the image brings is not applied beside another tool's migrations.
pub(super) fn refuse_foreign_schema(
    spec: &EnvironmentSpec,
    release: &Release,
    foreign: Option<&str>,
) -> Result<(), PlanRefusal> {
    let path = spec.database.as_ref().and_then(|database| database.migrations.as_deref());
    let (Some(foreign), Some(path), false) = (foreign, path, release.migrations.is_empty()) else {
        return Ok(());
    };
    Err(PlanRefusal::new(
        format!("the table schema_migrations in the database of {} belongs to another tool", spec.key),
        format!(
            "{foreign}; golang-migrate needs the columns version bigint and dirty boolean, and {} has {} for it in {path}",
            release.image,
            if release.migrations.len() == 1 { "a migration" } else { "migrations" },
        ),
        "remove database.migrations from deployment.yml, or use another database, or another schema in the URL",
    ))
}

/// The schema version that is there; `None` where there is no database, or another tool keeps its schema.
pub(super) fn current_schema(
    spec: &EnvironmentSpec,
    placement: &Placement<'_>,
    record: &Record,
) -> Result<Option<u64>, PlanRefusal> {
    let Some(database) = &spec.database else {
        return Ok(None);
    };
    if foreign_schema(spec, placement, record).is_some() {
        return Ok(None);
    }
    let seen = record.observed.get(&placement.db.id);
    let Some(schema) = seen.and_then(|seen| seen.schema) else {
        let why = seen.map_or_else(|| "the host was not asked".to_string(), |seen| seen.problems.join("; "));
        return Err(PlanRefusal::new(
            format!("cannot read the database of {} from {}", spec.key, placement.db.name),
            if why.is_empty() { "it did not answer".to_string() } else { why },
            format!(
                "check {}, that PostgreSQL runs, and that its pg_hba.conf admits {}",
                database.url_from, placement.db.name
            ),
        ));
    };
    match schema.state {
        SchemaState::Clean => Ok(Some(schema.version)),
        SchemaState::Dirty => Err(PlanRefusal::new(
            format!("the database schema of {} is dirty at version {}", spec.key, schema.version),
            dirty_because(schema.version),
            dirty_repair(schema.version),
        )),
    }
}

enum HbaDecision<'a> {
    Step(Box<StepDraft<'a>>, HbaBlock),
    Nothing(Option<Omission>),
}

/// What is to be decided about: who has to be let in, and where.
pub(super) struct HbaRequest<'a> {
    pub(super) spec: &'a EnvironmentSpec,
    pub(super) db: &'a Host,
    /// Those on which the application runs.
    pub(super) app: &'a [&'a Host],
    pub(super) record: &'a Record,
}

impl<'a> HbaRequest<'a> {
    /// Every app host is let in; gives the lines that this takes, where it takes any.
    pub(super) fn admit(&self, waves: &mut Waves<'_>, omitted: &mut Vec<Omission>) -> Option<HbaBlock> {
        match self.decide() {
            HbaDecision::Step(..) if is_on(Mutant::StartsKeptOut) => None,
            HbaDecision::Step(draft, admission) => {
                waves.push(vec![*draft]);
                Some(admission)
            }
            HbaDecision::Nothing(omission) => {
                omitted.extend(omission);
                None
            }
        }
    }

    fn decide(&self) -> HbaDecision<'a> {
        let omitted = |because: String| HbaDecision::Nothing(Some(omission(because)));
        let db = &self.db.name;
        let others: Vec<&Host> = self.app.iter().copied().filter(|host| host.id != self.db.id).collect();
        if !is_ours(self.spec) {
            return match &self.spec.database {
                None => HbaDecision::Nothing(None),
                Some(_) => omitted("deployment.yml sets database.postgres.pg_hba: by_hand".to_string()),
            };
        }
        if others.is_empty() {
            let because = format!(
                "only {db} runs the application, and access from the Docker networks of {db} is configured by hand"
            );
            return omitted(because);
        }
        let here = match self.seen() {
            HbaState::Here(here) => here,
            HbaState::NotOurs(because) => return omitted(because.to_string()),
            HbaState::Unknown => {
                return omitted(format!("{db} did not report which hosts its PostgreSQL admits"));
            }
        };
        let missing: Vec<&Host> =
            others.into_iter().filter(|host| !here.admitted.contains(&host.address)).collect();
        if missing.is_empty() {
            return HbaDecision::Nothing(None);
        }
        let lines: BTreeSet<HbaLine> =
            here.lines.iter().cloned().chain(missing.iter().map(|host| line(host, here))).collect();
        if lines.len() == here.lines.len() {
            let names = list(missing.iter().map(|host| &host.name));
            return omitted(format!("pg_hba.conf has a line for {names}, but an earlier line rejects it"));
        }
        let wanted = HbaBlock { port: here.port, lines: lines.into_iter().collect() };
        HbaDecision::Step(Box::new(self.letting_in(here, wanted.clone(), &missing)), wanted)
    }

    fn letting_in(&self, here: &LocalHba, wanted: HbaBlock, missing: &[&Host]) -> StepDraft<'a> {
        let before = HbaBlock { port: here.port, lines: here.lines.clone() };
        let names = list(missing.iter().map(|host| &host.name));
        let (user, database) = (&here.role.user, &here.role.database);
        let tls = match here.role.transport {
            Transport::Any => "",
            Transport::Tls => ", with TLS",
        };
        let change = format!(
            "PostgreSQL admits {names} as {user} to {database}{tls}: adds {} to pg_hba.conf and ends no connection",
            counted(missing.len(), "line")
        );
        let undo = undo_by(Action::AdmitHosts(before), "PostgreSQL admits the same hosts as before");
        step(self.db, Action::AdmitHosts(wanted), undo, seconds(30), change)
    }

    /// The host that goes is named no more; lines of its address go too, whoever had it.
    pub(super) fn remove_line(&self, host: &Host) -> Result<Option<StepDraft<'a>>, String> {
        if host.id == self.db.id {
            return Ok(None);
        }
        self.remove(host.name.as_str(), |line| line.host == host.name || line.address == host.address)
    }

    /// Nobody is let in any more.
    ///
    /// # Errors
    /// When nobody knows which lines there are: what stays.
    pub(super) fn remove_lines(&self) -> Result<Option<StepDraft<'a>>, String> {
        let is_alone = self.app.iter().all(|host| host.id == self.db.id);
        if is_alone && matches!(self.seen(), HbaState::Unknown) {
            return Ok(None);
        }
        self.remove("any app host", |_| true)
    }

    fn remove(
        &self,
        whom: &str,
        is_removed: impl Fn(&HbaLine) -> bool,
    ) -> Result<Option<StepDraft<'a>>, String> {
        if !is_ours(self.spec) {
            return Ok(None);
        }
        let here = match self.seen() {
            HbaState::Here(here) => here,
            HbaState::NotOurs(_) => return Ok(None),
            HbaState::Unknown => {
                return Err(format!(
                    "{} did not report which hosts its PostgreSQL admits: a line for {whom} in its pg_hba.conf stays",
                    self.db.name
                ));
            }
        };
        let (removed, lines): (Vec<_>, Vec<_>) = here.lines.iter().cloned().partition(is_removed);
        if removed.is_empty() {
            return Ok(None);
        }
        let change = format!(
            "PostgreSQL no longer admits {whom}: removes {} from pg_hba.conf",
            counted(removed.len(), "line")
        );
        let action = Action::AdmitHosts(HbaBlock { port: here.port, lines });
        Ok(Some(housekeeping(self.db, action, seconds(30), change)))
    }

    fn seen(&self) -> HbaState<'a> {
        match self.record.observed.get(&self.db.id).and_then(|seen| seen.admission.as_ref()) {
            None => HbaState::Unknown,
            Some(HbaObservation::Here(here)) => HbaState::Here(here),
            Some(HbaObservation::NotOurs { because }) => HbaState::NotOurs(because),
        }
    }
}

enum HbaState<'a> {
    Here(&'a LocalHba),
    NotOurs(&'a str),
    Unknown,
}

fn is_ours(spec: &EnvironmentSpec) -> bool {
    spec.database.as_ref().is_some_and(|database| database.pg_hba == PgHba::Managed)
}

fn line(host: &Host, here: &LocalHba) -> HbaLine {
    HbaLine { host: host.name.clone(), address: host.address.clone(), role: here.role.clone() }
}

fn omission(because: String) -> Omission {
    Omission { what: "pg_hba".to_string(), because }
}

fn list<'n>(names: impl Iterator<Item = &'n HostName>) -> String {
    names.map(HostName::as_str).collect::<Vec<_>>().join(", ")
}
