//! Tokens with which hosts, operators, coordinators and machines join, and the words of what a token allows.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use lockstep_core::access::machine::Verb;
use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::host::HostRole;
use lockstep_core::secret::join_token::JoinToken;

/// Longer than any reason why a text is not a token.
const WHY_BYTES_MAX: usize = 120;

fuzz_target!(|text: &str| {
    match text.parse::<JoinToken>() {
        Ok(token) => {
            assert_eq!(token.expose(), text.trim());
            let debug = format!("{token:?}");
            assert!(
                !debug.contains(token.secret.expose())
                    || token.pin.contains(token.secret.expose())
                    || token.id.contains(token.secret.expose()),
                "a secret in {debug}"
            );
        }
        // The text may be a whole token and a letter: the reason quotes none of it.
        Err(why) => assert!(why.to_string().len() < WHY_BYTES_MAX, "{why}"),
    }
    is_read_as_shown::<Verb>(text);
    is_read_as_shown::<OperatorRole>(text);
    is_read_as_shown::<EnvironmentPattern>(text);
    is_read_as_shown::<HostRole>(text);
});

fn is_read_as_shown<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}
