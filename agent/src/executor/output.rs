//! The output of a step. It is redacted here, before it goes anywhere: all of it to the step's log, the last line to
//! whoever watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use lockstep_core::health::{Answer, Probe};
use lockstep_core::run::journal::{Finding, StepFailure};
use lockstep_core::run::limits::{TAIL_LINE_BYTES_MAX, TAIL_LINES_MAX};
use lockstep_core::secret::redact::Redactor;
use tracing::warn;

use crate::host::clock;
use crate::journal::Outcome;
use crate::journal::step_log::StepLog;
use crate::printed::{LastLines, PrintedLine};
use crate::probe::shown_body;

/// The maximum length of what is passed to the output at once. The log has no longer line.
const ADDED_BYTES_MAX: usize = 64 * 1024;

/// The output of a step. The tasks of the step share it, and each reads another stream.
#[derive(Debug, Clone)]
pub struct Output {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    redactor: Redactor,
    log: Option<StepLog>,
    last: Option<String>,
    tail: VecDeque<String>,
}

impl Output {
    /// Writes to `log`, if there is one, without the values that `redactor` knows.
    pub fn new(redactor: Redactor, log: Option<StepLog>) -> Self {
        let shared = Shared { redactor, log, last: None, tail: VecDeque::with_capacity(TAIL_LINES_MAX) };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a line, or several.
    pub fn line(&self, text: &str) {
        let mut shared = self.shared();
        let clean = if text.len() <= ADDED_BYTES_MAX {
            shared.redactor.redact(text)
        } else {
            shared.redactor.redact_beginning(&text[..text.floor_char_boundary(ADDED_BYTES_MAX)])
        };
        for line in clean.lines() {
            shared.keep(line);
        }
    }

    /// Adds a line that a program printed.
    pub fn printed(&self, line: &PrintedLine) {
        let mut shared = self.shared();
        let clean = line.redacted(&shared.redactor);
        shared.keep(&clean);
    }

    /// `lines` as they may be shown.
    pub fn redacted(&self, lines: &LastLines) -> Vec<String> {
        lines.redacted(&self.redactor())
    }

    /// `probe` as it may be shown.
    pub fn probe(&self, probe: Probe) -> Probe {
        probe_without(probe, &self.redactor())
    }

    /// The last line since the previous call.
    pub fn take_last(&self) -> Option<String> {
        self.shared().last.take()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.shared().tail.iter().cloned().collect()
    }

    /// Redacts `outcome`, which may have the output of a tool, and keeps it within the limits of a report.
    pub fn clean(&self, outcome: Outcome) -> Outcome {
        let redactor = self.redactor();
        let clean = |text: String| redactor.redact(&text);
        let clean_probes = |probes: Vec<Probe>| {
            probes.into_iter().map(|probe| probe_without(probe, &redactor)).collect::<Vec<_>>()
        };
        match outcome {
            Ok(finding) => {
                let (said, probes) = (clean(finding.said), clean_probes(finding.probes));
                Ok(Finding { said, probes, ..finding }.bounded())
            }
            Err(failure) => {
                let failure = StepFailure {
                    certainty: failure.certainty,
                    what: clean(failure.what),
                    why: failure.why.map(clean),
                    tail: failure.tail.into_iter().map(clean).collect(),
                    probes: clean_probes(failure.probes),
                    next: failure.next.map(clean),
                };
                Err(failure.bounded())
            }
        }
    }

    fn redactor(&self) -> Redactor {
        self.shared().redactor.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A thread that panicked while it held this left whole lines behind.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shared {
    fn keep(&mut self, line: &str) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.line(clock::now(), line)
        {
            // A full disk is no reason to fail a step that needs none.
            warn!(%error, "cannot write the log of the step; its output is not stored");
            self.log = None;
        }
        // The log has more of it.
        let short = line[..line.floor_char_boundary(TAIL_LINE_BYTES_MAX)].trim_end();
        if short.is_empty() {
            return;
        }
        self.last = Some(short.to_owned());
        if self.tail.len() == TAIL_LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(short.to_owned());
    }
}

/// Redacts `probe`, of whose body it shows the beginning.
pub fn probe_without(probe: Probe, redactor: &Redactor) -> Probe {
    let answer = match probe.answer {
        Answer::Http { status, declared, body } => {
            let declared = declared.map(|declared| redactor.redact(&declared));
            Answer::Http { status, declared, body: shown_body(&body, redactor) }
        }
        Answer::Nothing { why } => Answer::Nothing { why: redactor.redact(&why) },
    };
    Probe { answer, ..probe }.bounded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::secret::Secret;
    use lockstep_core::time::{Millis, Timestamp};
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_secret_is_gone_before_a_line_goes_anywhere() {
        let secret = Secret::new("top-secret-value".to_owned());
        let variables = BTreeMap::from([("TOKEN".to_owned(), secret)]);
        let output = Output::new(Redactor::new(&variables, &BTreeSet::new()), None);
        output.line("first\nwith top-secret-value in it\n");
        assert_eq!(output.take_last().as_deref(), Some("with *** in it"));
        assert_eq!(output.take_last(), None);
        assert_eq!(output.tail(), ["first", "with *** in it"]);
    }

    #[test]
    fn what_a_step_says_of_its_failure_is_redacted_and_within_the_limits() {
        let secret = Secret::new("top-secret-value".to_owned());
        let variables = BTreeMap::from([("TOKEN".to_owned(), secret)]);
        let output = Output::new(Redactor::new(&variables, &BTreeSet::new()), None);
        let long = "top-secret-value ".repeat(100_000);
        let answer = Answer::Http { status: 500, declared: None, body: long.clone() };
        let probe = Probe { at: Timestamp(0), took: Millis(0), answer };
        let failure = StepFailure {
            tail: vec![long.clone(); 30],
            probes: vec![probe.clone(); 3],
            ..StepFailure::new(long.clone())
        };
        let failure = output.clean(Err(failure.why(long.clone()))).unwrap_err();
        let finding =
            output.clean(Ok(Finding { said: long, probes: vec![probe], ..Finding::default() })).unwrap();
        let said = format!("{failure:?} {finding:?}");
        assert!(said.len() < 64 * 1024, "{}", said.len());
        assert!(!said.contains("secret"), "{said}");
    }
}
