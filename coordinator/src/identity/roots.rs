//! The roots that the cluster trusts, as recorded: one, or two during a rotation.
//!
//! What must stay true: the roots change only in one transaction with the authorities in the records of the
//! coordinators. Before the first rotation nothing is recorded, and every coordinator has the root in its own file.

use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_core::view::authority_status::RootStatus;
use lockstep_proto::dial::pin_of;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::identity::certificate;
use crate::identity::certificate::BACKDATED;
use crate::store::{Store, StoreError, Stored, keys};

/// PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roots {
    pub signing: String,
    pub retiring: Option<Retiring>,
}

/// The root that signed before, until it is retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retiring {
    pub root: String,
    /// The key of the root that signs, signed by this one: who trusts only this one takes what that one signs. There
    /// is none the other way round: whoever stole this one's key could go on with it after it was retired.
    pub bridge: String,
    pub since: Timestamp,
}

impl StoredDocument for Roots {
    const KIND: &'static str = "roots";
}

impl Roots {
    /// What everybody is to trust, the one that signs first.
    pub fn bundle(&self) -> String {
        let retiring = self.retiring.as_ref().map_or("", |retiring| &retiring.root);
        format!("{}{retiring}", self.signing)
    }

    /// The pin of the root that signs; `None` if it is damaged.
    pub fn pin(&self) -> Option<String> {
        pin(&self.signing)
    }
}

/// The pin of a root; `None` if it is damaged.
pub fn pin(root: &str) -> Option<String> {
    pin_of(&CertificateDer::from_pem_slice(root.as_bytes()).ok()?)
}

/// What an operator is told of a root; `None` if it is damaged.
pub fn status(root: &str) -> Option<RootStatus> {
    let der = CertificateDer::from_pem_slice(root.as_bytes()).ok()?;
    let (begins, ends) = certificate::validity(&der)?;
    // It begins before it was made, for clocks that are behind.
    Some(RootStatus { pin: pin_of(&der)?, made: begins + BACKDATED, ends })
}

/// The first root of a [`Roots::bundle`], as the coordinator that made it has it in its file.
pub fn first_in(bundle: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    with_line_end(bundle.split_inclusive(END).next().unwrap_or(bundle))
}

/// `pem` with exactly one line break at its end. Without it, another certificate cannot follow; and two coordinators
/// would give the same root as different texts.
pub fn with_line_end(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

/// What the record has, as it stands there.
///
/// # Errors
/// When the store does not answer.
pub async fn stored_roots(store: &dyn Store) -> Result<Option<Stored>, StoreError> {
    store.get(keys::roots().key()).await
}
