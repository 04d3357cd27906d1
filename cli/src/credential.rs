//! The operator's credential: a directory that only the operator can read.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use lockstep_core::time::Timestamp;
use lockstep_proto::dial::{Credential, Joined};
use lockstep_runtime::durable;

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
pub const AUTHORITY: &str = "authority.pem";
const COORDINATOR: &str = "coordinator";

/// The files of a credential.
pub const FILES: [&str; 4] = [KEY, CERTIFICATE, AUTHORITY, COORDINATOR];

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("there is no credential in {directory}")]
    None { directory: PathBuf },
    #[error("{path} can be read by others")]
    Open { path: PathBuf },
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("your certificate expired at {ended}; the clock of this machine says {now}")]
    Ended { ended: Timestamp, now: Timestamp },
    #[error("your certificate is not valid before {begins}; the clock of this machine says {now}")]
    NotYet { begins: Timestamp, now: Timestamp },
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Reads the credential and the addresses that go with it, separated by commas.
///
/// # Errors
/// When there is none, or others can read its key.
pub fn load(directory: &Path) -> Result<(Credential, String), CredentialError> {
    let key = directory.join(KEY);
    let mode = match fs::metadata(&key) {
        Ok(metadata) => metadata.mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CredentialError::None { directory: directory.to_owned() });
        }
        Err(source) => return Err(CredentialError::Read { path: key, source }),
    };
    if mode & 0o077 != 0 {
        return Err(CredentialError::Open { path: key });
    }
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(|source| CredentialError::Read { path, source })
    };
    let credential =
        Credential { key: read(KEY)?, certificate: read(CERTIFICATE)?, authority: read(AUTHORITY)? };
    Ok((credential, read(COORDINATOR)?.trim().to_owned()))
}

/// Checks that the certificate is valid at `now`. The coordinator would refuse it without a reason: in TLS 1.3 a client
/// sees that as a broken connection.
///
/// # Errors
/// When it has expired, or is not valid yet.
pub fn check(credential: &Credential, now: Timestamp) -> Result<(), CredentialError> {
    match validity(&credential.certificate) {
        Some((_, ended)) if ended < now => Err(CredentialError::Ended { ended, now }),
        Some((begins, _)) if now < begins => Err(CredentialError::NotYet { begins, now }),
        Some(_) | None => Ok(()),
    }
}

/// The period in which a certificate is valid; `None` if it cannot be parsed.
pub fn validity(certificate: &str) -> Option<(Timestamp, Timestamp)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    let moment = |time: x509_parser::time::ASN1Time| {
        Some(Timestamp(u64::try_from(time.timestamp()).ok()?.checked_mul(1000)?))
    };
    Some((moment(validity.not_before)?, moment(validity.not_after)?))
}

/// Stores a certificate that was renewed for the same key.
///
/// # Errors
/// When it cannot be written.
pub fn renew(directory: &Path, renewed: &Credential) -> Result<(), CredentialError> {
    write(&directory.join(AUTHORITY), &renewed.authority)?;
    write(&directory.join(CERTIFICATE), &renewed.certificate)
}

/// Stores the credential that a login returned.
///
/// # Errors
/// When it cannot be written.
pub fn save(directory: &Path, joined: &Joined, coordinator: &str) -> Result<(), CredentialError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| CredentialError::Write { path: directory.to_owned(), source })?;
    let Credential { key, certificate, authority } = &joined.credential;
    for (name, text) in [(KEY, key), (CERTIFICATE, certificate), (AUTHORITY, authority)] {
        write(&directory.join(name), text)?;
    }
    write(&directory.join(COORDINATOR), &all_addresses(coordinator, &joined.coordinators).join(","))
}

/// The addresses in `named`, separated by commas, then those of `learned` that `named` does not have.
pub fn all_addresses(named: &str, learned: &[String]) -> Vec<String> {
    let mut all: Vec<String> = named.split(',').map(|address| address.trim().to_owned()).collect();
    all.extend(learned.iter().filter(|address| !named.split(',').any(|own| own.trim() == *address)).cloned());
    all
}

/// Stores the addresses of the coordinators, after the address at which the operator logged in. `stored` are the
/// addresses in the file.
///
/// # Errors
/// When it cannot be written.
pub fn store_addresses(directory: &Path, stored: &str, learned: &[String]) -> Result<(), CredentialError> {
    let first = stored.split(',').next().unwrap_or(stored);
    let all = all_addresses(first, learned).join(",");
    if all == stored { Ok(()) } else { write(&directory.join(COORDINATOR), &all) }
}

/// Lets the credential dial `to` first, and no longer `from`.
///
/// # Errors
/// When the addresses cannot be read or written.
pub fn set_address(directory: &Path, from: Option<&str>, to: &str) -> Result<(), CredentialError> {
    let path = directory.join(COORDINATOR);
    let stored =
        fs::read_to_string(&path).map_err(|source| CredentialError::Read { path: path.clone(), source })?;
    let is_there = stored.split(',').any(|address| address.trim() == to);
    if is_there && from.is_none() {
        return Ok(());
    }
    let others = stored.split(',').map(str::trim).filter(|address| *address != to && Some(*address) != from);
    let all: Vec<&str> = [to].into_iter().chain(others.filter(|address| !address.is_empty())).collect();
    write(&path, &all.join(","))
}

fn write(path: &Path, text: &str) -> Result<(), CredentialError> {
    let written = durable::write(path, text, 0o600);
    written.map_err(|source| CredentialError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_follows_its_coordinator() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(COORDINATOR);
        fs::write(&file, "127.0.0.1:7443,10.0.0.2:7443\n").unwrap();
        let set = |from, to| {
            set_address(folder.path(), from, to).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        assert_eq!(set(None, "10.0.0.2:7443"), "127.0.0.1:7443,10.0.0.2:7443\n", "it is there already");
        assert_eq!(set(Some("127.0.0.1:7443"), "10.0.0.1:7443"), "10.0.0.1:7443,10.0.0.2:7443");
        assert_eq!(set(None, "10.0.0.3:7443"), "10.0.0.3:7443,10.0.0.1:7443,10.0.0.2:7443");
    }

    /// A login is used once: a credential that is cut short by a full disk or a power cut could not be had again.
    #[test]
    fn a_file_is_replaced_whole() {
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CERTIFICATE);
        write(&path, "the first, which is longer").unwrap();
        let mut before = fs::File::open(&path).unwrap();
        write(&path, "the second").unwrap();
        let mut text = String::new();
        before.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the first, which is longer", "it was changed in place");
        assert_eq!(fs::read_to_string(&path).unwrap(), "the second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Where it cannot be written, what was there stays.
        fs::create_dir(path.with_extension("partial")).unwrap();
        assert!(write(&path, "the third").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "the second");
    }
}
