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
    use alloc::vec;

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
}
