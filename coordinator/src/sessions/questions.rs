//! The questions that were put to one agent and wait for its answer.
//!
//! What must stay true: what an agent sends is kept only while somebody waits for it, and only up to a limit.

use std::collections::BTreeMap;

use lockstep_core::agent::fence::Token;
use lockstep_core::image::RegistryName;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::SecretsUse;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::StepKey;
use lockstep_proto::limits::{LOG_BYTES_MAX, LOG_LINES_MAX};
use lockstep_proto::wire;
use tokio::sync::oneshot;

use crate::ports::agents::QueriedStatus;

/// What an answer belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PendingQuestion {
    Request(u64),
    /// A question has no number but its token.
    Standing(EnvironmentKey, u64, u64),
}

#[derive(Debug)]
pub(super) enum Answer {
    Observed(Box<Observation>),
    Standings(Vec<(StepKey, QueriedStatus)>),
    Log(Vec<String>),
    /// An errand's end, or why it went wrong.
    Done(Result<(), String>),
}

/// The open questions.
#[derive(Default)]
pub(super) struct Questions {
    waiting: BTreeMap<PendingQuestion, Waiter>,
}

struct Waiter {
    answer: oneshot::Sender<Answer>,
    uses: QuestionUses,
    /// Lines of a log that has not ended.
    log: LogLines,
}

/// What the host may be given for its answer.
#[derive(Debug, Default)]
pub(super) struct QuestionUses {
    pub(super) secrets: Option<(EnvironmentKey, SecretsUse)>,
    pub(super) login: Option<RegistryName>,
}

/// The lines of one log, as far as they have room.
#[derive(Default)]
struct LogLines {
    lines: Vec<String>,
    bytes: usize,
    left_out: usize,
}

/// Whether somebody waited for what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reception {
    Awaited,
    TooLate,
}

impl PendingQuestion {
    pub(super) fn for_token(environment: &EnvironmentKey, token: &Token) -> Self {
        Self::Standing(environment.clone(), token.epoch, token.seq)
    }
}

impl Questions {
    /// Puts a question. Its answer goes to `answer`.
    pub(super) fn put(
        &mut self,
        question: PendingQuestion,
        uses: QuestionUses,
        answer: oneshot::Sender<Answer>,
    ) {
        // Who asked may have gone without a word.
        self.waiting.retain(|_, waiter| !waiter.answer.is_closed());
        self.waiting.insert(question, Waiter { answer, uses, log: LogLines::default() });
    }

    /// Whether the answer to an open question uses these secrets of `environment`.
    pub(super) fn use_secrets(&self, environment: &EnvironmentKey, wanted: &SecretsUse) -> bool {
        self.open().any(|uses| {
            uses.secrets.as_ref().is_some_and(|(of, uses)| of == environment && uses.covers(wanted))
        })
    }

    /// Whether the answer to an open question uses the login of `registry`.
    pub(super) fn use_login(&self, registry: &RegistryName) -> bool {
        self.open().any(|uses| uses.login.as_ref() == Some(registry))
    }

    fn open(&self) -> impl Iterator<Item = &QuestionUses> {
        let open = self.waiting.values().filter(|waiter| !waiter.answer.is_closed());
        open.map(|waiter| &waiter.uses)
    }

    /// Forgets a question that nobody waits for any more.
    pub(super) fn forget(&mut self, question: &PendingQuestion) {
        self.waiting.remove(question);
    }

    pub(super) fn answer(&mut self, question: &PendingQuestion, answer: Answer) -> Reception {
        let Some(waiter) = self.waiting.remove(question) else { return Reception::TooLate };
        match waiter.answer.send(answer) {
            Ok(()) => Reception::Awaited,
            Err(_) => Reception::TooLate,
        }
    }

    /// Adds lines of a log. The last of them answer the question.
    pub(super) fn add_lines(&mut self, reply: wire::LogReply) -> Reception {
        let wire::LogReply { request, lines, last } = reply;
        let question = PendingQuestion::Request(request);
        match self.waiting.get_mut(&question) {
            Some(waiter) if !waiter.answer.is_closed() => {
                waiter.log.add(lines);
                if !last {
                    return Reception::Awaited;
                }
                let log = std::mem::take(&mut waiter.log).whole();
                self.answer(&question, Answer::Log(log))
            }
            Some(_) | None => {
                self.forget(&question);
                Reception::TooLate
            }
        }
    }
}

impl LogLines {
    fn add(&mut self, lines: Vec<String>) {
        for line in lines {
            // Once a line has no room, no later one has: a log with holes would be no log.
            let has_room = self.bytes + line.len() <= LOG_BYTES_MAX && self.lines.len() < LOG_LINES_MAX;
            if !has_room || self.left_out > 0 {
                self.left_out += 1;
                continue;
            }
            self.bytes += line.len();
            self.lines.push(line);
        }
    }

    fn whole(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!(
                "[{} more lines of this host are left out here: one answer has at most {} MiB]",
                self.left_out,
                LOG_BYTES_MAX / 1024 / 1024
            ));
        }
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::plan::action::SecretNames;

    fn asked(questions: &mut Questions, request: u64) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        questions.put(PendingQuestion::Request(request), QuestionUses::default(), sender);
        answer
    }

    #[test]
    fn secrets_and_logins_are_used_only_by_an_open_question_about_them() {
        let mut questions = Questions::default();
        let shop: EnvironmentKey = "shop/production".parse().unwrap();
        let (registry, other): (RegistryName, RegistryName) =
            ("ghcr.io".parse().unwrap(), "docker.io".parse().unwrap());
        let url = |version| SecretsUse::of_one(version, "DATABASE_URL");
        let (sender, answer) = oneshot::channel();
        let uses = QuestionUses { secrets: Some((shop.clone(), url(3))), login: Some(registry.clone()) };
        questions.put(PendingQuestion::Request(1), uses, sender);
        let _other = asked(&mut questions, 2);
        assert!(questions.use_secrets(&shop, &url(3)) && questions.use_login(&registry));
        assert!(!questions.use_secrets(&shop, &url(4)), "another version");
        assert!(
            !questions.use_secrets(&shop, &SecretsUse { version: 3, names: SecretNames::All }),
            "other values"
        );
        assert!(!questions.use_secrets(&"other/production".parse().unwrap(), &url(3)), "another environment");
        assert!(!questions.use_login(&other));
        drop(answer);
        assert!(!questions.use_secrets(&shop, &url(3)) && !questions.use_login(&registry), "it is over");
    }

    fn reply(request: u64, lines: &[&str]) -> wire::LogReply {
        wire::LogReply { request, lines: lines.iter().map(|line| (*line).to_owned()).collect(), last: false }
    }

    fn last(reply: wire::LogReply) -> wire::LogReply {
        wire::LogReply { last: true, ..reply }
    }

    fn log(answer: oneshot::Receiver<Answer>) -> Vec<String> {
        let answer = answer.blocking_recv().unwrap();
        let Answer::Log(lines) = answer else { panic!("{answer:?}") };
        lines
    }

    #[test]
    fn the_parts_of_a_log_are_one_answer() {
        let mut questions = Questions::default();
        let answer = asked(&mut questions, 7);
        assert_eq!(questions.add_lines(reply(7, &["one", "two"])), Reception::Awaited);
        assert_eq!(questions.add_lines(last(reply(7, &["three"]))), Reception::Awaited);
        assert_eq!(log(answer), ["one", "two", "three"]);
        assert!(questions.waiting.is_empty());
    }

    #[test]
    fn lines_that_nobody_asked_for_are_not_kept() {
        let mut questions = Questions::default();
        assert_eq!(questions.add_lines(reply(7, &["unasked"])), Reception::TooLate);
        let answer = asked(&mut questions, 7);
        questions.add_lines(last(reply(7, &["asked"])));
        assert_eq!(log(answer), ["asked"]);
        assert_eq!(questions.add_lines(reply(7, &["late"])), Reception::TooLate);
        assert!(questions.waiting.is_empty());
    }

    #[test]
    fn lines_for_somebody_who_has_gone_are_not_kept() {
        let mut questions = Questions::default();
        drop(asked(&mut questions, 7));
        assert_eq!(questions.add_lines(reply(7, &["late"])), Reception::TooLate);
        assert!(questions.waiting.is_empty());
        drop(asked(&mut questions, 8));
        let _answer = asked(&mut questions, 9);
        assert_eq!(questions.waiting.len(), 1, "a question is forgotten with who asked it");
    }

    #[test]
    fn a_log_without_an_end_is_cut_and_says_so() {
        let mut questions = Questions::default();
        let answer = asked(&mut questions, 7);
        let line = "x".repeat(1000);
        for _ in 0..50 {
            questions.add_lines(reply(7, &[line.as_str(); 1000]));
        }
        questions.add_lines(last(reply(7, &["short"])));
        let lines = log(answer);
        assert!(lines.iter().map(String::len).sum::<usize>() < LOG_BYTES_MAX + 200);
        let left_out = 50_001 - (lines.len() - 1);
        let mark =
            format!("[{left_out} more lines of this host are left out here: one answer has at most 3 MiB]");
        assert_eq!(lines.last(), Some(&mark));
    }

    #[test]
    fn a_log_of_empty_lines_is_cut_too() {
        let mut questions = Questions::default();
        let answer = asked(&mut questions, 7);
        for _ in 0..30 {
            questions.add_lines(reply(7, &[""; 10_000]));
        }
        questions.add_lines(last(reply(7, &[])));
        assert_eq!(log(answer).len(), LOG_LINES_MAX + 1);
    }
}
