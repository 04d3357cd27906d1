//! What a host reports, without the values of secrets. The agent takes out those that its step used, before anything is
//! written; the coordinator all of the environment's, before anything is stored or shown.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::agent::accept::Outcome;
use crate::health::{Answer, InstanceHealth, Probe};
use crate::record::observed::{HbaObservation, Observation};
use crate::run::journal::{Finding, StepFailure};
use crate::run::limits::BODY_BYTES_SHOWN;
use crate::secret::redact::Redactor;

/// Stands for what an application said and is not kept.
const NOT_KEPT: &str = "what the application said is not kept: the agent restarted before it was reported";

/// The outcome of a step without secrets, within the limits of a report.
#[expect(clippy::result_large_err, reason = "an outcome is made once a step; its size costs nothing")]
pub fn redacted_outcome(outcome: Outcome, redactor: &Redactor) -> Outcome {
    outcome
        .map(|finding| finding.redacted(redactor).bounded())
        .map_err(|failure| failure.redacted(redactor).bounded())
}

impl Finding {
    /// The finding without what an application said.
    pub fn without_quotes(self) -> Self {
        Self { probes: self.probes.into_iter().map(Probe::without_quotes).collect(), ..self }
    }

    pub fn redacted(self, redactor: &Redactor) -> Self {
        let (said, probes) = (redactor.redact_cut(&self.said), probes(self.probes, redactor));
        Self { said, probes, ..self }
    }
}

impl StepFailure {
    /// The failure without what an application said.
    pub fn without_quotes(self) -> Self {
        let probes = self.probes.into_iter().map(Probe::without_quotes).collect();
        let why = self.why.map(|_| NOT_KEPT.to_owned());
        Self { why, tail: Vec::new(), probes, ..self }
    }

    pub fn redacted(self, redactor: &Redactor) -> Self {
        let Self { certainty, what, why, tail, probes: asked, next, migrated } = self;
        let clean = |text: String| redactor.redact_cut(&text);
        Self {
            certainty,
            what: clean(what),
            why: why.map(clean),
            tail: tail.into_iter().map(clean).collect(),
            probes: probes(asked, redactor),
            next: next.map(clean),
            migrated,
        }
    }
}

impl Probe {
    fn without_quotes(self) -> Self {
        let answer = match self.answer {
            Answer::Http { status, declared: _, body: _ } => {
                Answer::Http { status, declared: None, body: String::new() }
            }
            Answer::Nothing { why: _ } => Answer::Nothing { why: NOT_KEPT.to_owned() },
        };
        Self { answer, ..self }
    }

    /// The probe with the beginning of the body: it is cut once it is redacted, and not before.
    pub fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |text: String| redactor.redact_cut(&text);
        let answer = match self.answer {
            Answer::Http { status, declared, body } => {
                let mut body = clean(body);
                body.truncate(body.floor_char_boundary(BODY_BYTES_SHOWN));
                body.truncate(body.trim_end().len());
                Answer::Http { status, declared: declared.map(clean), body }
            }
            Answer::Nothing { why } => Answer::Nothing { why: clean(why) },
        };
        Self { answer, ..self }
    }
}

impl InstanceHealth {
    /// Whether an answer has a text that may quote something.
    pub fn quotes(&self) -> bool {
        self.probes.iter().any(|probe| match &probe.answer {
            Answer::Http { body, .. } => !body.is_empty(),
            Answer::Nothing { .. } => true,
        })
    }

    pub fn redacted(self, redactor: &Redactor) -> Self {
        Self { probes: probes(self.probes, redactor), ..self }
    }
}

impl Observation {
    /// Whether it has a text that may quote something.
    pub fn quotes(&self) -> bool {
        !self.problems.is_empty()
            || self.foreign_schema.is_some()
            || self.not_served.is_some()
            || self.site_changed.is_some()
            || matches!(self.admission, Some(HbaObservation::NotOurs { .. }))
    }

    pub fn redacted(mut self, redactor: &Redactor) -> Self {
        let because = match &mut self.admission {
            Some(HbaObservation::NotOurs { because }) => Some(because),
            Some(HbaObservation::Here(_)) | None => None,
        };
        let diff = self.site_changed.as_mut().map(|change| &mut change.diff);
        let texts = self.problems.iter_mut().chain(&mut self.foreign_schema).chain(&mut self.not_served);
        let texts = texts.chain(because).chain(diff);
        texts.for_each(|text| *text = redactor.redact_cut(text));
        self
    }
}

fn probes(probes: Vec<Probe>, redactor: &Redactor) -> Vec<Probe> {
    probes.into_iter().map(|probe| probe.redacted(redactor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use alloc::vec;

    use crate::id::Digest;
    use crate::record::observed::SiteChange;
    use crate::secret::Secret;
    use crate::shortened::shortened;
    use crate::time::{Millis, Timestamp};

    const SECRET: &str = "top-secret-value";

    fn redactor() -> Redactor {
        let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new(SECRET.to_owned()))]);
        Redactor::new(&variables, &BTreeSet::new())
    }

    fn probe(body: &str) -> Probe {
        let declared = Some(body.to_owned());
        Probe {
            at: Timestamp(0),
            took: Millis(0),
            answer: Answer::Http { status: 500, declared, body: body.to_owned() },
        }
    }

    #[test]
    fn nothing_that_a_host_reports_has_a_secret() {
        let text = format!("with {SECRET} in it");
        let nothing = Probe { answer: Answer::Nothing { why: text.clone() }, ..probe("") };
        let probes = vec![probe(&text), nothing];
        let finding = Finding { said: text.clone(), probes: probes.clone(), ..Finding::default() };
        let failure = StepFailure {
            tail: vec![text.clone()],
            probes: probes.clone(),
            ..StepFailure::new(text.clone())
        };
        let failure = failure.why(text.clone()).next(text.clone());
        let health =
            InstanceHealth { container: "web".to_owned(), health: crate::health::Health::Unhealthy, probes };
        let there = Digest::of_content(b"");
        let change = SiteChange { installed: None, there, added: 1, removed: 0, diff: text.clone() };
        let observation = Observation {
            problems: vec![text.clone()],
            foreign_schema: Some(text.clone()),
            not_served: Some(text.clone()),
            admission: Some(HbaObservation::NotOurs { because: text }),
            site_changed: Some(change),
            ..Observation::default()
        };
        let redactor = redactor();
        let said = format!(
            "{:?} {:?} {:?} {:?}",
            finding.redacted(&redactor),
            failure.redacted(&redactor),
            health.redacted(&redactor),
            observation.redacted(&redactor)
        );
        assert!(!said.contains(SECRET), "{said}");
        assert_eq!(said.matches("with *** in it").count(), 19, "{said}");
    }

    #[test]
    fn without_what_an_application_said_there_is_still_what_happened() {
        let failure = StepFailure {
            tail: vec![SECRET.to_owned()],
            probes: vec![probe(SECRET)],
            ..StepFailure::new("it failed")
        };
        let kept = failure.why(SECRET).without_quotes();
        assert!(!format!("{kept:?}").contains(SECRET), "{kept:?}");
        assert_eq!((kept.what.as_str(), kept.probes.len()), ("it failed", 1));
        let finding =
            Finding { said: "healthy".to_owned(), probes: vec![probe(SECRET)], ..Finding::default() };
        let kept = finding.without_quotes();
        assert!(!format!("{kept:?}").contains(SECRET), "{kept:?}");
        assert_eq!(kept.said, "healthy");
    }

    #[test]
    fn a_secret_that_was_cut_is_not_shown_in_part() {
        let redactor = redactor();
        for before in 0..60 {
            let text = shortened(format!("{}{SECRET}{}", "x".repeat(1000 + before), "y".repeat(500)), 1070);
            let why = format!("it said {text} after 3 ms");
            let failure = StepFailure::new("failed").why(why).redacted(&redactor);
            let why = failure.why.unwrap_or_default();
            assert!(!why.contains("top"), "{before}: {why}");
            assert!(why.ends_with(" more bytes) after 3 ms"), "{why}");
        }
    }

    #[test]
    fn a_body_is_cut_after_it_is_redacted() {
        let body = format!("{}{SECRET}", "x".repeat(BODY_BYTES_SHOWN - 4));
        let Answer::Http { body, .. } = probe(&body).redacted(&redactor()).answer else {
            panic!("an answer")
        };
        assert_eq!(body, format!("{}***", "x".repeat(BODY_BYTES_SHOWN - 4)));
    }
}
