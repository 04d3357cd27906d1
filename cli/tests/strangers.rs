//! Who answers is not who was meant, or the clocks are apart: what the command line makes of it, over real TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

const DAY: Duration = Duration::from_secs(86_400);

/// How long a test's server waits for more of a call.
const SERVER_LIMIT: Duration = Duration::from_secs(5);

/// A cluster's certificate authority.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// When a certificate is good, as seen from this moment.
#[derive(Clone, Copy)]
enum Good {
    Always,
    UntilYesterday,
    FromTomorrow,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, good: Good) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let now = SystemTime::now();
        let (begins, ends) = match good {
            Good::Always => (now - DAY, now + 30 * DAY),
            Good::UntilYesterday => (now - 30 * DAY, now - DAY),
            Good::FromTomorrow => (now + DAY, now + 30 * DAY),
        };
        (params.not_before, params.not_after) = (begins.into(), ends.into());
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Serves one call after the other with a certificate of this authority, until the test ends.
    fn serve(&self, good: Good) -> SocketAddr {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let (certificate, key) = self.issue("coordinator.lockstep", good);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                socket.set_read_timeout(Some(SERVER_LIMIT)).unwrap();
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut rest = Vec::new();
                // It fails when the client is refused, which is what the client is asked about.
                let _read = StreamOwned::new(connection, socket).read_to_end(&mut rest);
            }
        });
        address
    }

    fn credential(&self, directory: &Path, good: Good) {
        self.credential_trusting(self, directory, good);
    }

    /// A certificate of this authority, beside the root of another that is trusted.
    fn credential_trusting(&self, trusted: &Self, directory: &Path, good: Good) {
        let (certificate, key) = self.issue("anna", good);
        let folder = directory.join("credential");
        fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("key.pem", key.serialize_pem()),
            ("certificate.pem", certificate.pem()),
            ("authority.pem", trusted.certificate.pem()),
            ("coordinator", "127.0.0.1:1".to_owned()),
        ] {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn status(directory: &Path, coordinator: SocketAddr) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["status", "notes/production", "--coordinator", &coordinator.to_string()])
        .current_dir(directory)
        .env("LOCKSTEP_CREDENTIAL", directory.join("credential"))
        .output()
        .unwrap()
}

fn expect(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

/// The date as messages have it, so many days from today.
fn date(days: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let then = now.checked_add_signed(days * 86_400).unwrap();
    lockstep_core::time::Timestamp(then * 1000).to_string()[..10].to_owned()
}

#[test]
fn another_cluster_is_told_as_one() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new().credential(directory.path(), Good::Always);
    let other = Authority::new().serve(Good::Always);
    expect(&status(directory.path(), other), 5, &["another cluster", "lockstep login", &other.to_string()]);
}

/// A coordinator whose certificate is good at another time, so many days from today.
fn check_coordinator_of_another_time(good: Good, apart: i64) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.credential(directory.path(), Good::Always);
    let output = status(directory.path(), authority.serve(good));
    expect(&output, 5, &["compare the clocks", &date(0), &date(apart)]);
}

#[test]
fn a_coordinator_whose_certificate_ended_is_told_with_both_times() {
    check_coordinator_of_another_time(Good::UntilYesterday, -1);
}

#[test]
fn a_coordinator_whose_certificate_is_of_the_future_is_told_with_both_times() {
    check_coordinator_of_another_time(Good::FromTomorrow, 1);
}

#[test]
fn a_certificate_that_the_coordinator_does_not_trust_is_told_as_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Authority::new();
    Authority::new().credential_trusting(&cluster, directory.path(), Good::Always);
    let address = cluster.serve(Good::Always);
    let words = ["refused this certificate", "does not trust", "lockstep login", &address.to_string()];
    expect(&status(directory.path(), address), 3, &words);
}

#[test]
fn a_credential_that_ended_is_told_with_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.credential(directory.path(), Good::UntilYesterday);
    let output = status(directory.path(), authority.serve(Good::Always));
    expect(&output, 3, &["your certificate expired", &date(-1), &date(0), "lockstep login"]);
}

#[test]
fn a_credential_from_the_future_is_a_matter_of_clocks() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.credential(directory.path(), Good::FromTomorrow);
    let output = status(directory.path(), authority.serve(Good::Always));
    expect(&output, 3, &["your certificate", &date(1), &date(0), "clock"]);
}
