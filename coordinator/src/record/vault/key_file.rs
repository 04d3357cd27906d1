//! The file with the key of the vault: 64 hexadecimal digits. While the key is being changed it has two lines, the new key
//! and the one before it.

use std::path::Path;

use anyhow::{Context, bail};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::ports::private_files;

pub(super) const KEY_BYTES: usize = 32;

pub(super) type VaultKey = [u8; KEY_BYTES];

/// What the file has.
#[derive(PartialEq, Eq)]
pub(super) enum KeyFile {
    One(VaultKey),
    /// Some of what is stored is encrypted with the new key already.
    Changing {
        new: VaultKey,
        before: VaultKey,
    },
}

impl KeyFile {
    /// `None` if there is no such file.
    pub(super) fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        let Some(text) = private_files::read(file)? else { return Ok(None) };
        let read = Self::parse(&text).with_context(|| format!("{} has no valid key", file.display()))?;
        Ok(Some(read))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let keys = text.split_whitespace().map(from_hex).collect::<anyhow::Result<Vec<VaultKey>>>()?;
        match keys.as_slice() {
            [key] => Ok(Self::One(*key)),
            [new, before] => Ok(Self::Changing { new: *new, before: *before }),
            other => bail!("it has {} keys", other.len()),
        }
    }

    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = match self {
            Self::One(key) => HEXLOWER.encode(key),
            Self::Changing { new, before } => {
                format!("{}\n{}\n", HEXLOWER.encode(new), HEXLOWER.encode(before))
            }
        };
        Ok(private_files::write(file, &text)?)
    }
}

pub(super) fn random_key() -> anyhow::Result<VaultKey> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).context("the system provides no random numbers")?;
    Ok(key)
}

fn from_hex(text: &str) -> anyhow::Result<VaultKey> {
    let key = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(anyhow::Error::msg)?;
    key.try_into().map_err(|_| anyhow::anyhow!("the length of a key is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.key");
        assert!(KeyFile::read(&path).unwrap().is_none());
        let (new, before) = ([0xab; KEY_BYTES], [0xcd; KEY_BYTES]);
        for written in [KeyFile::One(new), KeyFile::Changing { new, before }] {
            written.write(&path).unwrap();
            assert!(KeyFile::read(&path).unwrap() == Some(written));
        }
    }

    #[test]
    fn a_key_may_be_in_capitals() {
        assert!(KeyFile::parse(&"AB".repeat(KEY_BYTES)).unwrap() == KeyFile::One([0xab; KEY_BYTES]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = "ab".repeat(KEY_BYTES);
        let three = [key.as_str(); 3].join("\n");
        let with_sign = format!("+f{}", "ab".repeat(KEY_BYTES - 1));
        for text in ["", "ab", &with_sign, &key[1..], &format!("{key} ab"), &three] {
            assert!(KeyFile::parse(text).is_err(), "{text:?}");
        }
    }
}
