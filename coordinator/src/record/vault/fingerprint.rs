//! Fingerprints that tell two values of a secret apart and reveal neither.
//!
//! What must stay true: a fingerprint is keyed, so nobody can test a guessed value. Its key is derived from that of
//! the vault, whose own key is used for encryption only. Fingerprints are shown and never stored.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::secret::Secret;
use lockstep_core::secret::join_token::base32;
use sha2::Sha256;

use super::key_file::{KEY_BYTES, VaultKey};

/// What the derived key is for.
const PURPOSE: &[u8] = b"lockstep secret fingerprints";

/// A fingerprint tells two values apart; it need not be longer for that.
const LENGTH: usize = 10;

/// The key of all fingerprints, with nothing hashed yet.
pub(super) struct FingerprintKey(Hmac<Sha256>);

impl FingerprintKey {
    pub(super) fn derive(vault_key: &VaultKey) -> Self {
        let mut key = [0; KEY_BYTES];
        Hkdf::<Sha256>::new(None, vault_key)
            .expand(PURPOSE, &mut key)
            .expect("HKDF gives up to 255 times the length of one SHA-256");
        Self(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
    }

    pub(super) fn fingerprint(&self, environment: &EnvironmentKey, name: &str, value: &Secret) -> String {
        let mut mac = self.0.clone();
        for part in [environment.to_string().as_str(), name, value.expose()] {
            // The length keeps `a` + `bc` and `ab` + `c` apart.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let mut text = base32(&mac.finalize().into_bytes());
        text.truncate(LENGTH);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(environment: &str, name: &str, value: &str) -> String {
        let key = FingerprintKey::derive(&[7; KEY_BYTES]);
        key.fingerprint(&environment.parse().unwrap(), name, &Secret::new(value.to_owned()))
    }

    /// Computed by other means: Python's `hmac` and `hashlib`, HKDF written out by RFC 5869.
    #[test]
    fn a_fingerprint_is_hmac_with_a_derived_key() {
        assert_eq!(fingerprint("notes/production", "API_KEY", "canary-one"), "64kiygkfwo");
    }

    #[test]
    fn one_value_has_another_fingerprint_in_another_environment() {
        let production = fingerprint("notes/production", "API_KEY", "canary-one");
        assert_ne!(production, fingerprint("notes/staging", "API_KEY", "canary-one"));
    }

    #[test]
    fn the_end_of_a_name_is_not_the_begin_of_a_value() {
        assert_ne!(
            fingerprint("notes/production", "API", "KEYvalue"),
            fingerprint("notes/production", "APIKEY", "value")
        );
    }
}
