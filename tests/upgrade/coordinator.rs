//! What a coordinator keeps beside the store: `coordinator/` is its directory, `backup.age` all that it knows in one
//! sealed file.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use age::secrecy::SecretString;
use lockstep_coordinator::identity::authority::Authority;
use lockstep_coordinator::identity::roots::Roots;
use lockstep_coordinator::identity::tokens;
use lockstep_coordinator::identity::tokens::TokenHolder;
use lockstep_coordinator::ports::clock::SystemClock;
use lockstep_coordinator::program::backup::Backup;
use lockstep_coordinator::program::restore;
use lockstep_coordinator::program::settings::{Settings, StoreSettings};
use lockstep_coordinator::record::cluster;
use lockstep_coordinator::record::vault::Vault;
use lockstep_coordinator::store::guarded::epoch_of;
use lockstep_coordinator::store::memory::MemoryStore;
use lockstep_coordinator::store::sqlite::SqliteStore;
use lockstep_coordinator::store::{Store, keys};
use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::id::ClusterId;
use lockstep_core::secret::Secret;
use lockstep_core::time::{Millis, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::golden::{self, ADVICE, VERSIONS};
use crate::store;

/// When everything was written.
pub(crate) const WRITTEN: Timestamp = Timestamp(1_764_000_000_000);

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

pub(crate) fn cluster() -> ClusterId {
    "cl_01JBQR2KXYZ987654321012345".parse().expect("an id")
}

/// The first certificate of a chain.
pub(crate) fn leaf(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate")
}

async fn memory(version: &str) -> Arc<dyn Store> {
    let store = MemoryStore::new(Arc::new(SystemClock));
    store::fill(&store, &store::entries(version)).await;
    Arc::new(store)
}

fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.to_owned(), listen: None, address: None, log: "info".to_owned() }
}

#[test]
fn every_setting_of_a_coordinator_is_read() {
    for version in VERSIONS {
        let folder = golden::copy(version, "coordinator");
        let chosen = settings(folder.path()).choose().expect("it is read");
        assert_eq!(chosen.listen.to_string(), "10.0.0.1:7443");
        assert_eq!(chosen.address.expect("it is there").to_string(), "192.0.2.1:7443");
        let StoreSettings::Etcd(etcd) = chosen.store else { panic!("the record is in etcd") };
        assert_eq!(etcd.endpoints, ["https://10.0.0.1:2379"]);
        let paths = [&etcd.ca, &etcd.certificate, &etcd.key].map(|path| path.display().to_string());
        assert_eq!(paths, ["/etc/lockstep/ca.pem", "/etc/lockstep/c.pem", "/etc/lockstep/c.key"]);
        assert_eq!(etcd.prefix, "/lockstep-production");
        assert!(settings(folder.path()).otlp().expect("it is read").is_some());
    }
}

/// The values are sealed, with the key that stands beside the store.
#[tokio::test]
async fn sealed_secrets_and_logins_are_opened_with_the_key_that_they_were_sealed_with() {
    for version in VERSIONS {
        let folder = golden::copy(version, "coordinator");
        let vault =
            Vault::open(memory(version).await, &folder.path().join("secrets.key")).expect("its key is read");
        let environment = store::environment();
        let values = vault.values(&environment, 1).await.expect("they are opened");
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(values, [("DATABASE_URL", "postgres://notes:pass@10.0.0.1/notes"), ("LOG_LEVEL", "info")]);
        let listed = vault.list(&environment).await.expect("read").expect("there are some");
        assert_eq!((listed.version, listed.by.as_str(), listed.at), (1, "anna", WRITTEN));
        let login = vault.login(&"ghcr.io".parse().expect("a registry")).await.expect("it is opened");
        let login = login.expect("it is there");
        assert_eq!((login.username.as_str(), login.password.expose()), ("robot", "registry-pass"));
        let written = golden::text(version, "coordinator/secrets.key");
        assert_eq!(vault.key().expose(), written.trim_end(), "{ADVICE}");
    }
}

#[tokio::test]
async fn a_token_that_was_given_admits_whom_it_did() {
    for version in VERSIONS {
        let (store, token) = (memory(version).await, store::token(version));
        assert_eq!(format!("{}\n", token.expose()), golden::text(version, "token.txt"), "{ADVICE}");
        let presented = tokens::present(&*store, &token.id, token.secret.expose(), WRITTEN).await;
        let wanted = TokenHolder::Operator {
            name: "bert".parse().expect("a name"),
            environments: EnvironmentPattern::One(store::environment()),
            role: OperatorRole::Deploy,
        };
        assert_eq!(presented.expect("it is good").admits, wanted);
        let expires = WRITTEN + Millis::from_secs(900);
        assert!(tokens::present(&*store, &token.id, token.secret.expose(), expires).await.is_err());
    }
}

/// The authority was about to be replaced: `next.json` has the root and the issuing authority that the record counts.
#[tokio::test]
async fn an_authority_goes_on_where_it_was() {
    for version in VERSIONS {
        let folder = golden::copy(version, "coordinator");
        let directory = folder.path().join("authority");
        assert_eq!(Authority::cluster_of(&directory).expect("read"), Some(cluster()));
        let authority = Authority::open(&directory, &cluster(), WRITTEN).expect("it is opened");
        assert_eq!(authority.coordinator().as_str(), "coordinator-1");
        assert!(authority.has_root_key());
        let store = memory(version).await;
        let recorded = store.get(keys::roots().key()).await.expect("read").expect("there are some");
        let recorded: Roots = recorded.read().expect("they are read");
        assert_eq!(recorded.retiring.as_ref().expect("one retires").root, authority.roots().signing);
        let next = authority.prepared(&recorded.signing).expect("read").expect("it is prepared");
        let name = next.name().expect("it is named");
        assert!(
            std::fs::read_to_string(directory.join("next.json")).expect("it is there").contains("replaces")
        );
        authority.adopt_roots(Some(&recorded), Some(&name.id)).expect("it is put in place");
        assert_eq!((authority.name(), authority.roots()), (name, recorded));
        assert!(authority.is_current() && authority.has_root_key());
        assert!(!directory.join("next.json").exists());
    }
}

fn passphrase() -> Secret {
    Secret::new(PASSPHRASE.to_owned())
}

/// What is under the seal.
pub(crate) fn unsealed(sealed: &[u8]) -> String {
    let identity = age::scrypt::Identity::new(SecretString::from(PASSPHRASE.to_owned()));
    let decryptor = age::Decryptor::new(sealed).expect("a file of age");
    let mut reader =
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).expect("it is the passphrase");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("it is whole");
    text
}

#[tokio::test]
async fn a_backup_is_restored_with_all_that_was_in_it() {
    for version in VERSIONS {
        let backup =
            Backup::open(&golden::bytes(version, "backup.age"), &passphrase()).expect("it is opened");
        assert_eq!((&backup.head.cluster, backup.head.made), (&cluster(), WRITTEN));
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("coordinator");
        restore::put_back(&settings(&directory), &backup).await.expect("it is restored");

        for file in [
            "authority/root.pem",
            "authority/root.key",
            "authority/issuing.key",
            "authority/next.json",
            "secrets.key",
        ] {
            let there = std::fs::read_to_string(directory.join(file)).expect("it is restored");
            assert_eq!(there, golden::text(version, &format!("coordinator/{file}")), "{file}");
        }
        let store = SqliteStore::open(&directory, Arc::new(SystemClock)).await.expect("it is opened");
        assert_eq!(cluster::identify(&store, Some(&cluster())).await.expect("it is of it"), cluster());
        let epoch = store.get(keys::epoch(&store::environment()).key()).await.expect("read");
        let backed_up = store::entries(version).into_iter().find(|(key, _)| key.ends_with("/epoch"));
        let backed_up: u64 = backed_up.expect("an epoch").1.parse().expect("a number");
        let raised = backed_up + 1_000_000;
        assert_eq!(epoch_of(epoch.as_ref()).expect("a number"), raised);
        let there = store::read(&store::written(&store.list(&keys::all()).await.expect("read")));
        let mut wanted = store::entries(version);
        wanted.retain(|(key, _)| keys::outlives_its_writer(&keys::read(key).expect("a key")));
        for (key, value) in &mut wanted {
            if key.ends_with("/epoch") {
                *value = raised.to_string();
            }
        }
        assert_eq!(there, wanted, "{version}");
    }
}

#[test]
fn a_backup_is_written_as_it_was() {
    let sealed = golden::bytes(golden::newest(), "backup.age");
    let backup = Backup::open(&sealed, &passphrase()).expect("it is opened");
    let again = backup.seal(&passphrase()).expect("it is sealed");
    assert_eq!(unsealed(&again), unsealed(&sealed), "{ADVICE}");
}
