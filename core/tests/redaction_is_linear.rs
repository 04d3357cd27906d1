//! However odd the values of secrets are, and the text, redaction takes no longer than for others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::Redactor;

const SIZE: usize = 40_000;

/// Values on which a search automaton takes quadratic time to build or to search, and their like.
fn worst_cases() -> Vec<(&'static str, Vec<String>, String)> {
    let equal = "a".repeat(SIZE);
    let pairs = "ab".repeat(SIZE / 2);
    let near_match = format!("{}b", "a".repeat(SIZE - 1)).repeat(4);
    let nested: Vec<String> = (8..300).map(|length| "a".repeat(length)).collect();
    let each_letter = ('a'..='z').map(|letter| letter.to_string().repeat(SIZE / 4)).collect();
    let lines: String = (0..4_000).map(|number| format!("line-{number:05}-of-a-key\n")).collect();
    let one_begin = (0..500).map(|number| format!("https://the.same.begin/{number}")).collect();
    let signs = format!("x://u:{}", "@".repeat(SIZE));
    vec![
        ("equal letters", vec![equal.clone()], equal.clone()),
        ("equal letters, near match", vec![equal.clone()], near_match.clone()),
        ("equal letters, short of them", vec![equal.clone(), "a".repeat(8)], "a".repeat(SIZE - 1)),
        ("pairs", vec![pairs.clone()], pairs.repeat(4)),
        ("parts of each other", nested.clone(), near_match.clone()),
        ("parts of each other, short of them", nested, "aaaaaaab".repeat(SIZE / 4)),
        ("each letter", each_letter, near_match),
        ("many lines", vec![lines.clone()], lines.repeat(2)),
        ("one begin", one_begin, "https://the.same.begin/https://".repeat(SIZE / 8)),
        ("no secret in it", vec![equal, pairs], "nothing to see here; ".repeat(SIZE / 5)),
        ("signs of a URL", vec![signs], "@/:".repeat(SIZE)),
    ]
}

/// A quadratic search takes minutes for each of these where nothing is optimized, a linear one half a second.
#[test]
fn odd_values_cost_no_more_than_others() {
    for (what, values, text) in worst_cases() {
        let begun = Instant::now();
        let values = values.into_iter().enumerate();
        let variables: BTreeMap<String, Secret> =
            values.map(|(number, value)| (format!("S{number}"), Secret::new(value))).collect();
        let clean = Redactor::new(&variables, &BTreeSet::new()).redact(&text);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(15), "{what}: {took:?}");
        assert!(clean.len() <= text.len(), "{what}");
    }
}
