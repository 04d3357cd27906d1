//! The only place that prints.

use std::io::{ErrorKind, IsTerminal, Write};

use console::measure_text_width;
use lockstep_core::time::{Millis, Timestamp};
use serde::Serialize;

use crate::args::Format;
use crate::clock::now;
use crate::failure::{Failure, Kind, Result};

/// Where answers go: text for people, or one JSON document.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    colour: Colour,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Terminal,
    Pipe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    On,
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

impl Output {
    pub fn new(format: Format) -> Self {
        let place = if std::io::stdout().is_terminal() { Place::Terminal } else { Place::Pipe };
        let wants =
            place == Place::Terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { format, colour: if wants { Colour::On } else { Colour::Off }, place }
    }

    #[cfg(test)]
    pub(crate) fn on_terminal() -> Self {
        Self { format: Format::Human, colour: Colour::On, place: Place::Terminal }
    }

    #[cfg(test)]
    pub(crate) fn in_pipe() -> Self {
        Self { format: Format::Human, colour: Colour::Off, place: Place::Pipe }
    }

    /// Whether something may be drawn in place.
    pub fn is_live(self) -> bool {
        self.place == Place::Terminal && !self.is_json()
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// `text` in a tone, on a terminal that shows it.
    pub fn toned(self, tone: Tone, text: &str) -> String {
        if self.colour == Colour::Off || self.is_json() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Quiet => 2,
            Tone::Strong => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A line for people; nothing when JSON was asked for.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn line(self, text: &str) -> Result<()> {
        if self.is_json() { Ok(()) } else { put(text) }
    }

    /// The answer as JSON, if that was asked for.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn json(self, answer: &impl Serialize) -> Result<()> {
        if !self.is_json() {
            return Ok(());
        }
        let text = serde_json::to_string(answer).map_err(|error| {
            Failure::new(Kind::Usage, "the answer cannot be written as JSON").why(error.to_string())
        })?;
        put(&text)
    }

    /// What went wrong, on standard error.
    pub fn failure(self, failure: &Failure) {
        let mut text = format!("error: {}", failure.what);
        for (label, part) in [("why", &failure.why), ("next", &failure.next)] {
            if let Some(part) = part {
                text.push_str(&format!("\n  {label}: {part}"));
            }
        }
        complain(&text);
    }

    /// A remark that is no part of the answer.
    pub fn remark(self, text: &str) {
        complain(text);
    }
}

fn put(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(|error| {
        let kind = if error.kind() == ErrorKind::BrokenPipe { Kind::Unread } else { Kind::Usage };
        Failure::new(kind, "the answer cannot be written").why(error.to_string())
    })
}

#[expect(clippy::print_stderr, reason = "this is where everything is printed")]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// Rows in columns, each as wide as its widest cell; a tone takes no place, and some letters take two.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let left = width.saturating_sub(measure_text_width(cell));
                format!("{cell}{}", " ".repeat(left))
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
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

    fn rows(rows: &[[&str; 2]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table(&rows(&[["a", "1"], ["notes", "2"]])), ["a      1", "notes  2"]);
    }

    #[test]
    fn a_row_ends_with_its_last_letter() {
        assert_eq!(table(&rows(&[["a", ""], ["notes", "2"]])), ["a", "notes  2"]);
    }

    #[test]
    fn a_tone_takes_no_place() {
        let strong = Output::on_terminal().toned(Tone::Strong, "ab");
        assert_eq!(table(&rows(&[[&strong, "1"], ["abc", "2"]])), [format!("{strong}   1"), "abc  2".into()]);
    }

    #[test]
    fn a_wide_letter_takes_two_places() {
        assert_eq!(table(&rows(&[["漢字", "1"], ["abcd", "2"]])), ["漢字  1", "abcd  2"]);
    }
}
