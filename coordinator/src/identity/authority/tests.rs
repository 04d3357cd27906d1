//! What the authority issues, and how two roots in one directory behave.

use lockstep_proto::dial::{is_current, is_of_first};
use rustls::RootCertStore;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;

use super::*;
use rcgen::{BasicConstraints, IsCa};

const NOW: Timestamp = Timestamp(1_769_596_200_000);

fn cluster() -> ClusterId {
    "cl_01JBQR2KXYZ987654321012345".parse().unwrap()
}

fn host() -> Identity {
    Identity::Agent("host_01JBQR2KXYZ987654321012345".parse().unwrap())
}

fn authority(directory: &Path) -> Authority {
    Authority::open(directory, &cluster(), NOW).unwrap()
}

fn names(issued: &Issued) -> (Identity, bool) {
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    (certificate::identity_of(&der, &cluster()), parsed.is_ca())
}

/// A host's credential of `authority`.
fn credential(authority: &Authority) -> Credential {
    let (key, request) = request().unwrap();
    let certificate = authority.issue(&request, &host(), NOW).unwrap().certificate;
    Credential { key: key.serialize_pem(), certificate, authority: authority.bundle() }
}

/// Whether who trusts `roots` and nothing else takes `chain`.
fn takes(roots: &str, chain: &str) -> bool {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.unwrap()).collect()
    };
    let mut store = RootCertStore::empty();
    for root in certificates(roots) {
        store.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let chain = certificates(chain);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(NOW.0));
    verifier.verify_client_cert(&chain[0], &chain[1..], now).is_ok()
}

/// The record says that what was prepared counts.
fn rotated(authority: &Authority) -> (Roots, NextIssuing) {
    let (roots, next) = authority.prepare_root(NOW).unwrap();
    authority.adopt_roots(Some(&roots), Some(&next.name().unwrap().id)).unwrap();
    (roots, next)
}

#[test]
fn an_authority_that_is_opened_again_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    assert_eq!(authority(&path).pin(), authority(&path).pin());
}

#[test]
fn a_request_that_asks_to_be_somebody_else_gets_only_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority(&directory.path().join("authority"));
    let mut hostile = CertificateParams::new(vec!["coordinator.lockstep".to_owned()]).unwrap();
    let admin = certificates::uri(authority.cluster(), &Identity::Operator("admin".parse().unwrap()));
    hostile.subject_alt_names.push(SanType::URI(admin.as_str().try_into().unwrap()));
    hostile.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let request = hostile.serialize_request(&key).unwrap().pem().unwrap();
    let issued = authority.issue(&request, &host(), NOW).unwrap();
    assert_eq!(names(&issued), (host(), false));
    assert!(!issued.certificate.contains("coordinator"));
    assert!(authority.issue("not a request", &Identity::Nobody, NOW).is_err());
}

#[test]
fn while_there_are_two_roots_everybody_takes_what_either_signed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority(&directory.path().join("authority"));
    let (earlier, before) = (credential(&authority), authority.bundle());
    let (roots, _) = rotated(&authority);
    let later = credential(&authority);
    for trusted in [&before, &roots.signing, &roots.bundle()] {
        assert!(takes(trusted, &later.certificate), "the later root's");
    }
    for trusted in [&before, &roots.bundle()] {
        assert!(takes(trusted, &earlier.certificate), "the earlier root's");
    }
    let told = authority.bundle();
    assert!(is_current(&later, &told) && !is_current(&earlier, &told));
    // It trusts both, and has a certificate of a coordinator that was behind.
    let behind = Credential { authority: told.clone(), ..earlier };
    assert!(!is_current(&behind, &told) && is_of_first(&behind.certificate, &before));

    authority.adopt_roots(Some(&Roots { retiring: None, ..roots }), Some(&authority.name().id)).unwrap();
    assert!(!takes(&authority.bundle(), &behind.certificate));
    assert!(takes(&authority.bundle(), &later.certificate));
    assert!(!takes(&before, &credential(&authority).certificate), "its bridge is still shown");
}

#[test]
fn who_stole_the_root_that_was_retired_can_sign_nothing_that_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let authority = authority(&path);
    let stolen = fs::read_to_string(path.join(ROOT_KEY_FILE)).unwrap();
    let root = fs::read_to_string(path.join(ROOT_FILE)).unwrap();
    let (roots, _) = rotated(&authority);
    // The name is the one that counts: a name alone says nothing.
    let thief = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&stolen).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let forged = certificates::issuing(&authority.name(), NOW).unwrap().signed_by(&key, &thief).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&forged.pem(), key).unwrap();
    let leaf = certificates::leaf(&cluster(), &host(), NOW, CLIENT_LIFE).unwrap();
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let bridge = &roots.retiring.as_ref().unwrap().bridge;
    let chain = format!("{}{}{bridge}{root}", leaf.pem(), forged.pem());
    assert!(takes(&roots.bundle(), &chain), "it is no forgery");
    assert!(!takes(&roots.signing, &chain));
    let files = fs::read_dir(&path).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    assert!(!files.into_iter().any(|text| text.contains(&stolen)), "the earlier root's key is still there");
}

#[test]
fn who_dies_in_a_rotation_is_of_the_one_root_or_of_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    let before = authority(&path).pin();
    let (roots, next) = authority(&path).prepare_root(NOW).unwrap();
    let counts = next.name().unwrap().id;
    // It was written, and perhaps the transaction was sent.
    let opened = authority(&path);
    opened.adopt_roots(None, Some(&opened.name().id)).unwrap();
    assert!(opened.pin() == before && opened.has_root_key());
    let (again, _) = opened.prepare_root(NOW).unwrap();
    assert_eq!(again.signing, roots.signing, "asked again, it makes a third root");
    // It counts, and nothing of it is in place; then the half of it.
    let file = fs::read_to_string(path.join(NEXT_FILE)).unwrap();
    for half in ["", ROOT_KEY_FILE, ROOT_FILE, ISSUING_KEY_FILE, ISSUING_FILE] {
        let copy = directory.path().join(format!("copy-{half}"));
        fs::DirBuilder::new().mode(0o700).create(&copy).unwrap();
        for (name, _) in FILES {
            private_files::write(&copy.join(name), &fs::read_to_string(path.join(name)).unwrap()).unwrap();
        }
        let text = match half {
            ROOT_KEY_FILE => &next.root_key.as_ref().unwrap().key,
            ROOT_FILE => &next.root,
            ISSUING_KEY_FILE => &next.issuing_key,
            ISSUING_FILE => &next.issuing,
            _ => &file,
        };
        private_files::write(&copy.join(if half.is_empty() { NEXT_FILE } else { half }), text).unwrap();
        let opened = authority(&copy);
        opened.adopt_roots(Some(&roots), Some(&counts)).unwrap();
        assert_eq!((opened.pin(), opened.name().id), (roots.pin().unwrap(), counts.clone()), "{half}");
        assert!(opened.has_root_key() && takes(&roots.signing, &credential(&opened).certificate), "{half}");
        assert!(!copy.join(NEXT_FILE).exists());
        let (later, _) = rotated(&opened);
        assert_ne!(later.signing, roots.signing);
        assert!(
            takes(&roots.signing, &credential(&opened).certificate),
            "{half}: the bridge is of another key"
        );
    }
}

#[test]
fn another_coordinator_moves_over_with_what_the_root_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(&directory.path().join("first"));
    let second_name: CoordinatorName = "c2".parse().unwrap();
    let (key, request) = request().unwrap();
    let (_, issued, _) = first.issue_authority(&request, &second_name, NOW).unwrap();
    let joined =
        Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: first.bundle() };
    let path = directory.path().join("second");
    Authority::adopt(&path, &joined).unwrap();
    let second = authority(&path);
    let (roots, _) = rotated(&first);
    second.adopt_roots(Some(&roots), Some(&second.name().id)).unwrap();
    assert!(!second.is_current() && !second.has_root_key());
    assert!(matches!(second.prepare_root(NOW), Err(AuthorityError::NoRootKey)));
    // While it is behind, what it signs leads to the root that everybody still trusts.
    assert!(takes(&roots.bundle(), &credential(&second).certificate));
    let (key, request) = super::request().unwrap();
    let (_, issued, root) = first.issue_authority(&request, &second_name, NOW).unwrap();
    assert!(
        first.prepare_issuing(&key, issued.certificate.clone(), root.clone()).is_err(),
        "it is another's"
    );
    let next = second.prepare_issuing(&key, issued.certificate, root).unwrap();
    let opened = authority(&path);
    let found = opened.prepared(&roots.signing).unwrap().unwrap();
    assert_eq!(found.name().unwrap(), next.name().unwrap());
    opened.adopt_roots(Some(&roots), Some(&next.name().unwrap().id)).unwrap();
    assert!(opened.is_current() && takes(&roots.signing, &credential(&opened).certificate));
}

#[test]
fn who_joins_meanwhile_is_of_the_root_that_signs() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(&directory.path().join("first"));
    let (roots, _) = rotated(&first);
    let (key, request) = request().unwrap();
    let (_, issued, _) = first.issue_authority(&request, &"c3".parse().unwrap(), NOW).unwrap();
    let joined =
        Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: first.bundle() };
    let path = directory.path().join("third");
    Authority::adopt(&path, &joined).unwrap();
    assert_eq!(fs::read_to_string(path.join(ROOT_FILE)).unwrap().trim(), roots.signing.trim());
    let third = authority(&path);
    third.adopt_roots(Some(&roots), Some(&third.name().id)).unwrap();
    assert!(third.is_current() && third.pin() == first.pin());
    assert!(is_current(&credential(&third), &first.bundle()));
}

/// A coordinator that has joined `first`, in `path`.
fn join(first: &Authority, path: &Path, name: &str) -> Authority {
    let (key, request) = request().unwrap();
    let (_, issued, _) = first.issue_authority(&request, &name.parse().unwrap(), NOW).unwrap();
    let joined =
        Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: first.bundle() };
    Authority::adopt(path, &joined).unwrap();
    authority(path)
}

#[test]
fn every_coordinator_of_a_cluster_gives_the_same_roots() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(&directory.path().join("first"));
    let path = directory.path().join("second");
    let second = join(&first, &path, "c2");
    assert_eq!(second.bundle(), first.bundle());
    // As a coordinator that joined with an earlier version has it.
    let root = path.join(ROOT_FILE);
    fs::write(&root, fs::read_to_string(&root).unwrap().trim_end()).unwrap();
    assert_eq!(authority(&path).bundle(), first.bundle());
}

#[test]
fn a_certificate_is_current_however_its_roots_are_laid_out_as_text() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(&directory.path().join("first"));
    let credential = credential(&first);
    assert!(is_current(&credential, first.bundle().trim_end()));
    rotated(&first);
    assert!(!is_current(&credential, &first.bundle()), "it trusts one root of two");
}

#[test]
fn who_trusts_only_the_earlier_root_reaches_a_coordinator_that_joins_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(&directory.path().join("first"));
    let (roots, _) = rotated(&first);
    let third = join(&first, &directory.path().join("third"), "c3");
    third.adopt_roots(Some(&roots), Some(&third.name().id)).unwrap();
    let shown = |authority: &Authority| authority.server_identity(NOW).unwrap().chain.len();
    assert_eq!(shown(&third), shown(&first), "a certificate of the path to the roots is missing");
}
