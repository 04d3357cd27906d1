//! What is masked of a value, and in which forms.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{ANYWHERE_BYTES_MIN, BY_ITSELF_BYTES_MIN, Weakness, percent_decoded, url_password};

/// All but what RFC 3986 calls unreserved: programs escape these when a value becomes a part of a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What separates the parts of a URL.
const SEPARATORS: [char; 5] = ['@', '/', '?', '#', ':'];

/// How many signs of a URL are considered as the end of its password: a password has no more.
const SIGNS_MAX: usize = 8;

/// Whole numbers up to this length are ports, sizes and counts.
const NUMBER_DIGITS_MAX: usize = 5;

/// Values that many environments have and that logs are full of. Who guesses secrets begins with them, so nothing is
/// lost when they are shown. In small letters.
const COMMON_WORDS: &[&str] = &[
    "0.0.0.0",
    "127.0.0.1",
    "admin",
    "administrator",
    "allow",
    "always",
    "anonymous",
    "auto",
    "cache",
    "changeme",
    "client",
    "console",
    "critical",
    "database",
    "debug",
    "default",
    "demo",
    "deny",
    "dev",
    "devel",
    "develop",
    "development",
    "disable",
    "disabled",
    "enable",
    "enabled",
    "error",
    "example",
    "fail",
    "failed",
    "false",
    "fatal",
    "file",
    "guest",
    "host",
    "http",
    "https",
    "info",
    "information",
    "internal",
    "json",
    "latest",
    "live",
    "local",
    "localhost",
    "login",
    "main",
    "master",
    "memcached",
    "memory",
    "mongo",
    "mongodb",
    "mysql",
    "never",
    "nginx",
    "node",
    "none",
    "notice",
    "null",
    "off",
    "optional",
    "password",
    "plain",
    "postgres",
    "postgresql",
    "prefer",
    "preprod",
    "prod",
    "production",
    "public",
    "qa",
    "rabbitmq",
    "redis",
    "release",
    "require",
    "required",
    "root",
    "sandbox",
    "secret",
    "server",
    "service",
    "silent",
    "smtp",
    "stage",
    "staging",
    "stderr",
    "stdout",
    "success",
    "system",
    "test",
    "testing",
    "text",
    "token",
    "trace",
    "true",
    "undefined",
    "user",
    "username",
    "utf-8",
    "verbose",
    "verify-full",
    "warn",
    "warning",
    "worker",
    "yaml",
    "yes",
];

/// What is masked of all values.
#[derive(Default)]
pub(super) struct Forms {
    pub(super) anywhere: BTreeSet<String>,
    pub(super) by_itself: BTreeSet<String>,
}

/// Where a value is masked.
pub(super) enum Masking {
    Anywhere,
    ByItself,
    Nowhere(Weakness),
}

/// The rule of the module.
pub(super) fn masking(value: &str) -> Masking {
    if is_common(value) {
        return Masking::Nowhere(Weakness::CommonWord);
    }
    match value.len() {
        0..BY_ITSELF_BYTES_MIN => Masking::Nowhere(Weakness::TooShort),
        BY_ITSELF_BYTES_MIN..ANYWHERE_BYTES_MIN => Masking::ByItself,
        ANYWHERE_BYTES_MIN.. => Masking::Anywhere,
    }
}

/// A word of the list, a small number, or one sign again and again, as in the rule of a table.
fn is_common(value: &str) -> bool {
    let is_number = value.len() <= NUMBER_DIGITS_MAX && value.bytes().all(|byte| byte.is_ascii_digit());
    let mut signs = value.chars();
    let first = signs.next();
    let is_rule = first.is_some_and(|sign| !sign.is_alphanumeric()) && signs.all(|sign| Some(sign) == first);
    is_number || is_rule || COMMON_WORDS.iter().any(|word| word.eq_ignore_ascii_case(value))
}

impl Forms {
    /// Adds what is masked of `value`.
    pub(super) fn add(&mut self, value: &str) {
        self.add_encodings(value);
        for password in passwords(value) {
            // Programs print it without its URL.
            self.add_encodings(password);
            self.add_encodings(&percent_decoded(password));
        }
        for line in value.lines() {
            // A log has lines: a key of several lines would never match as a whole.
            if line.len() >= ANYWHERE_BYTES_MIN && line.len() < value.len() {
                self.add_encodings(line);
            }
        }
    }

    fn add_encodings(&mut self, value: &str) {
        let forms = match masking(value) {
            Masking::Anywhere => &mut self.anywhere,
            Masking::ByItself => &mut self.by_itself,
            Masking::Nowhere(_) => return,
        };
        // Most values have no sign that is escaped.
        if let Cow::Owned(escaped) = utf8_percent_encode(value, RESERVED).into() {
            forms.insert(escaped);
        }
        // Text is always JSON.
        let json = serde_json::to_string(value).unwrap_or_default();
        if let Some(escaped) = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'))
            && escaped != value
        {
            forms.insert(escaped.to_owned());
        }
        forms.insert(value.to_owned());
    }
}

/// The password of a URL, in each way in which a program may read it.
fn passwords(url: &str) -> Vec<&str> {
    let mut passwords: Vec<&str> = url_password(url).into_iter().collect();
    let Some(Unencoded { password, signs }) = unencoded_password(url) else { return passwords };
    for sign in signs.iter().take(SIGNS_MAX) {
        passwords.push(&password[..*sign]);
        passwords.push(&password[sign + 1..]);
    }
    passwords.push(password);
    passwords.extend(password.split(SEPARATORS));
    // libpq and browsers leave a port with the part before it.
    passwords.extend(password.split(['@', '/', '?', '#']));
    passwords
}

/// A password that was not percent-encoded.
pub(super) struct Unencoded<'a> {
    password: &'a str,
    /// Where it has a separator.
    signs: Vec<usize>,
}

/// The password of a URL that ends behind the place at which RFC 3986 ends it, because it has signs that should have
/// been percent-encoded: `postgres://app:p@ss/w:rd@db/notes`.
pub(super) fn unencoded_password(url: &str) -> Option<Unencoded<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let begin = authority.find(':')? + 1;
    let end = last_at_sign(rest).filter(|end| *end > authority.len())?;
    let is_port = authority[begin..].bytes().all(|byte| byte.is_ascii_digit());
    // In paths of the web an `@` is usual.
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if is_web && (authority.contains('@') || is_port) {
        return None;
    }
    let password = rest.get(begin..end)?;
    let signs = password.match_indices(SEPARATORS).map(|(at, _)| at).collect();
    Some(Unencoded { password, signs })
}

/// The last `@` that does not stand in the value of a parameter, as in `?application_name=a@b`.
fn last_at_sign(text: &str) -> Option<usize> {
    let (mut is_query, mut is_value) = (false, false);
    let mut last = None;
    for (at, sign) in text.bytes().enumerate() {
        match sign {
            b'?' => (is_query, is_value) = (true, false),
            b'&' => is_value = false,
            b'=' => is_value = is_query,
            b'@' if !is_value => last = Some(at),
            _ => {}
        }
    }
    last
}
