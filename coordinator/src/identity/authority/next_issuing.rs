//! The issuing authority that will replace the current one, complete in one file before it counts.
//!
//! What must stay true: nothing is signed with it before the record says that it counts. The file is deleted only when
//! everything in it is in place, so a coordinator that dies meanwhile begins again with it. A file that the record
//! does not count stays, because a transaction that was sent may still arrive.

use std::fs;
use std::io;
use std::path::Path;

use lockstep_crashpoint::reach;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::{AuthorityError, ISSUING_FILE, ISSUING_KEY_FILE, NEXT_FILE, ROOT_FILE, ROOT_KEY_FILE};
use crate::identity::certificate::IssuingName;
use crate::ports::private_files;
use crate::ports::private_files::PrivateError;

/// PEM, all of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextIssuing {
    pub root: String,
    /// On the coordinator that has the root's key.
    pub(super) root_key: Option<NextRoot>,
    pub(super) issuing: String,
    pub(super) issuing_key: String,
}

/// Another root.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextRoot {
    pub(super) key: String,
    /// The root in whose place it comes.
    pub(super) replaces: String,
    /// Its key, as the root before it signs it.
    pub(super) bridge: String,
}

impl NextIssuing {
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let Some(text) = private_files::read(&directory.join(NEXT_FILE))? else { return Ok(None) };
        // What stands there are keys: only the place is told.
        let next =
            serde_json::from_str(&text).map_err(|error| AuthorityError::Next { column: error.column() })?;
        Ok(Some(next))
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), AuthorityError> {
        private_files::write(&directory.join(NEXT_FILE), &self.text())?;
        reach(|| "authority next written".to_owned());
        Ok(())
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("it is text, and nothing but text")
    }

    /// The issuing authority in it.
    ///
    /// # Errors
    /// When it names no coordinator.
    pub fn name(&self) -> Result<IssuingName, AuthorityError> {
        let der =
            CertificateDer::from_pem_slice(self.issuing.as_bytes()).map_err(|_| AuthorityError::Half)?;
        IssuingName::of_subject(&der).ok_or(AuthorityError::Nameless)
    }

    /// Puts everything where it is used from. The same again does no harm.
    pub(super) fn put_in_place(&self, directory: &Path) -> Result<(), AuthorityError> {
        reach(|| "authority next counts".to_owned());
        match &self.root_key {
            Some(root) => private_files::write(&directory.join(ROOT_KEY_FILE), &root.key)?,
            None => remove(&directory.join(ROOT_KEY_FILE))?,
        }
        private_files::write(&directory.join(ROOT_FILE), &self.root)?;
        reach(|| "authority next half in place".to_owned());
        private_files::write(&directory.join(ISSUING_KEY_FILE), &self.issuing_key)?;
        private_files::write(&directory.join(ISSUING_FILE), &self.issuing)?;
        reach(|| "authority next in place".to_owned());
        remove(&directory.join(NEXT_FILE))
    }
}

fn remove(path: &Path) -> Result<(), AuthorityError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PrivateError::Write { path: path.to_owned(), source }.into()),
    }
}
