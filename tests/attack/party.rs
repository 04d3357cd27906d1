//! The wrong parties, and how each gets its certificate: by the real API, or as a thief of a key would.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use lockstep_coordinator::identity::authority::{self, Authority};
use lockstep_core::access::{Identity, OperatorRole};
use lockstep_core::id::ClusterId;
use lockstep_core::time::Timestamp;
use lockstep_proto::dial::Credential;

/// Who tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// Shows no certificate.
    Nobody,
    /// Has a certificate of an administrator of this cluster, signed under a root that nobody trusts.
    Stranger,
    /// Has the key of a coordinator that was removed, and has signed itself a certificate of the administrator.
    RemovedCoordinator,
    /// The coordinator, at services that are not for coordinators.
    Coordinator,
    /// The host of another environment.
    Host,
    ForgottenHost,
    /// Was an administrator of all environments.
    RevokedOperator,
    ReaderOfAll,
    DeployerOfAll,
    /// These four are of another environment.
    Reader,
    Deployer,
    Administrator,
    /// Its token allows everything that a token can.
    Machine,
}

impl Party {
    pub(crate) const ALL: [Self; 13] = [
        Self::Nobody,
        Self::Stranger,
        Self::RemovedCoordinator,
        Self::Coordinator,
        Self::Host,
        Self::ForgottenHost,
        Self::RevokedOperator,
        Self::ReaderOfAll,
        Self::DeployerOfAll,
        Self::Reader,
        Self::Deployer,
        Self::Administrator,
        Self::Machine,
    ];

    /// What a test is named after; of operators and machines, the name as well.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Stranger => "stranger",
            Self::RemovedCoordinator => "removed-coordinator",
            Self::Coordinator => "coordinator",
            Self::Host => "host",
            Self::ForgottenHost => "forgotten-host",
            Self::RevokedOperator => "revoked-operator",
            Self::ReaderOfAll => "reader-of-all",
            Self::DeployerOfAll => "deployer-of-all",
            Self::Reader => "reader",
            Self::Deployer => "deployer",
            Self::Administrator => "administrator",
            Self::Machine => "machine",
        }
    }

    /// What an operator may do, and whether in every environment.
    pub(crate) fn rights(self) -> Option<(OperatorRole, bool)> {
        match self {
            Self::RevokedOperator => Some((OperatorRole::Admin, true)),
            Self::ReaderOfAll => Some((OperatorRole::Read, true)),
            Self::DeployerOfAll => Some((OperatorRole::Deploy, true)),
            Self::Reader => Some((OperatorRole::Read, false)),
            Self::Deployer | Self::Machine => Some((OperatorRole::Deploy, false)),
            Self::Administrator => Some((OperatorRole::Admin, false)),
            Self::Nobody
            | Self::Stranger
            | Self::RemovedCoordinator
            | Self::Coordinator
            | Self::Host
            | Self::ForgottenHost => None,
        }
    }
}

/// What the coordinator in `directory` shows to other coordinators.
pub(crate) fn as_coordinator(directory: &Path, cluster: &ClusterId) -> Result<Credential> {
    Ok(Authority::open(&directory.join("authority"), cluster, now()?)?.client_credential(now()?)?)
}

/// A certificate of the administrator, under a root of its own that has the name of the cluster's.
pub(crate) fn as_stranger(
    directory: &Path,
    cluster: &ClusterId,
    administrator: &Credential,
) -> Result<Credential> {
    let authority = Authority::open(&directory.join("stranger"), cluster, now()?)?;
    forged(&authority, administrator)
}

/// A certificate of the administrator, signed by an authority that the root has signed and the record does not have.
pub(crate) fn as_removed_coordinator(
    directory: &Path,
    cluster: &ClusterId,
    administrator: &Credential,
) -> Result<Credential> {
    let root = Authority::open(&directory.join("coordinator/authority"), cluster, now()?)?;
    let (key, request) = authority::request()?;
    let (_, issued, root) = root.issue_authority(&request, &"coordinator-9".parse()?, now()?)?;
    let own = Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: root };
    let own_directory = directory.join("removed");
    Authority::adopt(&own_directory, &own)?;
    forged(&Authority::open(&own_directory, cluster, now()?)?, administrator)
}

fn forged(authority: &Authority, administrator: &Credential) -> Result<Credential> {
    let (key, request) = authority::request()?;
    let issued = authority.issue(&request, &Identity::Operator("admin".parse()?), now()?)?;
    // It trusts the real coordinator: it is that which must refuse.
    let trusted = administrator.authority.clone();
    Ok(Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: trusted })
}

pub(crate) fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Timestamp(u64::try_from(since.as_millis())?))
}
