//! What containers print, on its way to whoever reads the log. The first line of an input is a secret of the container;
//! the first byte of the second line says in how large parts the rest arrives.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use lockstep_agent::printed::{LINE_BYTES_MAX, LastLines, LineLimit, LineSplitter, PrintedLine};
use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::{MASK, Redactor, weak_secrets};
use lockstep_core::shortened::shortened;
use lockstep_fuzz::line_and_bytes;

/// As of the lines in a failed step.
const LIMIT: LineLimit = LineLimit { lines: 20, bytes: 64 * 1024 };

/// Room for what says how much is missing.
const MARK_BYTES_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some((secret, rest)) = line_and_bytes(input) else { return };
    let Some((part_bytes, printed)) = rest.split_first() else { return };
    let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new(secret.to_owned()))]);
    let is_strong = !secret.is_empty() && weak_secrets(&variables, &BTreeSet::new()).is_empty();
    let redactor = Redactor::new(&variables, &BTreeSet::new());

    let lines = shown(printed, printed.len().max(1), &redactor);
    assert_eq!(shown(printed, usize::from(*part_bytes).max(1), &redactor), lines, "it depends on the parts");
    let breaks = printed.iter().filter(|byte| **byte == b'\n').count();
    assert!((breaks..=breaks + 1).contains(&lines.len()));
    let last = last_lines(printed, &redactor);
    assert!(last.len() <= LIMIT.lines + 1);
    assert!(lines.ends_with(&last[last.len().min(1)..]), "other lines than the last");

    let whole = String::from_utf8_lossy(printed);
    let cut = redactor.redact_cut(&shortened(whole.clone().into_owned(), 1024));
    for text in lines.iter().chain([&cut, &redactor.redact(&whole)]) {
        // Marks and masks are of our making; a secret of their letters is shown by them.
        if is_strong && secret.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
            assert!(!text.contains(secret), "{text:?}");
        }
    }
    for line in &lines {
        assert!(line.len() <= LINE_BYTES_MAX + MARK_BYTES_MAX + MASK.len(), "{} bytes", line.len());
        assert!(!line.contains('\n'), "{line:?}");
    }
});

fn split(printed: &[u8], part_bytes: usize) -> Vec<PrintedLine> {
    let mut splitter = LineSplitter::default();
    let mut lines: Vec<PrintedLine> =
        printed.chunks(part_bytes).flat_map(|part| splitter.add(part)).collect();
    lines.extend(splitter.end());
    lines
}

fn shown(printed: &[u8], part_bytes: usize, redactor: &Redactor) -> Vec<String> {
    split(printed, part_bytes).iter().map(|line| line.redacted(redactor)).collect()
}

fn last_lines(printed: &[u8], redactor: &Redactor) -> Vec<String> {
    let mut last = LastLines::new(LIMIT);
    split(printed, printed.len().max(1)).into_iter().for_each(|line| last.push(line));
    last.redacted(redactor)
}
