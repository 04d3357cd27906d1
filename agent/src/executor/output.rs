//! The output of a step. It is redacted here, before it goes anywhere: all of it to the step's log, the last line to
//! whoever watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use lockstep_core::health::{Answer, Probe};
use lockstep_core::run::journal::{Finding, StepFailure};
use lockstep_core::secret::redact::Redactor;
use tracing::warn;

use crate::host::clock;
use crate::journal::Outcome;
use crate::journal::step_log::StepLog;

/// The number of lines in a failure.
const TAIL_LINES: usize = 20;

/// The maximum length of a line for those who watch. The log has more of it.
const WATCHED_BYTES_MAX: usize = 1024;

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
        let shared = Shared { redactor, log, last: None, tail: VecDeque::with_capacity(TAIL_LINES) };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a line, or several.
    pub fn line(&self, text: &str) {
        let mut shared = self.shared();
        let clean = shared.redactor.redact(text);
        for line in clean.lines() {
            shared.keep(line);
        }
    }

    /// The last line since the previous call.
    pub fn take_last(&self) -> Option<String> {
        self.shared().last.take()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.shared().tail.iter().cloned().collect()
    }

    /// Redacts `outcome`: it may have the output of a tool.
    pub fn clean(&self, outcome: Outcome) -> Outcome {
        let redactor = self.shared().redactor.clone();
        let clean = |text: String| redactor.redact(&text);
        match outcome {
            Ok(finding) => Ok(Finding { said: clean(finding.said), ..finding }),
            Err(failure) => Err(StepFailure {
                certainty: failure.certainty,
                what: clean(failure.what),
                why: failure.why.map(clean),
                tail: failure.tail.into_iter().map(clean).collect(),
                probes: failure.probes.into_iter().map(|probe| probe_without(probe, &redactor)).collect(),
                next: failure.next.map(clean),
            }),
        }
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
        let short = line[..line.floor_char_boundary(WATCHED_BYTES_MAX.min(line.len()))].trim_end();
        if short.is_empty() {
            return;
        }
        self.last = Some(short.to_owned());
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(short.to_owned());
    }
}

/// Redacts `probe`.
pub fn probe_without(probe: Probe, redactor: &Redactor) -> Probe {
    let answer = match probe.answer {
        Answer::Http { status, declared, body } => {
            let declared = declared.map(|declared| redactor.redact(&declared));
            Answer::Http { status, declared, body: redactor.redact(&body) }
        }
        Answer::Nothing { why } => Answer::Nothing { why: redactor.redact(&why) },
    };
    Probe { answer, ..probe }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::secret::Secret;
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
}
