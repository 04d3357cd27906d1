//! Text as a terminal may get it. What users, containers and hosts have written may have control characters and escape
//! sequences in it, which would move the cursor, change the title, or show a line that nobody printed.

use std::iter::Peekable;
use std::str::CharIndices;

use lockstep_core::view::printable::is_printable;

/// A longer line is cut: nobody reads it in a terminal.
const CHARACTERS_MAX: usize = 4096;

const ESCAPE: char = '\u{1b}';

/// Ends every colour.
const RESET: &str = "\u{1b}[0m";

/// The escape sequence of one character that begins control sequences.
const CONTROL_SEQUENCE: char = '\u{9b}';

/// `text` as one line, cut if it is long: escape sequences are left out, other control characters are shown by a form
/// that can be seen. A sequence for which `keep` has a text is replaced by that text.
pub(super) fn plain(text: &str, keep: impl Fn(&str) -> Option<String>) -> String {
    let text = text.strip_suffix('\r').unwrap_or(text);
    let mut plain = String::new();
    let mut has_kept = false;
    let mut shown = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((at, character)) = rest.next() {
        if let ESCAPE | CONTROL_SEQUENCE = character {
            let mut after = rest.clone();
            if let Some(sequence) = sequence(character, &mut after) {
                if let Some(kept) = keep(&sequence) {
                    plain.push_str(&kept);
                    has_kept = true;
                }
                rest = after;
                continue;
            }
        }
        if shown == CHARACTERS_MAX {
            plain.push_str(&format!("… ({} more bytes)", text.len() - at));
            // Of what was kept, the end is missing.
            plain.push_str(if has_kept { RESET } else { "" });
            break;
        }
        shown += 1;
        if character == '\t' || is_printable(character) {
            plain.push(character);
        } else {
            push_visible(&mut plain, character);
        }
    }
    plain
}

/// The rest of an escape sequence, which ends where a terminal ends it. `None` if it does not end, or is none.
/// <https://ecma-international.org/publications-and-standards/standards/ecma-48/>
fn sequence(begin: char, rest: &mut Peekable<CharIndices<'_>>) -> Option<String> {
    let kind = if begin == CONTROL_SEQUENCE { '[' } else { rest.next()?.1 };
    match kind {
        '[' => {
            let mut parameters = take_while(rest, |character| matches!(character, ' '..='?'));
            parameters.push(rest.next_if(|(_, end)| matches!(end, '@'..='~'))?.1);
            Some(parameters)
        }
        // Titles, links, colours of a palette: strings with an end.
        ']' | 'P' | 'X' | '^' | '_' => {
            let string = take_while(rest, |character| !matches!(character, '\u{7}' | '\u{9c}' | ESCAPE));
            match rest.next()? {
                (_, ESCAPE) => rest.next_if(|(_, character)| *character == '\\').map(|_| string),
                _ => Some(string),
            }
        }
        ' '..='/' => {
            take_while(rest, |character| matches!(character, ' '..='/'));
            rest.next_if(|(_, character)| matches!(character, '0'..='~')).map(|(_, end)| end.to_string())
        }
        '0'..='~' => Some(kind.to_string()),
        _ => None,
    }
}

fn take_while(rest: &mut Peekable<CharIndices<'_>>, belongs: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| rest.next_if(|(_, character)| belongs(*character)))
        .map(|(_, character)| character)
        .collect()
}

/// `␛` for an escape character, `<U+202E>` for what has no such picture.
fn push_visible(plain: &mut String, character: char) {
    let picture = match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)),
        '\u{7f}' => Some('␡'),
        _ => None,
    };
    match picture {
        Some(picture) => plain.push(picture),
        None => plain.push_str(&format!("<U+{:04X}>", u32::from(character))),
    }
}

/// JSON whose values are what they were, and whose text does nothing to a terminal. `serde_json` escapes only what JSON
/// demands.
pub(super) fn escaped_json(json: String) -> String {
    let is_layout = |character: char| matches!(character, '\n' | '\t');
    if json.chars().all(|character| is_printable(character) || is_layout(character)) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if is_printable(character) || is_layout(character) {
            escaped.push(character);
        } else {
            // All of them are in the plane whose characters have four digits.
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        plain(text, |_| None)
    }

    #[test]
    fn text_stays_what_it_is() {
        for text in ["", "tea & 漢字 é 🦀", "a\tb", "  | indented", "100 % [ok] (1;2m)"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn escape_sequences_are_left_out() {
        for (text, plain) in [
            ("\u{1b}[2J\u{1b}[H\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[38;5;196mred\u{1b}[m", "red"),
            ("\u{1b}[?25lhidden cursor\u{1b}[?25h", "hidden cursor"),
            ("\u{1b}]0;a title\u{7}text", "text"),
            ("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}P1$r0m\u{1b}\\text", "text"),
            ("\u{1b}(0text\u{1b}(B", "text"),
            ("\u{1b}ctext\u{1b}7", "text"),
            ("\u{9b}31mred", "red"),
        ] {
            assert_eq!(shown(text), plain, "{text:?}");
        }
    }

    #[test]
    fn what_begins_no_sequence_and_other_control_characters_can_be_seen() {
        for (text, plain) in [
            ("one\ntwo", "one␊two"),
            ("10%\r20%\r", "10%␍20%"),
            ("bell\u{7}, null\0, delete\u{7f}", "bell␇, null␀, delete␡"),
            ("next line\u{85}", "next line<U+0085>"),
            ("\u{202e}gpj.exe\u{2066}", "<U+202E>gpj.exe<U+2066>"),
            ("end\u{1b}", "end␛"),
            ("\u{1b}]0;a title without an end", "␛]0;a title without an end"),
            ("\u{1b}[31", "␛[31"),
            ("\u{1b}\u{1b}[31mred", "␛red"),
        ] {
            assert_eq!(shown(text), plain, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut() {
        let line = shown(&"ä".repeat(1 << 20));
        assert!(line.chars().count() < CHARACTERS_MAX + 30);
        assert!(line.ends_with("ä… (2088960 more bytes)"), "{}", &line[line.len() - 40..]);
        let whole = "x".repeat(CHARACTERS_MAX);
        assert_eq!(shown(&whole), whole);
    }

    #[test]
    fn what_is_kept_is_replaced_and_ends_where_a_line_is_cut() {
        let keep = |sequence: &str| (sequence == "1;7m").then(|| "\u{1b}[1m".to_owned());
        assert_eq!(plain("\u{1b}[1;7mname\u{1b}[1mother", keep), "\u{1b}[1mnameother");
        let long = plain(&format!("\u{1b}[1;7m{}", "x".repeat(5000)), keep);
        assert!(long.starts_with("\u{1b}[1mx") && long.ends_with("… (904 more bytes)\u{1b}[0m"));
    }

    #[test]
    fn json_has_the_same_values_and_no_control_characters() {
        let values = ["\u{1b}[31m", "\u{9b}31m", "\u{202e}", "tab\t", "\u{7f}", "plain 漢字 🦀"];
        let json = escaped_json(serde_json::to_string(&values).unwrap());
        assert!(json.chars().all(is_printable), "{json}");
        let read: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, values);
    }
}
