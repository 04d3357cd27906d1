//! What a screen shows as it is.

/// Whether a terminal shows the character, and does nothing else: it controls nothing, ends no line, and does not change
/// the order in which others are shown.
pub fn is_printable(character: char) -> bool {
    let is_line_end = matches!(character, '\u{2028}' | '\u{2029}');
    let changes_order = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !is_line_end && !changes_order
}

/// Whether `text` is one line of at most so many characters, all of them printable.
pub fn is_one_line(text: &str, characters_max: usize) -> bool {
    text.chars().all(is_printable) && text.chars().count() <= characters_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn text_of_any_language_is_printable() {
        assert!(is_one_line("Messe: 漢字, עברית, e\u{301}, 🦀 \u{200d} \u{a0}", 40));
        assert!(is_one_line("", 0));
    }

    #[test]
    fn what_controls_a_terminal_is_not() {
        for text in [
            "\n",
            "\r",
            "\t",
            "\u{1b}[31m",
            "\u{7}",
            "\u{7f}",
            "\u{9b}31m",
            "\u{85}",
            "\u{202e}",
            "\u{2066}",
            "\u{2028}",
        ] {
            assert!(!is_one_line(text, 40), "{text:?}");
        }
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        let text: String = core::iter::repeat_n('ä', 200).collect();
        assert!(is_one_line(&text, 200));
        assert!(!is_one_line(&text, 199));
    }
}
