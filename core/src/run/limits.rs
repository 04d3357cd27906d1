//! How large may be what a host reports. The agent holds the limits where a report is made, and the coordinator where
//! it enters. A report within them always fits into a message and into the store.

use alloc::vec::Vec;

use crate::health::{Answer, Health, InstanceHealth, Probe};
use crate::record::observed::{HbaObservation, ImageObservation, Observation};
use crate::record::ports::SLOT_PORTS;
use crate::release::MIGRATIONS_MAX;
use crate::run::journal::{Finding, Migrated, StepFailure};
use crate::shortened::shortened;

/// A sentence about what happened, or why.
pub const TEXT_BYTES_MAX: usize = 4096;

/// The lines of output in a failure, and the length of each.
pub const TAIL_LINES_MAX: usize = 20;
pub const TAIL_LINE_BYTES_MAX: usize = 1024;

/// The probes in a report.
pub const PROBES_MAX: usize = 100;

/// What a probe has of an answer.
pub const ANSWER_BYTES_MAX: usize = 1200;

/// What is shown of the body of an answer.
pub const BODY_BYTES_SHOWN: usize = 300;

/// The status word in an answer: what is longer is no word.
pub const DECLARED_BYTES_MAX: usize = 64;

/// What an observation could not see.
pub const PROBLEMS_MAX: usize = 50;

/// The containers of one environment on one host, and the instances of a health report.
pub const CONTAINERS_MAX: usize = 2000;

/// The endpoints of a slot that are not healthy.
const ENDPOINTS_MAX: usize = 2000;

/// A version, a name, a label.
const WORD_BYTES_MAX: usize = 256;

impl StepFailure {
    /// The failure within the limits: of its output the last lines, of its probes the last ones.
    pub fn bounded(self) -> Self {
        let Self { certainty, what, why, tail, probes, next, migrated } = self;
        let text = |text| shortened(text, TEXT_BYTES_MAX);
        let tail = last(tail, TAIL_LINES_MAX).into_iter();
        Self {
            certainty,
            what: text(what),
            why: why.map(text),
            tail: tail.map(|line| shortened(line, TAIL_LINE_BYTES_MAX)).collect(),
            probes: bounded_probes(probes),
            next: next.map(text),
            migrated: migrated.map(Migrated::bounded),
        }
    }
}

impl Finding {
    /// The finding within the limits.
    pub fn bounded(self) -> Self {
        let Self { said, migrated, mut snapshot, probes, traffic, switch_took, mut unhealthy, reloaded } =
            self;
        unhealthy.truncate(ENDPOINTS_MAX);
        if let Some(snapshot) = &mut snapshot {
            snapshot.path = shortened(core::mem::take(&mut snapshot.path), TEXT_BYTES_MAX);
        }
        Self {
            said: shortened(said, TEXT_BYTES_MAX),
            migrated: migrated.map(Migrated::bounded),
            snapshot,
            probes: bounded_probes(probes),
            traffic,
            switch_took,
            unhealthy,
            reloaded,
        }
    }
}

impl Migrated {
    fn bounded(mut self) -> Self {
        self.applied.truncate(MIGRATIONS_MAX);
        self
    }
}

impl Probe {
    /// The probe within the limits.
    pub fn bounded(self) -> Self {
        let Self { at, took, answer } = self;
        let answer = match answer {
            Answer::Http { status, declared, body } => Answer::Http {
                status,
                declared: declared.map(|declared| shortened(declared, DECLARED_BYTES_MAX)),
                body: shortened(body, ANSWER_BYTES_MAX),
            },
            Answer::Nothing { why } => Answer::Nothing { why: shortened(why, ANSWER_BYTES_MAX) },
        };
        Self { at, took, answer }
    }
}

impl InstanceHealth {
    /// The health within the limits. It has the last ten probes, and the body of those that are not healthy.
    pub fn bounded(self) -> Self {
        let Self { container, health, probes } = self;
        let mut probes: Vec<Probe> = last(probes, 10).into_iter().map(Probe::bounded).collect();
        for probe in &mut probes {
            if probe.health() == Health::Healthy
                && let Answer::Http { body, .. } = &mut probe.answer
            {
                body.clear();
            }
        }
        Self { container: shortened(container, WORD_BYTES_MAX), health, probes }
    }
}

impl Observation {
    /// The observation within the limits.
    pub fn bounded(mut self) -> Self {
        self.problems.truncate(PROBLEMS_MAX);
        self.containers.truncate(CONTAINERS_MAX);
        self.ports_in_use.retain(|port| SLOT_PORTS.contains(port));
        let texts = self.problems.iter_mut().chain(&mut self.foreign_schema).chain(&mut self.not_served);
        texts.for_each(|text| *text = shortened(core::mem::take(text), TEXT_BYTES_MAX));
        self.tools.values_mut().for_each(|version| {
            *version = shortened(core::mem::take(version), WORD_BYTES_MAX);
        });
        if let Some(HbaObservation::NotOurs { because }) = &mut self.admission {
            *because = shortened(core::mem::take(because), TEXT_BYTES_MAX);
        }
        if let Some(ImageObservation { commit, migrations, .. }) = &mut self.image {
            migrations.truncate(MIGRATIONS_MAX);
            *commit = commit.take().map(|commit| shortened(commit, WORD_BYTES_MAX));
        }
        self
    }
}

fn bounded_probes(probes: Vec<Probe>) -> Vec<Probe> {
    last(probes, PROBES_MAX).into_iter().map(Probe::bounded).collect()
}

/// The last `count` of `all`.
fn last<T>(mut all: Vec<T>, count: usize) -> Vec<T> {
    all.drain(..all.len().saturating_sub(count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec;

    use crate::id::Digest;
    use crate::plan::action::Endpoint;
    use crate::record::observed::{ContainerObservation, ContainerRunState};
    use crate::release::{Compatibility, Migration};
    use crate::run::journal::SnapshotTaken;
    use crate::slot::Slot;
    use crate::time::{Millis, Timestamp};

    /// Less than any transport and any store accepts.
    const REPORT_BYTES_MAX: usize = 1024 * 1024;

    fn probe(text: &str) -> Probe {
        let answer = Answer::Http { status: 200, declared: Some(text.into()), body: text.into() };
        Probe { at: Timestamp(0), took: Millis(0), answer }
    }

    #[test]
    fn a_failure_of_any_size_is_within_the_limits_and_has_its_last_lines() {
        let long = "\u{1}ä".repeat(1 << 14);
        let mut tail = vec![long.clone(); 100];
        tail.push("the last line".into());
        let failure = StepFailure { tail, probes: vec![probe(&long); 200], ..StepFailure::new(long.clone()) };
        let bounded = failure.why(long.clone()).next(long).bounded();
        assert!(serde_json::to_vec(&bounded).unwrap().len() < REPORT_BYTES_MAX);
        assert_eq!(bounded.tail.len(), TAIL_LINES_MAX);
        assert_eq!(bounded.tail.last().unwrap(), "the last line");
        assert!(bounded.what.ends_with(" more bytes)"), "{}", &bounded.what[bounded.what.len() - 40..]);
        assert_eq!(bounded.clone().bounded(), bounded, "what is within the limits stays as it is");
    }

    #[test]
    fn what_is_short_stays_as_it_is() {
        let failure = StepFailure { tail: vec!["line".into()], ..StepFailure::new("it failed") };
        assert_eq!(failure.clone().why("so").bounded(), failure.why("so"));
        let finding = Finding { said: "done".into(), probes: vec![probe("up")], ..Finding::default() };
        assert_eq!(finding.clone().bounded(), finding);
    }

    #[test]
    fn an_observation_of_any_size_is_within_the_limits() {
        let long = "a".repeat(1 << 16);
        let observation = Observation {
            problems: vec![long.clone(); 200],
            foreign_schema: Some(long.clone()),
            not_served: Some(long.clone()),
            admission: Some(HbaObservation::NotOurs { because: long.clone() }),
            tools: [("docker".into(), long)].into(),
            ..Observation::default()
        };
        assert!(serde_json::to_vec(&observation.bounded()).unwrap().len() < REPORT_BYTES_MAX);
    }

    #[test]
    fn a_finding_of_any_size_is_within_the_limits() {
        let long = "a".repeat(1 << 16);
        let snapshot = SnapshotTaken {
            host: "db-1".parse().unwrap(),
            path: long.clone(),
            bytes: 1,
            manifest: Digest::of_content(b"manifest"),
        };
        let endpoint = Endpoint { address: "172.17.0.1".into(), port: 20_000 };
        let finding = Finding {
            said: long.clone(),
            migrated: Some(Migrated { applied: vec![1; MIGRATIONS_MAX + 1], schema_version: 1 }),
            snapshot: Some(Box::new(snapshot)),
            probes: vec![probe(&long); PROBES_MAX + 1],
            unhealthy: vec![endpoint; ENDPOINTS_MAX + 1],
            ..Finding::default()
        };
        let bounded = finding.bounded();
        assert!(bounded.said.len() <= TEXT_BYTES_MAX);
        assert_eq!(bounded.migrated.unwrap().applied.len(), MIGRATIONS_MAX);
        assert!(bounded.snapshot.unwrap().path.len() <= TEXT_BYTES_MAX);
        assert_eq!(bounded.probes.len(), PROBES_MAX);
        assert_eq!(bounded.unhealthy.len(), ENDPOINTS_MAX);
    }

    #[test]
    fn a_probe_of_any_size_is_within_the_limits() {
        let long = "a".repeat(1 << 16);
        let Answer::Http { declared, body, .. } = probe(&long).bounded().answer else { panic!("an answer") };
        assert!(declared.unwrap().len() <= DECLARED_BYTES_MAX);
        assert!(body.len() <= ANSWER_BYTES_MAX);
        let nothing = Probe { answer: Answer::Nothing { why: long.clone() }, ..probe("") };
        let Answer::Nothing { why } = nothing.bounded().answer else { panic!("no answer") };
        assert!(why.len() <= ANSWER_BYTES_MAX);
    }

    #[test]
    fn the_health_of_an_instance_has_its_last_probes() {
        let long = "a".repeat(1 << 16);
        let mut probes = vec![probe("down"); 20];
        probes.push(probe("up"));
        let bounded = InstanceHealth { container: long, health: Health::Unhealthy, probes }.bounded();
        assert!(bounded.container.len() <= WORD_BYTES_MAX);
        assert_eq!(bounded.probes.len(), 10);
        let bodies = bounded.probes.iter().map(|probe| match &probe.answer {
            Answer::Http { body, .. } => body.as_str(),
            Answer::Nothing { why } => why,
        });
        let bodies: Vec<&str> = bodies.collect();
        assert_eq!(bodies[8..], ["down", ""], "the body of one that is healthy says nothing");
    }

    #[test]
    fn each_part_of_an_observation_is_within_its_limit() {
        let long = "a".repeat(1 << 16);
        let container = ContainerObservation {
            name: "ls-notes".into(),
            slot: Slot::Blue,
            process: "web".parse().unwrap(),
            deployment: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(),
            spec: Digest::of_content(b"spec"),
            image_id: Digest::of_content(b"image"),
            running: ContainerRunState::Yes,
            health: Health::Healthy,
            restarts: None,
        };
        let migration = Migration {
            version: 1,
            name: "1_init".into(),
            digest: Digest::of_content(b"sql"),
            compatibility: Compatibility::Expands,
        };
        let image = ImageObservation {
            id: Digest::of_content(b"image"),
            manifest: None,
            commit: Some(long.clone()),
            migrations: vec![migration; MIGRATIONS_MAX + 1],
            size_bytes: 1,
        };
        let observation = Observation {
            problems: vec![long.clone(); PROBLEMS_MAX + 1],
            foreign_schema: Some(long.clone()),
            not_served: Some(long.clone()),
            admission: Some(HbaObservation::NotOurs { because: long.clone() }),
            tools: [("docker".into(), long)].into(),
            containers: vec![container; CONTAINERS_MAX + 1],
            ports_in_use: (0..=u16::MAX).collect(),
            image: Some(image),
            ..Observation::default()
        };
        let bounded = observation.bounded();
        assert_eq!(bounded.problems.len(), PROBLEMS_MAX);
        let texts = bounded.problems.iter().chain(&bounded.foreign_schema).chain(&bounded.not_served);
        assert!(texts.into_iter().all(|text| text.len() <= TEXT_BYTES_MAX));
        let Some(HbaObservation::NotOurs { because }) = &bounded.admission else { panic!("an admission") };
        assert!(because.len() <= TEXT_BYTES_MAX);
        assert!(bounded.tools["docker"].len() <= WORD_BYTES_MAX);
        assert_eq!(bounded.containers.len(), CONTAINERS_MAX);
        assert!(bounded.ports_in_use.iter().all(|port| SLOT_PORTS.contains(port)));
        let image = bounded.image.unwrap();
        assert_eq!(image.migrations.len(), MIGRATIONS_MAX);
        assert!(image.commit.unwrap().len() <= WORD_BYTES_MAX);
    }
}
