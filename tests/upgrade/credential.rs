//! The operator's credential on the machine of a command line: the directory `credential/`.

use std::path::Path;

use lockstep::credential;
use lockstep_coordinator::identity::certificate;
use lockstep_core::access::Identity;
use lockstep_core::secret::Secret;
use lockstep_proto::dial::{Credential, Joined};

use crate::coordinator;
use crate::golden::{self, ADVICE, VERSIONS};

/// Writes what joining gives an operator.
pub(crate) fn save(directory: &Path, credential: Credential) {
    let joined = Joined {
        credential,
        cluster: coordinator::cluster().to_string(),
        identity: "anna".to_owned(),
        name: String::new(),
        coordinators: vec!["10.0.0.1:7443".to_owned(), "10.0.0.2:7443".to_owned()],
        secrets_key: Secret::new(String::new()),
        roles: Vec::new(),
    };
    credential::save(directory, &joined, "10.0.0.1:7443").expect("it is written");
}

#[test]
fn an_operator_stays_logged_in() {
    for version in VERSIONS {
        let folder = golden::copy(version, "credential");
        let (credential, addresses) = credential::load(folder.path()).expect("it is read");
        assert_eq!(addresses, "10.0.0.1:7443,10.0.0.2:7443");
        credential::check(&credential, coordinator::WRITTEN).expect("it was good then");
        let named =
            certificate::identity_of(&coordinator::leaf(&credential.certificate), &coordinator::cluster());
        assert_eq!(named, Identity::Operator("anna".parse().expect("a name")));
        assert!(credential.authority.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(credential.key.starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}

#[test]
fn a_credential_is_written_as_it_was() {
    let version = golden::newest();
    let folder = golden::copy(version, "credential");
    let (credential, _) = credential::load(folder.path()).expect("it is read");
    let again = tempfile::tempdir().expect("a folder");
    save(again.path(), credential);
    for file in credential::FILES {
        let written = std::fs::read_to_string(again.path().join(file)).expect("it is written");
        assert_eq!(written, golden::text(version, &format!("credential/{file}")), "{file}: {ADVICE}");
    }
}
