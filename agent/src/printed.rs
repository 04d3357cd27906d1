//! What programs print, as lines of bounded length: a program may print a line without an end, or anything but text.
//!
//! What must stay true: nothing is shown of a line before it is redacted as a whole, or up to where it is cut.

use std::collections::VecDeque;

use lockstep_core::secret::redact::Redactor;
use lockstep_core::shortened::shortened_more;

/// The maximum length of a line that is kept.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// A line that is not redacted.
#[derive(Default)]
pub struct PrintedLine {
    bytes: Vec<u8>,
    /// How much more was printed.
    more_bytes: u64,
}

/// Splits what a program prints into lines.
#[derive(Default)]
pub struct LineSplitter {
    begun: PrintedLine,
}

/// The last lines of what a program printed.
pub struct LastLines {
    lines: VecDeque<PrintedLine>,
    bytes: usize,
    limit: LineLimit,
    left_out: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct LineLimit {
    pub lines: usize,
    pub bytes: usize,
}

impl PrintedLine {
    /// The line as it may be shown, in at most [`LINE_BYTES_MAX`] bytes.
    pub fn redacted(&self, redactor: &Redactor) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        redactor.redact_cut(&shortened_more(
            text.trim_end_matches('\r').to_owned(),
            self.more_bytes,
            LINE_BYTES_MAX,
        ))
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.more_bytes == 0
    }

    fn add(&mut self, bytes: &[u8]) {
        let (kept, more) = bytes.split_at(bytes.len().min(LINE_BYTES_MAX - self.bytes.len()));
        self.bytes.extend_from_slice(kept);
        self.more_bytes += more.len() as u64;
    }
}

impl LineSplitter {
    /// Adds what was printed, and gives every line that it ends.
    pub fn add(&mut self, printed: &[u8]) -> Vec<PrintedLine> {
        let mut ended = Vec::new();
        for part in printed.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            self.begun.add(text);
            if part.len() > text.len() {
                ended.push(std::mem::take(&mut self.begun));
            }
        }
        ended
    }

    /// The last line, if it has no end.
    pub fn end(self) -> Option<PrintedLine> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

impl LastLines {
    pub fn new(limit: LineLimit) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, limit, left_out: 0 }
    }

    /// Adds a line, and drops the oldest ones while there are too many.
    pub fn push(&mut self, line: PrintedLine) {
        self.bytes += line.bytes.len();
        self.lines.push_back(line);
        while self.lines.len() > self.limit.lines.max(1) || self.bytes > self.limit.bytes {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
            self.left_out += 1;
        }
    }

    /// The lines as they may be shown. The first says how many are left out.
    pub fn redacted(&self, redactor: &Redactor) -> Vec<String> {
        let mark =
            (self.left_out > 0).then(|| format!("[{} earlier lines are left out here]", self.left_out));
        mark.into_iter().chain(self.lines.iter().map(|line| line.redacted(redactor))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::secret::Secret;
    use std::collections::{BTreeMap, BTreeSet};

    fn redactor() -> Redactor {
        let secret = Secret::new("top-secret-value".repeat(4));
        Redactor::new(&BTreeMap::from([("TOKEN".to_owned(), secret)]), &BTreeSet::new())
    }

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines: Vec<PrintedLine> = parts.iter().flat_map(|part| splitter.add(part)).collect();
        lines.extend(splitter.end());
        lines.iter().map(|line| line.redacted(&redactor())).collect()
    }

    #[test]
    fn lines_end_where_they_end_however_they_come() {
        assert_eq!(lines(&[b"one\ntw", b"o\n\nthr", b"ee"]), ["one", "two", "", "three"]);
        assert_eq!(lines(&[b"one\r\n", b"two\n"]), ["one", "two"]);
        assert_eq!(lines(&[]), [""; 0]);
        assert_eq!(lines(&[b"\xff\x00\xfe\n"]), ["\u{fffd}\u{0}\u{fffd}"]);
    }

    #[test]
    fn a_line_of_any_length_is_cut_and_says_so() {
        let long = "x".repeat(1 << 20);
        let lines = lines(&[long.as_bytes(), long.as_bytes(), b"\nshort\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].len() < LINE_BYTES_MAX + 100, "{}", lines[0].len());
        let cut = lines[0].find('…').unwrap();
        assert_eq!(lines[0][cut..], format!("… ({} more bytes)", 2 * long.len() - cut));
        assert_eq!(lines[1], "short");
    }

    /// Also where so much of the line is masked that what is left need not be cut.
    #[test]
    fn no_part_of_a_secret_is_shown_where_a_line_is_cut() {
        let secret = "top-secret-value".repeat(4);
        let masked = format!("{secret} ").repeat(LINE_BYTES_MAX / (secret.len() + 1) - 5);
        for before in ["", &masked] {
            for begin in LINE_BYTES_MAX - 80..LINE_BYTES_MAX + 5 {
                let line = format!("{before}{}{secret}\n", ".".repeat(begin - before.len()));
                let shown = &lines(&[line.as_bytes()])[0];
                assert!(!shown.contains("top"), "{begin}: {shown}");
            }
        }
    }

    #[test]
    fn of_a_line_without_an_end_little_is_in_memory() {
        let mut splitter = LineSplitter::default();
        for _ in 0..100 {
            assert!(splitter.add(&[b'x'; 64 * 1024]).is_empty());
        }
        assert_eq!(splitter.begun.bytes.len(), LINE_BYTES_MAX);
        assert_eq!(splitter.begun.more_bytes, 100 * 64 * 1024 - LINE_BYTES_MAX as u64);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut last = LastLines::new(LineLimit { lines: 3, bytes: 100 });
        let mut splitter = LineSplitter::default();
        splitter.add(b"1\n2\n3\n4\n5\n").into_iter().for_each(|line| last.push(line));
        let shown = ["[2 earlier lines are left out here]", "3", "4", "5"];
        assert_eq!(last.redacted(&redactor()), shown);
        let wide = [b"y".repeat(60), b"\n".to_vec(), b"z".repeat(60), b"\n".to_vec()].concat();
        splitter.add(&wide).into_iter().for_each(|line| last.push(line));
        let shown = ["[6 earlier lines are left out here]".to_owned(), "z".repeat(60)];
        assert_eq!(last.redacted(&redactor()), shown);
    }
}
