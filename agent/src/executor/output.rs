//! The output of a step. The values that the step uses are taken out of it here, before it goes anywhere: all of it to
//! the step's log, the last line to whoever watches. The coordinator takes out the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use lockstep_core::health::Probe;
use lockstep_core::run::limits::{TAIL_LINE_BYTES_MAX, TAIL_LINES_MAX};
use lockstep_core::run::redacted::redacted_outcome;
use lockstep_core::secret::redact::Redactor;
use lockstep_core::shortened::shortened;
use tracing::warn;

use crate::host::clock;
use crate::journal::Outcome;
use crate::journal::step_log::StepLog;
use crate::printed::{LastLines, PrintedLine};

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
    /// Whether `redactor` knows what an application may say.
    knows_application: bool,
    log: Option<StepLog>,
    last: Option<String>,
    tail: VecDeque<String>,
}

impl Output {
    /// Writes to `log`, if there is one, without the values that `redactor` knows. `None`: the step uses none.
    pub fn new(redactor: Option<Redactor>, log: Option<StepLog>) -> Self {
        let shared = Shared {
            knows_application: redactor.is_some(),
            redactor: redactor.unwrap_or_else(Redactor::none),
            log,
            last: None,
            tail: VecDeque::with_capacity(TAIL_LINES_MAX),
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a line, or several.
    pub fn line(&self, text: &str) {
        self.shared().add(text, Kept::InLog);
    }

    /// Adds what an application said. It may have any of its secrets, so that it is kept on this host only if the step
    /// knows them.
    pub fn application_said(&self, text: &str) {
        let mut shared = self.shared();
        let kept = if shared.knows_application { Kept::InLog } else { Kept::Nowhere };
        shared.add(text, kept);
    }

    /// Adds a line that a program printed.
    pub fn printed(&self, line: &PrintedLine) {
        let mut shared = self.shared();
        let clean = line.redacted(&shared.redactor);
        shared.keep(&clean, Kept::InLog);
    }

    /// `lines` as they may be shown.
    pub fn redacted(&self, lines: &LastLines) -> Vec<String> {
        lines.redacted(&self.redactor())
    }

    /// `probe` as it may be shown.
    pub fn probe(&self, probe: Probe) -> Probe {
        probe.redacted(&self.redactor()).bounded()
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
        redacted_outcome(outcome, &self.redactor())
    }

    fn redactor(&self) -> Redactor {
        self.shared().redactor.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A thread that panicked while it held this left whole lines behind.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether a line is written to the log of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    InLog,
    Nowhere,
}

impl Shared {
    fn add(&mut self, text: &str, kept: Kept) {
        let clean = self.redactor.redact_cut(&shortened(text.to_owned(), ADDED_BYTES_MAX));
        clean.lines().for_each(|line| self.keep(line, kept));
    }

    fn keep(&mut self, line: &str, kept: Kept) {
        if kept == Kept::InLog
            && let Some(log) = &mut self.log
            && let Err(error) = log.line(clock::now(), line)
        {
            // A full disk is no reason to fail a step that needs none.
            warn!(%error, "cannot write the log of the step; its output is not stored");
            self.log = None;
        }
        // The log has more of it.
        let short = shortened(line.trim_end().to_owned(), TAIL_LINE_BYTES_MAX);
        if short.is_empty() {
            return;
        }
        self.last = Some(short.clone());
        if self.tail.len() == TAIL_LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::health::Answer;
    use lockstep_core::run::journal::{Finding, StepFailure};
    use lockstep_core::secret::Secret;
    use lockstep_core::time::{Millis, Timestamp};
    use std::collections::{BTreeMap, BTreeSet};

    use lockstep_core::id::StepId;
    use lockstep_core::run::journal::{Direction, StepKey};

    use crate::journal::step_log::StepLogs;

    #[test]
    fn a_secret_is_gone_before_a_line_goes_anywhere() {
        let secret = Secret::new("top-secret-value".to_owned());
        let variables = BTreeMap::from([("TOKEN".to_owned(), secret)]);
        let output = Output::new(Some(Redactor::new(&variables, &BTreeSet::new())), None);
        output.line("first\nwith top-secret-value in it\n");
        assert_eq!(output.take_last().as_deref(), Some("with *** in it"));
        assert_eq!(output.take_last(), None);
        assert_eq!(output.tail(), ["first", "with *** in it"]);
    }

    #[test]
    fn what_a_step_says_of_its_failure_is_redacted_and_within_the_limits() {
        let secret = Secret::new("top-secret-value".to_owned());
        let variables = BTreeMap::from([("TOKEN".to_owned(), secret)]);
        let output = Output::new(Some(Redactor::new(&variables, &BTreeSet::new())), None);
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
    #[test]
    fn what_an_application_says_is_written_only_where_its_secrets_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let logs = StepLogs::new(folder.path().to_owned());
        let written = |redactor, number| {
            let key = StepKey {
                deployment: "dep_01JBQR2KXYZ987654321000000".parse().unwrap(),
                step: StepId(number),
                direction: Direction::Do,
            };
            let output = Output::new(redactor, Some(logs.open(&key).unwrap()));
            output.line("healthy under traffic");
            output.application_said("500 in the backtrace: top-secret-value");
            assert!(
                output.take_last().unwrap().starts_with("500 in the backtrace"),
                "it is shown to who watches"
            );
            logs.read(&key.deployment, key.step, 0).unwrap()
        };
        let unknown = written(None, 1);
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert!(unknown[0].ends_with("healthy under traffic"), "{unknown:?}");
        let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new("top-secret-value".to_owned()))]);
        let known = written(Some(Redactor::new(&variables, &BTreeSet::new())), 2);
        assert!(known[1].ends_with("500 in the backtrace: ***"), "{known:?}");
    }
}
