//! How a ciphertext is stored: as a list of numbers, which an earlier version can read, or, where that could not store it,
//! as Base64, which is a third as long.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// An earlier version could store at most 256 KiB of numbers with commas.
const NUMBERS_MAX: usize = 60 * 1024;

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Base64(String),
    Numbers(Vec<u8>),
}

pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match bytes.len() {
        0..=NUMBERS_MAX => serializer.collect_seq(bytes),
        _ => serializer.serialize_str(&BASE64_STANDARD.encode(bytes)),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Stored::deserialize(deserializer)? {
        Stored::Base64(text) => BASE64_STANDARD.decode(text).map_err(D::Error::custom),
        Stored::Numbers(bytes) => Ok(bytes),
    }
}
