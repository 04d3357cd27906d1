//! What is masked, and what is left alone.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;

fn variables(variables: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    variables.iter().map(|(n, v)| ((*n).to_owned(), Secret::new((*v).to_owned()))).collect()
}

fn redactor(values: &[(&str, &str)]) -> Redactor {
    Redactor::new(&variables(values), &BTreeSet::from(["PUBLIC_URL".to_owned()]))
}

/// Checks what becomes of each text.
fn check(redactor: &Redactor, texts: &[(&str, &str)]) {
    for (text, clean) in texts {
        assert_eq!(redactor.redact(text), *clean);
    }
}

#[test]
fn a_value_is_hidden_in_every_form_in_which_programs_print_it() {
    let redactor = redactor(&[
        ("JWT_SECRET", "top/secret\"value"),
        ("DATABASE_URL", "postgres://notes:p%40ss@db:5432/notes"),
        ("SHORT", "abc"),
        ("ENVIRONMENT", "production"),
        ("PUBLIC_URL", "https://notes.example"),
    ]);
    check(
        &redactor,
        &[
            ("a top/secret\"value b", "a *** b"),
            (r#"{"s":"top/secret\"value"}"#, r#"{"s":"***"}"#),
            ("top%2Fsecret%22value", "***"),
            ("postgres://notes:p%40ss@db:5432/notes", "***"),
            ("password p%40ss refused, also p@ss", "password *** refused, also ***"),
            ("abc production https://notes.example", "abc production https://notes.example"),
        ],
    );
}

#[test]
fn what_is_no_escape_is_not_decoded() {
    assert_eq!(percent_decoded("p%40ss%+f%4%zz%"), "p@ss%+f%4%zz%");
}

#[test]
fn an_escape_that_is_no_text_leaves_all_as_it_is() {
    assert_eq!(percent_decoded("%40%ff"), "%40%ff");
}

#[test]
fn a_multi_line_key_is_hidden_line_by_line() {
    let redactor = redactor(&[("KEY", "-----BEGIN-----\nMIIEvQIBADAN\n-----END-----")]);
    check(&redactor, &[("read MIIEvQIBADAN", "read ***")]);
}

#[test]
fn a_value_that_overlaps_another_is_hidden_to_its_end() {
    let redactor = redactor(&[("A", "abcdefgh"), ("B", "efghijklmn"), ("C", "cdef0000")]);
    check(
        &redactor,
        &[
            ("x abcdefghijklmn y", "x *** y"),
            ("abcdefghabcdefgh", "***"),
            ("abcdef0000", "ab***"),
            ("abcdefgabcdefgh", "abcdefg***"),
        ],
    );
}

#[test]
fn a_value_that_begins_another_does_not_show_the_rest_of_it() {
    let redactor = redactor(&[("A", "abcdefgh"), ("B", "abcdefghijkl"), ("C", "abcdefghijklmnop")]);
    check(&redactor, &[("abcdefghijkl.", "***."), ("abcdefghijklmno", "***mno"), ("abcdefghi", "***i")]);
}

#[test]
fn a_value_is_found_wherever_it_stands() {
    let redactor = redactor(&[("A", "s3cr3t-v"), ("B", "another-secret-value")]);
    for before in 0..40 {
        for after in 0..12 {
            let (before, after) = ("x".repeat(before), "y".repeat(after));
            assert_eq!(redactor.redact(&format!("{before}s3cr3t-v{after}")), format!("{before}***{after}"));
        }
    }
}

#[test]
fn letters_of_several_bytes_stay_whole() {
    let redactor = redactor(&[("A", "pässwörter"), ("LONG", &"ä漢🦀".repeat(200))]);
    let long = "ä漢🦀".repeat(200);
    check(&redactor, &[("für pässwörter: ü", "für ***: ü"), (&format!("é{long}ß"), "é***ß")]);
}

#[test]
fn a_short_value_is_hidden_where_it_stands_by_itself() {
    let redactor = redactor(&[
        ("SMTP_PASSWORD", "hunter2"),
        ("PIN", "4fb7"),
        ("SIGN", "p\"ss"),
        ("DATABASE_URL", "postgres://app:s3cret@db/notes"),
    ]);
    check(
        &redactor,
        &[
            ("hunter2", "***"),
            ("login hunter2 refused", "login *** refused"),
            ("SMTP_PASSWORD=hunter2, again \"hunter2\"", "SMTP_PASSWORD=***, again \"***\""),
            ("hunter22 shunter2 ähunter2 hunter2ß", "hunter22 shunter2 ähunter2 hunter2ß"),
            ("id 14fb7 or 4fb7", "id 14fb7 or ***"),
            (r#"{"p":"p\"ss"}"#, r#"{"p":"***"}"#),
            ("FATAL: s3cret is wrong, s3crets are not", "FATAL: *** is wrong, s3crets are not"),
        ],
    );
}

#[test]
fn one_letter_and_common_words_wreck_no_log() {
    let redactor = redactor(&[
        ("DATABASE_URL", "postgres://app:a@db:5432/notes"),
        ("CACHE_URL", "redis://:postgres@cache/0"),
        ("NODE_ENV", "production"),
        ("LOG_LEVEL", "Debug"),
        ("PORT", "3000"),
        ("HOST", "localhost"),
        ("TLS", "true"),
        ("RULE", "----------"),
        ("EMPTY", ""),
        ("SHORT", "abc"),
    ]);
    let text = "a production server: debug, localhost:3000, postgres, TLS true abc ----------------";
    check(&redactor, &[(text, text), ("to postgres://app:a@db:5432/notes", "to ***")]);
}

#[test]
fn no_part_of_a_password_that_should_have_been_encoded_is_shown() {
    let redactor =
        redactor(&[("DATABASE_URL", "postgres://app:c0rrect@h0rse/b4ttery:staple9@db:5432/notes")]);
    check(
        &redactor,
        &[
            ("password c0rrect@h0rse/b4ttery:staple9.", "password ***."),
            ("host h0rse not found", "host *** not found"),
            ("database \"b4ttery:staple9@db:5432/notes\"", "database \"***@db:5432/notes\""),
            ("invalid port staple9, user app", "invalid port ***, user app"),
        ],
    );
    assert_eq!(url_password("postgres://app:p@ss/w:rd@db/notes"), Some("p"), "as RFC 3986 reads it");
}

#[test]
fn a_long_value_is_hidden_whole_and_in_parts() {
    let long: String = (0..4_000).map(|number| format!("{number:x}.")).collect();
    let redactor = redactor(&[("LONG", &long)]);
    check(&redactor, &[(&format!("<{long}>"), "<***>")]);
    // A program that cuts a line shows less than a piece of it.
    let part = redactor.redact(&long[..3_000]);
    assert!(part.starts_with("***") && part.len() < 300, "{part}");
}

/// What the rule says, with no regard for time: the positions that are masked.
fn masked_positions(text: &str, values: &[String]) -> Vec<bool> {
    let mut masked = alloc::vec![false; text.len()];
    for value in values {
        for (at, _) in text.char_indices().filter(|(at, _)| text[*at..].starts_with(&**value)) {
            let end = at + value.len();
            let stands_by_itself = !text[..at].ends_with(char::is_alphanumeric)
                && !text[end..].starts_with(char::is_alphanumeric);
            if value.len() >= ANYWHERE_BYTES_MIN || (value.len() >= BY_ITSELF_BYTES_MIN && stands_by_itself) {
                masked[at..end].fill(true);
            }
        }
    }
    masked
}

/// Few letters, so that values overlap, begin with each other and stand side by side.
#[test]
fn the_same_is_masked_as_where_every_position_is_tried() {
    const LETTERS: [char; 4] = ['a', 'b', 'ä', '-'];
    let mut state: u64 = 7;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3_000 {
        let values: Vec<String> =
            (0..1 + random(4)).map(|_| (0..2 + random(14)).map(|_| LETTERS[random(3)]).collect()).collect();
        let text: String = (0..120)
            .map(|_| {
                if random(12) == 0 {
                    values[random(values.len())].clone()
                } else {
                    LETTERS[random(4)].to_string()
                }
            })
            .collect();
        let named: Vec<(String, &String)> =
            values.iter().enumerate().map(|(n, v)| (format!("S{n}"), v)).collect();
        let borrowed: Vec<(&str, &str)> = named.iter().map(|(name, value)| (&**name, &***value)).collect();
        let mut wanted = String::new();
        let positions = masked_positions(&text, &values);
        for (at, letter) in text.char_indices() {
            match positions[at] {
                false => wanted.push(letter),
                true if at > 0 && positions[at - 1] => {}
                true => wanted.push_str(MASK),
            }
        }
        // A letter of the rest is percent-encoded nowhere in the text, so the other forms find nothing.
        assert_eq!(redactor(&borrowed).redact(&text), wanted, "{values:?} in {text:?}");
    }
}

#[test]
fn a_long_value_with_a_rule_in_it_masks_no_rule() {
    let value = format!("begin{}end", "=".repeat(2_000));
    let rule = "=".repeat(600);
    check(&redactor(&[("NOTE", &value)]), &[(&rule, &rule)]);
}

#[test]
fn weak_secrets_are_named_without_their_values() {
    let variables = variables(&[
        ("API_KEY", "0123456789abcdef"),
        ("DATABASE_URL", "postgres://app:a@db/notes"),
        ("EMPTY", ""),
        ("ENVIRONMENT", "production"),
        ("NODE_ENV", "Production"),
        ("PIN", "x7"),
        ("PORT", "8080"),
        ("PUBLIC", "yes"),
        ("SMTP_PASSWORD", "hunter2"),
    ]);
    let weak = weak_secrets(&variables, &BTreeSet::from(["PUBLIC".to_owned()]));
    let said: Vec<String> = weak.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "the password in DATABASE_URL has fewer than 4 characters, so logs show it",
            "NODE_ENV is a common word or a small number, so logs show it",
            "PIN has fewer than 4 characters, so logs show it",
            "PORT is a common word or a small number, so logs show it",
            "SMTP_PASSWORD has fewer than 8 characters, so logs hide it only where it stands by itself",
        ]
    );
}

#[test]
fn a_password_that_should_have_been_encoded_is_told_from_a_path_with_an_at_sign() {
    for url in [
        "postgres://app:p@ss/w:rd@db:5432/notes",
        "postgres://app:p/ss@db/notes",
        "postgres://app:12?3@db/notes",
        "postgres://app:12/3@db/notes",
        "postgresql://app:p#ss@db/notes?sslmode=require",
        "https://user:p/ss@host/",
    ] {
        assert!(has_unencoded_password(url), "{url}");
    }
    for url in [
        "postgres://app:p%40ss%2Fw@db:5432/notes",
        "postgres://app:p@ss@db:5432/notes",
        "postgres://app@db/notes",
        "postgres://app:pass@db/notes?application_name=me@home/here",
        "postgres://db:5432/notes?application_name=me@home",
        "https://user:pass@host/@scope/name",
        "https://host:8443/@scope/name",
        "a@b:c/d@e",
    ] {
        assert!(!has_unencoded_password(url), "{url}");
    }
}

#[test]
fn the_begin_of_a_secret_at_the_end_of_a_text_that_was_cut_is_not_shown() {
    let secret = "s3cr3t".repeat(40);
    let redactor = redactor(&[("A", &secret), ("LONG", &"0123456789abcdef".repeat(1_000))]);
    let text = format!("{} {secret} {secret}", "word ".repeat(100));
    for end in text.len() - secret.len() - 20..text.len() {
        let shown = redactor.redact_beginning(&text[..end]);
        assert!(!shown.contains("s3cr"), "{end}: {shown}");
        assert!(shown.starts_with("word word"), "{end}: {shown}");
    }
}
