//! How lines are broken for a terminal: between words, never within one.

use std::borrow::Cow;

use console::measure_text_width;
use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};

/// Between two columns of a table.
const GAP: &str = "  ";

/// The last column of a table is broken only if it has at least this much room.
const LAST_COLUMN_MIN: usize = 24;

/// What continues a row of a table begins with this.
const CONTINUATION: &str = "    ";

/// `text` in lines of at most `width`. Every line but the first begins with `hang` spaces.
///
/// A word that is longer than a line stays whole. Several spaces in a row are a column: they stay where the line is not
/// broken.
pub(super) fn wrap(text: &str, width: usize, hang: usize) -> Vec<String> {
    let hang = " ".repeat(hang);
    let options = textwrap::Options::new(width)
        .subsequent_indent(&hang)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

/// `items` with ` · ` between them, in lines that are broken only between two of them.
pub(super) fn wrap_items(items: &[String], width: usize, hang: usize) -> Vec<String> {
    const BETWEEN: &str = " · ";
    let mut lines: Vec<String> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let after = if at + 1 < items.len() { BETWEEN.trim_end() } else { "" };
        let room = measure_text_width(BETWEEN) + measure_text_width(item) + measure_text_width(after);
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + room <= width => {
                line.push_str(&format!("{BETWEEN}{item}"));
            }
            Some(line) => {
                line.push_str(BETWEEN.trim_end());
                lines.push(format!("{}{item}", " ".repeat(hang)));
            }
            None => lines.push(item.clone()),
        }
    }
    lines.iter().flat_map(|line| wrap(line, width, hang)).collect()
}

/// Rows in columns, each as wide as its widest cell. A tone has no width, and some letters are two wide.
///
/// Where the rows are wider than `width`, the last column is broken between words; where it has no room, another one is;
/// where none can be, a row continues on the next line.
pub(super) fn table(rows: &[Vec<String>], width: usize) -> Vec<String> {
    let widths = widths(rows);
    let offset: usize = widths.iter().rev().skip(1).map(|column| column + GAP.len()).sum();
    let all = offset + widths.last().copied().unwrap_or(0);
    if all <= width {
        return rows.iter().map(|row| aligned(row, &widths)).collect();
    }
    let longest_word =
        rows.iter().filter_map(|row| row.get(widths.len() - 1)).flat_map(|cell| cell.split(' '));
    let longest_word = longest_word.map(measure_text_width).max().unwrap_or(0);
    if offset + LAST_COLUMN_MIN.max(longest_word) <= width {
        return rows.iter().flat_map(|row| wrap(&aligned(row, &widths), width, offset)).collect();
    }
    if let Some((column, room)) = breakable(rows, &widths, width) {
        return rows.iter().flat_map(|row| broken(row, &widths, column, room)).collect();
    }
    let mut left = 0;
    let fitting = widths.iter().take_while(|column| {
        left += *column + GAP.len();
        left <= width + GAP.len()
    });
    let split = fitting.count().clamp(1, widths.len());
    if split == widths.len() {
        return rows.iter().map(|row| aligned(row, &widths)).collect();
    }
    let halves = |from: usize, to: usize| -> Vec<Vec<String>> {
        rows.iter().map(|row| row.get(from..to.min(row.len())).unwrap_or_default().to_vec()).collect()
    };
    let lines = |rows: Vec<Vec<String>>| -> Vec<String> {
        let widths = self::widths(&rows);
        rows.iter().map(|row| aligned(row, &widths)).collect()
    };
    let (first, rest) = (lines(halves(0, split)), lines(halves(split, widths.len())));
    first
        .into_iter()
        .zip(rest)
        .flat_map(|(first, rest)| {
            let rest = if rest.is_empty() {
                Vec::new()
            } else {
                wrap(&format!("{CONTINUATION}{rest}"), width, CONTINUATION.len())
            };
            std::iter::once(first).chain(rest)
        })
        .collect()
}

/// The widest column that can be broken between words so that the rows have room, and the room that it has then.
fn breakable(rows: &[Vec<String>], widths: &[usize], width: usize) -> Option<(usize, usize)> {
    let all = table_width(rows);
    let room = |column: usize| (width + widths[column]).checked_sub(all);
    let fits = |column: usize, room: usize| {
        rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            // A tone would go on in the other columns.
            let is_plain = !cell.contains('\u{1b}');
            is_plain && cell.split(' ').all(|word| measure_text_width(word) <= room)
        })
    };
    let candidates = (0..widths.len()).filter_map(|column| Some((column, room(column)?)));
    candidates.filter(|(column, room)| fits(*column, *room)).max_by_key(|(column, _)| widths[*column])
}

/// A row of which one column is broken: what continues it stands in that column.
fn broken(row: &[String], widths: &[usize], column: usize, room: usize) -> Vec<String> {
    let cell = row.get(column).map(String::as_str).unwrap_or_default();
    let mut widths = widths.to_vec();
    widths[column] = room;
    let parts = wrap(cell, room, 0);
    let first = parts.first().cloned().unwrap_or_default();
    let line = |number: usize, part: &String| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| match (at == column, number) {
                (true, _) => part.clone(),
                (false, 0) => cell.clone(),
                (false, _) => String::new(),
            })
            .collect();
        aligned(&cells, &widths)
    };
    let rest = parts.iter().skip(1).map(|part| line(1, part));
    std::iter::once(line(0, &first)).chain(rest).collect()
}

/// How wide the rows are if no column is broken.
pub(super) fn table_width(rows: &[Vec<String>]) -> usize {
    let widths = widths(rows);
    widths.iter().map(|column| column + GAP.len()).sum::<usize>().saturating_sub(GAP.len())
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max()
    };
    (0..columns).map(|column| width(column).unwrap_or(0)).collect()
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| {
        let left = width.saturating_sub(measure_text_width(cell));
        format!("{cell}{}", " ".repeat(left))
    });
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    const WIDE: usize = 1000;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table(&rows(&[&["a", "1"], &["notes", "2"]]), WIDE), ["a      1", "notes  2"]);
    }

    #[test]
    fn a_row_ends_with_its_last_letter() {
        assert_eq!(table(&rows(&[&["a", ""], &["notes", "2"]]), WIDE), ["a", "notes  2"]);
    }

    #[test]
    fn a_tone_takes_no_place() {
        let strong = "\u{1b}[1mab\u{1b}[0m";
        assert_eq!(
            table(&rows(&[&[strong, "1"], &["abc", "2"]]), WIDE),
            [&format!("{strong}   1"), "abc  2"]
        );
    }

    #[test]
    fn a_wide_letter_takes_two_places() {
        assert_eq!(table(&rows(&[&["漢字", "1"], &["abcd", "2"]]), WIDE), ["漢字  1", "abcd  2"]);
    }

    #[test]
    fn the_last_column_is_broken_between_words() {
        let lines = table(&rows(&[&["s1", "start web of blue on app-1 and wait"], &["s2", "switch"]]), 30);
        assert_eq!(lines, ["s1  start web of blue on app-1", "    and wait", "s2  switch"]);
    }

    #[test]
    fn a_row_that_is_too_wide_continues_on_the_next_line() {
        let lines =
            table(&rows(&[&["deployment", "release", "by"], &["dep_01JBQR", "notes:1.2", "anna"]]), 22);
        assert_eq!(lines, ["deployment  release", "    by", "dep_01JBQR  notes:1.2", "    anna"]);
    }

    #[test]
    fn a_column_in_the_middle_is_broken_where_the_last_one_has_no_room() {
        let lines =
            table(&rows(&[&["key", "value", "set in"], &["health", "GET / within 5s", "base.yml"]]), 26);
        assert_eq!(
            lines,
            ["key     value     set in", "health  GET /     base.yml", "        within", "        5s",]
        );
        // A short last column is broken as well, rather than put below.
        let history = rows(&[&["dep_01JBQR", "notes:1.2", "cancelled by anna"]]);
        assert_eq!(
            table(&history, 32),
            ["dep_01JBQR  notes:1.2  cancelled", "                       by anna"]
        );
    }

    #[test]
    fn a_line_is_broken_between_words_and_the_rest_is_indented() {
        assert_eq!(
            wrap("  live      notes:1.2 in blue since 2027", 24, 12),
            ["  live      notes:1.2 in", "            blue since", "            2027"]
        );
        assert_eq!(wrap("short", 24, 12), ["short"]);
    }

    #[test]
    fn a_word_that_is_longer_than_a_line_stays_whole() {
        assert_eq!(wrap("see dep_01JBQR2KXYZ98765 now", 10, 2), ["see", "  dep_01JBQR2KXYZ98765", "  now"]);
    }

    #[test]
    fn a_broken_line_has_every_word_once() {
        let text = "one two  three four five six seven eight nine ten";
        for width in 5..60 {
            let lines = wrap(text, width, 2).join(" ");
            let words: Vec<&str> = lines.split_whitespace().collect();
            assert_eq!(words, text.split_whitespace().collect::<Vec<_>>(), "{width}");
        }
    }

    #[test]
    fn items_are_not_broken_within() {
        let items = ["notes:2 succeeded", "0 of 41,233 requests lost", "schema 41"].map(ToOwned::to_owned);
        assert_eq!(
            wrap_items(&items, 40, 2),
            ["notes:2 succeeded ·", "  0 of 41,233 requests lost · schema 41"]
        );
        assert_eq!(wrap_items(&items, 100, 2).len(), 1);
    }
}
