//! `identity.toml`: the identity of this host and the addresses of its coordinators.

use lockstep_core::id::{ClusterId, HostId};
use lockstep_core::name::HostName;
use serde::{Deserialize, Serialize};

use crate::program::directory::{Directory, DirectoryError};

/// The identity of a host, from joining to removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub cluster: ClusterId,
    pub host: HostId,
    /// Its label.
    pub name: HostName,
    /// The address at which other hosts reach it.
    pub address: String,
    /// `host:port` of each.
    pub coordinators: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("this host has not joined a cluster: run `lockstep-agent join` first")]
    None,
    #[error("cannot parse identity.toml")]
    Parse(#[source] toml::de::Error),
    #[error("identity.toml has no coordinators")]
    NoCoordinator,
    #[error("cannot use identity.toml")]
    File(#[source] DirectoryError),
}

impl Identity {
    /// Reads who this host is.
    ///
    /// # Errors
    /// When it has not joined, or the file is damaged.
    pub fn read(directory: &Directory) -> Result<Self, IdentityError> {
        let path = directory.identity();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(IdentityError::None),
            Err(source) => return Err(IdentityError::File(DirectoryError::Read { path, source })),
        };
        let identity: Self = toml::from_str(&text).map_err(IdentityError::Parse)?;
        if identity.coordinators.is_empty() {
            return Err(IdentityError::NoCoordinator);
        }
        Ok(identity)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Directory) -> Result<(), IdentityError> {
        directory.write(&directory.identity(), &self.text()).map_err(IdentityError::File)
    }

    fn text(&self) -> String {
        toml::to_string(self).expect("an identity has only text and a list of text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_file_and_a_stranger_to_it_is_told_to_join() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        assert!(matches!(Identity::read(&directory), Err(IdentityError::None)));
        let identity = Identity {
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().unwrap(),
            host: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "192.0.2.1".to_owned(),
            coordinators: vec!["192.0.2.9:7443".to_owned()],
        };
        identity.write(&directory).unwrap();
        assert_eq!(Identity::read(&directory).unwrap(), identity);
    }
}
