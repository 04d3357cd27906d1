//! The only place that prints.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};

use lockstep_core::time::{Millis, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::args::Format;
use crate::clock::now;
use crate::failure::{Failure, Kind, Result};

mod layout;
mod plain;

use plain::{escaped_json, plain};

/// The width that is used if a terminal does not report its own.
const WIDTH: u16 = 80;

/// A terminal that is narrower is treated as if it were this wide: no sentence is readable there.
const WIDTH_MIN: u16 = 40;

/// What measures the width of a text knows numbers of up to four digits in an escape sequence.
const MARKS: u64 = 10_000;

/// Where answers go: text for people, or one JSON document.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    colour: Colour,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Terminal {
        columns: u16,
    },
    /// Lines are not broken there, so that one can be searched for.
    Pipe,
}

impl Place {
    fn find(terminal: &console::Term) -> Self {
        if !terminal.is_term() {
            return Self::Pipe;
        }
        Self::Terminal { columns: terminal.size_checked().map_or(WIDTH, |(_, columns)| columns) }
    }

    fn width(self) -> usize {
        match self {
            Self::Terminal { columns } => columns.max(WIDTH_MIN).into(),
            Self::Pipe => usize::MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    /// Until it is printed, a tone has this number in it. What others wrote does not know it, and has no tone.
    On {
        mark: u64,
    },
    Off,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Quiet,
    Strong,
}

impl Tone {
    const ALL: [Self; 4] = [Self::Good, Self::Bad, Self::Quiet, Self::Strong];

    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

impl Output {
    pub fn new(format: Format) -> Self {
        let place = Place::find(&console::Term::stdout());
        let is_terminal = place != Place::Pipe;
        let wants = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mark = RandomState::new().hash_one(()) % MARKS;
        Self { format, colour: if wants { Colour::On { mark } } else { Colour::Off }, place }
    }

    #[cfg(test)]
    pub(crate) fn on_terminal() -> Self {
        let place = Place::Terminal { columns: WIDTH };
        Self { format: Format::Human, colour: Colour::On { mark: 7 }, place }
    }

    #[cfg(test)]
    pub(crate) fn in_pipe() -> Self {
        Self { format: Format::Human, colour: Colour::Off, place: Place::Pipe }
    }

    /// Whether something may be drawn in place.
    pub fn is_live(self) -> bool {
        self.place != Place::Pipe && !self.is_json()
    }

    /// How wide a line may be.
    pub fn columns(self) -> usize {
        self.place.width()
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// `text` in a tone, on a terminal that shows it.
    pub fn toned(self, tone: Tone, text: &str) -> String {
        match self.colour {
            Colour::On { mark } if !self.is_json() => {
                format!("\u{1b}[{};{mark}m{text}\u{1b}[0;{mark}m", tone.code())
            }
            Colour::On { .. } | Colour::Off => text.to_owned(),
        }
    }

    /// A line as a terminal gets it: with the tones that are in it, and nothing else that a terminal obeys.
    pub fn shown(self, line: &str) -> String {
        let Colour::On { mark } = self.colour else { return plain(line, |_| None) };
        plain(line, |sequence| {
            let code = sequence.strip_suffix(&format!(";{mark}m"))?;
            let is_own = code == "0" || Tone::ALL.iter().any(|tone| tone.code() == code);
            is_own.then(|| format!("\u{1b}[{code}m"))
        })
    }

    /// A sentence for people, broken between words where a terminal ends; nothing if the format is JSON.
    ///
    /// What continues a line is indented by two more than its beginning.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn line(self, text: &str) -> Result<()> {
        self.lines(&self.wrap(text, indent(text) + 2))
    }

    /// A line that must stay whole, because it is copied: a command, a token, the output of a program.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn verbatim(self, text: &str) -> Result<()> {
        if self.is_json() { Ok(()) } else { put(&self.shown(text)) }
    }

    /// A text that this program generates, of several lines, to be read by a program.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn document(self, text: &str) -> Result<()> {
        if self.is_json() { Ok(()) } else { put(text) }
    }

    /// JSON that people read as well.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn pretty_json(self, answer: &impl Serialize) -> Result<()> {
        self.document(&escaped_json(serde_json::to_string_pretty(answer).map_err(unwritable)?))
    }

    /// Lines as they are.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn lines(self, lines: &[String]) -> Result<()> {
        lines.iter().try_for_each(|line| self.verbatim(line))
    }

    /// Rows in columns.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn table(self, rows: &[Vec<String>]) -> Result<()> {
        self.lines(&self.table_lines(rows, 0))
    }

    /// The lines of a table; each begins with `margin` spaces.
    pub fn table_lines(self, rows: &[Vec<String>], margin: usize) -> Vec<String> {
        let lines = layout::table(rows, self.place.width().saturating_sub(margin));
        lines.into_iter().map(|line| format!("{}{line}", " ".repeat(margin))).collect()
    }

    /// Whether the rows have room with a margin of so many spaces.
    pub fn fits_table(self, rows: &[Vec<String>], margin: usize) -> bool {
        layout::table_width(rows) <= self.place.width().saturating_sub(margin)
    }

    /// `text` as lines that this terminal can show. What continues a line begins with `hang` spaces.
    pub fn wrap(self, text: &str, hang: usize) -> Vec<String> {
        layout::wrap(text, self.place.width(), hang)
    }

    /// Whether `text` has room in one line.
    pub fn fits(self, text: &str) -> bool {
        console::measure_text_width(text) <= self.place.width()
    }

    /// The command to run next, or what to do.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn next(self, next: &str) -> Result<()> {
        self.next_at(0, next)
    }

    /// The same after so many spaces.
    ///
    /// # Errors
    /// As [`Output::next`].
    pub fn next_at(self, margin: usize, next: &str) -> Result<()> {
        self.lines(&next_lines(margin, next, self.place.width()))
    }

    /// Why something failed, as the error of a command shows it.
    pub fn why_lines(self, why: &str) -> Vec<String> {
        why_lines(why, self.place.width())
    }

    /// `items` with ` · ` between them, as lines that this terminal can show.
    pub fn wrap_items(self, items: &[String], hang: usize) -> Vec<String> {
        layout::wrap_items(items, self.place.width(), hang)
    }

    /// The answer as JSON, if that was asked for.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn json(self, answer: &impl Serialize) -> Result<()> {
        if !self.is_json() {
            return Ok(());
        }
        put(&escaped_json(serde_json::to_string(answer).map_err(unwritable)?))
    }

    /// What went wrong, on standard error: lines for people, or one JSON object.
    pub fn failure(self, failure: &Failure) {
        if self.is_json() {
            return complain(&[escaped_json(failure_json(failure).to_string())]);
        }
        let width = Place::find(&console::Term::stderr()).width();
        complain(&plain_lines(&failure_lines(failure, width)));
    }

    /// A remark that is no part of the answer. With JSON there is none: on standard error is only what went wrong.
    pub fn remark(self, text: &str) {
        if self.is_json() {
            return;
        }
        self.ask(text);
    }

    /// What somebody at a terminal has to answer, on standard error.
    pub fn ask(self, text: &str) {
        let width = Place::find(&console::Term::stderr()).width();
        complain(&plain_lines(&layout::wrap(text, width, indent(text) + 2)));
    }
}

fn failure_lines(failure: &Failure, width: usize) -> Vec<String> {
    let mut lines = layout::wrap(&format!("error: {}", failure.what), width, "error: ".len());
    lines.extend(failure.why.iter().flat_map(|why| why_lines(why, width)));
    lines.extend(failure.next.iter().flat_map(|next| next_lines(2, next, width)));
    lines
}

/// What a tool or a host wrote looks like no line of this program: its lines after the first hang below it.
fn why_lines(why: &str, width: usize) -> Vec<String> {
    const HANG: usize = "  why: ".len();
    let mut lines = Vec::new();
    for (number, line) in why.lines().enumerate() {
        let line = match number {
            0 => format!("  why: {line}"),
            _ if is_quoted(line) || indent(line) >= HANG => line.to_owned(),
            _ => format!("{}{line}", " ".repeat(HANG)),
        };
        if is_quoted(&line) {
            lines.push(line);
        } else {
            lines.extend(layout::wrap(&line, width, HANG));
        }
    }
    lines
}

/// What stands before the effect of a command, which is a comment of the shell.
const EFFECT: &str = "    # ";

/// What helps, after so many spaces: each alternative with its label.
fn next_lines(margin: usize, next: &str, width: usize) -> Vec<String> {
    let labels = std::iter::once("next: ").chain(std::iter::repeat("  or: "));
    let labelled = labels.zip(next.lines());
    labelled
        .flat_map(|(label, next)| alternative_lines(&format!("{:margin$}{label}", ""), next, width))
        .collect()
}

/// A command stays whole, because it is copied; its effect stands below it if both do not fit. A sentence is broken.
fn alternative_lines(label: &str, next: &str, width: usize) -> Vec<String> {
    let whole = format!("{label}{next}");
    if !is_command(next) {
        return layout::wrap(&whole, width, label.len());
    }
    match next.split_once(EFFECT) {
        Some((command, effect)) if console::measure_text_width(&whole) > width => {
            let effect = format!("{:1$}# {effect}", "", label.len());
            let effect = layout::wrap(&effect, width, label.len() + 2);
            std::iter::once(format!("{label}{command}")).chain(effect).collect()
        }
        Some(_) | None => vec![whole],
    }
}

/// Whether a shell takes it: it begins with the name of a program that messages name.
fn is_command(text: &str) -> bool {
    const PROGRAMS: &[&str] = &[
        "apt",
        "apt-get",
        "cd",
        "chmod",
        "curl",
        "date",
        "docker",
        "dockerd",
        "export",
        "git",
        "ip",
        "journalctl",
        "kill",
        "less",
        "lockstep",
        "lockstep-agent",
        "lockstep-coordinator",
        "man",
        "mv",
        "nginx",
        "rm",
        "ss",
        "sudo",
        "systemctl",
        "timedatectl",
        "unset",
    ];
    PROGRAMS.contains(&text.split(' ').next().unwrap_or_default())
}

/// `{"error": {"kind": …, "what": …, "why": …, "next": …}}`
fn failure_json(failure: &Failure) -> serde_json::Value {
    let Failure { kind, what, why, next, lock: _ } = failure;
    json!({ "error": { "kind": kind.as_str(), "what": what, "why": why, "next": next } })
}

/// Whether a line is of a file or of a program's output: it stays as it is.
fn is_quoted(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
    rest.starts_with('|') || rest.starts_with("-->")
}

/// How many spaces a text begins with.
fn indent(text: &str) -> usize {
    text.len() - text.trim_start_matches(' ').len()
}

fn put(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(|error| {
        let kind = if error.kind() == ErrorKind::BrokenPipe { Kind::Unread } else { Kind::Usage };
        Failure::new(kind, "the answer cannot be written").why(error.to_string())
    })
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::new(Kind::Usage, "the answer cannot be written as JSON").why(error.to_string())
}

fn plain_lines(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| plain(line, |_| None)).collect()
}

#[expect(clippy::print_stderr, reason = "this is where everything is printed")]
fn complain(lines: &[String]) {
    for line in lines {
        eprintln!("{line}");
    }
}

/// As people say it: `3 min ago`.
pub fn ago(at: Timestamp) -> String {
    format!("{} ago", length(now().since(at)))
}

/// To the second, the minute or the day: nobody reads more of a time that passes.
pub fn length(length: Millis) -> String {
    match length.0 / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// `41233` → `41,233`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_broken_between_words_and_its_command_stays_whole() {
        let command =
            "lockstep deploy notes/production --image registry.example/notes:1.0.0 --plan 1234-5678";
        let failure = Failure::new(Kind::Refused, "production is locked by anna, who deploys")
            .why("a sentence that is longer than the terminal\n       | output of a program stays whole")
            .next(command);
        assert_eq!(
            failure_lines(&failure, 40),
            [
                "error: production is locked by anna, who",
                "       deploys",
                "  why: a sentence that is longer than",
                "       the terminal",
                "       | output of a program stays whole",
                format!("  next: {command}").as_str(),
            ]
        );
        assert_eq!(failure_lines(&failure, usize::MAX).len(), 4);
    }

    #[test]
    fn a_sentence_is_broken_between_words_and_the_effect_of_a_command_stands_below_it() {
        let failure = Failure::new(Kind::Locked, "locked")
            .next("lockstep status notes/production    # every resolution and its cost")
            .or("start the agent on app-1, then repeat the command");
        assert_eq!(
            failure_lines(&failure, 40)[1..],
            [
                "  next: lockstep status notes/production",
                "        # every resolution and its cost",
                "    or: start the agent on app-1, then",
                "        repeat the command",
            ]
        );
        assert_eq!(
            failure_lines(&failure, usize::MAX)[1],
            "  next: lockstep status notes/production    # every resolution and its cost"
        );
    }

    #[test]
    fn an_error_as_json_has_its_parts_by_name() {
        let failure = Failure::new(Kind::Locked, "production is locked").next("lockstep watch dep_01");
        let expected = json!({ "error": {
            "kind": "locked", "what": "production is locked", "why": null, "next": "lockstep watch dep_01",
        } });
        assert_eq!(failure_json(&failure), expected);
    }

    #[test]
    fn what_a_host_wrote_cannot_pass_for_a_line_of_this_program() {
        let failure = Failure::new(Kind::Failed, "it failed")
            .why("disk full\n  next: rm -rf /\nerror: no")
            .next("lockstep status\nlockstep cancel");
        assert_eq!(
            failure_lines(&failure, usize::MAX),
            [
                "error: it failed",
                "  why: disk full",
                "         next: rm -rf /",
                "       error: no",
                "  next: lockstep status",
                "    or: lockstep cancel",
            ]
        );
    }

    #[test]
    fn a_tone_is_shown_and_no_sequence_that_somebody_else_wrote() {
        let terminal = Output::on_terminal();
        let reason = "fair\u{1b}[31m\u{1b}[1;5m\u{1b}[2J\nnext: evil";
        let line = format!("{} {reason}", terminal.toned(Tone::Strong, "frozen:"));
        assert_eq!(terminal.shown(&line), "\u{1b}[1mfrozen:\u{1b}[0m fair␊next: evil");
        let pipe = Output::in_pipe();
        assert_eq!(pipe.shown(&line), "frozen: fair␊next: evil");
    }
}
