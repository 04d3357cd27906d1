//! The one-time token with which a host, an operator or a coordinator joins: `LS1.<pin>.<id>.<secret>`.
//!
//! The pin is the SHA-256 of the authority's public key (its SubjectPublicKeyInfo, as in kubeadm). So the caller
//! verifies the coordinator before it sends the secret.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::secret::Secret;

/// The kind and version that a token begins with.
const PREFIX: &str = "LS1";

/// What SHA-256 comes to in base 32 without padding.
const PIN_LENGTH: usize = 52;

/// What 128 bits come to in base 32 without padding.
const SECRET_LENGTH: usize = 26;

/// A token as an operator pastes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub pin: String,
    pub id: String,
    pub secret: Secret,
}

/// Why a text is not a token. It never quotes the text: that is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("this is not a Lockstep token: a token begins with {PREFIX}.")]
    OtherKind,
    #[error("this token is incomplete: it has {found} parts instead of 4")]
    CutOff { found: usize },
    #[error("the {part} of this token is incomplete: it has {found} characters instead of {wanted}")]
    Damaged { part: &'static str, found: usize, wanted: usize },
    #[error("the {part} of this token has an invalid character")]
    ForeignCharacter { part: &'static str },
}

impl JoinToken {
    /// The token's text, for the one who may see it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.pin, self.id, self.secret.expose())
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        if parts.first() != Some(&PREFIX) {
            return Err(InvalidToken::OtherKind);
        }
        let [_, pin, id, secret] = parts.as_slice() else {
            return Err(InvalidToken::CutOff { found: parts.len() });
        };
        part("pin", pin, PIN_LENGTH)?;
        part("id", id, id.len().max(1))?;
        part("secret", secret, SECRET_LENGTH)?;
        Ok(Self { pin: (*pin).to_owned(), id: (*id).to_owned(), secret: Secret::new((*secret).to_owned()) })
    }
}

fn part(part: &'static str, text: &str, wanted: usize) -> Result<(), InvalidToken> {
    if text.len() != wanted {
        return Err(InvalidToken::Damaged { part, found: text.len(), wanted });
    }
    if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) {
        return Err(InvalidToken::ForeignCharacter { part });
    }
    Ok(())
}

/// `bytes` in base 32 without padding (RFC 4648 section 6), in lower case.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_the_one_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(base32(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_token_that_was_not_pasted_whole_says_so_without_showing_itself() {
        let token =
            JoinToken { pin: base32(&[7; 32]), id: "abc".to_owned(), secret: Secret::new(base32(&[9; 16])) };
        let text = token.expose();
        assert_eq!(text.parse(), Ok(token));
        assert_eq!("K10abc::x".parse::<JoinToken>(), Err(InvalidToken::OtherKind));
        for end in 4..text.len() {
            let error = text[..end].parse::<JoinToken>().expect_err("a part of a token");
            assert!(!format!("{error}").contains(&text[60..70]), "{error}");
        }
    }
}
