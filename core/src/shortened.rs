//! Long texts, cut where they are made. The mark of a cut says how many bytes are missing, and shows who redacts the
//! text later where a secret may be incomplete.

use alloc::format;
use alloc::string::String;

/// Room for the mark of what is missing.
const MARK_BYTES: usize = 40;

/// What a mark begins and ends with, around the number of bytes.
const MARK_BEGIN: &str = "… (";
const MARK_END: &str = " more bytes)";

/// A mark in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    pub before: &'a str,
    /// How many bytes are missing.
    pub missing: u64,
    pub after: &'a str,
}

/// `text`, or its beginning and how much is missing, in at most `bytes_max` bytes.
pub fn shortened(text: String, bytes_max: usize) -> String {
    shortened_more(text, 0, bytes_max)
}

/// As [`shortened`], of a text of which `missing` bytes are not there already.
pub fn shortened_more(mut text: String, missing: u64, bytes_max: usize) -> String {
    if text.len() <= bytes_max && missing == 0 {
        return text;
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK_BYTES));
    let missing = missing + (text.len() - end) as u64;
    text.truncate(end);
    text.push_str(&mark(missing));
    text
}

/// The first mark in `text`.
pub fn first_mark(text: &str) -> Option<Mark<'_>> {
    text.match_indices(MARK_BEGIN).find_map(|(at, begin)| {
        let (number, after) = text[at + begin.len()..].split_once(MARK_END)?;
        let missing = number.parse().ok()?;
        Some(Mark { before: &text[..at], missing, after })
    })
}

/// The mark of a cut.
pub fn mark(missing: u64) -> String {
    format!("{MARK_BEGIN}{missing}{MARK_END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_says_how_much_is_missing() {
        assert_eq!(shortened("short".into(), 100), "short");
        let cut = shortened("x".repeat(200), 100);
        assert_eq!(cut, format!("{}… (140 more bytes)", "x".repeat(60)));
        assert_eq!(shortened(cut.clone(), 100), cut, "what is within the limit stays as it is");
        assert_eq!(
            shortened_more("x".repeat(200), 1000, 100),
            format!("{}… (1140 more bytes)", "x".repeat(60))
        );
        assert_eq!(shortened_more("short".into(), 1000, 100), "short… (1000 more bytes)");
    }

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let text = format!("a … (no number more bytes) b{} after", mark(17));
        let found = Mark { before: "a … (no number more bytes) b", missing: 17, after: " after" };
        assert_eq!(first_mark(&text), Some(found));
        assert_eq!(first_mark("a text… without one (3 more bytes)"), None);
    }
}
