//! A backup: everything that a coordinator knows, in one encrypted file.
//!
//! What must stay true: the content of the store is of one moment, and the files are those that it refers to. Values
//! bound to a lease and one-time tokens are left out, because their owners are gone when the backup is used. Keys
//! leave the coordinator only encrypted with the operator's passphrase. The format is that of age
//! (<https://age-encryption.org/v1>): it detects every change and a missing end, and `age -d` opens it too. Inside is
//! one line of JSON for each item.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use age::secrecy::SecretString;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lockstep_core::id::ClusterId;
use lockstep_core::secret::Secret;
use lockstep_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::authority;
use crate::ports::private_files;
use crate::ports::private_files::PrivateError;
use crate::program::directory::{AUTHORITY, SECRETS_KEY};
use crate::store::{Key, Store, StoreError, Stored, keys};

#[cfg(fuzzing)]
pub mod fuzzing;

/// The version of the file; one with a higher version is refused.
const VERSION: u32 = 1;

const KIND: &str = "lockstep_backup";

/// A passphrase is all that stands between the file and every key.
pub const PASSPHRASE_LENGTH_MIN: usize = 12;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    kind: String,
    version: u32,
    pub cluster: ClusterId,
    pub made: Timestamp,
    /// How many lines of each follow.
    files: usize,
    entries: usize,
}

/// A whole backup.
pub struct Backup {
    pub head: Head,
    /// Private files, by their path in the coordinator's directory.
    pub files: BTreeMap<String, Secret>,
    /// Keys and values of the store.
    pub entries: Vec<(Key, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLine {
    file: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    key: String,
    /// Base 64.
    value: String,
}

/// Why there is no backup, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read a private file")]
    File(#[from] PrivateError),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("the passphrase has fewer than {PASSPHRASE_LENGTH_MIN} characters")]
    ShortPassphrase,
    #[error("cannot encrypt the backup")]
    Seal(#[source] std::io::Error),
    #[error("this is not a backup, or the passphrase is wrong: {0}")]
    Open(age::DecryptError),
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    #[error(
        "the backup has version {found}, and this program reads versions up to {VERSION}: use the program that wrote it, or a newer one"
    )]
    Newer { found: u32 },
}

impl Backup {
    /// Takes everything together: from `store` at one moment, and from the coordinator's `directory`.
    ///
    /// # Errors
    /// When the store does not answer, or a file cannot be read.
    pub async fn take(
        store: &dyn Store,
        directory: &Path,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<Self, BackupError> {
        let mut files = private_files(directory)?;
        let all = loop {
            let all = store.list(&keys::all()).await?;
            let after = private_files(directory)?;
            let is_same = exposed(&after).eq(exposed(&files));
            files = after;
            // A rotation of the root came between: the record is of other files than these.
            if is_same {
                break all;
            }
        };
        let entries: Vec<(Key, Vec<u8>)> = all
            .into_iter()
            .filter(|stored| keys::outlives_its_writer(&stored.key))
            .map(|Stored { key, value, .. }| (key, value.to_vec()))
            .collect();
        let head = Head {
            kind: KIND.to_owned(),
            version: VERSION,
            cluster: cluster.clone(),
            made: now,
            files: files.len(),
            entries: entries.len(),
        };
        Ok(Self { head, files, entries })
    }

    /// The file. It takes about a second, because a passphrase is to be expensive to guess.
    ///
    /// # Errors
    /// When the passphrase is too short.
    pub fn seal(&self, passphrase: &Secret) -> Result<Vec<u8>, BackupError> {
        if passphrase.expose().chars().count() < PASSPHRASE_LENGTH_MIN {
            return Err(BackupError::ShortPassphrase);
        }
        let encryptor =
            age::Encryptor::with_user_passphrase(SecretString::from(passphrase.expose().to_owned()));
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).map_err(BackupError::Seal)?;
        self.write(&mut writer).map_err(BackupError::Seal)?;
        writer.finish().map_err(BackupError::Seal)?;
        Ok(sealed)
    }

    fn write(&self, to: &mut impl Write) -> Result<(), std::io::Error> {
        line(to, &self.head)?;
        for (file, text) in &self.files {
            line(to, &FileLine { file: file.clone(), text: text.expose().to_owned() })?;
        }
        for (key, value) in &self.entries {
            let value = BASE64_STANDARD.encode(value);
            line(to, &EntryLine { key: key.as_str().to_owned(), value })?;
        }
        Ok(())
    }

    /// What [`Self::seal`] made.
    ///
    /// # Errors
    /// When it is another file, another passphrase, damaged, or of a newer program.
    pub fn open(sealed: &[u8], passphrase: &Secret) -> Result<Self, BackupError> {
        let decryptor = age::Decryptor::new(sealed).map_err(BackupError::Open)?;
        let identity = age::scrypt::Identity::new(SecretString::from(passphrase.expose().to_owned()));
        let reader =
            decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(BackupError::Open)?;
        Self::read(BufReader::new(reader))
    }

    fn read(reader: BufReader<impl Read>) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Version {
            kind: String,
            version: u32,
        }
        let mut lines = reader.lines();
        let mut next = || {
            let line = lines.next().ok_or_else(|| BackupError::Damaged("it ends too early".to_owned()))?;
            line.map_err(|error| BackupError::Damaged(error.to_string()))
        };
        let first = next()?;
        let Version { kind, version } = parse(&first)?;
        if kind != KIND {
            return Err(BackupError::Damaged(format!("it is a {kind}")));
        }
        if version > VERSION {
            return Err(BackupError::Newer { found: version });
        }
        let head: Head = parse(&first)?;
        let mut files = BTreeMap::new();
        for _ in 0..head.files {
            let FileLine { file, text } = parse(&next()?)?;
            files.insert(file, Secret::new(text));
        }
        let mut entries = Vec::with_capacity(head.entries.min(100_000));
        for _ in 0..head.entries {
            let EntryLine { key, value } = parse(&next()?)?;
            let key = keys::read(&key)
                .ok_or_else(|| BackupError::Damaged(format!("{key:?} is not a key of the store")))?;
            let value =
                BASE64_STANDARD.decode(value).map_err(|error| BackupError::Damaged(error.to_string()))?;
            entries.push((key, value));
        }
        Ok(Self { head, files, entries })
    }
}

/// The files without which the record is of no use, by their path in `directory`.
fn private_files(directory: &Path) -> Result<BTreeMap<String, Secret>, BackupError> {
    let mut files = BTreeMap::new();
    for (name, needed) in authority::FILES.map(|(name, needed)| (format!("{AUTHORITY}/{name}"), needed)) {
        match private_files::read(&directory.join(&name))? {
            Some(text) => drop(files.insert(name, Secret::new(text))),
            None if needed => return Err(BackupError::Missing("a file of the authority")),
            None => {}
        }
    }
    let secrets = private_files::read(&directory.join(SECRETS_KEY))?;
    files.insert(
        SECRETS_KEY.to_owned(),
        Secret::new(secrets.ok_or(BackupError::Missing("the key of the secrets"))?),
    );
    Ok(files)
}

fn exposed(files: &BTreeMap<String, Secret>) -> impl Iterator<Item = (&String, &str)> {
    files.iter().map(|(name, text)| (name, text.expose()))
}

fn line(to: &mut impl Write, content: &impl Serialize) -> Result<(), std::io::Error> {
    serde_json::to_writer(&mut *to, content)?;
    to.write_all(b"\n")
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, BackupError> {
    // What stands there may be a key: only the place is told.
    serde_json::from_str(line)
        .map_err(|error| BackupError::Damaged(format!("a line is invalid at column {}", error.column())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        let entries = vec![(keys::meta().key().clone(), b"{}".to_vec())];
        let files = BTreeMap::from([("secrets.key".to_owned(), Secret::new("abc".to_owned()))]);
        let head = Head {
            kind: KIND.to_owned(),
            version: VERSION,
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().unwrap(),
            made: Timestamp(1),
            files: 1,
            entries: 1,
        };
        Backup { head, files, entries }
    }

    fn passphrase(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn what_was_sealed_is_opened_with_the_same_passphrase_and_no_other() {
        let good = passphrase("correct horse battery");
        let sealed = backup().seal(&good).unwrap();
        let opened = Backup::open(&sealed, &good).unwrap();
        assert_eq!(opened.head, backup().head);
        assert_eq!(opened.entries, backup().entries);
        assert_eq!(opened.files["secrets.key"].expose(), "abc");
        let text = String::from_utf8_lossy(&sealed);
        assert!(!text.contains("meta") && !text.contains("abc"), "it is not sealed");

        assert!(matches!(
            Backup::open(&sealed, &passphrase("another passphrase")),
            Err(BackupError::Open(_))
        ));
        assert!(matches!(backup().seal(&passphrase("short")), Err(BackupError::ShortPassphrase)));
        assert!(matches!(Backup::open(b"something else", &good), Err(BackupError::Open(_))));
        let mut cut = sealed.clone();
        cut.truncate(sealed.len() - 3);
        assert!(Backup::open(&cut, &good).is_err(), "its end is missing");
        let mut changed = sealed;
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert!(Backup::open(&changed, &good).is_err(), "a byte is another");
    }

    #[test]
    fn a_backup_of_a_newer_program_is_refused() {
        let mut newer = backup();
        newer.head.version = VERSION + 1;
        let mut text = Vec::new();
        newer.write(&mut text).unwrap();
        let read = Backup::read(BufReader::new(text.as_slice()));
        assert!(matches!(read, Err(BackupError::Newer { found: 2 })));
    }
}
